"""Do the chains agree, how many independent draws are they worth, and how wrong may a mean over them be?

    R-hat = sqrt( (within-chain variance * (n-1)/n + between-chain variance / n) / within-chain variance )

on split chains (each cut in two, so that a drift shows as disagreement). `r_hat` takes it of normal scores of ranks and
of those of the distances from the median, and returns the larger: neither heavy tails nor a common centre hide a
difference. The effective sample size is n over the sum of the autocorrelations, cut off where Geyer's sums of
pairs stop falling. The numbers come from `blackjax.diagnostics`, and are compared with ArviZ's in the tests; added here
are splitting, layout, Monte Carlo standard errors, correlation between chains and temperatures.

All functions take chains first, `[num_chains, num_draws, ...]`: `training.run` of `kernels.particles` keeps draws
first, and `chains_first` turns them. They compute in float64 and return NumPy arrays, whatever the type of the draws;
under a transformation of JAX, where draws are traced, they compute in the draws' own type. Sources: Vehtari, Gelman,
Simpson, Carpenter & Bürkner, "Rank-normalization, folding, and localization", 2021; Gelman et al., "Bayesian data
analysis", 3rd ed., 11.4; Betancourt, "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo", 2016
(E-BFMI). Read `inference_data.py` for ArviZ, and `agreement.py` next.

**Chains have to be independent of one another.** Those that share minibatches share the noise of the gradient. Their
draws at the same step are then correlated, R-hat stays near 1, effective sample sizes are too large and standard errors
too small. `cross_chain_correlation` measures the correlation.
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
    """The mean correlation of two chains at the same step, with its standard error; each `[...]`."""

    value: ArrayLike
    stderr: ArrayLike


def chains_first(draws: PyTree) -> PyTree:
    """Draws of `kernels.particles`, `[num_draws, num_chains, ...]` leaves, as `[num_chains, num_draws, ...]`."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), draws)


def split_chains(chains: ArrayLike) -> ArrayLike:
    """Cuts each chain in two halves: `[num_chains, num_draws, ...]` to `[2 num_chains, num_draws // 2, ...]`."""
    half = chains.shape[1] // 2
    join = jnp.concatenate if isinstance(chains, jax.Array) else np.concatenate  # JAX may cast a NumPy array
    return join([chains[:, :half], chains[:, half : 2 * half]])


def r_hat(chains: ArrayLike) -> ArrayLike:
    """Rank-normalised, folded split R-hat of a scalar or an array of them; 1 at convergence, accepted below 1.01.

    It compares the chains with one another, so it cannot show that they share their noise: `cross_chain_correlation`.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`, of chains that are independent of one another.

    Returns:
      `[...]`; infinite where no chain moves but they differ, NaN where all draws of all chains are equal, which tells
      nothing.

    Raises:
      ValueError: if there are fewer than four draws.
    """
    _check(chains)
    return _in_float64(_r_hat, chains)


def split_r_hat(chains: ArrayLike) -> ArrayLike:
    """Split R-hat of the values themselves, as it was before ranks; else as `r_hat`."""
    _check(chains)
    return _in_float64(_split_r_hat, chains)


def effective_sample_size(chains: ArrayLike, kind: str = "mean") -> ArrayLike:
    """Effective number of independent draws in all chains together, from split chains.

    Read it together with `r_hat`: of one chain that is stuck amid three that mix it may claim more draws than there
    are, of any kind but "tail"; R-hat shows it. It adds up the chains as if they were independent: if their
    `cross_chain_correlation` is c, the number for m chains is this one divided by 1 + (m - 1) c.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`, of chains that are independent of one another.
      kind: "mean", for the mean of the values; "sd", for their standard deviation; "bulk", of the normal scores of
        their ranks: whether the chains mix, however heavy the tails; "tail", the lesser of those for the 5 % and
        the 95 % quantile.

    Returns:
      `[...]`.

    Raises:
      ValueError: if there are fewer than four draws, or the kind is unknown.
    """
    _check(chains)
    if kind not in ("bulk", "mean", "sd", "tail"):
        raise ValueError(f"kind must be one of bulk, mean, sd, tail; got {kind}")
    return _in_float64(functools.partial(_effective_sample_size, kind=kind), chains)


