"""Generative moment matching: a generator whose samples cannot be told from data by any moment of a kernel.

    loss(theta) = sqrt(MMD^2(data, G(z; theta))),   k(x, y) = sum_s exp(-|x - y|^2 / (2 s^2))

No discriminator and no game: the best witness function is known in closed form. The square root makes the gradient
large where the samples are nearly right. The loss is of whole batches, large ones: it compares samples, not examples.
In the code space of an auto-encoder it is GMMN+AE. Source: Li, Swersky & Zemel, "Generative moment matching
networks", ICML 2015. `divergences.py` has the kernels and MMD itself.
"""

import math

import jax.numpy as jnp

from bayesjax.divergences import PairKernel, gaussian_kernel, mmd_squared
from bayesjax.types import Array

SCALES = tuple(math.sqrt(variance) for variance in (2, 5, 10, 20, 40, 80))
"""Of the kernel, for images with 784 pixels in [0, 1]. The authors' program names these six numbers sigma and divides
squared distances by 2 sigma: they are variances."""


def moment_matching_loss(
    real: Array, fake: Array, kernel: PairKernel | None = None, *, is_unbiased: bool = False, chunk_size: int = 1024
) -> Array:
    """The square root of the squared MMD, a scalar to be minimised over what made `fake`.

    Args:
      real, fake: `[n, dim]` and `[m, dim]`.
      kernel: `divergences.gaussian_kernel(SCALES)` if None.
      is_unbiased: minimises the unbiased MMD^2 itself, which may be negative and has no root.
      chunk_size: rows of the kernel matrix in memory at once.
    """
    squared = mmd_squared(real, fake, kernel or gaussian_kernel(SCALES), is_unbiased=is_unbiased, chunk_size=chunk_size)
    if is_unbiased:
        return squared
    is_positive = squared > 0  # rounding may leave 0 or less, where the root has no gradient
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, squared, 1.0)), 0.0)
