"""Progressive GAN: a generator and a discriminator that grow from small to large images.

    level     0        1        2        3
    size      4        8        16       32          for images of 32 pixels and four levels

A network at level L works on images of that level's size. A new level is faded in: with weight alpha from 0 to 1,

    G    (1 - alpha) upsample(image of level L - 1) + alpha (image of level L)
    D    (1 - alpha) from_image(mean_pool(x)) + alpha block(from_image(x))
    x    (1 - alpha) upsample(mean_pool(x)) + alpha x        for real images x, see `real_images`

At alpha = 0 the networks are exactly those of level L - 1. The parameters of all levels are created together by `init`
at the top level. A network at a lower level does not use those of higher levels, and their gradients are 0. So a level
is not part of the parameters: pass `level`, a Python integer, and `alpha`, which may be traced, to `apply`. By default
the networks have their full size and nothing is faded.

Layers have equalised learning rate (`equalised.py`). The generator normalises each pixel's vector after every
activation, and its output is linear. The discriminator has no normalisation, and sees the standard deviation of a
minibatch. Source: Karras, Aila, Laine & Lehtinen, "Progressive growing of GANs for improved quality, stability, and
variation", ICLR 2018, table 2, and the authors' program. There the networks for level L have min(4096 / 2^L, 512)
channels. Read `stylegan.py` next.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from bayesjax.models.equalised import EqualisedConv, EqualisedDense
from bayesjax.models.resampling import convolve_pooled, convolve_upsampled
from bayesjax.models.sngan import mean_pool, upsample
from bayesjax.types import Array

FEATURES = (128, 128, 64, 32)  # for 32 pixels on a CPU


def level_sizes(image_shape: Sequence[int], num_levels: int) -> list[tuple[int, int]]:
    """Heights and widths of the images of all levels, such as `[(4, 4), (8, 8), (16, 16), (32, 32)]`.

    Args:
      image_shape: (height, width, channels) at the top level.
      num_levels: number of levels.

    Returns:
      The pairs (height, width), `num_levels` of them.

    Raises:
      ValueError: if the shape is not (height, width, channels), or height or width cannot be halved that often.
    """
    factor = 2 ** (num_levels - 1)
    if len(image_shape) != 3 or min(image_shape) < 1 or image_shape[0] % factor or image_shape[1] % factor:
        raise ValueError(
            f"image_shape must be (height, width, channels), with height and width divisible by {factor} for "
            f"{num_levels} levels; got {tuple(image_shape)}"
        )
    height, width = image_shape[0] // factor, image_shape[1] // factor
    return [(height * 2**level, width * 2**level) for level in range(num_levels)]


def pixel_norm(x: Array, epsilon: float = 1e-8) -> Array:
    """Divides each vector by the root of its mean square over the last axis.

        x / sqrt(mean(x^2) + epsilon)

    Args:
      x: `[..., channels]`.
      epsilon: added to the mean square.

    Returns:
      An array of the same shape, whose vectors have mean square 1.
    """
    return x * lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)


def minibatch_deviation(x: Array, group_size: int = 4, epsilon: float = 1e-8) -> Array:
    """Appends the standard deviation of the examples in a group as one more channel.

        s = mean over h, w, c of sqrt(variance over the group + epsilon)

    The statistic is one number for a group, and lets a discriminator see that generated images are too similar.

    Args:
      x: `[batch, h, w, c]`.
      group_size: number of examples in a group; the whole batch if it is smaller. A single example, such as that of a
        gradient penalty, has s = 0 up to `epsilon`.
      epsilon: added to the variance.

    Returns:
      `[batch, h, w, c + 1]`.

    Raises:
      ValueError: if the batch cannot be divided into groups.
    """
    batch, height, width, channels = x.shape
    size = min(group_size, batch)
    if size < 1 or batch % size:
        raise ValueError(f"group_size must divide the number of examples, or exceed it; got {group_size} and {batch}")
    groups = x.reshape(size, batch // size, height, width, channels)
    deviation = jnp.sqrt(groups.var(axis=0) + epsilon).mean((1, 2, 3))
    statistic = jnp.broadcast_to(deviation.reshape(1, -1, 1, 1, 1), (size, batch // size, height, width, 1))
    return jnp.concatenate([x, statistic.reshape(batch, height, width, 1)], axis=-1)


def fade(old: Array, new: Array, alpha: Array | float) -> Array:
    """Returns (1 - alpha) old + alpha new, which is exactly `old` for alpha = 0 and `new` for alpha = 1.

    Args:
      old: array of the smaller network, already resampled.
      new: array of the larger network, of the same shape.
      alpha: scalar in [0, 1].
    """
    return (1 - alpha) * old + alpha * new


def real_images(x: Array, num_halvings: int = 0, alpha: Array | float | None = None) -> Array:
    """Real images for a discriminator that has not reached the top level, or fades in a level.

    Args:
      x: images `[batch, h, w, c]` at the top level.
      num_halvings: number of levels below the top.
      alpha: weight of the newest level; None if nothing is faded.

    Returns:
      Images `[batch, h / 2^num_halvings, w / 2^num_halvings, c]`.
    """
    for _ in range(num_halvings):
        x = mean_pool(x)
    return x if alpha is None else fade(upsample(mean_pool(x)), x, alpha)


def fade_in(images: Sequence[Array], level: int, alpha: Array | float | None) -> Array:
    """The image that a generator shows at a level.

    Args:
      images: outputs of all levels up to this one, of which each is twice as large as the one before.
      level: index of the output.
      alpha: weight of this level's output against that of the level below, upsampled; None shows this level alone.

    Returns:
      Images of the size of `images[level]`.
    """
    return images[level] if alpha is None or level == 0 else fade(upsample(images[level - 1]), images[level], alpha)


def check_level(level: int | None, num_levels: int) -> int:
    """Returns the level, which is the top one for None.

    Raises:
      ValueError: if the network does not have this level.
    """
    if level is None:
        return num_levels - 1
    if not 0 <= level < num_levels:
        raise ValueError(f"level must be from 0 to {num_levels - 1}; got {level}")
    return level


class Generator(nn.Module):
    """Generator, from noise `[batch, latent_dim]` to images `[batch, *image_shape]` at the top level.

    Attributes:
      image_shape: (height, width, channels) at the top level.
      features: number of channels at each level, the smallest image first.
    """

    image_shape: Sequence[int]
    features: Sequence[int] = FEATURES

    def setup(self) -> None:
        """Creates the layers."""
        height, width = level_sizes(self.image_shape, len(self.features))[0]
        base, channels = self.features[0], self.image_shape[-1]
        # The gain is that of the authors' program.
        self.dense = EqualisedDense(height * width * base, gain=math.sqrt(2) / 4, use_bias=False)
        self.dense_bias = self.param("dense_bias", nn.initializers.zeros, (1, 1, 1, base))
        self.doublings = [EqualisedConv(each, 3, convolution=convolve_upsampled) for each in self.features[1:]]
        self.convolutions = [EqualisedConv(each, 3) for each in self.features]
        self.to_image = [EqualisedConv(channels, 1, gain=1.0) for _ in self.features]

    def __call__(self, z: Array, level: int | None = None, alpha: Array | float | None = None) -> Array:
        """Images generated from the noise `z`, whose scale has no effect.

        Args:
          z: noise `[batch, latent_dim]`.
          level: level of the images, 0 for the smallest; the top level by default.
          alpha: weight of this level, scalar; None if nothing is faded. It has no effect at level 0.

        Returns:
          Images `[batch, h, w, c]` of the level's size, in a range that the network learns.

        Raises:
          ValueError: if there is no such level, or `image_shape` does not fit the number of levels.
        """
        level = check_level(level, len(self.features))
        height, width = level_sizes(self.image_shape, len(self.features))[0]
        x = self.dense(pixel_norm(z)).reshape(-1, height, width, self.features[0])
        x = _normalised(x + self.dense_bias)
        images = []  # of all levels up to this one, since `init` needs them; under jit unused ones are not computed
        for depth in range(level + 1):
            if depth > 0:
                x = _normalised(self.doublings[depth - 1](x))
            x = _normalised(self.convolutions[depth](x))
            images.append(self.to_image[depth](x))
        return fade_in(images, level, alpha)


class Discriminator(nn.Module):
    """Discriminator, from images `[batch, *image_shape]` at the top level to logits `[batch, num_outputs]`.

    Attributes:
      image_shape: (height, width, channels) at the top level.
      num_outputs: 1 for real against fake, or the number K of real classes as in `objectives/semi_supervised.py`.
      features: number of channels at each level, the smallest image first.
      group_size: number of images in a group whose standard deviation is a feature.
    """

    image_shape: Sequence[int]
    num_outputs: int = 1
    features: Sequence[int] = FEATURES
    group_size: int = 4

    def setup(self) -> None:
        """Creates the layers."""
        self.from_image = [EqualisedConv(each, 1) for each in self.features]
        self.convolutions = [EqualisedConv(each, 3) for each in self.features]
        self.halvings = [EqualisedConv(each, 3, convolution=convolve_pooled) for each in self.features[:-1]]
        self.dense = EqualisedDense(self.features[0])
        self.logits = EqualisedDense(self.num_outputs, gain=1.0)

    def __call__(self, x: Array, level: int | None = None, alpha: Array | float | None = None) -> Array:
        """Logits of the images `x`, `[batch, num_outputs]`. Arguments and errors are those of `embed`."""
        return self.logits(self.embed(x, level, alpha))

    def embed(self, x: Array, level: int | None = None, alpha: Array | float | None = None) -> Array:
        """Activations before the logits.

        Args:
          x: images `[batch, h, w, c]` of the level's size.
          level: level of the images, 0 for the smallest; the top level by default.
          alpha: weight of this level, scalar; None if nothing is faded. It has no effect at level 0.

        Returns:
          `[batch, features[0]]`.

        Raises:
          ValueError: if there is no such level, or the images do not have its size.
        """
        level = check_level(level, len(self.features))
        expected = (*level_sizes(self.image_shape, len(self.features))[level], self.image_shape[-1])
        if x.shape[1:] != expected:
            raise ValueError(f"x must be [batch, {', '.join(map(str, expected))}] at level {level}; got {x.shape}")
        features = _activated(self.from_image[level](x))
        for depth in range(level, 0, -1):
            features = _activated(self.convolutions[depth](features))
            features = _activated(self.halvings[depth - 1](features))
            x = mean_pool(x)
            smaller = _activated(self.from_image[depth - 1](x))  # on each level, since `init` needs all
            if depth == level and alpha is not None:
                features = fade(smaller, features, alpha)
        features = _activated(self.convolutions[0](minibatch_deviation(features, self.group_size)))
        return _activated(self.dense(features.reshape(len(features), -1)))


def _activated(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


def _normalised(x: Array) -> Array:
    return pixel_norm(_activated(x))
