"""Generative moment matching networks: training a generator by the maximum mean discrepancy (MMD) to the data.

    loss(theta) = sqrt(MMD^2(data, G(z; theta))),   k(x, y) = sum_s exp(-|x - y|^2 / (2 s^2))

The sum runs over the scales s of the kernel k. There is no discriminator, because the best witness function is known in
closed form. The square root keeps the gradient large near the optimum. The loss compares two large batches and is not a
mean over examples. In the code space of an auto-encoder the method is called GMMN+AE. Source: Li, Swersky & Zemel,
"Generative moment matching networks", ICML 2015. Read `divergences.py` for the kernels and the MMD.
"""

import math

import jax.numpy as jnp

from bayesjax.divergences import PairKernel, gaussian_kernel, mmd_squared
from bayesjax.types import Array

SCALES = tuple(math.sqrt(variance) for variance in (2, 5, 10, 20, 40, 80))
"""Scales s of the kernel for images with 784 pixels in [0, 1]. The authors' program calls the squares 2, 5, ..., 80
sigma, and divides squared distances by 2 sigma, so they are variances."""


def moment_matching_loss(
    real: Array, fake: Array, kernel: PairKernel | None = None, *, is_unbiased: bool = False, chunk_size: int = 1024
) -> Array:
    """Square root of the squared MMD between real and generated samples, to be minimised over the generator.

        loss = sqrt(MMD^2(real, fake))

    Args:
      real: real samples `[n, dim]`.
      fake: generated samples `[m, dim]`.
      kernel: kernel of the MMD; `divergences.gaussian_kernel(SCALES)` by default.
      is_unbiased: whether to return the unbiased estimate of MMD^2 without the square root, because it may be negative.
      chunk_size: number of rows of the kernel matrix that are in memory at once.

    Returns:
      A scalar.

    Raises:
      ValueError: in the cases that `divergences.mmd_squared` states.
    """
    squared = mmd_squared(real, fake, kernel or gaussian_kernel(SCALES), is_unbiased=is_unbiased, chunk_size=chunk_size)
    if is_unbiased:
        return squared
    is_positive = squared > 0  # rounding may give 0 or less, where the root has no finite gradient
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, squared, 1.0)), 0.0)
