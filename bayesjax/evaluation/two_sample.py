"""Are two samples of one law? A permutation test of the maximum mean discrepancy.

Under the hypothesis that they are, the labels of the pooled samples may be exchanged, so that the share of relabelings
whose MMD^2 is at least as large,

    p = (1 + #{b : MMD^2_b >= MMD^2}) / (1 + B)

is at most any alpha with probability at most alpha, whatever the law, the kernel and the number of samples. Source:
Gretton et al., "A kernel two-sample test", JMLR 2012; for the 1s, Phipson & Smyth, "Permutation p-values should never
be zero", 2010.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.divergences import PairKernel, gaussian_kernel, squared_distances
from bayesjax.types import Array, PRNGKey


class TwoSampleTest(NamedTuple):
    """What the test finds.

    Attributes:
      statistic: the unbiased MMD^2.
      p_value: in (0, 1], small if the samples are of different laws.
    """

    statistic: Array
    p_value: Array


def mmd_test(
    rng_key: PRNGKey, x: Array, y: Array, kernel: PairKernel | None = None, *, num_permutations: int = 999
) -> TwoSampleTest:
    """Tests whether `x [n, dim]` and `y [m, dim]` are of one law; pure, so it can be vmapped.

    Args:
      rng_key: of the permutations.
      x, y: samples, which have to be independent.
      kernel: if None, the Gaussian one whose scale is the median distance of the pooled samples.
      num_permutations: B, at least 1; no p-value is below 1 / (1 + B).

    Raises:
      ValueError: if there are fewer than two of a sample or no permutations.
    """
    chex.assert_rank([x, y], 2)
    if min(len(x), len(y)) < 2 or num_permutations < 1:
        raise ValueError(
            f"mmd_test needs two samples of each and a permutation; got {len(x)}, {len(y)}, {num_permutations}"
        )
    pooled, num_x = jnp.concatenate([x, y]), len(x)
    num = len(pooled)
    gram = (kernel or gaussian_kernel([median_distance(pooled)]))(pooled, pooled)
    gram = jnp.where(jnp.eye(num, dtype=bool), 0.0, gram)  # unbiased: no pair of a sample with itself
    keys = jax.random.split(rng_key, num_permutations)
    relabelled = jax.vmap(lambda key: jax.random.permutation(key, num) < num_x)(keys)
    is_x = jnp.concatenate([jnp.arange(num)[None] < num_x, relabelled]).astype(gram.dtype)
    to_x = jnp.matmul(is_x, gram, precision="highest")  # sums of the kernel between each sample and those called x
    to_y = jnp.matmul(1 - is_x, gram, precision="highest")  # not what is left of the whole: that would cancel
    in_x, in_y, from_y = (is_x * to_x).sum(axis=1), ((1 - is_x) * to_y).sum(axis=1), (is_x * to_y).sum(axis=1)
    num_y = num - num_x
    values = in_x / (num_x * (num_x - 1)) + in_y / (num_y * (num_y - 1)) - 2 * from_y / (num_x * num_y)
    # Relabelings that give the same partition differ by rounding alone: they count as ties.
    tolerance = 1e-6 * jnp.abs(gram).max()
    at_least = jnp.sum(~(values[1:] < values[0] - tolerance))  # NaN is below nothing: p = 1
    shares = np.arange(1, num_permutations + 2) / (1 + num_permutations)  # divided here: XLA multiplies by 1 / (1 + B)
    return TwoSampleTest(values[0], jnp.asarray(shares, gram.dtype)[at_least])


def median_distance(x: Array) -> Array:
    """The median distance between two of the samples `[num, dim]`: the usual scale of a Gaussian kernel.

    Where half of all pairs are equal it is the root of the mean square, and 1 where all are.
    """
    first, second = jnp.triu_indices(len(x), 1)
    squares = squared_distances(x, x)[first, second]
    square = jnp.where(jnp.median(squares) > 0, jnp.median(squares), squares.mean())
    return jnp.where(square > 0, jnp.sqrt(square), 1.0)
