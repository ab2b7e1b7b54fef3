"""StyleGAN2: styles scale the weights of convolutions instead of normalised feature maps.

    w'_ijt = s_i w_ijt                                 modulation by the style s, for input i, output j and tap t
    w''_ijt = w'_ijt / sqrt(sum_it w'_ijt^2 + 1e-8)    demodulation
    x -> leaky ReLU(w'' * x + noise + b)

For independent inputs of variance 1, every output channel of w'' * x has variance 1 for any style. The images of a
batch have different weights w'', but w'' * x = d (w * (s x)) with d_j = 1 / sqrt(sum_i s_i^2 sum_t w_ijt^2 + 1e-8). So
inputs are scaled, all images share one convolution, and outputs are scaled. This avoids a grouped convolution, which is
slow on CPUs.

The generator adds up the images of all levels, each of which is doubled and added to the next. The discriminator is a
residual network. Neither of them grows. `Generator` and the functions of styles are those of `stylegan.py`:

    generator = stylegan.Generator(stylegan.Mapping(128), stylegan2.Synthesis((32, 32, 1)))

Source: Karras, Laine, Aittala, Hellsten, Lehtinen & Aila, "Analyzing and improving the image quality of StyleGAN", CVPR
2020, and the authors' program, which pads images with zeros before it filters them. Here the filters of doubled images
and of the discriminator's shortcuts give no weight to pixels beyond the edge (`resampling.py`). Read
`objectives/regularisation.py` next for the path-length penalty.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from bayesjax.models.convolution import convolve
from bayesjax.models.equalised import EqualisedConv, EqualisedDense, equalised_kernel
from bayesjax.models.initializers import normal
from bayesjax.models.progressive import FEATURES, level_sizes, minibatch_deviation
from bayesjax.models.resampling import (
    convolve_smooth_pooled,
    convolve_smooth_upsampled,
    smooth_pool,
    smooth_upsample,
)
from bayesjax.models.stylegan import check_styles
from bayesjax.types import Array


def modulated_convolution(
    x: Array,
    kernel: Array,
    scale: Array,
    *,
    demodulate: bool = True,
    convolution: Callable[[Array, Array], Array] = convolve,
) -> Array:
    """Convolution whose kernel is scaled for each image, `w''_ijt` of this module.

    Args:
      x: feature maps `[batch, h, w, in]`.
      kernel: `[k, k, in, out]`.
      scale: scale s of each input channel, `[batch, in]`.
      demodulate: whether to divide by the norm of the scaled kernel.
      convolution: `(x, kernel) -> outputs`, linear in both; `convolve` or one of `resampling.py`.

    Returns:
      `[batch, h', w', out]`.
    """
    out = convolution(x * scale[:, None, None], kernel)
    if not demodulate:
        return out
    norm = jnp.matmul(scale**2, jnp.sum(kernel**2, axis=(0, 1)))
    return out * lax.rsqrt(norm + 1e-8)[:, None, None]


class ModulatedConv(nn.Module):
    """Convolution with equalised learning rate, modulated by a style.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      demodulate: whether to divide by the norm of the scaled kernel.
      convolution: as in `modulated_convolution`.
    """

    features: int
    kernel_size: int
    demodulate: bool = True
    convolution: Callable[[Array, Array], Array] = convolve

    @nn.compact
    def __call__(self, x: Array, style: Array) -> Array:
        """Feature maps `[batch, h', w', features]` of `x` `[batch, h, w, in]` and the style `[batch, style_dim]`."""
        scale = EqualisedDense(x.shape[-1], gain=1.0, bias=1.0, name="style")(style)
        kernel = equalised_kernel(self, (self.kernel_size, self.kernel_size, x.shape[-1], self.features), gain=1.0)
        out = modulated_convolution(x, kernel, scale, demodulate=self.demodulate, convolution=self.convolution)
        return out + jnp.broadcast_to(self.param("bias", nn.initializers.zeros, (self.features,)), out.shape)


class StyledLayer(nn.Module):
    """Modulated 3 x 3 convolution, noise and leaky ReLU.

    Attributes:
      features: number of output channels.
      convolution: as in `modulated_convolution`.
    """

    features: int
    convolution: Callable[[Array, Array], Array] = convolve

    @nn.compact
    def __call__(self, x: Array, style: Array, noise: Array | None = None) -> Array:
        """The outputs of the layer.

        Args:
          x: feature maps `[batch, h, w, in]`.
          style: `[batch, style_dim]`.
          noise: `[batch, h', w']`, or `[1, h', w']` for all images; None for no noise.

        Returns:
          `[batch, h', w', features]`.
        """
        x = ModulatedConv(self.features, 3, convolution=self.convolution)(x, style)
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        if noise is not None:
            x = x + strength * noise[..., None]
        return math.sqrt(2) * nn.leaky_relu(x, 0.2)


class Synthesis(nn.Module):
    """Synthesis network of StyleGAN2, from styles `[batch, num_layers, style_dim]` to images `[batch, *image_shape]`.

    Attributes:
      image_shape: (height, width, channels).
      features: number of channels at each level, the smallest image first.
    """

    image_shape: Sequence[int]
    features: Sequence[int] = FEATURES

    @property
    def num_layers(self) -> int:
        """Number of styles of an image, two for each level."""
        return 2 * len(self.features)

    @property
    def noise_sizes(self) -> list[tuple[int, int]]:
        """Heights and widths of the noise of all layers, one at the smallest level and two at each of the others."""
        return [size for size in level_sizes(self.image_shape, len(self.features)) for _ in range(2)][1:]

    @property
    def layer_heights(self) -> list[int]:
        """Heights of the feature maps of all layers that have a style, in pixels; the output layer has no noise."""
        return [*(height for height, _ in self.noise_sizes), self.image_shape[0]]

    def setup(self) -> None:
        """Creates the layers."""
        self.constant = self.param("constant", normal(1.0), (*self.noise_sizes[0], self.features[0]))
        convolutions = [convolve, convolve_smooth_upsampled]  # odd layers double the feature maps
        self.layers = [
            StyledLayer(self.features[(layer + 1) // 2], convolutions[layer % 2])
            for layer in range(self.num_layers - 1)
        ]
        self.to_image = [ModulatedConv(self.image_shape[-1], 1, demodulate=False) for _ in self.features]

    def __call__(self, styles: Array, noise: Sequence[Array] | None = None) -> Array:
        """Images of given styles.

        Args:
          styles: `[batch, num_layers, style_dim]`. A level's image has the style of the next level's first layer.
          noise: noise of each layer as from `stylegan.draw_noise`; None for no noise.

        Returns:
          Images `[batch, *image_shape]`, in a range that the network learns.

        Raises:
          ValueError: if the styles are not those of `num_layers` layers.
        """
        check_styles(styles, noise, self.num_layers, len(self.noise_sizes))
        x, parts = jnp.broadcast_to(self.constant, (len(styles), *self.constant.shape)), []
        for index, layer in enumerate(self.layers):
            x = layer(x, styles[:, index], None if noise is None else noise[index])
            if index % 2 == 0:  # the last layer of a level
                parts.append(self.to_image[index // 2](x, styles[:, index + 1]))
        return functools.reduce(lambda image, part: smooth_upsample(image) + part, parts)


class Discriminator(nn.Module):
    """Residual discriminator of StyleGAN2, from images `[batch, *image_shape]` to logits `[batch, num_outputs]`.

    Attributes:
      image_shape: (height, width, channels).
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
        level_sizes(self.image_shape, len(self.features))
        self.from_image = EqualisedConv(self.features[-1], 1)
        self.convolutions = [EqualisedConv(each, 3) for each in self.features]
        self.halvings = [EqualisedConv(each, 3, convolution=convolve_smooth_pooled) for each in self.features[:-1]]
        self.shortcuts = [EqualisedConv(each, 1, gain=1.0, use_bias=False) for each in self.features[:-1]]
        self.dense = EqualisedDense(self.features[0])
        self.logits = EqualisedDense(self.num_outputs, gain=1.0)

    def __call__(self, x: Array) -> Array:
        """Logits of the images `x`."""
        return self.logits(self.embed(x))

    def embed(self, x: Array) -> Array:
        """Activations before the logits, `[batch, features[0]]`.

        Raises:
          ValueError: if `x` has the wrong shape.
        """
        if x.shape[1:] != tuple(self.image_shape):
            raise ValueError(f"x must be [batch, {', '.join(map(str, self.image_shape))}]; got {x.shape}")
        x = _activated(self.from_image(x))
        for level in range(len(self.features) - 1, 0, -1):
            branch = _activated(self.convolutions[level](x))
            branch = _activated(self.halvings[level - 1](branch))
            x = (branch + self.shortcuts[level - 1](smooth_pool(x))) / math.sqrt(2)
        x = _activated(self.convolutions[0](minibatch_deviation(x, self.group_size)))
        return _activated(self.dense(x.reshape(len(x), -1)))


def _activated(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)
