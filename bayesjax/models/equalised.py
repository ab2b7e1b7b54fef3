"""Layers with equalised learning rate: weights start from N(0, 1), and their scale is applied at run time.

    y = c W x + b,    c = gain / sqrt(fan_in),    W_ij ~ N(0, 1)

Outputs have the scale that He's initialiser would give. Adam changes every weight W_ij by about its learning rate, so
the effective weights c W_ij of all layers change by the same fraction of their scale. With a learning-rate multiplier
r, W_ij ~ N(0, 1 / r^2) and c is multiplied by r, as is the bias. The outputs at the start are the same, and the
effective weights change r times as fast.

The gain is sqrt(2) before a leaky ReLU and 1 before a linear output. Source: Karras, Aila, Laine & Lehtinen,
"Progressive growing of GANs for improved quality, stability, and variation", ICLR 2018, section 4.1. Read
`progressive.py` next.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from bayesjax.models.convolution import convolve
from bayesjax.models.initializers import normal
from bayesjax.types import Array


class EqualisedDense(nn.Module):
    """Dense layer with equalised learning rate, from `[..., in]` to `[..., features]`.

    Attributes:
      features: number of outputs.
      gain: root mean square of the outputs for inputs of mean square 1.
      rate: multiplier of the learning rate; 0.01 in the mapping network of StyleGAN.
      use_bias: whether to add a bias.
      bias: initial value of the biases.
    """

    features: int
    gain: float = math.sqrt(2)
    rate: float = 1.0
    use_bias: bool = True
    bias: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The linear function of `x`."""
        out = jnp.matmul(x, equalised_kernel(self, (x.shape[-1], self.features), self.gain, self.rate))
        if not self.use_bias:
            return out
        bias = self.param("bias", nn.initializers.constant(self.bias / self.rate), (self.features,))
        return out + jnp.broadcast_to(self.rate * bias, out.shape)


class EqualisedConv(nn.Module):
    """Convolution with equalised learning rate, from `[batch, h, w, in]` to `[batch, h', w', features]`.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      gain: root mean square of the outputs for independent inputs of mean square 1.
      convolution: `(x, kernel) -> outputs`, such as `models.convolution.convolve`, a transposed convolution as
        `functools.partial(convolve_transpose, strides=2)`, or one of `resampling.py`. The fan-in is always k^2 in.
      use_bias: whether to add a bias for each channel.
    """

    features: int
    kernel_size: int
    gain: float = math.sqrt(2)
    convolution: Callable[[Array, Array], Array] = convolve
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The convolution of `x`."""
        shape = self.kernel_size, self.kernel_size, x.shape[-1], self.features
        out = self.convolution(x, equalised_kernel(self, shape, self.gain))
        if not self.use_bias:
            return out
        return out + jnp.broadcast_to(self.param("bias", nn.initializers.zeros, (self.features,)), out.shape)


def equalised_kernel(module: nn.Module, shape: Sequence[int], gain: float, rate: float = 1.0) -> Array:
    """Creates the parameter "kernel" of a module, and returns the effective weights.

    Args:
      module: the Flax module, inside of its `setup` or compact method.
      shape: shape of the kernel; the product of all axes except the last is the fan-in.
      gain: standard deviation of the effective weights times sqrt(fan_in).
      rate: multiplier of the learning rate.

    Returns:
      `gain rate / sqrt(fan_in)` times the parameter.
    """
    kernel = module.param("kernel", normal(1 / rate), tuple(shape))
    return gain * rate / math.sqrt(math.prod(shape[:-1])) * kernel
