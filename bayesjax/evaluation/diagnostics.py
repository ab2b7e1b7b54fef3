"""Diagnostics of Markov chains: R-hat, effective sample sizes, Monte Carlo standard errors and temperatures.

    R-hat = sqrt( (within-chain variance * (n-1)/n + between-chain variance / n) / within-chain variance )
    ESS   = n / (1 + 2 sum_t autocorrelation_t)

n is the number of draws of one chain in R-hat, and of all chains in ESS. Chains are split in halves, so that a drift
appears as disagreement. `r_hat` is the larger of two values of R-hat: that of the normal scores of ranks, and that of
the ranks of distances from the median. It therefore also detects differences in heavy tails and in scale. The sum over
autocorrelations ends where Geyer's sums of pairs stop decreasing. R-hat and ESS come from `blackjax.diagnostics`, and
the tests compare them with ArviZ.

All functions take chains first, `[num_chains, num_draws, ...]`. `training.run` of `kernels.particles` returns draws
first; `chains_first` swaps the axes. The functions compute in float64 and return NumPy arrays for draws of any type.
Inside JAX transformations, where draws are traced, they compute in the type of the draws. Sources: Vehtari, Gelman,
Simpson, Carpenter & Bürkner, "Rank-normalization, folding, and localization", 2021; Gelman et al., "Bayesian data
analysis", 3rd ed., 11.4; Betancourt, "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo", 2016
(E-BFMI). Read `inference_data.py` for ArviZ, and `agreement.py` next.

**Chains must be independent of one another.** Chains that share minibatches share the noise of the gradient. Their
draws at the same step are then correlated, so that R-hat stays near 1, effective sample sizes are too large and
standard errors too small. `cross_chain_correlation` measures this correlation.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bayesjax.types import Array, ArrayLike, PyTree


class ChainCorrelation(NamedTuple):
    """Mean correlation of two chains at the same step.

    Attributes:
      value: the correlation, `[...]`.
      stderr: its standard error, `[...]`.
    """

    value: ArrayLike
    stderr: ArrayLike


def chains_first(draws: PyTree) -> PyTree:
    """Swaps the first two axes: leaves `[num_draws, num_chains, ...]` to `[num_chains, num_draws, ...]`."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), draws)


def split_chains(chains: ArrayLike) -> ArrayLike:
    """Splits each chain in halves: `[num_chains, num_draws, ...]` to `[2 num_chains, num_draws // 2, ...]`."""
    half = chains.shape[1] // 2
    concatenate = jnp.concatenate if isinstance(chains, jax.Array) else np.concatenate  # JAX may cast a NumPy array
    return concatenate([chains[:, :half], chains[:, half : 2 * half]])


def r_hat(chains: ArrayLike) -> ArrayLike:
    """Rank-normalised, folded split R-hat, which is 1 at convergence. Values below 1.01 are usually accepted.

    It compares the chains with one another, so it cannot detect noise that they share; see `cross_chain_correlation`.

    Args:
      chains: independent chains, `[num_chains, num_draws >= 4, ...]`.

    Returns:
      One value for each element of a draw, `[...]`. It is infinite where the chains differ but none of them moves, and
      NaN where all draws are equal.

    Raises:
      ValueError: if the shape is wrong or there are fewer than four draws.
    """
    _check(chains)
    return _in_float64(_r_hat, chains)


def split_r_hat(chains: ArrayLike) -> ArrayLike:
    """Split R-hat of the values without rank normalisation.

    Arguments, result and errors are those of `r_hat`. Source: Gelman et al., "Bayesian data analysis", 3rd ed., 11.4.
    """
    _check(chains)
    return _in_float64(_split_r_hat, chains)


def effective_sample_size(chains: ArrayLike, kind: str = "mean") -> ArrayLike:
    """Effective sample size of all chains together, from split chains.

    Read it together with `r_hat`. If one of four chains is stuck, the kinds "mean", "sd" and "bulk" may exceed the
    number of draws, while R-hat shows the problem. The chains are assumed to be independent: if their
    `cross_chain_correlation` is c, the effective sample size of m chains is this value divided by 1 + (m - 1) c.

    Args:
      chains: independent chains, `[num_chains, num_draws >= 4, ...]`.
      kind: "mean" for estimates of the mean; "sd" for estimates of the standard deviation; "bulk" for the normal scores
        of the ranks, which measures mixing also with heavy tails; "tail" for the smaller of the values for the 5 % and
        the 95 % quantile.

    Returns:
      One value for each element of a draw, `[...]`.

    Raises:
      ValueError: if the shape is wrong, there are fewer than four draws, or `kind` is unknown.
    """
    _check(chains)
    if kind not in ("bulk", "mean", "sd", "tail"):
        raise ValueError(f"kind must be one of bulk, mean, sd, tail; got {kind}")
    return _in_float64(functools.partial(_effective_sample_size, kind=kind), chains)


