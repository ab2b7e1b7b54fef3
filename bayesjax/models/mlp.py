"""Multi-layer perceptron: `h <- activation(W h + b)` for each hidden layer, then a linear layer.

The networks of the Bayesian GAN's synthetic experiment, of Blundell's and Gal's tables, and the head of larger models.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn

from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array


class MLP(nn.Module):
    """`[..., in]` to `[..., features[-1]]`.

    Attributes:
      features: width of each layer; the last is the output.
      activation: applied after every layer but the last.
      kernel_init, bias_init: Flax initialisers.
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros

    def setup(self) -> None:
        """Layers."""
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features must name at least one positive width; got {tuple(self.features)}")
        self.layers = [
            nn.Dense(width, kernel_init=self.kernel_init, bias_init=self.bias_init) for width in self.features
        ]

    def __call__(self, x: Array) -> Array:
        """Output of the last layer, no activation."""
        return self.layers[-1](self.embed(x))

    def embed(self, x: Array) -> Array:
        """Activations before the last layer: features to match or to judge by."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return x
