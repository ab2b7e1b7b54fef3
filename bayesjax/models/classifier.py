"""A small convolutional classifier, whose last hidden layer gives the features for measures of generated images.

    features = relu(dense(stages(x))),    logits = linear(features)

The first stage is a 5 x 5 convolution of stride 2 or, for small images, a 3 x 3 convolution and pooling. The other
stages are 3 x 3 convolutions and pooling, as in LeNet. With `is_residual`, convolutions are followed by group
normalisation. All stages except the first then end with two more convolutions whose result is added to their input, as
in He et al., "Deep residual learning for image recognition", CVPR 2016. The module has no mutable collections. Read
`evaluation/generation.py` for the measures.
"""

import math
from collections.abc import Sequence

import flax.linen as nn

from bayesjax.models.convolution import Conv
from bayesjax.models.initializers import fan_in_normal
from bayesjax.models.pooling import max_pool
from bayesjax.types import Array


class Classifier(nn.Module):
    """Classifier of images `[..., height, width, channels]` in [0, 1].

    It returns features `[..., num_features]` and logits `[..., num_classes]`.

    Attributes:
      num_classes: number of classes.
      channels: numbers of channels of the stages, each of which halves height and width, rounding up.
      num_features: width of the last hidden layer, whose activations after the ReLU are the features.
      is_strided: whether the first stage is a convolution of stride 2. It costs a fifth of a convolution with pooling.
      is_residual: whether convolutions are normalised and stages have a residual pair of convolutions.
    """

    num_classes: int
    channels: Sequence[int] = (16, 32, 64)
    num_features: int = 96
    is_strided: bool = True
    is_residual: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Classifies images `x` `[..., height, width, channels]` in [0, 1].

        Returns:
          The features `[..., num_features]` and the logits `[..., num_classes]`.
        """
        x = 2 * x - 1
        for depth, channels in enumerate(self.channels):
            if depth == 0 and self.is_strided:
                x = self._layer(x, channels, (5, 5), 2)
            else:
                x = max_pool(self._layer(x, channels))
            if depth > 0 and self.is_residual:
                x = x + self._layer(self._layer(x, channels), channels)
        dense = nn.Dense(self.num_features, kernel_init=fan_in_normal(2**0.5))
        features = nn.relu(dense(x.reshape(*x.shape[:-3], -1)))
        return features, nn.Dense(self.num_classes, kernel_init=fan_in_normal())(features)

    def _layer(self, x: Array, channels: int, size: tuple[int, int] = (3, 3), stride: int = 1) -> Array:
        """Convolution, group normalisation if residual, and ReLU."""
        x = Conv(channels, size, stride, use_bias=not self.is_residual, kernel_init=fan_in_normal(2**0.5))(x)
        if self.is_residual:
            x = nn.GroupNorm(num_groups=math.gcd(8, channels), reduction_axes=(-3, -2, -1))(x)
        return nn.relu(x)
