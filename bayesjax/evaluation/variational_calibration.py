"""Variational simulation-based calibration (VSBC): whether the marginals of variational fits are biased.

    theta_i ~ p(theta),   y_i ~ p(y | theta_i),   q_i = fit(y_i),        p_ij = P_{theta ~ q_i}(theta_j < theta_ij)

i runs over replications and j over the coordinates of the parameters. If the fits were exact, p_ij would be uniform on
(0, 1). For fits that are too narrow or too wide but not biased, the distribution of p_ij over i is still symmetric
about 1/2. The test statistic is the Kolmogorov-Smirnov distance of the p_ij from the 1 - p_ij,

    D_j = sup_x |F_j(x) - (1 - F_j((1 - x)-))| = max_k |S_k| / n,      S_k = sum_{i <= k} sign(p_ij - 1/2)

with the n replications in order of decreasing |p_ij - 1/2|. Under symmetry S_k is a simple random walk, which gives the
exact p-value. The two-sample test of Yao et al. takes p and 1 - p for independent samples. At the level 5 % it rejects
symmetric p_ij in 9 to 11 % of cases.

Symmetry says nothing about the width of the fits or their correlations; for these see k-hat in `pareto_smoothing.py`.
Sources: Yao, Vehtari, Simpson & Gelman, "Yes, but did it work? Evaluating variational inference", ICML 2018, section
3.2; Butler, "A test for symmetry using the sample distribution function", Annals of Mathematical Statistics 1969. Read
`agreement.py` next, which compares draws with those of a reference.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from bayesjax import checks
from bayesjax.evaluation import inputs
from bayesjax.evaluation.chunks import map_in_chunks
from bayesjax.types import Array, ArrayLike, Params, PRNGKey, PyTree

DECIMALS = 6  # distances |p - 1/2| that agree to this many decimals are ties, since p may come from float32


class SymmetryTest(NamedTuple):
    """Result of `symmetry_test` for each coordinate.

    Attributes:
      statistic: the Kolmogorov-Smirnov distance D between p and 1 - p, `[...]`.
      p_value: small if the distribution of p is not symmetric about 1/2, `[...]`.
    """

    statistic: ArrayLike
    p_value: ArrayLike


def calibration_probabilities(
    sample_prior: Callable[[PRNGKey], Params],
    simulate: Callable[[Params, PRNGKey], PyTree],
    fit: Callable[[PRNGKey, PyTree], Params],
    rng_key: PRNGKey,
    *,
    num_replications: int = 200,
    chunk_size: int = 50,
) -> PyTree:
    """Refits simulated data sets, and returns where the true parameters lie in the marginals of the fits.

        p_ij = 1/S sum_s [theta_sj < theta_ij],    theta_s ~ fit(y_i),   y_i ~ p(y | theta_i),   theta_i ~ p(theta)

    Ties count half. All replications are one compiled program. The functions must therefore be pure functions of JAX
    that work under `vmap`, such as a `lax.scan` of the steps of a kernel.

    Args:
      sample_prior: `rng_key -> theta`, one draw of all parameters from the prior.
      simulate: `(theta, rng_key) -> data`, one data set from the model.
      fit: `(rng_key, data) -> draws`, draws from the fit to this data set, with leaves `[num_draws, ...]` and otherwise
        of the structure and shapes of theta.
      rng_key: the key of replication i is derived from it by i.
      num_replications: number of simulated data sets n.
      chunk_size: largest number of data sets that are fitted at once.

    Returns:
      p with the structure of theta, leaves `[num_replications, ...]`, for `symmetry_test`. A mean above 1/2 shows that
      the draws of the fits are too small. p is NaN where a fit has draws that are NaN.

    Raises:
      ValueError: if a count is not positive, or the draws do not have the structure and shapes of theta.
    """
    checks.count(num_replications=num_replications, chunk_size=chunk_size)

    def replicate(unused: Any, key: PRNGKey, index: Array) -> PyTree:
        del unused, index
        prior_key, data_key, fit_key = jax.random.split(key, 3)
        theta = sample_prior(prior_key)
        draws = fit(fit_key, simulate(theta, data_key))
        _check_draws(draws, theta)
        return jax.tree.map(_share_below, draws, theta)

    return map_in_chunks(replicate, (), rng_key, jnp.arange(num_replications), chunk_size)


def symmetry_test(probabilities: ArrayLike) -> SymmetryTest:
    """Tests whether probabilities are symmetric about 1/2 over replications, separately for each coordinate.

        D = max_k |S_k| / n,    S_k = sum_{i <= k} sign(p_i - 1/2) in order of decreasing |p_i - 1/2|

    The p-value P(max_k |S_k| >= n D) of a simple random walk is exact for any n if the distribution of p is continuous.
    With ties, such as those of few draws, it is conservative. There is no correction for the number of coordinates:
    compare the smallest of d p-values with alpha / d.

    Args:
      probabilities: one leaf of `calibration_probabilities`, `[num_replications, ...]`, between 0 and 1.

    Returns:
      The distance and the p-value of each coordinate.

    Raises:
      ValueError: if the shape is wrong, or a value is NaN or outside [0, 1].
    """
    p = inputs.numbers(probabilities, "probabilities", "[num_replications, ...]")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"probabilities must be in [0, 1]; got {p.min():g} .. {p.max():g}")
    num = len(p)
    columns = p.reshape(num, -1)
    distances = np.round(np.abs(columns - 0.5), DECIMALS)
    order = np.argsort(-distances, axis=0, kind="stable")
    signs = np.sign(columns - 0.5) * (distances > 0)
    walk = np.abs(np.take_along_axis(signs, order, axis=0).cumsum(axis=0))
    steps = np.diff(np.take_along_axis(distances, order, axis=0), axis=0, append=-1)
    largest = np.where(steps != 0, walk, 0).max(axis=0).astype(int)  # the walk counts after the last of equal distances
    levels, inverse = np.unique(largest, return_inverse=True)
    p_values = np.array([_walk_exceedance(num, level) for level in levels])[inverse]
    return SymmetryTest((largest / num).reshape(p.shape[1:])[()], p_values.reshape(p.shape[1:])[()])


def _walk_exceedance(num_steps: int, level: int) -> float:
    """P(max_k |S_k| >= level) of a simple random walk of `num_steps` steps, by the reflection principle.

    The probability is sum_{s >= level} c(s) P(S_n = s). The coefficient c is 4 if s modulo 4 level lies strictly
    between level and 3 level, 2 at these two ends, and 0 otherwise.
    """
    if level == 0:
        return 1.0
    heads = np.arange(-(-(num_steps + level) // 2), num_steps + 1)
    log_binomial = special.gammaln(num_steps + 1) - special.gammaln(heads + 1) - special.gammaln(num_steps - heads + 1)
    phase = (2 * heads - num_steps) % (4 * level)
    is_end = (phase == level) | (phase == 3 * level)
    coefficients = np.where(is_end, 2, np.where((phase > level) & (phase < 3 * level), 4, 0))
    return min(1.0, float((coefficients * np.exp(log_binomial - num_steps * np.log(2))).sum()))


def _share_below(draws: Array, theta: Array) -> Array:
    """Share of draws `[num_draws, ...]` below theta `[...]`, with ties counted half; NaN if a draw is NaN."""
    share = jnp.mean(jnp.sign(theta[None] - draws), axis=0)
    return 0.5 + 0.5 * share


def _check_draws(draws: Params, theta: Params) -> None:
    structures = jax.tree.structure(draws), jax.tree.structure(theta)
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (draws, theta)]
    if structures[0] != structures[1] or [shape[1:] for shape in shapes[0]] != shapes[1]:
        raise ValueError(
            "fit must return draws with the structure of the parameters and leaves [num_draws, ...]; "
            f"got shapes {shapes[0]} for parameters {shapes[1]}"
        )
    if not all(map(len, shapes[0])):
        raise ValueError(f"fit must return draws with leaves [num_draws, ...]; got shapes {shapes[0]}")
