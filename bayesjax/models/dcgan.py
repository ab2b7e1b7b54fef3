"""DCGAN: a discriminator of strided convolutions and a generator of transposed convolutions that mirrors it.

The networks follow the guidelines of Radford, Metz & Chintala, "Unsupervised representation learning with deep
convolutional GANs", ICLR 2016. They use strided convolutions instead of pooling. The only dense hidden layer is
the first layer of the generator. The generator has ReLU units and a tanh output, and the discriminator has leaky ReLU
units. All layers are normalised except the last of the generator and the first of the discriminator.

Each layer of the discriminator halves height and width, rounding up (28, 14, 7, 4). The generator has the same sizes in
reverse order. The discriminator returns one logit for each real class. With one class it is the logit of real against
fake. Read `objectives/semi_supervised.py` for the losses. All convolutions come from `convolution.py`.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.initializers import Initializer, normal
from bayesjax.types import Array

NORMS = ("group", "batch", "none")
DCGAN_INIT = normal(0.02)


def layer_sizes(image_shape: Sequence[int], num_layers: int) -> list[tuple[int, int]]:
    """Heights and widths after each layer of stride 2, such as `[(28, 28), (14, 14), (7, 7)]` for two layers.

    Args:
      image_shape: (height, width, channels).
      num_layers: number of layers of stride 2.

    Returns:
      The pairs (height, width), `num_layers + 1` of them, of which the first is the size of the image.

    Raises:
      ValueError: if the shape is not (height, width, channels), or the image is too small for so many layers.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (height, width, channels), all positive; got {tuple(image_shape)}")
    height, width, _ = image_shape
    if min(height, width) < 2**num_layers:
        raise ValueError(
            f"image_shape {tuple(image_shape)} is too small for {num_layers} layers of stride 2: height and width must "
            f"be at least {2**num_layers}"
        )
    sizes = [(height, width)]
    for _ in range(num_layers):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


class BatchStatistics(nn.Module):
    """Batch normalisation by the statistics of the current batch, as in the Bayesian GAN.

    It has no scale, no offset and no running averages, so it is a pure function without state.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises each channel of `x` to mean 0 and variance 1."""
        axes = tuple(range(x.ndim - 1))
        return (x - x.mean(axes)) / jnp.sqrt(x.var(axes) + 1e-5)


def make_norm(norm: str, channels: int) -> Callable[[Array], Array]:
    """Makes a normalisation layer from its name.

    Args:
      norm: "group" (8 groups or fewer), "batch" (`BatchStatistics`) or "none".
      channels: number of channels of the input.

    Returns:
      A function `x -> normalised x` of arrays `[batch, ..., channels]`.

    Raises:
      ValueError: for any other name.
    """
    if norm == "group":
        return nn.GroupNorm(num_groups=math.gcd(8, channels))
    if norm == "batch":
        return BatchStatistics()
    if norm == "none":
        return lambda x: x
    raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")


class Generator(nn.Module):
    """Generator, from noise `[batch, z_dim]` to images `[batch, *image_shape]`.

    Attributes:
      image_shape: (height, width, channels).
      features: numbers of channels before each transposed convolution of stride 2, such as (128, 64, 32).
      norm: "group", "batch" or "none".
      kernel_size: height and width of the kernels.
      kernel_init: initialiser of kernels.
      output: activation of the last layer; the default maps to (-1, 1).
      hidden: widths of dense layers before the first feature maps. DCGAN has none; InfoGAN for MNIST has one of 1024.
    """

    image_shape: Sequence[int]
    features: Sequence[int] = (128, 64, 32)
    norm: str = "group"
    kernel_size: int = 5
    kernel_init: Initializer = DCGAN_INIT
    output: Callable[[Array], Array] = jnp.tanh
    hidden: Sequence[int] = ()

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Images generated from the noise `z`."""
        sizes = layer_sizes(self.image_shape, len(self.features))[::-1]
        (height, width), channels = sizes[0], self.features[0]
        for layer, units in enumerate(self.hidden):
            z = nn.Dense(units, kernel_init=self.kernel_init, name=f"hidden_{layer}")(z)
            z = nn.relu(make_norm(self.norm, units)(z))
        x = nn.Dense(height * width * channels, kernel_init=self.kernel_init)(z)
        x = nn.relu(make_norm(self.norm, channels)(x.reshape(-1, height, width, channels)))
        widths = [*self.features[1:], self.image_shape[-1]]
        for (height, width), channels in zip(sizes[1:], widths, strict=True):
            transposed = ConvTranspose(channels, self.kernel_size, strides=2, kernel_init=self.kernel_init)
            x = transposed(x)[:, :height, :width]
            if (height, width) != sizes[-1]:
                x = nn.relu(make_norm(self.norm, channels)(x))
        return self.output(x)


class Discriminator(nn.Module):
    """Discriminator, from images `[batch, *image_shape]` in (-1, 1) to logits `[batch, num_outputs]`.

    Attributes:
      image_shape: (height, width, channels).
      num_outputs: K, the number of real classes; 1 for real against fake.
      features: numbers of channels of the convolutions of stride 2, such as (32, 64, 128).
      norm: "group", "batch" or "none". The first layer has no normalisation.
      kernel_size: height and width of the kernels.
      kernel_init: initialiser of kernels.
      hidden: widths of dense layers before the logits. DCGAN has none; InfoGAN for MNIST has one of 1024.
    """

    image_shape: Sequence[int]
    num_outputs: int = 1
    features: Sequence[int] = (32, 64, 128)
    norm: str = "group"
    kernel_size: int = 5
    kernel_init: Initializer = DCGAN_INIT
    hidden: Sequence[int] = ()

    def setup(self) -> None:
        """Creates the layers."""
        layer_sizes(self.image_shape, len(self.features))
        self.convolutions = [
            Conv(channels, (self.kernel_size, self.kernel_size), strides=(2, 2), kernel_init=self.kernel_init)
            for channels in self.features
        ]
        self.norms = [make_norm(self.norm if layer else "none", width) for layer, width in enumerate(self.features)]
        self.dense = [nn.Dense(units, kernel_init=self.kernel_init) for units in self.hidden]
        self.dense_norms = [make_norm(self.norm, units) for units in self.hidden]
        self.logits = nn.Dense(self.num_outputs, kernel_init=self.kernel_init)

    def __call__(self, x: Array) -> Array:
        """Logits of the real classes. The fake class has logit 0."""
        return self.logits(self.embed(x))

    def embed(self, x: Array) -> Array:
        """Activations before the logits, `[batch, num_features]`.

        Raises:
          ValueError: if `x` has the wrong shape.
        """
        if x.shape[1:] != tuple(self.image_shape):
            raise ValueError(f"x must be [batch, {', '.join(map(str, self.image_shape))}]; got {x.shape}")
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nn.leaky_relu(norm(convolution(x)), 0.2)
        x = x.reshape(x.shape[0], -1)
        for dense, norm in zip(self.dense, self.dense_norms, strict=True):
            x = nn.leaky_relu(norm(dense(x)), 0.2)
        return x
