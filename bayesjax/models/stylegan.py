"""StyleGAN: a mapping network turns noise into a style, which controls every layer of a synthesis network.

    z / sqrt(mean(z^2)) -> mapping -> w         w = f(z), of the dimension of a style
    x -> convolution -> + noise -> leaky ReLU -> AdaIN(x, w) = (1 + y_s) (x - mean) / sd + y_o,    (y_s, y_o) = A w + b

The synthesis network starts from a learnt constant. Mean and standard deviation are those of a channel of one image.
Each layer has its own style, so the input is an array `[batch, num_layers, style_dim]`. `Generator` gives all layers
the same style; the functions of this file change styles between the two networks:

    repeat_style, mix_styles, draw_cutoff     one style for all layers, or one for coarse and another for fine layers
    truncate, mean_style                      styles closer to the mean, less varied but more typical
    draw_noise                                the noise of all layers; without it images depend on styles alone

Each network can be used alone, as a pure function of its part of the parameters:

    generator = Generator(Mapping(128), Synthesis((32, 32, 1)))
    w = generator.mapping.apply({"params": params["mapping"]}, z)
    images = generator.synthesis.apply({"params": params["synthesis"]}, repeat_style(w, 8), noise)

This synthesis network grows like `progressive.Generator`, with the arguments `level` and `alpha`. Its discriminator is
`progressive.Discriminator`. `evaluation.invert_generator` finds the style of a given image. Source: Karras, Laine &
Aila, "A style-based generator architecture for generative adversarial networks", CVPR 2019. Read `stylegan2.py` next.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax import axes, checks, noise
from bayesjax.models.convolution import convolve
from bayesjax.models.equalised import EqualisedConv, EqualisedDense
from bayesjax.models.latent import latent_noise
from bayesjax.models.progressive import FEATURES, check_level, fade_in, level_sizes, pixel_norm
from bayesjax.models.resampling import convolve_smooth_upsampled
from bayesjax.types import Array, PRNGKey


class Mapping(nn.Module):
    """Mapping network, from noise `[batch, latent_dim]` to styles `[batch, features]`.

    Attributes:
      features: dimension of a style, and number of units of each layer.
      depth: number of layers; 8 in the paper. With 0 layers a style is the normalised noise.
      rate: multiplier of the learning rate.
    """

    features: int = 128
    depth: int = 8
    rate: float = 0.01

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Styles of the noise `z`, whose scale has no effect."""
        x = pixel_norm(z)
        for _ in range(self.depth):
            x = nn.leaky_relu(EqualisedDense(self.features, rate=self.rate)(x), 0.2)
        return x


class StyledLayer(nn.Module):
    """Noise, leaky ReLU and adaptive instance normalisation (AdaIN) of feature maps `[batch, h, w, c]`."""

    @nn.compact
    def __call__(self, x: Array, style: Array, noise: Array | None = None) -> Array:
        """Feature maps with the mean and standard deviation that the style gives to each channel.

        Args:
          x: feature maps `[batch, h, w, c]`.
          style: `[batch, style_dim]`.
          noise: `[batch, h, w]`, or `[1, h, w]` for all images; None for no noise.

        Returns:
          `[batch, h, w, c]`.
        """
        channels = x.shape[-1]
        strength = self.param("noise_strength", nn.initializers.zeros, (1, 1, 1, channels))
        if noise is not None:
            x = x + strength * noise[..., None]
        x = nn.leaky_relu(x, 0.2)
        x = x - x.mean((1, 2), keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x**2, (1, 2), keepdims=True) + 1e-8)
        scale, offset = jnp.split(EqualisedDense(2 * channels, gain=1.0)(style)[:, None, None], 2, axis=-1)
        return (1 + scale) * x + offset


