"""LeNet: two convolutions with pooling, a hidden layer and a linear layer.

The widths are those of Caffe's version of LeCun et al., "Gradient-based learning applied to document recognition",
1998: 20 and 50 kernels of 5 x 5, and 500 hidden units. Dropout is as in Gal & Ghahramani, "Bayesian convolutional
neural networks with Bernoulli approximate variational inference", 2015. It acts on the hidden layer ("LeNet-ip"), or
after the convolutions as well ("LeNet-all"). Read `objectives/dropout.py` next.
"""

from collections.abc import Sequence

import flax.linen as nn

from bayesjax.models.convolution import Conv
from bayesjax.models.pooling import max_pool
from bayesjax.types import Array


class LeNet(nn.Module):
    """LeNet, from images `[..., height, width, channels]` to logits `[..., num_classes]`.

    Dropout is active if a call has `deterministic=False`, and uses the rng "dropout".

    Attributes:
      num_classes: number of classes.
      channels: numbers of channels of the convolutions, each of which is followed by 2 x 2 max-pooling.
      hidden: width of the dense layer.
      padding: padding of the convolutions: "SAME" for images of any size, "VALID" as in the original.
      dropout_rate: dropout rate of the hidden units.
      convolution_dropout_rate: dropout rate of the outputs of each convolution and pooling.
    """

    num_classes: int
    channels: Sequence[int] = (20, 50)
    hidden: int = 500
    padding: str = "SAME"
    dropout_rate: float = 0.0
    convolution_dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
        """Logits of the classes."""
        for features in self.channels:
            x = max_pool(Conv(features, (5, 5), padding=self.padding)(x))
            x = nn.Dropout(self.convolution_dropout_rate)(x, deterministic=deterministic)
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(*x.shape[:-3], -1)))
        x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        return nn.Dense(self.num_classes)(x)
