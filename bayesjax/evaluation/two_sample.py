"""Two-sample test: a permutation test based on the maximum mean discrepancy (MMD).

    p = (1 + #{b : MMD^2_b >= MMD^2}) / (1 + B)

MMD^2_b is the statistic after permutation b of the pooled samples, b = 1 .. B. If both samples come from one
distribution, p <= alpha has probability at most alpha, for any distribution, kernel and number of samples. Sources:
Gretton et al., "A kernel two-sample test", JMLR 2012; Phipson & Smyth, "Permutation p-values should never be zero",
2010 (the ones in numerator and denominator). Read `divergences.py` next for the kernels and the MMD.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.divergences import PairKernel, gaussian_kernel, squared_distances
from bayesjax.types import Array, PRNGKey


class TwoSampleTest(NamedTuple):
    """Result of a two-sample test.

    Attributes:
      statistic: the unbiased estimate of MMD^2, a scalar.
      p_value: in (0, 1]; small if the samples come from different distributions.
    """

    statistic: Array
    p_value: Array


def mmd_test(
    rng_key: PRNGKey, x: Array, y: Array, kernel: PairKernel | None = None, *, num_permutations: int = 999
) -> TwoSampleTest:
    """Tests whether two samples come from the same distribution. The function is pure and can be vmapped.

    Args:
      rng_key: key of the permutations.
      x: independent samples `[n, dim]`.
      y: independent samples `[m, dim]`.
      kernel: kernel of the MMD. By default it is Gaussian, with the median distance of the pooled samples as scale.
      num_permutations: B, at least 1. The smallest possible p-value is 1 / (1 + B).

    Returns:
      The unbiased estimate of MMD^2 and the p-value.

    Raises:
      ValueError: if either sample has fewer than two rows, or `num_permutations` is below 1.
      AssertionError: if `x` or `y` does not have two axes.
    """
    chex.assert_rank([x, y], 2)
    if min(len(x), len(y)) < 2 or num_permutations < 1:
        raise ValueError(
            f"x and y must have at least two rows and num_permutations be at least 1; got {len(x)}, {len(y)}, "
            f"{num_permutations}"
        )
    pooled, num_x = jnp.concatenate([x, y]), len(x)
    num = len(pooled)
    gram = (kernel or gaussian_kernel([median_distance(pooled)]))(pooled, pooled)
    gram = jnp.where(jnp.eye(num, dtype=bool), 0.0, gram)  # unbiased: without the pairs of a sample with itself
    keys = jax.random.split(rng_key, num_permutations)
    relabelled = jax.vmap(lambda key: jax.random.permutation(key, num) < num_x)(keys)
    is_x = jnp.concatenate([jnp.arange(num)[None] < num_x, relabelled]).astype(gram.dtype)
    to_x = jnp.matmul(is_x, gram, precision="highest")  # sums of the kernel between each sample and those labelled x
    to_y = jnp.matmul(1 - is_x, gram, precision="highest")  # not the total minus to_x, which would cancel
    in_x, in_y, from_y = (is_x * to_x).sum(axis=1), ((1 - is_x) * to_y).sum(axis=1), (is_x * to_y).sum(axis=1)
    num_y = num - num_x
    values = in_x / (num_x * (num_x - 1)) + in_y / (num_y * (num_y - 1)) - 2 * from_y / (num_x * num_y)
    # Permutations that give the same partition differ only by rounding. They count as ties.
    tolerance = 1e-6 * jnp.abs(gram).max()
    at_least = jnp.sum(~(values[1:] < values[0] - tolerance))  # a comparison with NaN is false, so NaN gives p = 1
    shares = np.arange(1, num_permutations + 2) / (1 + num_permutations)  # divided here: XLA multiplies by 1 / (1 + B)
    return TwoSampleTest(values[0], jnp.asarray(shares, gram.dtype)[at_least])


def median_distance(x: Array) -> Array:
    """The median distance between pairs of samples, the usual scale of a Gaussian kernel.

    If the median is 0, the root mean square distance is returned instead, and 1 if all samples are equal.

    Args:
      x: samples `[num, dim]`.

    Returns:
      A scalar, in units of the samples.
    """
    first, second = jnp.triu_indices(len(x), 1)
    squares = squared_distances(x, x)[first, second]
    square = jnp.where(jnp.median(squares) > 0, jnp.median(squares), squares.mean())
    return jnp.where(square > 0, jnp.sqrt(square), 1.0)
