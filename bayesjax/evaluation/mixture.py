"""Samples of a mixture of generators: the draws of a posterior, or an ensemble.

    x ~ 1/S sum_s p(x | w_s)

Every draw makes equally many samples, to within one. Read `generation.py` next for measures of the samples.
"""

from collections.abc import Callable

import jax
import numpy as np

from bayesjax import checks, tree
from bayesjax.types import Array, Params, PRNGKey


def evenly_spaced(num_available: int, num: int) -> np.ndarray:
    """Indices of `num` items among those available, the first and the last included; all if there are no more.

    Raises:
      ValueError: if a number is below 1.
    """
    checks.count(num_available=num_available, num=num)
    return np.linspace(0, num_available - 1, min(num_available, num)).round().astype(int)


def sample_mixture(
    generate: Callable[[Params, PRNGKey, int], Array], draws: Params, rng_key: PRNGKey, num: int
) -> np.ndarray:
    """`num` samples of stacked generators, equally many of each, interleaved.

    Args:
      generate: `(params, rng_key, num) -> samples [num, ...]`; jitted, and compiled once for equal arguments.
      draws: params with a leading axis; of more than `num` draws, `num` evenly spaced ones are used.
      rng_key: consumed.
      num: number of samples.

    Returns:
      Samples `[num, ...]`: one of each draw in order, then the next of each.

    Raises:
      ValueError: if the draws have no common leading axis, or `num` is below 1.
    """
    chosen = evenly_spaced(tree.leading_axis(draws, "draws"), num)
    share = -(-num // len(chosen))
    compiled = jax.jit(generate, static_argnums=2)
    samples = [
        np.asarray(compiled(jax.tree.map(lambda leaf, i=i: leaf[i], draws), key, share))
        for i, key in zip(chosen, jax.random.split(rng_key, len(chosen)), strict=True)
    ]
    return np.stack(samples, axis=1).reshape(-1, *samples[0].shape[1:])[:num]
