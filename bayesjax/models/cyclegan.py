"""The networks of pix2pix and CycleGAN: two kinds of generators that translate images, and a patch discriminator.

    ResNetGenerator       c7s1-64, d128, d256, R256 n times, u128, u64, c7s1-3
    UNetGenerator         an encoder down to one pixel and a decoder, with skip connections at each size
    PatchDiscriminator    C64-C128-C256-C512, a logit for each patch of 70 x 70 pixels

c7s1-k is a 7 x 7 convolution to k channels. dk is a 3 x 3 convolution of stride 2, and uk the corresponding transposed
convolution. Rk is a residual block of two 3 x 3 convolutions. Instance normalisation and ReLU follow each layer except
the last, but no ReLU follows the second convolution of a residual block. Layers of the ResNet with stride 1 use
reflection padding. Ck is a 4 x 4 convolution to k channels. With one layer fewer, the patches of the discriminator have
34 x 34 pixels, and with two layers fewer 16 x 16.

All networks are fully convolutional. Generators take images of any size. The last two layers of the discriminator
reduce height and width by one pixel each, so it needs larger images. Encoders round up sizes that are not divisible by
two, and decoders crop the result. Kernels of the ResNet have odd sizes, and paddings are those of the authors' program.
The dropout that pix2pix uses as noise is omitted, because CycleGAN has none. Instance normalisation is a pure function
of one image, so the weights of all these networks can be sampled.

Sources: Isola, Zhu, Zhou & Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017; Zhu,
Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV 2017. Read
`objectives/cycle.py` next for the objective.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from bayesjax.models import dcgan
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.dcgan import DCGAN_INIT, layer_sizes
from bayesjax.models.initializers import Initializer
from bayesjax.types import Array

NORMS = ("instance", *dcgan.NORMS)


def make_norm(norm: str, channels: int) -> Callable[[Array], Array]:
    """Makes a normalisation layer from its name.

    Args:
      norm: "instance" (each channel of each image, without weights), or one of `dcgan.NORMS`.
      channels: number of channels of the input.

    Returns:
      A function `x -> normalised x` of arrays `[batch, ..., channels]`.

    Raises:
      ValueError: for any other name.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    if norm == "instance":
        return nn.GroupNorm(num_groups=None, group_size=1, epsilon=1e-5, use_bias=False, use_scale=False)
    return dcgan.make_norm(norm, channels)


class ResNetGenerator(nn.Module):
    """Generator with residual blocks, from images `[batch, h, w, in]` to `[batch, h, w, num_channels]` in (-1, 1).

    Attributes:
      num_channels: number of channels of the generated images.
      features: number of channels of the first layer; each downsampling doubles it.
      num_downsamplings: number of layers of stride 2; 2 in the papers. Height and width must be at least
        2^num_downsamplings.
      num_blocks: number of residual blocks; 9 in the paper for 256 pixels, 6 for 128.
      norm: "instance", "group", "batch" or "none".
      kernel_size: size of the first and the last kernel, an odd number. Smaller images need smaller kernels.
      kernel_init: initialiser of kernels.
    """

    num_channels: int = 3
    features: int = 64
    num_downsamplings: int = 2
    num_blocks: int = 9
    norm: str = "instance"
    kernel_size: int = 7
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The translated images."""
        sizes = _sizes(x, self.num_downsamplings)
        widths = [self.features * 2**depth for depth in range(self.num_downsamplings + 1)]
        x = self._layer(self._reflected(x, self.features, self.kernel_size))
        for width in widths[1:]:
            x = self._layer(Conv(width, 3, 2, 1, kernel_init=self.kernel_init)(x))
        for _ in range(self.num_blocks):
            branch = self._layer(self._reflected(x, widths[-1], 3))
            x = x + make_norm(self.norm, widths[-1])(self._reflected(branch, widths[-1], 3))
        for width, (height, length) in zip(widths[-2::-1], sizes[-2::-1], strict=True):
            doubled = ConvTranspose(width, 3, 2, ((1, 2), (1, 2)), kernel_init=self.kernel_init)(x)
            x = self._layer(doubled[:, :height, :length])
        return jnp.tanh(self._reflected(x, self.num_channels, self.kernel_size))

    def _reflected(self, x: Array, features: int, size: int) -> Array:
        """A convolution that keeps the size of the image, which is reflected at its edges."""
        pad = size // 2
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        return Conv(features, size, padding="VALID", kernel_init=self.kernel_init)(x)

    def _layer(self, x: Array) -> Array:
        return nn.relu(make_norm(self.norm, x.shape[-1])(x))


class UNetGenerator(nn.Module):
    """U-Net generator, from images `[batch, h, w, in]` to images `[batch, h, w, num_channels]` in (-1, 1).

    Attributes:
      num_channels: number of channels of the generated images.
      features: numbers of channels of the encoder's layers, each of stride 2. Height and width must be at least
        2^len(features). The default is from the papers, for 256 pixels. Images of 32 pixels allow up to five layers,
        such as (64, 128, 256, 512, 512).
      norm: "instance", "group", "batch" or "none". The first and the last layer of the encoder have no normalisation.
      kernel_init: initialiser of kernels.
    """

    num_channels: int = 3
    features: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512)
    norm: str = "instance"
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The translated images."""
        depth = len(self.features)
        sizes = _sizes(x, depth)
        skips = []
        for level, width in enumerate(self.features):
            padding = [(1, 1 + size % 2) for size in sizes[level]]  # odd sizes are rounded up
            x = Conv(width, 4, 2, padding, kernel_init=self.kernel_init)(x if level == 0 else nn.leaky_relu(x, 0.2))
            if 0 < level < depth - 1:
                x = make_norm(self.norm, width)(x)
            skips.append(x)
        for level in reversed(range(depth)):
            width = self.features[level - 1] if level else self.num_channels
            height, length = sizes[level]
            x = ConvTranspose(width, 4, 2, ((2, 2), (2, 2)), kernel_init=self.kernel_init)(nn.relu(x))
            x = x[:, :height, :length]
            if level:
                x = jnp.concatenate([skips[level - 1], make_norm(self.norm, width)(x)], axis=-1)
        return jnp.tanh(x)


class PatchDiscriminator(nn.Module):
    """Discriminator of patches, from images `[batch, h, w, in]` to logits `[batch, h', w']`, one for each patch.

    Attributes:
      features: numbers of channels of the layers. Every layer except the last has stride 2.
      norm: "instance", "group", "batch" or "none". The first layer has no normalisation.
      kernel_init: initialiser of kernels.
    """

    features: Sequence[int] = (64, 128, 256, 512)
    norm: str = "instance"
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits of the patches. Their mean is the logit of the image."""
        _sizes(x, 0)
        for layer, width in enumerate(self.features):
            stride = 2 if layer < len(self.features) - 1 else 1
            x = Conv(width, 4, stride, 1, kernel_init=self.kernel_init)(x)
            x = nn.leaky_relu(x if layer == 0 else make_norm(self.norm, width)(x), 0.2)
        return Conv(1, 4, padding=1, kernel_init=self.kernel_init)(x)[..., 0]


def _sizes(x: Array, num_downsamplings: int) -> list[tuple[int, int]]:
    """Heights and widths of the images `x` after each downsampling."""
    if x.ndim != 4:
        raise ValueError(f"x must be [batch, height, width, channels]; got shape {x.shape}")
    return layer_sizes(x.shape[1:], num_downsamplings)
