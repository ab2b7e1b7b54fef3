"""Auto-encoder of dense layers with sigmoid activations, as in GMMN+AE.

    code = encode(x) in (0, 1)^k,    x ~ decode(code) in (0, 1)^d,    trained by the cross-entropy of d Bernoulli pixels

Li, Swersky & Zemel, "Generative moment matching networks", ICML 2015, use 784-1024-32-1024-784 for MNIST. Dropout in
the encoder alone makes the code smooth; the authors' program uses rates 0.2 for the image and 0.5 for the hidden layer.
A generator of codes, which also ends in a sigmoid, is trained by moment matching. Read `objectives/moment_matching.py`
next.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn

from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array


class AutoEncoder(nn.Module):
    """Auto-encoder from inputs `[..., num_inputs]` to reconstructions in (0, 1) of the same shape.

    Attributes:
      num_inputs: d, the length of an input, such as the number of pixels of a flat image.
      features: widths of the encoder's layers, of which the last is the length of the code. The decoder has the widths
        in reverse order.
      activation: activation after every layer except the decoder's last, which has a sigmoid.
      dropout_rates: dropout rates of the inputs of the encoder's layers; empty for no dropout. Dropout is active if a
        call has `deterministic=False`, and uses the rng "dropout".
      kernel_init: initialiser of kernels.
    """

    num_inputs: int = 784
    features: Sequence[int] = (1024, 32)
    activation: Callable[[Array], Array] = nn.sigmoid
    dropout_rates: Sequence[float] = ()
    kernel_init: Initializer = fan_in_normal()

    def setup(self) -> None:
        """Creates the layers.

        Raises:
          ValueError: if an attribute has an invalid value.
        """
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
        """Reconstruction of the input, `[..., num_inputs]` in (0, 1)."""
        return self.decode(self.encode(x, deterministic=deterministic))

    def encode(self, x: Array, *, deterministic: bool = True) -> Array:
        """Code of the input, `[..., features[-1]]`.

        Raises:
          ValueError: if the input is not `[..., num_inputs]`.
        """
        if x.shape[-1] != self.num_inputs:
            raise ValueError(f"x must be [..., num_inputs = {self.num_inputs}]; got shape {x.shape}")
        for layer, dropout in zip(self.encoder, self.dropouts, strict=True):
            x = self.activation(layer(dropout(x, deterministic=deterministic)))
        return x

    def decode(self, code: Array) -> Array:
        """Reconstruction `[..., num_inputs]` in (0, 1) from a code `[..., features[-1]]`."""
        return nn.sigmoid(self.decode_logits(code))

    def decode_logits(self, code: Array) -> Array:
        """Bernoulli logits `[..., num_inputs]` of the reconstruction from a code, for a stable cross-entropy."""
        for layer in self.decoder[:-1]:
            code = self.activation(layer(code))
        return self.decoder[-1](code)

    def reconstruct_logits(self, x: Array, *, deterministic: bool = True) -> Array:
        """Bernoulli logits `[..., num_inputs]` of the reconstruction of the input."""
        return self.decode_logits(self.encode(x, deterministic=deterministic))
