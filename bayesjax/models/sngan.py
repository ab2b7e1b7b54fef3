"""SNGAN: a generator and a discriminator of residual blocks, for use with spectral normalisation.

    x -> skip(x) + conv(relu(norm(conv(resample(relu(norm(x)))))))

Blocks of the generator double height and width by nearest neighbours before their convolutions. Blocks of the
discriminator halve them by mean-pooling after their convolutions, and have no normalisation. The skip connection is a
1 x 1 convolution where the block resamples or changes the width, and the identity otherwise. Sources: Miyato, Kataoka,
Koyama & Yoshida, "Spectral normalization for generative adversarial networks", ICLR 2018, table 4; Gulrajani et al.,
"Improved training of Wasserstein GANs", NIPS 2017 (the blocks). For CIFAR-10, Miyato et al. use the hinge game and 128
normal numbers as noise. Their generator has three blocks of 256 channels. Their discriminator has 128 channels, two
blocks of stride 2 and two more. `spectral_norm.py` normalises each kernel of the discriminator:

    apply = models.spectrally_normalised(models.sngan.Discriminator((32, 32, 3)).apply)

Read `spectral_norm.py` next.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models.convolution import Conv
from bayesjax.models.dcgan import layer_sizes, make_norm
from bayesjax.models.initializers import Initializer
from bayesjax.types import Array, PRNGKey


def glorot_uniform(scale: float = 1.0) -> Initializer:
    """Glorot's uniform initialiser, with variance 2 scale^2 / (fan_in + fan_out).

    The blocks use scale sqrt(2) for their 3 x 3 kernels. Source: Glorot & Bengio, "Understanding the difficulty of
    training deep feedforward neural networks", AISTATS 2010.

    Args:
      scale: factor of the standard deviation.

    Returns:
      `(rng_key, shape, dtype) -> array`, for kernels `[height, width, in, out]` or `[in, out]`.
    """

    def init(rng_key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        bound = scale * math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return jax.random.uniform(rng_key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return init


def upsample(x: Array) -> Array:
    """Nearest-neighbour upsampling, `[batch, h, w, c]` to `[batch, 2 h, 2 w, c]`."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def mean_pool(x: Array) -> Array:
    """Mean-pooling over 2 x 2 blocks, `[batch, h, w, c]` to `[batch, ceil(h / 2), ceil(w / 2), c]`.

    For odd sizes, the blocks at the edge are means of the pixels that they contain.
    """
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels).mean((2, 4))


class Block(nn.Module):
    """A residual block, `[batch, h, w, in]` to `[batch, h', w', features]`.

    Attributes:
      features: number of channels of both convolutions.
      resample: "up" doubles height and width, "down" halves them, and "none" keeps them.
      norm: "group", "batch" or "none".
      is_first: whether the input is an image, to which no ReLU is applied.
    """

    features: int
    resample: str = "none"
    norm: str = "none"
    is_first: bool = False

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, int] | None = None) -> Array:
        """Output of the block, cropped to `size` if it upsamples."""
        height, width = size or (2 * x.shape[1], 2 * x.shape[2])
        kernel_init = glorot_uniform(math.sqrt(2))
        branch = x if self.is_first else nn.relu(make_norm(self.norm, x.shape[-1])(x))
        if self.resample == "up":
            branch = upsample(branch)[:, :height, :width]
        branch = Conv(self.features, 3, kernel_init=kernel_init)(branch)
        branch = nn.relu(make_norm(self.norm, self.features)(branch))
        branch = Conv(self.features, 3, kernel_init=kernel_init)(branch)
        if self.resample == "down":
            branch, x = mean_pool(branch), mean_pool(x)
        # A 1 x 1 convolution commutes with both kinds of resampling, so it is applied to the smaller image.
        if self.resample != "none" or x.shape[-1] != self.features:
            x = Conv(self.features, 1, kernel_init=glorot_uniform())(x)
        if self.resample == "up":
            x = upsample(x)[:, :height, :width]
        return branch + x


class Generator(nn.Module):
    """Generator, from noise `[batch, z_dim]` to images `[batch, *image_shape]` in (-1, 1).

    Attributes:
      image_shape: (height, width, channels).
      width: number of channels of every block.
      num_blocks: number of blocks, each of which doubles the image: 3 for 28 and 32 pixels, 4 for 64, 1 for 8.
      norm: "group", "batch" or "none".
    """

    image_shape: Sequence[int]
    width: int = 256
    num_blocks: int = 3
    norm: str = "group"

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Images generated from the noise `z`."""
        sizes = layer_sizes(self.image_shape, self.num_blocks)[::-1]
        height, width = sizes[0]
        x = nn.Dense(height * width * self.width, kernel_init=glorot_uniform())(z)
        x = x.reshape(-1, height, width, self.width)
        for size in sizes[1:]:
            x = Block(self.width, "up", self.norm)(x, size)
        x = nn.relu(make_norm(self.norm, self.width)(x))
        return jnp.tanh(Conv(self.image_shape[-1], 3, kernel_init=glorot_uniform())(x))


class Discriminator(nn.Module):
    """Discriminator, from images `[batch, *image_shape]` in (-1, 1) to logits `[batch, num_outputs]`.

    Attributes:
      image_shape: (height, width, channels).
      num_outputs: 1 for real against fake, or the number K of real classes as in `objectives/semi_supervised.py`.
      width: number of channels of every block.
      num_downsamplings: number of blocks that halve the image, which come first: 2 for 28 and 32 pixels, 3 for 64, 1
        for 8.
      num_blocks: total number of blocks.
    """

    image_shape: Sequence[int]
    num_outputs: int = 1
    width: int = 128
    num_downsamplings: int = 2
    num_blocks: int = 4

    def setup(self) -> None:
        """Creates the blocks.

        Raises:
          ValueError: if an attribute has an invalid value.
        """
        layer_sizes(self.image_shape, self.num_downsamplings)
        if not 1 <= self.num_blocks >= self.num_downsamplings:
            raise ValueError(
                f"num_blocks must be at least 1 and num_downsamplings = {self.num_downsamplings}; got {self.num_blocks}"
            )
        self.blocks = [
            Block(self.width, "down" if block < self.num_downsamplings else "none", is_first=block == 0)
            for block in range(self.num_blocks)
        ]
        self.logits = nn.Dense(self.num_outputs, use_bias=False, kernel_init=glorot_uniform())

    def __call__(self, x: Array) -> Array:
        """Logits of the real classes."""
        return self.logits(self.embed(x))

    def embed(self, x: Array) -> Array:
        """Activations of the last block, summed over pixels, `[batch, width]`.

        Raises:
          ValueError: if `x` has the wrong shape.
        """
        if x.shape[1:] != tuple(self.image_shape):
            raise ValueError(f"x must be [batch, {', '.join(map(str, self.image_shape))}]; got {x.shape}")
        for block in self.blocks:
            x = block(x)
        return nn.relu(x).sum((1, 2))
