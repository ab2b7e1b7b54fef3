"""The dense networks of the improved GAN for MNIST: noise before every layer, and weight columns of fixed length.

The discriminator adds Gaussian noise to its inputs and hidden units, which regularises it when few images have labels:

    h_0 = x + s_0 e_0                                        e_l ~ N(0, I)
    h_l = relu(c_l W_l' h_{l-1} + b_l) + s_1 e_l             W_l' = W_l with columns of length 1
    logits = W h_L + b

The factors c_l are constants that give the units of the first step a variance of about 1, so the optimiser changes the
directions of the columns and not their lengths. Salimans et al. compute the factors and the first biases from a batch
of data. Here both follow from the standard deviation of a pixel, and from the moments of a rectified normal variable.
The generator has softplus units with batch normalisation, and its last layer has weight columns of learned length: with
columns of length 1, its images stay blurred, and the discriminator soon tells all of them from data.

Source: Salimans, Goodfellow, Zaremba, Cheung, Radford & Chen, "Improved techniques for training GANs", NIPS 2016,
section 5.1 and its released program for MNIST. Read `objectives/semi_supervised.py` for the losses.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models.dcgan import BatchStatistics
from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array

# Adam turns a column by about its learning rate divided by this standard deviation in a step.
DIRECTION_INIT = nn.initializers.normal(0.1)
RELU_MEAN = 1 / math.sqrt(2 * math.pi)  # mean of max(0, u), u ~ N(0, 1)
RELU_VARIANCE = 0.5 - RELU_MEAN**2


class NormalisedDense(nn.Module):
    """Dense layer with separate lengths and directions of its weight columns, `y_j = gain_j w_j . x / |w_j| + b_j`.

    Source: Salimans & Kingma, "Weight normalization", NIPS 2016, equation 2.

    Attributes:
      features: number of outputs.
      gain: length of the columns.
      input_mean: mean of the inputs. The first biases remove its effect, so that the outputs have the mean 0.
      learns_gain: whether the lengths are parameters, which start at `gain`, or fixed.
      kernel_init: initialiser of the directions.
    """

    features: int
    gain: float = 1.0
    input_mean: float = 0.0
    learns_gain: bool = False
    kernel_init: Initializer = DIRECTION_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The linear function of `x`, from `[..., in]` to `[..., features]`."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        gain: Any = self.gain
        if self.learns_gain:
            gain = self.param("gain", nn.initializers.constant(self.gain), (self.features,))
        kernel = gain * kernel / jnp.linalg.norm(kernel, axis=0)
        bias = self.param("bias", lambda _: -self.input_mean * kernel.sum(axis=0))
        return x @ kernel + bias


class Discriminator(nn.Module):
    """Discriminator, from images `[batch, *image_shape]` in (-1, 1) to logits `[batch, num_classes]`.

    Noise is added if a call has the rng "noise".

    Attributes:
      image_shape: shape of an image.
      num_classes: number of real classes.
      features: widths of the hidden layers.
      input_noise: standard deviation of the noise of a pixel, in units of the range of pixel values.
      hidden_noise: standard deviation of the noise of a hidden unit.
      pixel_mean, pixel_sd: mean and mean standard deviation of a pixel in [0, 1]; the defaults are those of MNIST.
    """

    image_shape: Sequence[int]
    num_classes: int = 1
    features: Sequence[int] = (1000, 500, 250, 250, 250)
    input_noise: float = 0.3
    hidden_noise: float = 0.5
    pixel_mean: float = 0.13
    pixel_sd: float = 0.26

    def setup(self) -> None:
        """Creates the layers.

        Raises:
          ValueError: if a width is not positive, or a standard deviation is negative or that of a pixel is 0.
        """
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features must name at least one positive width; got {tuple(self.features)}")
        if min(self.input_noise, self.hidden_noise) < 0 or self.pixel_sd <= 0:
            raise ValueError(
                "input_noise and hidden_noise must be at least 0 and pixel_sd positive; got "
                f"{self.input_noise}, {self.hidden_noise} and {self.pixel_sd}"
            )
        hidden = 1 / math.sqrt(RELU_VARIANCE + self.hidden_noise**2)
        first = 1 / math.hypot(self.pixel_sd, self.input_noise)
        gains = [(first, self.pixel_mean)] + [(hidden, RELU_MEAN)] * (len(self.features) - 1)
        self.layers = [NormalisedDense(width, *gain) for width, gain in zip(self.features, gains, strict=True)]
        self.head = nn.Dense(self.num_classes, kernel_init=fan_in_normal())

    def __call__(self, x: Array) -> Array:
        """Logits `[batch, num_classes]`."""
        return self.head(self._add_noise(self.embed(x), self.hidden_noise))

    def embed(self, x: Array) -> Array:
        """Features `[batch, features[-1]]`: the last hidden units, before their noise.

        Raises:
          ValueError: if `x` has the wrong shape.
        """
        if x.shape[1:] != tuple(self.image_shape):
            raise ValueError(f"x must be [batch, {', '.join(map(str, self.image_shape))}]; got {x.shape}")
        h = self._add_noise((x.reshape(len(x), -1) + 1) / 2, self.input_noise)
        for layer in self.layers[:-1]:
            h = self._add_noise(nn.relu(layer(h)), self.hidden_noise)
        return nn.relu(self.layers[-1](h))

    def _add_noise(self, h: Array, scale: float) -> Array:
        if not self.has_rng("noise") or scale == 0:
            return h
        return h + scale * jax.random.normal(self.make_rng("noise"), h.shape, h.dtype)


class Generator(nn.Module):
    """Generator, from noise `[batch, z_dim]` to images `[batch, *image_shape]` in (-1, 1).

    Attributes:
      image_shape: shape of an image.
      features: widths of the hidden layers.
    """

    image_shape: Sequence[int]
    features: Sequence[int] = (500, 500)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Images `[batch, *image_shape]`; batch normalisation makes an image depend on the other noise of its batch."""
        h = z
        for layer, width in enumerate(self.features):
            h = BatchStatistics()(nn.Dense(width, use_bias=False, kernel_init=fan_in_normal())(h))
            h = nn.softplus(h + self.param(f"bias_{layer}", nn.initializers.zeros, (width,)))
        last = NormalisedDense(math.prod(self.image_shape), learns_gain=True, kernel_init=fan_in_normal())
        return jnp.tanh(last(h) / 2).reshape(-1, *self.image_shape)