def monte_carlo_standard_error(chains: ArrayLike, kind: str = "mean") -> ArrayLike:
    """Monte Carlo standard error of the mean, or of the standard deviation, over all draws of all chains.

        sd(x) / sqrt(ESS),    sd((x - mean)^2) / sqrt(ESS of (x - mean)^2) / (2 sd(x))

    If the `cross_chain_correlation` of m chains is c, the mean's true standard error is sqrt(1 + (m - 1) c) times this.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`, of chains that are independent of one another.
      kind: "mean" or "sd".

    Returns:
      `[...]`, in units of the values; NaN where no chain moves.

    Raises:
      ValueError: if there are fewer than four draws, or neither is asked for.
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
    """Mean correlation between two chains at the same step; 0 for independent chains.

        c = mean over t of  ((sum_i z_it)^2 - sum_i z_it^2) / (m (m - 1)),    z_it = (x_it - mean_i) / sd_i

    Chains that share minibatches, noise or a drift have c > 0. Then the variance of the mean over m chains is
    1 + (m - 1) c times that of independent chains, if correlations decay between chains as they do within: eight SGHMC
    chains at learning rate 0.1 with shared minibatches had c = 0.43, and a true standard error twice the estimated one.

    Args:
      chains: `[num_chains >= 2, num_draws >= 4, ...]`.

    Returns:
      c `[...]`, and its standard error by the delta method, from the autocorrelation of the products: c of independent
      chains lies within two of it in about 95 % of cases, if they are long. NaN where a chain does not move.

    Raises:
      ValueError: if there are fewer than two chains or four draws.
    """
    _check(chains)
    values, _ = _double(chains)
    num = values.shape[0]
    if num < 2:
        raise ValueError(f"chains must be [num_chains >= 2, num_draws, ...]; got shape {values.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    products = scores * (scores.sum(axis=0) - scores) / (num * (num - 1))  # of each chain with all others
    of_chain = products.mean(axis=1, keepdims=True)
    # What a step adds to the correlation, in first order: the deviations that divide it are estimated, too.
    influence = (products - of_chain * scores**2).sum(axis=0)
    return ChainCorrelation(of_chain.sum(axis=(0, 1)), monte_carlo_standard_error(influence[None]))


def e_bfmi(energy: ArrayLike) -> ArrayLike:
    """Energy Bayesian fraction of missing information of each chain: sum (E_t - E_t-1)^2 / sum (E_t - mean E)^2.

    How far a fresh momentum moves the energy, over how far the energy has to move; below 0.3 the chain explores its
    energies, and so the tails, too slowly.

    Args:
      energy: of the Hamiltonian at the start of each step, `[num_chains, num_draws >= 4]`.

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
    """`-<theta, grad log p> / dim` of each draw: its mean is T where draws are of p^(1/T), a density on R^dim.

    The kernels' infos report it with the gradient that they stepped with; here any gradient will do, and that of the
    whole data set at the draws of minibatches shows what their noise has heated. Compare the mean with T in units of
    `monte_carlo_standard_error`. Source: Wenzel et al., "How good is the Bayes posterior in deep neural networks
    really?", 2020.

    Args:
      draws: theta, leaves `[num_chains, num_draws, ...]`.
      gradients: of log p at the draws, likewise.

    Returns:
      `[num_chains, num_draws]`.
    """
    return -_mean_product(draws, gradients)


def kinetic_temperature(momenta: PyTree, velocities: PyTree) -> ArrayLike:
    """`<p, M^-1 p> / dim` of each draw: its mean is T where momenta are of N(0, T M).

    Args:
      momenta: p, leaves `[num_chains, num_draws, ...]`.
      velocities: M^-1 p, likewise; of the unit mass the momenta once more.

    Returns:
      `[num_chains, num_draws]`.
    """
    return _mean_product(momenta, velocities)


@jax.jit
def _r_hat(chains: Array) -> Array:
    from blackjax.diagnostics import potential_scale_reduction, rhat

    value = rhat(_even(chains))
    # Of two values, with the median in the middle, all distances from it are equal, and of those R-hat is NaN. The
    # other one, of their ranks, is that of the values: the normal scores of two values are linear in them.
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
    """A jitted function of the chains: in float64 and returned as NumPy, unless the chains are traced."""
    with jax.numpy_rank_promotion("allow"):  # BlackJAX broadcasts arrays of different ranks
        if isinstance(chains, Tracer):
            return function(chains)
        with jax.enable_x64(True):
            return np.asarray(function(np.asarray(chains, np.float64)))[()]


def _double(values: ArrayLike) -> tuple[Any, Any]:
    """The values in float64 and the module that computes with them: NumPy, or jax.numpy where they are traced."""
    return (values, jnp) if isinstance(values, Tracer) else (np.asarray(values, np.float64), np)


def _squared_deviations(chains: Any) -> Any:
    return (chains - chains.mean(axis=(0, 1), keepdims=True)) ** 2


def _mean_product(a: PyTree, b: PyTree) -> ArrayLike:
    """Mean over the elements of a draw of products, of leaves `[num_chains, num_draws, ...]`."""
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
    """The last draw of an odd number left out, as `split_chains` does."""
    return chains[:, : chains.shape[1] // 2 * 2]


def _where_constant(chains: Array, value: Array) -> Array:
    """R-hat, `[...]` again after BlackJAX's squeeze, with what rounding makes of 0 / 0 where no split chain moves."""
    halves = split_chains(chains)
    is_constant = (halves == halves[:, :1]).all(axis=(0, 1))
    is_equal = (halves == halves[:1, :1]).all(axis=(0, 1))
    return jnp.where(is_equal, jnp.nan, jnp.where(is_constant, jnp.inf, value.reshape(is_equal.shape)))


def _check(chains: ArrayLike) -> None:
    import blackjax.diagnostics  # noqa: F401  # now, and not while it is traced: the import makes arrays

    if jnp.ndim(chains) < 2 or jnp.shape(chains)[1] < 4 or not jnp.shape(chains)[0]:
        raise ValueError(f"chains must be [num_chains, num_draws >= 4, ...]; got shape {jnp.shape(chains)}")
