"""Doubling and halving of images, alone and together with a convolution.

    nearest    a pixel becomes 2 x 2 equal pixels, and 2 x 2 pixels become their mean (Progressive GAN)
    smooth     the filter [1, 3, 3, 1] / 8 on each axis, before a halving or after a doubling with zeros (StyleGAN)

`sngan.upsample` and `sngan.mean_pool` are the nearest forms alone. A doubling followed by a convolution, and a
convolution followed by a halving, are one convolution of stride 2 here. A 3 x 3 kernel then has 16 (nearest) or 9
(smooth) products for each small pixel instead of 36. All functions take images `[batch, h, w, in]`, and kernels have an
odd size and pad with zeros. Read `equalised.py` next, whose layers take these functions.

Sources: the programs of Karras et al., "Progressive growing of GANs", ICLR 2018 (`fused_scale`), and of "Analyzing and
improving the image quality of StyleGAN", CVPR 2020 (`upfirdn_2d`), which gives all four forms up to the edges.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax.models.convolution import convolve, convolve_transpose
from bayesjax.types import Array

TAPS = np.array([1, 3, 3, 1]) / 8  # the filter of the smooth forms


def convolve_upsampled(x: Array, kernel: Array) -> Array:
    """The convolution of an image doubled by nearest neighbours, `convolve(sngan.upsample(x), kernel)`.

    The sum of the four shifted kernels is the kernel of a transposed convolution of stride 2.

    Args:
      x: images `[batch, h, w, in]`.
      kernel: `[k, k, in, out]` with odd k.

    Returns:
      `[batch, 2 h, 2 w, out]`.

    Raises:
      ValueError: if the kernel's size is even.
    """
    return convolve_transpose(x, _sum_of_shifts(kernel), 2, _margin(kernel))


def convolve_pooled(x: Array, kernel: Array) -> Array:
    """The means of 2 x 2 pixels of a convolution, `sngan.mean_pool(convolve(x, kernel))`.

    Args:
      x: images `[batch, h, w, in]` of even height and width.
      kernel: `[k, k, in, out]` with odd k.

    Returns:
      `[batch, h / 2, w / 2, out]`.

    Raises:
      ValueError: if the kernel's size is even.
    """
    return convolve(x, _sum_of_shifts(kernel) / 4, 2, _margin(kernel) - 1)


def smooth_upsample(x: Array) -> Array:
    """Doubles images by bilinear interpolation. Constant images stay constant.

    Args:
      x: images `[batch, h, w, c]`.

    Returns:
      `[batch, 2 h, 2 w, c]`.
    """
    return _on_both_axes(lambda size: _normalised(_filter(2 * size - 1, 2)[:, ::2]), x)  # zeros between the pixels


def smooth_pool(x: Array) -> Array:
    """Halves images by the filter [1, 3, 3, 1] / 8 on each axis. Constant images stay constant.

    Args:
      x: images `[batch, h, w, c]` of even height and width.

    Returns:
      `[batch, h / 2, w / 2, c]`.
    """
    return _on_both_axes(lambda size: _normalised(_filter(size, 1)[::2]), x)


def convolve_smooth_upsampled(x: Array, kernel: Array) -> Array:
    """The convolution of a doubled image, `convolve(smooth_upsample(x), kernel)` away from the edges.

    Args:
      x: images `[batch, h, w, in]`.
      kernel: `[k, k, in, out]` with odd k.

    Returns:
      `[batch, 2 h, 2 w, out]`.

    Raises:
      ValueError: if the kernel's size is even.
    """
    return _on_both_axes(lambda size: 2 * _filter(size, 1), convolve_transpose(x, kernel, 2, _margin(kernel)))


def convolve_smooth_pooled(x: Array, kernel: Array) -> Array:
    """Every second pixel of the convolution of a filtered image, with the filter of `smooth_pool`.

    Args:
      x: images `[batch, h, w, in]` of even height and width.
      kernel: `[k, k, in, out]` with odd k.

    Returns:
      `[batch, h / 2, w / 2, out]`.

    Raises:
      ValueError: if the kernel's size is even.
    """
    return convolve(_on_both_axes(lambda size: _filter(size, _margin(kernel)), x), kernel, 2, 0)


def _sum_of_shifts(kernel: Array) -> Array:
    """The sum of the kernel in the four corners of a kernel that is larger by one."""
    corners = [((top, 1 - top), (left, 1 - left), (0, 0), (0, 0)) for top in (0, 1) for left in (0, 1)]
    return functools.reduce(jnp.add, (jnp.pad(kernel, corner) for corner in corners))


def _margin(kernel: Array) -> int:
    """The padding of the enlarged kernel, half the kernel's size rounded up."""
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] != kernel.shape[0]:
        raise ValueError(f"kernel must be [k, k, in, out] with odd k; got {kernel.shape}")
    return (kernel.shape[0] + 1) // 2


def _filter(size: int, padding: int) -> np.ndarray:
    """The matrix `[size + 2 padding - 3, size]` that filters a row of pixels padded with zeros on both sides."""
    matrix = np.stack([np.convolve(unit, TAPS) for unit in np.eye(size)], axis=1)
    return matrix[3 - padding : len(matrix) - 3 + padding]


def _normalised(matrix: np.ndarray) -> np.ndarray:
    """The matrix with rows of sum 1, so that pixels beyond the edges have no weight."""
    return matrix / matrix.sum(axis=1, keepdims=True)


def _on_both_axes(matrix: Callable[[int], np.ndarray], x: Array) -> Array:
    """Applies `matrix(size)` to the rows and the columns of images.

    XLA computes a sum of shifted images anew in every loop that reads it, such as one for each tap of the convolution
    that follows. A product is computed once.
    """
    batch, height, width, channels = x.shape
    vertical, horizontal = (jnp.asarray(matrix(size), x.dtype) for size in (height, width))
    x = _product(vertical, x.reshape(batch, height, width * channels))
    x = _product(horizontal, x.reshape(batch * len(vertical), width, channels))
    return x.reshape(batch, len(vertical), len(horizontal), channels)


def _product(matrix: Array, x: Array) -> Array:
    """Products of a matrix with each of `x` `[num, ...]`, in full precision on devices whose default is lower."""
    stacked = jnp.broadcast_to(matrix, (len(x), *matrix.shape))
    return jnp.matmul(stacked, x, precision=lax.Precision.HIGHEST)
