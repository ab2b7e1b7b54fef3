"""The one home of convolutions: Flax's `Conv` and `ConvTranspose`, same parameters and numbers, in a fast form.

XLA's CPU convolutions are slow in some shapes (strided, transposed) and slower still under `vmap` over weights, which
turns them into grouped convolutions. Here a convolution is written as a matrix product over patches, and a stride-2
transposed convolution as a stride-1 product that makes all four output phases at once (polyphase form). Products batch
well over particles, and their gradients are products again.

Layout is NHWC; kernels are `[height, width, in, out]`; padding is "SAME" as Flax and TensorFlow have it.
"""

import flax.linen as nn
import jax.numpy as jnp

from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array


def _patches(x: Array, size: tuple[int, int], strides: tuple[int, int], pads: list[tuple[int, int]]) -> Array:
    """`[batch, h, w, c]` to `[batch, out_h, out_w, size_h * size_w * c]`, one strided slice per kernel position."""
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    out = [(x.shape[axis + 1] - size[axis]) // strides[axis] + 1 for axis in (0, 1)]
    slices = [
        x[:, i : i + (out[0] - 1) * strides[0] + 1 : strides[0], j : j + (out[1] - 1) * strides[1] + 1 : strides[1], :]
        for i in range(size[0])
        for j in range(size[1])
    ]
    return jnp.concatenate(slices, axis=-1)


def convolve(x: Array, kernel: Array, strides: tuple[int, int] = (1, 1)) -> Array:
    """ "SAME" convolution of `x` `[batch, h, w, in]` with `kernel` `[kh, kw, in, out]`."""
    size = kernel.shape[0], kernel.shape[1]
    pads = []
    for axis in (0, 1):
        length, stride = x.shape[axis + 1], strides[axis]
        total = max((-(-length // stride) - 1) * stride + size[axis] - length, 0)
        pads.append((total // 2, total - total // 2))
    return _patches(x, size, strides, pads) @ kernel.reshape(-1, kernel.shape[-1])


def convolve_transpose(x: Array, kernel: Array, strides: tuple[int, int] = (2, 2)) -> Array:
    """ "SAME" transposed convolution, `[batch, h, w, in]` to `[batch, h * stride, w * stride, out]`, as Flax has it.

    On one axis, `out[s p + phase] = sum_d x[p + d] kernel[s d - phase + before]`: each phase is a stride-1 convolution
    with every s-th kernel row, and all phases share the patches of x, so they are columns of one product.
    """
    pads = []
    for axis, stride in enumerate(strides):
        size = kernel.shape[2 * axis]  # axes 0 and, after the first reshape below, 2
        before = size - 1 if stride > size - 1 else -(-(size + stride - 2) // 2)
        first, last = -(before // stride), (size + stride - 2 - before) // stride
        pads.append((-first, last))
        low = stride - 1 - before - stride * first
        high = stride * (last - first + 1) - size - low
        widths = [(0, 0)] * kernel.ndim
        widths[2 * axis] = (low, high)
        kernel = jnp.pad(kernel, widths)
        shape = kernel.shape
        kernel = kernel.reshape(*shape[: 2 * axis], last - first + 1, stride, *shape[2 * axis + 1 :])
        kernel = jnp.flip(kernel, 2 * axis + 1)
    taps_h, phases_h, taps_w, phases_w, features_in, features_out = kernel.shape
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(taps_h * taps_w * features_in, -1)
    out = _patches(x, (taps_h, taps_w), (1, 1), pads) @ kernel
    batch, height, width, _ = out.shape
    out = out.reshape(batch, height, width, phases_h, phases_w, features_out).transpose(0, 1, 3, 2, 4, 5)
    return out.reshape(batch, height * phases_h, width * phases_w, features_out)


class Conv(nn.Module):
    """`flax.linen.Conv`, "SAME" padding: `[batch, h, w, in]` to `[batch, ceil(h/stride), ceil(w/stride), features]`.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal stride.
      use_bias: whether to add a bias per channel.
      kernel_init, bias_init: Flax initialisers.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    use_bias: bool = True
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The convolution of `x`."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        out = convolve(x, kernel, self.strides)
        return out + self.param("bias", self.bias_init, (self.features,)) if self.use_bias else out


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose`, "SAME" padding: `[batch, h, w, in]` to `[batch, h * stride, w * stride, features]`.

    Attributes: as `Conv`.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (2, 2)
    use_bias: bool = True
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The transposed convolution of `x`."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        out = convolve_transpose(x, kernel, self.strides)
        return out + self.param("bias", self.bias_init, (self.features,)) if self.use_bias else out
