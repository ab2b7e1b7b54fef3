"""Pareto-smoothed importance sampling (PSIS), and its k-hat as a diagnostic of variational fits.

    r_s = p(w_s) / q(w_s),   w_s ~ q,        P(r > t) ~ t^(-1/k) for large t

The M largest of S importance ratios are replaced by quantiles of a generalised Pareto distribution that is fitted to
them, which lowers the variance of importance-weighted estimates. Its shape k measures how far p is from q: E r^a is
finite for a < 1/k. If k-hat is below min(1 - 1/log10(S), 0.7), the weighted draws estimate expectations under p
reliably. Above it the fit q is far from the posterior p, at least jointly in all parameters. For a normal p with
precision matrix L and an independent normal q with standard deviations s, k is the largest eigenvalue of
I - diag(s) L diag(s) if that is positive; otherwise the ratios are bounded. For the best mean-field fit to two normals
with correlation c, k = |c|.

Sources: Vehtari, Simpson, Gelman, Yao & Gabry, "Pareto smoothed importance sampling", JMLR 2024; Yao, Vehtari, Simpson
& Gelman, "Yes, but did it work? Evaluating variational inference", ICML 2018, section 3.1; Zhang & Stephens, "A new and
efficient estimation method for the generalized Pareto distribution", Technometrics 2009. The tests compare the weights
with ArviZ. Read `variational_calibration.py` next, which tests the marginals of a fit.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from bayesjax import checks, tree
from bayesjax.evaluation import inputs
from bayesjax.evaluation.chunks import map_in_chunks
from bayesjax.types import Array, ArrayLike, Density, Params, PRNGKey, PyTree

MIN_TAIL = 5
"""Fewest ratios in the tail to which a generalised Pareto distribution is fitted."""
PRIOR_SHAPE, PRIOR_WEIGHT = 0.5, 10
"""Prior mean of k, and the number of observations that it counts as."""
EQUAL_RATIOS = 0.01
"""Range of log ratios, in nats, below which a fit counts as exact if the ratios have too few distinct values."""
COLUMN_CHUNK = 64  # columns that are smoothed at once, each of which takes (30 + sqrt(M)) M numbers


class SmoothedWeights(NamedTuple):
    """Result of `pareto_smooth`.

    Attributes:
      log_weights: logarithms of weights that sum to 1 over the draws, `[num_draws, ...]`.
      k_hat: estimated shape of the tail, `[...]`; infinite if the tail has fewer than five ratios.
    """

    log_weights: ArrayLike
    k_hat: ArrayLike


class VariationalFamily(Protocol):
    """A family of distributions over parameters, such as `posteriors.mean_field()`."""

    @property
    def sample(self) -> Callable[[Any, PRNGKey], Params]:
        """`(variational, rng_key) -> params`, one draw."""
        ...

    @property
    def log_prob(self) -> Callable[[Any, Params], Array]:
        """`(variational, params) -> scalar`, the normalised log density in nats."""
        ...


class VariationalCheck(NamedTuple):
    """Result of `check_variational_fit`.

    Attributes:
      k_hat: estimated shape of the tail of the importance ratios. It is infinite if the ratios have too few distinct
        values for an estimate, or -infinity if they are in addition equal within 1 %, as those of an exact fit are.
      threshold: largest k-hat of a reliable fit for this number of draws, `k_hat_threshold`.
      log_ratios: log p(w_s) - log q(w_s) of each draw, `[num_draws]`.
      log_weights: logarithms of the smoothed weights, which sum to 1, `[num_draws]`.
      expectation: the weighted mean of `statistic` over the draws; None without a statistic.
    """

    k_hat: ArrayLike
    threshold: float
    log_ratios: Array
    log_weights: ArrayLike
    expectation: PyTree


def pareto_smooth(log_ratios: ArrayLike, *, relative_efficiency: float = 1.0) -> SmoothedWeights:
    """Smooths importance ratios and estimates the shape k of their tail.

        k-hat = (M k + 5) / (M + 10),    M = ceil(min(S / 5, 3 sqrt(S / relative_efficiency)))

    k is the estimate of Zhang & Stephens (2009) from the M largest of S ratios, in excess of the next largest one. The
    prior pulls it to 0.5 with the weight of ten observations. The smoothed ratios are not above the largest raw one.

    The computation is in float64 and returns NumPy arrays. Inside JAX transformations it has the type of the ratios,
    which cannot be checked there. k-hat is then NaN where a ratio is NaN or +inf, or all are -inf.

    Args:
      log_ratios: log importance ratios up to a constant, `[num_draws >= 2, ...]`. Draws of ratio 0, -inf, are accepted.
      relative_efficiency: effective sample size of the draws divided by their number; 1 for independent draws.

    Returns:
      Normalised log weights and k-hat. If fewer than five ratios exceed the one after the tail, k-hat is infinite and
      the ratios are not smoothed. Equal ratios are such a case, although their fit is exact.

    Raises:
      ValueError: if the shape is wrong, a ratio is NaN or +inf, all ratios of a column are -inf, or the efficiency is
        not positive.
    """
    checks.positive(relative_efficiency=relative_efficiency)
    if jnp.ndim(log_ratios) < 1 or jnp.shape(log_ratios)[0] < 2:
        raise ValueError(f"log_ratios must be [num_draws >= 2, ...]; got shape {jnp.shape(log_ratios)}")
    num_draws = jnp.shape(log_ratios)[0]
    num_tail = math.ceil(min(num_draws / 5, 3 * math.sqrt(num_draws / relative_efficiency)))
    if isinstance(log_ratios, Tracer):
        return _smooth(tree.widen(log_ratios), num_tail)
    values = inputs.numbers(log_ratios, "log_ratios", "[num_draws, ...]", allow_infinite=True)
    if np.isposinf(values).any():
        raise ValueError(f"log_ratios must be below infinity; got {np.isposinf(values).sum()} values of +inf")
    if np.isneginf(values).all(axis=0).any():
        raise ValueError("log_ratios must be finite for at least one draw; got only -inf")
    with jax.enable_x64(True):
        smoothed = _smooth(values, num_tail)
    return SmoothedWeights(np.asarray(smoothed.log_weights), np.asarray(smoothed.k_hat)[()])


def k_hat_threshold(num_draws: int) -> float:
    """The largest k-hat with which importance-weighted estimates are reliable, min(1 - 1/log10(num_draws), 0.7).

    Args:
      num_draws: number of draws S, at least 2. Below 2200 draws the threshold is smaller than 0.7.

    Raises:
      ValueError: if there are fewer than 2 draws.
    """
    checks.count(num_draws=num_draws)
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2; got {num_draws}")
    return min(1 - 1 / math.log10(num_draws), 0.7)


def check_variational_fit(
    family: VariationalFamily,
    logdensity: Density,
    variational: Any,
    rng_key: PRNGKey,
    batch: PyTree = None,
    *,
    num_draws: int = 4000,
    statistic: Callable[[Params], PyTree] | None = None,
    chunk_size: int = 100,
) -> VariationalCheck:
    """Importance ratios of draws from a variational fit q with respect to the posterior p, and their k-hat.

        r_s = p(w_s, D) / q(w_s),    w_s ~ q,        E_p h(w) ~ sum_s weight_s h(w_s)

    Weight s is the smoothed r_s, normalised. The ratios are in the type of the two log densities. If these exceed 1e5
    in float32, the rounding errors of the ratios are 0.01 and more. A random log density, or that of a minibatch, adds
    its noise to the ratios and increases k-hat. Entries that `posteriors.apply_to_entry` leaves as point estimates are
    the same in every draw, so the check is then conditional on them.

    Args:
      family: has `sample` and `log_prob`, such as `posteriors.mean_field()`.
      logdensity: the joint log density log p(w, D), `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, such as
        `posteriors.log_posterior` returns. A constant may be missing.
      variational: the fitted variational parameters.
      rng_key: the key of draw s is derived from it by s.
      batch: the whole data set, the last argument of `logdensity`.
      num_draws: number of draws S.
      statistic: h, `params -> pytree of arrays`, whose expectation under p is estimated; None for no estimate.
      chunk_size: largest number of draws that are held and evaluated at once. The values of h are held for all draws.

    Returns:
      k-hat and its threshold, the ratios, the weights, and the expectation. With
      `annealing.weight_effective_sample_size(log_weights)` near `num_draws`, the fit is nearly exact.

    Raises:
      ValueError: if a count is invalid, a log density is not a scalar, a ratio is NaN or +inf, or all are -inf.
    """
    threshold = k_hat_threshold(num_draws)
    checks.count(chunk_size=chunk_size)
    checks.density(logdensity, "logdensity")
    log_p = checks.scalar_valued(logdensity, "logdensity")
    log_q = checks.scalar_valued(family.log_prob, "family.log_prob")

    def evaluate_draw(fit_and_data: tuple[Any, PyTree], key: PRNGKey, index: Array) -> tuple[Array, PyTree]:
        del index
        variational, batch = fit_and_data
        draw_key, density_key = jax.random.split(key)
        params = family.sample(variational, draw_key)
        joint, _ = tree.value_and_aux(log_p(params, density_key, batch))
        ratio = tree.widen(joint) - tree.widen(log_q(variational, params))
        return ratio, None if statistic is None else statistic(params)

    index = jnp.arange(num_draws)
    log_ratios, values = map_in_chunks(evaluate_draw, (variational, batch), rng_key, index, chunk_size)
    log_weights, k_hat = pareto_smooth(log_ratios)
    is_exact = jnp.isposinf(k_hat) & (log_ratios.max() - log_ratios.min() < EQUAL_RATIOS)
    k_hat = jnp.where(is_exact, -jnp.inf, k_hat)
    weights = jnp.exp(jnp.asarray(log_weights))
    expectation = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1, precision="highest"), values)
    return VariationalCheck(k_hat, threshold, log_ratios, log_weights, expectation)


@functools.partial(jax.jit, static_argnames="num_tail")
def _smooth(log_ratios: Array, num_tail: int) -> SmoothedWeights:
    """`pareto_smooth` in the type of the ratios."""
    columns = log_ratios.reshape(len(log_ratios), -1).T
    smooth = functools.partial(_smooth_column, num_tail=num_tail)
    log_weights, k_hat = lax.map(smooth, columns, batch_size=min(COLUMN_CHUNK, len(columns)))
    return SmoothedWeights(log_weights.T.reshape(log_ratios.shape), k_hat.reshape(log_ratios.shape[1:]))


def _smooth_column(log_ratios: Array, num_tail: int) -> tuple[Array, Array]:
    """Normalised log weights and k-hat of log ratios `[num_draws]`."""
    x = log_ratios - log_ratios.max()
    top, index = lax.top_k(x, num_tail + 1)
    cutoff = jnp.maximum(top[-1], math.log(jnp.finfo(x.dtype).tiny))
    tail = top[:-1]
    is_tail = tail > cutoff  # false for ties with the cutoff
    num = is_tail.sum()
    excess = jnp.where(is_tail, -jnp.exp(tail) * jnp.expm1(cutoff - tail), 0.0)  # exp(tail) - exp(cutoff)
    k_hat, scale = _fit_pareto(excess, num)

    probabilities = (num - 0.5 - jnp.arange(num_tail)) / num
    quantiles = _pareto_quantiles(jnp.where(is_tail, probabilities, 0.5), k_hat, scale)
    smoothed = jnp.minimum(jnp.log(quantiles + jnp.exp(cutoff)), 0.0)
    is_fitted = (num >= MIN_TAIL) & jnp.isfinite(k_hat) & jnp.isfinite(scale)
    x = x.at[index[:-1]].set(jnp.where(is_tail & is_fitted, smoothed, tail))
    k_hat = jnp.where(num >= MIN_TAIL, k_hat, jnp.inf)
    return jax.nn.log_softmax(x), jnp.where(jnp.isfinite(log_ratios.max()), k_hat, jnp.nan)


def _fit_pareto(excess: Array, num: Array) -> tuple[Array, Array]:
    """Shape k-hat, shrunk to its prior mean, and scale of a generalised Pareto distribution.

    The likelihood is written in b = -k / scale and maximised over the scale, so that k = mean log(1 - b excess). The
    estimate of b is its mean over candidates, weighted by their likelihoods.

    Args:
      excess: values in decreasing order, followed by zeros, `[num_tail]`.
      num: number of values.
    """
    num_candidates = 30 + jnp.floor(jnp.sqrt(num.astype(excess.dtype)))
    i = jnp.arange(1, 31 + math.isqrt(len(excess)), dtype=excess.dtype)
    quartile = excess[num - (num + 2) // 4]
    b = (1 - jnp.sqrt(num_candidates / (i - 0.5))) / (3 * quartile) + 1 / excess[0]
    k = jnp.log1p(-b[:, None] * excess[None]).sum(axis=1) / num
    log_likelihood = num * (jnp.log(-b / k) - k - 1)
    is_used = (i <= num_candidates) & ~jnp.isnan(log_likelihood)  # NaN where b is exactly 0
    weights = jax.nn.softmax(jnp.where(is_used, log_likelihood, -jnp.inf))
    b_mean = jnp.sum(jnp.where(is_used, b * weights, 0.0))
    k_mean = jnp.log1p(-b_mean * excess).sum() / num
    return (num * k_mean + PRIOR_WEIGHT * PRIOR_SHAPE) / (num + PRIOR_WEIGHT), -k_mean / b_mean


def _pareto_quantiles(probabilities: Array, k: Array, scale: Array) -> Array:
    """Quantiles of a generalised Pareto distribution, scale ((1 - p)^-k - 1) / k."""
    log_tail = jnp.log1p(-probabilities)
    is_zero = jnp.abs(k) < jnp.finfo(k.dtype).eps
    return scale * jnp.where(is_zero, -log_tail, jnp.expm1(-k * log_tail) / jnp.where(is_zero, 1.0, k))
