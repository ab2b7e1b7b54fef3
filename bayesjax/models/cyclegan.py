"""Translators of images, and the discriminator that judges patches: the networks of pix2pix and CycleGAN.

`ResNetGenerator` is Johnson's: c7s1-64, d128, d256, R256 n times, u128, u64, c7s1-3, where c7s1-k is a 7 x 7
convolution to k channels, dk one of 3 x 3 and stride 2, uk its transpose, Rk a residual block of two 3 x 3
convolutions, each but the last followed by an instance norm and ReLU; images are reflected at their edges where no
stride is taken. `UNetGenerator` halves the image down to a pixel and doubles it back, and hands each size across.
`PatchDiscriminator` is C64-C128-C256-C512 of 4 x 4 kernels: a logit for each of many overlapping patches, 70 pixels
wide (34 and 16 with one and two layers less).

All are convolutions throughout; generators take images of any size, the discriminator those that its last layers, each
of which takes a pixel away, leave something of. Sizes that are not divisible round up on the way down and are cropped
on the way back; kernels of the ResNet have odd sizes. Paddings are those of the authors' program. The
dropout by which pix2pix makes noise is left out: CycleGAN has none. Instance norm is a pure function of one image, so
that all of these can be sampled.

Sources: Isola, Zhu, Zhou & Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017; Zhu,
Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV 2017.
The objective is `objectives/cycle.py`.
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
    """The normalisation of that name: "instance" (each channel of each image, without weights), or one of DCGAN's.

    Raises:
      ValueError: for any other name.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    if norm == "instance":
        return nn.GroupNorm(num_groups=None, group_size=1, epsilon=1e-5, use_bias=False, use_scale=False)
    return dcgan.make_norm(norm, channels)


class ResNetGenerator(nn.Module):
    """Images `[batch, h, w, in]` to images `[batch, h, w, num_channels]` in (-1, 1).

    Attributes:
      num_channels: of the images made.
      features: channels of the first layer; each halving doubles them.
      num_downsamplings: 2 in the papers; height and width must be 2^num_downsamplings at least.
      num_blocks: 9 in the paper for 256 pixels, 6 for 128.
      norm: "instance", "group", "batch" or "none".
      kernel_size: of the first and the last convolution, an odd number; images of few pixels are better off with less.
      kernel_init: Flax initialiser.
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
        """The images translated."""
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
        """A convolution that keeps the image's size, of the image reflected at its edges."""
        pad = size // 2
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        return Conv(features, size, padding="VALID", kernel_init=self.kernel_init)(x)

    def _layer(self, x: Array) -> Array:
        return nn.relu(make_norm(self.norm, x.shape[-1])(x))


class UNetGenerator(nn.Module):
    """Images `[batch, h, w, in]` to images `[batch, h, w, num_channels]` in (-1, 1).

    Attributes:
      num_channels: of the images made.
      features: channels at each halving, which are as many; height and width must be 2^len(features) at least. The
        papers' at 256 pixels are the default; at 32 pixels up to five remain, such as (64, 128, 256, 512, 512).
      norm: "instance", "group", "batch" or "none"; the first and the last layer down have none.
      kernel_init: Flax initialiser.
    """

    num_channels: int = 3
    features: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512)
    norm: str = "instance"
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The images translated."""
        depth = len(self.features)
        sizes = _sizes(x, depth)
        across = []
        for level, width in enumerate(self.features):
            padding = [(1, 1 + size % 2) for size in sizes[level]]  # an odd size rounds up
            x = Conv(width, 4, 2, padding, kernel_init=self.kernel_init)(x if level == 0 else nn.leaky_relu(x, 0.2))
            if 0 < level < depth - 1:
                x = make_norm(self.norm, width)(x)
            across.append(x)
        for level in reversed(range(depth)):
            width = self.features[level - 1] if level else self.num_channels
            height, length = sizes[level]
            x = ConvTranspose(width, 4, 2, ((2, 2), (2, 2)), kernel_init=self.kernel_init)(nn.relu(x))
            x = x[:, :height, :length]
            if level:
                x = jnp.concatenate([across[level - 1], make_norm(self.norm, width)(x)], axis=-1)
        return jnp.tanh(x)


class PatchDiscriminator(nn.Module):
    """Images `[batch, h, w, in]` to logits `[batch, h', w']`, one for each patch.

    Attributes:
      features: channels of each layer; all but the last have stride 2.
      norm: "instance", "group", "batch" or "none"; the first layer has none.
      kernel_init: Flax initialiser.
    """

    features: Sequence[int] = (64, 128, 256, 512)
    norm: str = "instance"
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits; their mean is the image's."""
        _sizes(x, 0)
        for layer, width in enumerate(self.features):
            stride = 2 if layer < len(self.features) - 1 else 1
            x = Conv(width, 4, stride, 1, kernel_init=self.kernel_init)(x)
            x = nn.leaky_relu(x if layer == 0 else make_norm(self.norm, width)(x), 0.2)
        return Conv(1, 4, padding=1, kernel_init=self.kernel_init)(x)[..., 0]


def _sizes(x: Array, num_downsamplings: int) -> list[tuple[int, int]]:
    """Heights and widths of the images `x` on the way down."""
    if x.ndim != 4:
        raise ValueError(f"x must be [batch, height, width, channels]; got shape {x.shape}")
    return layer_sizes(x.shape[1:], num_downsamplings)
