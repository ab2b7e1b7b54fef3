"""Auto-encoder: dense layers down to a code and back, sigmoids throughout; the code space of GMMN+AE.

    code = encode(x) in (0, 1)^k,    x ~ decode(code) in (0, 1)^d,    trained by the cross-entropy of d Bernoulli pixels

Li, Swersky & Zemel, "Generative moment matching networks", ICML 2015: 784-1024-32-1024-784 for MNIST, with dropout in
the encoder alone (at 0.2 of the image and 0.5 of the hidden layer in the authors' program), which makes the code
smooth; a generator that ends in a sigmoid, too, then makes codes (`objectives/moment_matching.py`).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn

from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array


class AutoEncoder(nn.Module):
    """`[..., num_inputs]` to numbers in (0, 1) of that shape.

    Attributes:
      num_inputs: d, such as the pixels of a flat image.
      features: widths from the first hidden layer to the code; the decoder has them backwards.
      activation: after every layer but the decoder's last, which has a sigmoid.
      dropout_rates: of the inputs of each encoder layer, with the rng "dropout", where a call is not `deterministic`;
        none if empty.
      kernel_init: Flax initialiser.
    """

    num_inputs: int = 784
    features: Sequence[int] = (1024, 32)
    activation: Callable[[Array], Array] = nn.sigmoid
    dropout_rates: Sequence[float] = ()
    kernel_init: Initializer = fan_in_normal()

    def setup(self) -> None:
        """Layers."""
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features must name at least one positive width; got {tuple(self.features)}")
        if len(self.dropout_rates) not in (0, len(self.features)):
            raise ValueError(
                f"dropout_rates must be empty or {len(self.features)} numbers, one for each of features; got "
                f"{tuple(self.dropout_rates)}"
            )
        widths = [*self.features[-2::-1], self.num_inputs]
        self.encoder = [nn.Dense(width, kernel_init=self.kernel_init) for width in self.features]
        self.decoder = [nn.Dense(width, kernel_init=self.kernel_init) for width in widths]
        self.dropouts = [nn.Dropout(rate) for rate in self.dropout_rates or [0.0] * len(self.features)]

    def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
        """The input as its code has it, in (0, 1)."""
        return self.decode(self.encode(x, deterministic=deterministic))

    def encode(self, x: Array, *, deterministic: bool = True) -> Array:
        """The code, `[..., features[-1]]`."""
        if x.shape[-1] != self.num_inputs:
            raise ValueError(f"x must be [..., num_inputs = {self.num_inputs}]; got shape {x.shape}")
        for layer, dropout in zip(self.encoder, self.dropouts, strict=True):
            x = self.activation(layer(dropout(x, deterministic=deterministic)))
        return x

    def decode(self, code: Array) -> Array:
        """What the code stands for, in (0, 1)."""
        return nn.sigmoid(self.decode_logits(code))

    def decode_logits(self, code: Array) -> Array:
        """Bernoulli logits of what the code stands for: for the cross-entropy, stable."""
        for layer in self.decoder[:-1]:
            code = self.activation(layer(code))
        return self.decoder[-1](code)

    def reconstruct_logits(self, x: Array, *, deterministic: bool = True) -> Array:
        """Bernoulli logits of the input as its code has it."""
        return self.decode_logits(self.encode(x, deterministic=deterministic))
