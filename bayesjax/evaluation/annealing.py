"""Annealed importance sampling (AIS): weights of Markov chains along a sequence of unnormalised densities.

    x_0 ~ f_0 / Z_0,    w = prod_k f_{k+1}(x_k) / f_k(x_k),    x_{k+1} ~ T_{k+1}(x_k),        E w = Z_n / Z_0

Each transition T_k leaves f_k / Z_k invariant and need not mix. The order matters: the weight from level k to k + 1 is
evaluated at x_k, before the chain moves at level k + 1. The mean weight is unbiased for any sequence of levels. The
logarithm of the mean is biased downwards (Jensen), by about half its variance, so more levels make it tighter. The
same function with the levels in reverse order and exact samples of f_n gives weights with the mean Z_0 / Z_n. Sources:
Neal, "Annealed importance sampling", 2001; Jarzynski, "Nonequilibrium equality for free energy differences", 1997;
Kish, "Survey sampling", 1965, for the effective sample size. Read `partition_function.py` next for Boltzmann machines,
and `likelihood.py` for latent-variable models.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from bayesjax import checks, tree
from bayesjax.types import Array, ArrayLike, PRNGKey, PyTree

LogRatio = Callable[[PyTree, PyTree, PyTree], Array]
"""`(position, level, next_level) -> log f_next(x) - log f(x)`, a scalar, for one chain."""
Transition = Callable[[PRNGKey, PyTree, PyTree], tuple[PyTree, PyTree]]
"""`(rng_key, position, level) -> (position, info)`, for one chain, which leaves the density of the level invariant."""

SALAKHUTDINOV_STEPS, SALAKHUTDINOV_KNOTS = (0, 500, 4500, 14500), (0.0, 0.5, 0.9, 1.0)


class AnnealedChains(NamedTuple):
    """Result of `anneal`.

    Attributes:
      positions: positions after the transition at the last level, leaves `[num_chains, ...]`.
      log_weights: log w, `[num_chains]`, in nats.
      info: diagnostics of the transitions, averaged over chains, leaves `[num_levels - 1, ...]`.
    """

    positions: PyTree
    log_weights: Array
    info: PyTree


def anneal(
    log_ratio: LogRatio,
    transition: Transition,
    positions: PyTree,
    rng_key: PRNGKey,
    levels: PyTree,
    *,
    params_at: Callable[[PyTree], PyTree] = lambda level: level,
) -> AnnealedChains:
    """Moves chains from the first level to the last and accumulates their log weights.

        log w += log f_{k+1}(x_k) - log f_k(x_k),    then    x_{k+1} ~ T_{k+1}(x_k),        k = 0, ..., n - 1

    It is one scan, which is compiled again at every call outside `jax.jit`. The rounding errors of the ratios are
    independent, so those of 20 000 levels in float32 add up to a few thousandths of a nat.

    Args:
      log_ratio: `(position, level, next_level) -> scalar`, the log ratio of the two unnormalised densities.
      transition: `(rng_key, position, level) -> (position, info)`; `info` may be None.
      positions: exact draws of the first level, leaves `[num_chains, ...]`.
      rng_key: the transition to level k + 1 uses `fold_in(rng_key, k)`, split over the chains.
      levels: a pytree with leaves `[num_levels, ...]`, such as an array of inverse temperatures.
      params_at: turns one level into what `log_ratio` and `transition` receive, such as the parameters of a tempered
        machine. All chains and both functions share one result, so XLA merges equal products of it with the positions.

    Returns:
      Final positions, log weights and diagnostics.

    Raises:
      ValueError: if there are fewer than two levels, leading axes disagree, or `log_ratio` does not return a scalar.
    """
    num_chains = tree.leading_axis(positions, "positions")
    num_levels = tree.leading_axis(levels, "levels")
    if num_levels < 2:
        raise ValueError(f"levels must have a leading axis of at least 2 levels; got {num_levels}")

    def log_ratios(positions: PyTree, level: PyTree, next_level: PyTree) -> Array:
        def one(position: PyTree) -> Array:
            return checks.scalar(log_ratio(position, level, next_level), "log_ratio")

        return jax.vmap(one)(positions)

    def advance(carry: tuple[PyTree, Array], step: tuple[Array, PyTree, PyTree]) -> tuple[tuple, PyTree]:
        positions, log_weights = carry
        index, *at = step
        level, next_level = map(params_at, at)
        log_weights += log_ratios(positions, level, next_level)
        keys = jax.random.split(jax.random.fold_in(rng_key, index), num_chains)
        positions, info = jax.vmap(lambda key, position: transition(key, position, next_level))(keys, positions)
        return (positions, log_weights), jax.tree.map(lambda leaf: leaf.mean(axis=0), info)

    lower = jax.tree.map(lambda leaf: leaf[:-1], levels)
    upper = jax.tree.map(lambda leaf: leaf[1:], levels)
    first = jax.eval_shape(lambda: params_at(jax.tree.map(lambda leaf: leaf[0], levels)))
    zeros = jnp.zeros(num_chains, jax.eval_shape(log_ratios, positions, first, first).dtype)
    (positions, log_weights), info = lax.scan(advance, (positions, zeros), (jnp.arange(num_levels - 1), lower, upper))
    return AnnealedChains(positions, log_weights, info)


def log_mean_weight(log_weights: ArrayLike) -> Array:
    """The logarithm of the mean weight, log 1/n sum_i w_i.

    Args:
      log_weights: log w of independent chains, `[..., num_chains]`.

    Returns:
      `[...]`, in nats.
    """
    log_weights = jnp.asarray(log_weights)
    return jax.nn.logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def log_mean_weight_standard_error(log_weights: ArrayLike) -> Array:
    """The standard error of `log_mean_weight` by the delta method, sd(w) / (mean(w) sqrt(n)).

    It is estimated from the weights themselves. If few chains have most of the weight (`weight_effective_sample_size`),
    it is too small, because the large weights that would raise it have probably not been drawn.

    Args:
      log_weights: log w of independent chains, `[..., num_chains >= 2]`.

    Returns:
      `[...]`, in nats.

    Raises:
      ValueError: if there is only one chain.
    """
    log_weights = jnp.asarray(log_weights)
    num_chains = log_weights.shape[-1]
    if num_chains < 2:
        raise ValueError(f"log_weights must have at least 2 chains for a standard error; got {num_chains}")
    ratios = num_chains * jax.nn.softmax(log_weights, axis=-1)
    return jnp.std(ratios, axis=-1, ddof=1) / math.sqrt(num_chains)


def weight_effective_sample_size(log_weights: ArrayLike) -> Array:
    """Kish's effective sample size of importance weights, (sum_i w_i)^2 / sum_i w_i^2.

    It lies between 1 and the number of chains. It differs from `evaluation.effective_sample_size`, which measures the
    autocorrelation of Markov chains.

    Args:
      log_weights: log w of independent chains, `[..., num_chains]`.

    Returns:
      `[...]`.
    """
    return 1 / jnp.sum(jax.nn.softmax(jnp.asarray(log_weights), axis=-1) ** 2, axis=-1)


def linear_schedule(num_temperatures: int) -> np.ndarray:
    """Evenly spaced inverse temperatures from 0 to 1.

    Args:
      num_temperatures: number of steps n.

    Returns:
      float64 `[n + 1]`.

    Raises:
      ValueError: if the number is not a positive integer.
    """
    checks.count(num_temperatures=num_temperatures)
    return np.linspace(0.0, 1.0, num_temperatures + 1)


def salakhutdinov_schedule(num_temperatures: int = 14_500) -> np.ndarray:
    """Inverse temperatures that are dense towards 1, where a trained Boltzmann machine changes most.

    The default has steps of 1e-3 up to 0.5, of 1e-4 up to 0.9, and of 1e-5 up to 1. For another number of steps, the
    same piecewise linear curve is evaluated at evenly spaced positions along its index. Source: Salakhutdinov & Murray,
    "On the quantitative analysis of deep belief networks", ICML 2008.

    Args:
      num_temperatures: number of steps n.

    Returns:
      float64 `[n + 1]`.

    Raises:
      ValueError: if the number is not a positive integer.
    """
    at = SALAKHUTDINOV_STEPS[-1] * linear_schedule(num_temperatures)
    return np.interp(at, SALAKHUTDINOV_STEPS, SALAKHUTDINOV_KNOTS)


def check_schedule(inverse_temperatures: ArrayLike) -> Array | np.ndarray:
    """Checks that inverse temperatures increase strictly from 0 to 1, and returns them.

    The values of a traced array cannot be inspected, so only its shape is checked.

    Args:
      inverse_temperatures: `[num_levels >= 2]`.

    Raises:
      ValueError: if the inverse temperatures do not increase strictly from 0 to 1, or are not one axis of at least two.
    """
    values: Any = inverse_temperatures if isinstance(inverse_temperatures, Tracer) else np.asarray(inverse_temperatures)
    checks.rank("[num_levels]", 1, inverse_temperatures=values)
    if len(values) < 2:
        raise ValueError(f"inverse_temperatures must have at least 2 values, 0 and 1; got {len(values)}")
    if isinstance(values, Tracer):
        return values
    if not (values[0] == 0 and values[-1] == 1):
        raise ValueError(f"inverse_temperatures must begin at 0 and end at 1; got {values[0]} and {values[-1]}")
    is_larger = np.diff(values) > 0
    if not is_larger.all():
        at = int(np.argmin(is_larger))
        raise ValueError(f"inverse_temperatures must increase; got {values[at + 1]} after {values[at]}")
    return values
