"""Do the chains agree, how many independent draws are they worth, and how wrong may a mean over them be?

    R-hat = sqrt( (within-chain variance * (n-1)/n + between-chain variance / n) / within-chain variance )

on split chains (each cut in two, so that a drift shows as disagreement). `r_hat` takes it of normal scores of ranks and
of those of the distances from the median, and returns the larger: neither heavy tails nor a common centre hide a
difference. The effective sample size is n over the sum of the autocorrelations, cut off where Geyer's sums of
pairs stop falling. The numbers come from `blackjax.diagnostics`, and are compared with ArviZ's in the tests; added here
are splitting, layout, Monte Carlo standard errors and temperatures.

All functions take chains first, `[num_chains, num_draws, ...]`: `training.run` of `kernels.particles` keeps draws
first, and `chains_first` turns them. All of them assume independent chains. Chains of a stochastic-gradient sampler
that share their minibatches are correlated, and the numbers are then too favourable: `data.independent_minibatches`
gives each chain its own batches. Sources: Vehtari, Gelman, Simpson, Carpenter & Bürkner, "Rank-normalization, folding,
and localization", 2021; Gelman et al., "Bayesian data analysis", 3rd ed., 11.4; Betancourt, "Diagnosing suboptimal
cotangent disintegrations in Hamiltonian Monte Carlo", 2016 (E-BFMI). Read `agreement.py` next.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import tree
from bayesjax.types import Array, ArrayLike, PyTree

ARVIZ_NAMES = {
    "acceptance_probability": "acceptance_rate",
    "is_divergent": "diverging",
    "logdensity": "lp",
    "num_integration_steps": "n_steps",
    "num_doublings": "tree_depth",
}
"""What ArviZ calls the fields of a kernel's info, where it has another name."""


def chains_first(draws: PyTree) -> PyTree:
    """Draws of `kernels.particles`, `[num_draws, num_chains, ...]` leaves, as `[num_chains, num_draws, ...]`."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), draws)


def split_chains(chains: ArrayLike) -> Array:
    """Cuts each chain in two halves: `[num_chains, num_draws, ...]` to `[2 num_chains, num_draws // 2, ...]`."""
    half = chains.shape[1] // 2
    chains = jnp.asarray(chains)
    return jnp.concatenate([chains[:, :half], chains[:, half : 2 * half]])


def r_hat(chains: ArrayLike) -> Array:
    """Rank-normalised, folded split R-hat of a scalar or an array of them; 1 at convergence, accepted below 1.01.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`.

    Returns:
      `[...]`; infinite where no chain moves but they differ, NaN where all draws of all chains are equal, which tells
      nothing.

    Raises:
      ValueError: if there are fewer than four draws.
    """
    _check(chains)
    return _r_hat(jnp.asarray(chains))


def split_r_hat(chains: ArrayLike) -> Array:
    """Split R-hat of the values themselves, as it was before ranks; else as `r_hat`."""
    _check(chains)
    return _split_r_hat(jnp.asarray(chains))


def effective_sample_size(chains: ArrayLike, kind: str = "mean") -> Array:
    """Effective number of independent draws in all chains together, from split chains.

    Read it together with `r_hat`: of one chain that is stuck amid three that mix it may claim more draws than there
    are, of any kind but "tail"; R-hat shows it.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`.
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
    return _effective_sample_size(jnp.asarray(chains), kind)


def monte_carlo_error(chains: ArrayLike, of: str = "mean") -> Array:
    """Monte Carlo standard error of the mean, or of the standard deviation, over all draws of all chains.

        sd(x) / sqrt(ESS),    sd((x - mean)^2) / sqrt(ESS of (x - mean)^2) / (2 sd(x))

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`.
      of: "mean" or "sd".

    Returns:
      `[...]`, in units of the values.

    Raises:
      ValueError: if there are fewer than four draws, or neither is asked for.
    """
    if of not in ("mean", "sd"):
        raise ValueError(f"of must be mean or sd; got {of}")
    ess = effective_sample_size(chains, of)
    spread = jnp.std(jnp.asarray(chains), axis=(0, 1))
    if of == "mean":
        return spread / jnp.sqrt(ess)
    return jnp.std(_squared_deviations(chains), axis=(0, 1)) / jnp.sqrt(ess) / (2 * spread)


def e_bfmi(energy: ArrayLike) -> Array:
    """Energy Bayesian fraction of missing information of each chain: sum (E_t - E_t-1)^2 / sum (E_t - mean E)^2.

    How far a fresh momentum moves the energy, over how far the energy has to move; below 0.3 the chain explores its
    energies, and so the tails, too slowly.

    Args:
      energy: of the Hamiltonian at the start of each step, `[num_chains, num_draws >= 4]`.

    Returns:
      `[num_chains]`.
    """
    _check(energy)
    energy = jnp.asarray(energy)
    return jnp.square(jnp.diff(energy, axis=1)).sum(axis=1) / (energy.shape[1] * jnp.var(energy, axis=1))