def monte_carlo_standard_error(chains: ArrayLike, kind: str = "mean") -> ArrayLike:
    """Monte Carlo standard error of the mean, or of the standard deviation, over all draws of all chains.

        mean: sd(x) / sqrt(ESS),    sd: sd((x - mean)^2) / sqrt(ESS of (x - mean)^2) / (2 sd(x))

    If the `cross_chain_correlation` of m chains is c, the true standard error of the mean is sqrt(1 + (m - 1) c) times
    this value.

    Args:
      chains: independent chains, `[num_chains, num_draws >= 4, ...]`.
      kind: "mean" or "sd", the statistic whose standard error is estimated.

    Returns:
      One value for each element of a draw, `[...]`, in units of the draws; NaN where no chain moves.

    Raises:
      ValueError: if the shape is wrong, there are fewer than four draws, or `kind` is unknown.
    """
    if kind not in ("mean", "sd"):
        raise ValueError(f"kind must be mean or sd; got {kind}")
    ess = effective_sample_size(chains, kind)
    values, xp = _double(chains)
    spread = values.std(axis=(0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "mean":
            return spread / xp.sqrt(ess)
        return _squared_deviations(values).std(axis=(0, 1)) / xp.sqrt(ess) / (2 * spread)


def cross_chain_correlation(chains: ArrayLike) -> ChainCorrelation:
    """Mean correlation between two chains at the same step, which is 0 for independent chains.

        c = mean over t of  ((sum_i z_it)^2 - sum_i z_it^2) / (m (m - 1)),    z_it = (x_it - mean_i) / sd_i

    x_it is draw t of chain i, one of m chains, with mean mean_i and standard deviation sd_i over its draws. Chains that
    share minibatches, noise or a drift have c > 0. The variance of the mean over m chains is then 1 + (m - 1) c times
    that of independent chains, if correlations decay equally fast between and within chains. For example, eight SGHMC
    chains at learning rate 0.1 with shared minibatches had c = 0.43 and a true standard error twice the estimated one.

    Args:
      chains: `[num_chains >= 2, num_draws >= 4, ...]`.

    Returns:
      c and its standard error by the delta method, each `[...]`. For long independent chains, c lies within two
      standard errors of 0 in about 95 % of cases. Both are NaN where a chain does not move.

    Raises:
      ValueError: if the shape is wrong, or there are fewer than two chains or four draws.
    """
    _check(chains)
    values, _ = _double(chains)
    num = values.shape[0]
    if num < 2:
        raise ValueError(f"chains must be [num_chains >= 2, num_draws, ...]; got shape {values.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    products = scores * (scores.sum(axis=0) - scores) / (num * (num - 1))  # of each chain with all others
    per_chain = products.mean(axis=1, keepdims=True)
    # First-order influence of a step on the correlation. The second term is due to the estimated standard deviations.
    influence = (products - per_chain * scores**2).sum(axis=0)
    return ChainCorrelation(per_chain.sum(axis=(0, 1)), monte_carlo_standard_error(influence[None]))


def e_bfmi(energy: ArrayLike) -> ArrayLike:
    """Energy Bayesian fraction of missing information of each chain: sum (E_t - E_t-1)^2 / sum (E_t - mean E)^2.

    E_t is the energy at step t. The fraction compares the energy changes due to momentum refreshment with the variation
    of the energy. Below about 0.3 the chain explores energies, and therefore the tails, too slowly.

    Args:
      energy: value of the Hamiltonian at the start of each step, `[num_chains, num_draws >= 4]`.

    Returns:
      `[num_chains]`; NaN where the energy does not change.

    Raises:
      ValueError: if the shape is wrong.
    """
    _check(energy)
    energy, xp = _double(energy)
    if energy.ndim != 2:
        raise ValueError(f"energy must be [num_chains, num_draws >= 4]; got shape {energy.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return xp.square(xp.diff(energy, axis=1)).sum(axis=1) / (energy.shape[1] * energy.var(axis=1))


def configurational_temperature(draws: PyTree, gradients: PyTree) -> ArrayLike:
    """Configurational temperature of each draw, `-<theta, grad log p> / dim`.

    Its expectation is T if draws come from p^(1/T), a density on R^dim. The infos of kernels report it with the
    gradient of their step, which may be that of a minibatch. With gradients of the whole data set, an excess over T
    measures the heating by minibatch noise. Compare the mean with T in units of `monte_carlo_standard_error`. Source:
    Wenzel et al., "How good is the Bayes posterior in deep neural networks really?", 2020.

    Args:
      draws: theta, leaves `[num_chains, num_draws, ...]`.
      gradients: gradients of log p at the draws, of the same shapes.

    Returns:
      `[num_chains, num_draws]`.

    Raises:
      ValueError: if the shapes differ.
    """
    return -_mean_product(draws, gradients)


def kinetic_temperature(momenta: PyTree, velocities: PyTree) -> ArrayLike:
    """Kinetic temperature of each draw, `<p, M^-1 p> / dim`. Its expectation is T if p ~ N(0, T M) with mass M.

    Args:
      momenta: p, leaves `[num_chains, num_draws, ...]`.
      velocities: M^-1 p, of the same shapes. They equal the momenta if the mass is 1.

    Returns:
      `[num_chains, num_draws]`.

    Raises:
      ValueError: if the shapes differ.
    """
    return _mean_product(momenta, velocities)


@jax.jit
def _r_hat(chains: Array) -> Array:
    from blackjax.diagnostics import potential_scale_reduction, rhat

    value = rhat(_even(chains))
    # If draws take only two values and the median lies between them, all distances from it are equal and the folded
    # R-hat is NaN. The other R-hat is that of the values, because normal scores of two values are linear in them.
    value = jnp.where(jnp.isnan(value), potential_scale_reduction(split_chains(chains)), value)
    return _where_constant(chains, value)


@jax.jit
def _split_r_hat(chains: Array) -> Array:
    from blackjax.diagnostics import potential_scale_reduction

    return _where_constant(chains, potential_scale_reduction(split_chains(chains)))


@functools.partial(jax.jit, static_argnames="kind")
def _effective_sample_size(chains: Array, kind: str) -> Array:
    from blackjax import diagnostics

    if kind == "bulk":
        value = diagnostics.ess_bulk(_even(chains))
    elif kind == "tail":
        value = diagnostics.ess_tail(_even(chains))
    else:
        value = diagnostics.effective_sample_size(split_chains(_squared_deviations(chains) if kind == "sd" else chains))
    return value.reshape(chains.shape[2:])  # undoes BlackJAX's squeeze


def _in_float64(function: Callable[[Any], Array], chains: ArrayLike) -> ArrayLike:
    """Applies a jitted function in float64 and returns NumPy arrays, unless the chains are traced."""
    with jax.numpy_rank_promotion("allow"):  # BlackJAX broadcasts arrays of different ranks
        if isinstance(chains, Tracer):
            return function(chains)
        with jax.enable_x64(True):
            return np.asarray(function(np.asarray(chains, np.float64)))[()]


def _double(values: ArrayLike) -> tuple[Any, Any]:
    """The values in float64 and NumPy, or the values unchanged and jax.numpy if they are traced."""
    return (values, jnp) if isinstance(values, Tracer) else (np.asarray(values, np.float64), np)


def _squared_deviations(chains: Any) -> Any:
    return (chains - chains.mean(axis=(0, 1), keepdims=True)) ** 2


def _mean_product(a: PyTree, b: PyTree) -> ArrayLike:
    """Mean of a * b over the elements of each draw, for leaves `[num_chains, num_draws, ...]`."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (a, b)]
    if shapes[0] != shapes[1] or len({shape[:2] for shape in shapes[0]}) != 1 or min(map(len, shapes[0])) < 2:
        raise ValueError(
            f"both must have leaves [num_chains, num_draws, ...] of equal shapes; got {shapes[0]}, {shapes[1]}"
        )
    dim = sum(math.prod(shape[2:]) for shape in shapes[0])
    pairs = ((_double(x)[0], _double(y)[0]) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    total: Any = sum((x * y).sum(axis=tuple(range(2, x.ndim))) for x, y in pairs)
    return total / dim


def _even(chains: Array) -> Array:
    """Drops the last draw if the number of draws is odd, as `split_chains` does."""
    return chains[:, : chains.shape[1] // 2 * 2]


def _where_constant(chains: Array, value: Array) -> Array:
    """R-hat in the shape `[...]`, which BlackJAX squeezes, with exact values where no split chain moves.

    There the variance within chains is 0 and R-hat would be a ratio of rounding errors.
    """
    halves = split_chains(chains)
    is_constant = (halves == halves[:, :1]).all(axis=(0, 1))
    is_equal = (halves == halves[:1, :1]).all(axis=(0, 1))
    return jnp.where(is_equal, jnp.nan, jnp.where(is_constant, jnp.inf, value.reshape(is_equal.shape)))


def _check(chains: ArrayLike) -> None:
    import blackjax.diagnostics  # noqa: F401  # imported outside of tracing, because the import creates arrays

    if jnp.ndim(chains) < 2 or jnp.shape(chains)[1] < 4 or not jnp.shape(chains)[0]:
        raise ValueError(f"chains must be [num_chains, num_draws >= 4, ...]; got shape {jnp.shape(chains)}")