class Synthesis(nn.Module):
    """Synthesis network of StyleGAN, from styles `[batch, num_layers, style_dim]` to images `[batch, *image_shape]`.

    Attributes:
      image_shape: (height, width, channels) at the top level.
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
        """Heights and widths of the noise of all layers."""
        return [size for size in level_sizes(self.image_shape, len(self.features)) for _ in range(2)]

    @property
    def layer_heights(self) -> list[int]:
        """Heights of the feature maps of all layers that have a style, in pixels."""
        return [height for height, _ in self.noise_sizes]

    def setup(self) -> None:
        """Creates the layers."""
        shape = (*self.noise_sizes[0], self.features[0])
        self.constant = self.param("constant", nn.initializers.ones, shape)
        convolutions = [convolve_smooth_upsampled, convolve]  # even layers double the feature maps
        self.convolutions = [
            EqualisedConv(self.features[layer // 2], 3, convolution=convolutions[layer % 2])
            for layer in range(1, self.num_layers)
        ]
        self.styled = [StyledLayer() for _ in range(self.num_layers)]
        self.to_image = [EqualisedConv(self.image_shape[-1], 1, gain=1.0) for _ in self.features]

    def __call__(
        self,
        styles: Array,
        noise: Sequence[Array] | None = None,
        level: int | None = None,
        alpha: Array | float | None = None,
    ) -> Array:
        """Images of given styles.

        Args:
          styles: `[batch, num_layers, style_dim]`.
          noise: noise of each layer as from `draw_noise`; None for no noise.
          level: level of the images, 0 for the smallest; the top level by default.
          alpha: weight of this level, scalar; None if nothing is faded. It has no effect at level 0.

        Returns:
          Images `[batch, h, w, c]` of the level's size, in a range that the network learns.

        Raises:
          ValueError: if there is no such level, or the styles are not those of `num_layers` layers.
        """
        level = check_level(level, len(self.features))
        check_styles(styles, noise, self.num_layers, len(self.noise_sizes))
        x, images = jnp.broadcast_to(self.constant, (len(styles), *self.constant.shape)), []
        for layer in range(2 * (level + 1)):
            if layer > 0:
                x = self.convolutions[layer - 1](x)
            x = self.styled[layer](x, styles[:, layer], None if noise is None else noise[layer])
            if layer % 2 == 1:
                images.append(self.to_image[layer // 2](x))
        return fade_in(images, level, alpha)


class Generator(nn.Module):
    """Generator, from noise `[batch, latent_dim]` to images, whose layers have the same style.

    Attributes:
      mapping: network from noise to styles, such as `Mapping`.
      synthesis: network from the styles of all layers to images: `stylegan.Synthesis` or `stylegan2.Synthesis`.
    """

    mapping: Any
    synthesis: Any

    @nn.compact
    def __call__(self, z: Array, noise: Sequence[Array] | None = None, **growth: Any) -> Array:
        """Images of the noise `z`.

        Args:
          z: noise `[batch, latent_dim]`.
          noise: noise of each layer as from `draw_noise`; None for no noise, so that images depend on `z` alone.
          **growth: `level` and `alpha` of a synthesis network that grows.

        Returns:
          Images `[batch, h, w, c]`.
        """
        return self.synthesis(repeat_style(self.mapping(z), self.synthesis.num_layers), noise, **growth)


def check_styles(styles: Array, noise: Sequence[Array] | None, num_layers: int, num_noises: int) -> None:
    """Raises ValueError unless there is a style for each layer and, if there is noise, noise for each layer."""
    if styles.ndim != 3 or styles.shape[1] != num_layers:
        raise ValueError(f"styles must be [batch, {num_layers}, style_dim]; got {styles.shape}")
    if noise is not None and len(noise) != num_noises:
        raise ValueError(f"noise must have an array for each of {num_noises} layers; got {len(noise)}")


def draw_noise(rng_key: PRNGKey, num: int, sizes: Sequence[tuple[int, int]]) -> list[Array]:
    """Draws standard normal noise for all layers of a synthesis network.

    If a `data` axis is bound (`axes.py`), the result is this device's part, as in `latent_noise`.

    Args:
      rng_key: consumed.
      num: number of images on this device; 1 for noise that all images share.
      sizes: heights and widths, `Synthesis.noise_sizes`.

    Returns:
      Arrays `[num, h, w]` for each size.
    """
    total = num * axes.size(axes.DATA)
    keys = jax.random.split(rng_key, len(sizes))
    drawn = [noise.normal(key, total * h * w).reshape(total, h, w) for key, (h, w) in zip(keys, sizes, strict=True)]
    return axes.local_part(drawn, axes.DATA)


def repeat_style(w: Array, num_layers: int) -> Array:
    """Gives all layers the same style, `[batch, style_dim]` to `[batch, num_layers, style_dim]`."""
    return jnp.broadcast_to(w[:, None], (w.shape[0], num_layers, w.shape[1]))


def mix_styles(coarse: Array, fine: Array, cutoff: Array | int, num_layers: int) -> Array:
    """Gives the first layers one style and the others another.

    Args:
      coarse: styles `[batch, style_dim]` of the layers before `cutoff`.
      fine: styles `[batch, style_dim]` of the other layers.
      cutoff: int32 scalar from 0 to `num_layers`; may be traced.
      num_layers: number of layers.

    Returns:
      `[batch, num_layers, style_dim]`.
    """
    is_coarse = jnp.arange(num_layers)[None, :, None] < cutoff
    return jnp.where(is_coarse, repeat_style(coarse, num_layers), repeat_style(fine, num_layers))


def draw_cutoff(rng_key: PRNGKey, num_layers: int, probability: float = 0.9) -> Array:
    """Draws the `cutoff` of `mix_styles` for a training step.

    Args:
      rng_key: consumed.
      num_layers: number of layers.
      probability: probability that styles are mixed; 0.9 in the paper.

    Returns:
      An int32 scalar: uniform on 1, ..., `num_layers - 1` with the given probability, and otherwise `num_layers`, which
      does not mix.

    Raises:
      ValueError: if `probability` is not in [0, 1].
    """
    checks.probability(probability=jnp.float32(probability))
    is_mixed_key, cutoff_key = jax.random.split(rng_key)
    cutoff = jax.random.randint(cutoff_key, (), 1, num_layers)
    return jnp.where(jax.random.bernoulli(is_mixed_key, probability), cutoff, num_layers)


def truncate(styles: Array, mean: Array, psi: Array | float) -> Array:
    """Moves styles towards the mean style, mean + psi (w - mean).

    Args:
      styles: `[..., style_dim]`.
      mean: mean style `[style_dim]`, see `mean_style`.
      psi: 1 changes nothing, and 0 gives one image; the paper shows images at 0.7. An array `[num_layers, 1]` truncates
        every layer by its own factor.

    Returns:
      Styles of the same shape.
    """
    mean = jnp.broadcast_to(mean, styles.shape)
    return mean + jnp.broadcast_to(psi, styles.shape) * (styles - mean)


def mean_style(mapping: Callable[[Array], Array], rng_key: PRNGKey, latent_dim: int, num: int = 10_000) -> Array:
    """Estimates the mean style E_z f(z), z ~ N(0, I), from independent draws.

    The authors keep a moving average of styles during training instead. The estimate needs no state and belongs to the
    current parameters. With the default `num`, its standard error is a hundredth of the standard deviation of styles.

    Args:
      mapping: `z [num, latent_dim] -> w [num, style_dim]`.
      rng_key: consumed.
      latent_dim: dimension of the noise.
      num: number of draws.

    Returns:
      `[style_dim]`.
    """
    return mapping(latent_noise(rng_key, num, latent_dim, "normal")).mean(0)