def configurational_temperature(draws: PyTree, gradients: PyTree) -> Array:
    """`-<theta, grad log p> / dim` of each draw: its mean is T where draws are of p^(1/T), a density on R^dim.

    The kernels' infos report it with the gradient that they stepped with; here any gradient will do, and that of the
    whole data set at the draws of minibatches shows what their noise has heated. Compare the mean with T in units of
    `monte_carlo_error`. Source: Wenzel et al., "How good is the Bayes posterior in deep neural networks really?", 2020.

    Args:
      draws: theta, leaves `[num_chains, num_draws, ...]`.
      gradients: of log p at the draws, likewise.

    Returns:
      `[num_chains, num_draws]`.
    """
    return -_mean_product(draws, gradients)


def kinetic_temperature(momenta: PyTree, velocities: PyTree) -> Array:
    """`<p, M^-1 p> / dim` of each draw: its mean is T where momenta are of N(0, T M).

    Args:
      momenta: p, leaves `[num_chains, num_draws, ...]`.
      velocities: M^-1 p, likewise; of the unit mass the momenta once more.

    Returns:
      `[num_chains, num_draws]`.
    """
    return _mean_product(momenta, velocities)


def to_inference_data(draws: PyTree, info: Any = None) -> Any:
    """Draws and diagnostics as ArviZ's `InferenceData`, with the groups `posterior` and `sample_stats`.

    Args:
      draws: leaves `[num_chains, num_draws, ...]` (`chains_first`); a leaf is named by its path, "Dense_0/kernel".
      info: the info of a kernel (or of `kernels.adapt` around it), leaves `[num_chains, num_draws]`; fields that
        ArviZ knows get its names (`is_divergent` is "diverging"), the others keep theirs, and what is not one number
        a draw is left out where others are.

    Raises:
      ImportError: if ArviZ is not installed (`pip install 'bayesjax[arviz]'`).
      ValueError: if the leaves do not agree in chains and draws, or no leaf of the info has those of the draws.
    """
    import arviz

    named = {name or "x": np.asarray(leaf) for name, leaf in tree.by_path(draws).items()}
    shapes = {leaf.shape[:2] for leaf in named.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"draws must have leaves [num_chains, num_draws, ...]; got leading axes {sorted(shapes)}")
    stats, fields = {}, {name.removeprefix("inner/"): np.asarray(leaf) for name, leaf in tree.by_path(info).items()}
    for name, leaf in fields.items():
        if leaf.shape in shapes:
            known = ARVIZ_NAMES.get(name, name)
            stats[known] = leaf > 0 if known == "diverging" else leaf
    if fields and not stats:
        raise ValueError(
            f"info must have leaves [num_chains, num_draws] as the draws, {next(iter(shapes))}; "
            f"got {', '.join(f'{name} {leaf.shape}' for name, leaf in fields.items())}"
        )
    return arviz.from_dict(posterior=named, sample_stats=stats or None)


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
        return diagnostics.ess_bulk(_even(chains))
    if kind == "tail":
        return diagnostics.ess_tail(_even(chains))
    values = _squared_deviations(chains) if kind == "sd" else chains
    return diagnostics.effective_sample_size(split_chains(values))


def _squared_deviations(chains: ArrayLike) -> Array:
    chains = jnp.asarray(chains)
    return jnp.square(chains - chains.mean(axis=(0, 1), keepdims=True))


def _mean_product(a: PyTree, b: PyTree) -> Array:
    """Mean over the elements of a draw of products, of leaves `[num_chains, num_draws, ...]`."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (a, b)]
    if shapes[0] != shapes[1] or len({shape[:2] for shape in shapes[0]}) != 1 or min(map(len, shapes[0])) < 2:
        raise ValueError(
            f"both must have leaves [num_chains, num_draws, ...] of equal shapes; got {shapes[0]}, {shapes[1]}"
        )
    dim = sum(math.prod(shape[2:]) for shape in shapes[0])
    products = jax.tree.map(lambda x, y: jnp.sum(x * y, axis=tuple(range(2, jnp.ndim(x)))), a, b)
    return tree.total(products) / dim


def _even(chains: ArrayLike) -> Array:
    """The last draw of an odd number left out, as `split_chains` does."""
    chains = jnp.asarray(chains)
    return chains[:, : chains.shape[1] // 2 * 2]


def _where_constant(chains: ArrayLike, value: Array) -> Array:
    """R-hat, `[...]` again after BlackJAX's squeeze, with what rounding makes of 0 / 0 where no split chain moves."""
    halves = split_chains(chains)
    is_constant = (halves == halves[:, :1]).all(axis=(0, 1))
    is_equal = (halves == halves[:1, :1]).all(axis=(0, 1))
    return jnp.where(is_equal, jnp.nan, jnp.where(is_constant, jnp.inf, value.reshape(is_equal.shape)))


def _check(chains: ArrayLike) -> None:
    import blackjax.diagnostics  # noqa: F401  # now, and not while it is traced: the import makes arrays

    if jnp.ndim(chains) < 2 or jnp.shape(chains)[1] < 4:
        raise ValueError(f"chains must be [num_chains, num_draws >= 4, ...]; got shape {jnp.shape(chains)}")
