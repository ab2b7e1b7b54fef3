"""Samples of a mixture of generators, which are posterior draws or the members of an ensemble.

    x ~ 1/S sum_s p(x | w_s)

The numbers of samples from the S generators w_s differ by at most one. Read `generation.py` next for measures of the
samples.
"""

from collections.abc import Callable

import jax
import numpy as np

from bayesjax import checks, tree
from bayesjax.types import Array, ArrayLike, Params, PRNGKey


def evenly_spaced(num_available: int, num: int) -> np.ndarray:
    """Returns indices of `num` evenly spaced items, including the first and the last, or of all if there are fewer.

    Args:
      num_available: number of items.
      num: number of indices, at most.

    Raises:
      ValueError: if a number is below 1.
    """
    checks.count(num_available=num_available, num=num)
    return np.linspace(0, num_available - 1, min(num_available, num)).round().astype(int)


def sample_mixture(
    generate: Callable[[Params, PRNGKey, int], Array], draws: Params, rng_key: PRNGKey, num: int
) -> np.ndarray:
    """Draws `num` samples from stacked generators. The numbers of samples per generator differ by at most one.

    Args:
      generate: `(params, rng_key, num) -> samples [num, ...]`; jitted, and compiled once for equal arguments.
      draws: parameters with leaves `[num_draws, ...]`. If there are more than `num`, evenly spaced draws are used.
      rng_key: consumed.
      num: number of samples.

    Returns:
      Samples `[num, ...]`: first one sample of each draw in order, then the second of each, and so on.

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


def mix_chains(samples: ArrayLike) -> np.ndarray:
    """Returns samples of the mixture of all chains, from samples that every chain generated from the same noise.

    Each noise vector is assigned to one random chain, and the numbers of noise vectors per chain differ by at most one.
    The assignment is the same in all evaluations and games. Samples are then independent of one another, and two of
    them come from the same chain as often as two samples of the mixture do.

    Args:
      samples: `[num_evaluations, num_games, num_chains, num, ...]`. Sample i of every chain has the same noise.

    Returns:
      `[num_evaluations, num_games, num, ...]`.

    Raises:
      ValueError: if `samples` has fewer than four axes.
    """
    values = np.asarray(samples)
    if values.ndim < 4:
        raise ValueError(
            f"samples must be [num_evaluations, num_games, num_chains, num, ...]; got an array of shape {values.shape}"
        )
    num_chains, num = values.shape[2:4]
    chain = np.random.default_rng(0).permutation(np.arange(num) % num_chains)
    return values[:, :, chain, np.arange(num)]
