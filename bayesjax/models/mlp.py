"""Multi-layer perceptron: h <- activation(W h + b) for each hidden layer, followed by a linear layer.

It is the network of the synthetic experiment in Saatci & Wilson, "Bayesian GAN", NIPS 2017. Blundell et al., "Weight
uncertainty in neural networks", ICML 2015, and Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, use
it as well. Larger models use it as a head. Read `lenet.py` next.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn

from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array


class MLP(nn.Module):
    """Multi-layer perceptron, from `[..., in]` to `[..., features[-1]]`.

    Dropout is active if a call has `deterministic=False`, and uses the rng "dropout".

    Attributes:
      features: width of each layer; the last is the number of outputs.
      activation: activation after every layer except the last.
      kernel_init: initialiser of kernels.
      bias_init: initialiser of biases.
      dropout_rate: dropout rate of the hidden units.
      input_dropout_rate: dropout rate of the inputs.
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros
    dropout_rate: float = 0.0
    input_dropout_rate: float = 0.0

    def setup(self) -> None:
        """Creates the layers.

        Raises:
          ValueError: if an attribute has an invalid value.
        """
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features must name at least one positive width; got {tuple(self.features)}")
        self.layers = [
            nn.Dense(width, kernel_init=self.kernel_init, bias_init=self.bias_init) for width in self.features
        ]
        hidden = [self.dropout_rate] * (len(self.features) - 1)
        self.dropouts = [nn.Dropout(rate) for rate in (self.input_dropout_rate, *hidden)]

    def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
        """Output of the last layer without activation, `[..., features[-1]]`."""
        return self.layers[-1](self.embed(x, deterministic=deterministic))

    def embed(self, x: Array, *, deterministic: bool = True) -> Array:
        """Activations before the last layer, such as features for `objectives.semi_supervised.feature_matching`."""
        x = self.dropouts[0](x, deterministic=deterministic)
        for layer, dropout in zip(self.layers[:-1], self.dropouts[1:], strict=True):
            x = dropout(self.activation(layer(x)), deterministic=deterministic)
        return x
