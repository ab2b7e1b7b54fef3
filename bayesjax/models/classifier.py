"""A small convolutional classifier that also gives its last hidden layer: the features that images are judged by.

A convolution of 5 x 5 and stride 2 (or, for small images, one of 3 x 3 and pooling), then stages of a 3 x 3 convolution
and pooling, a dense layer of features and a linear one of logits: a LeNet of another width. With `is_residual`, for
images that ask for more, every convolution is normalised by groups of channels, and all stages but the first end with
two more convolutions whose result is added to their input, as in He et al., "Deep residual learning for image
recognition", CVPR 2016. No mutable collections. `experiments/judge.py` trains it and reads it.
"""

import math
from collections.abc import Sequence

import flax.linen as nn

from bayesjax.models.convolution import Conv
from bayesjax.models.initializers import fan_in_normal
from bayesjax.models.pooling import max_pool
from bayesjax.types import Array


class Classifier(nn.Module):
    """Images `[..., height, width, channels]` in [0, 1] to features `[..., num_features]`, logits `[..., num_classes]`.

    Attributes:
      num_classes: length of the logits.
      channels: of the stages, each of which halves height and width, rounding up.
      num_features: of the last hidden layer, behind its ReLU.
      is_strided: whether the first stage is a convolution of stride 2, which costs a fifth of one and pooling.
      is_residual: whether convolutions are normalised and stages have a residual pair.
    """

    num_classes: int
    channels: Sequence[int] = (16, 32, 64)
    num_features: int = 96
    is_strided: bool = True
    is_residual: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Features and logits."""
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
        """Convolution, normalisation of each image, ReLU."""
        x = Conv(channels, size, stride, use_bias=not self.is_residual, kernel_init=fan_in_normal(2**0.5))(x)
        if self.is_residual:
            x = nn.GroupNorm(num_groups=math.gcd(8, channels), reduction_axes=(-3, -2, -1))(x)
        return nn.relu(x)
