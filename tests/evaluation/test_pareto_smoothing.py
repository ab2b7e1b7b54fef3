"""Pareto-smoothed importance sampling against ArviZ and NumPyro, and k-hat where the tail of the ratios is known."""

import math
import warnings

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation, posteriors
from bayesjax.evaluation import annealing

FAMILY = posteriors.mean_field()


def log_ratios(num_draws):
    """Columns of light and heavy tails, with ties, with ratios of 0, all equal, and of float32, in this order."""
    rng = np.random.default_rng(num_draws)
    x = rng.normal(size=(num_draws, 9)) * [0.01, 0.5, 1, 3, 30, 300, 1, 1, 1]
    x[:, 6] = np.round(2 * x[:, 6]) / 2
    x[1:, 7][rng.uniform(size=num_draws - 1) < 0.9] = -np.inf
    return np.concatenate([x, np.full((num_draws, 1), 3.3), x[:, :1].astype(np.float32)], axis=1)


@pytest.mark.parametrize(("num_draws", "efficiency"), [(4, 1.0), (24, 1.0), (100, 0.3), (1000, 1.0)])
def test_agreement_with_arviz(num_draws, efficiency):
    """Weights and k-hat within 1e-9, or infinite in both. Equal ratios may have their smoothed values interchanged."""
    x = log_ratios(num_draws)
    smoothed = evaluation.pareto_smooth(x, relative_efficiency=efficiency)
    expected, k_hat = arviz.psislw(x.T.copy(), reff=efficiency)
    np.testing.assert_allclose(smoothed.k_hat, k_hat, atol=1e-9)
    weights, expected = np.exp(smoothed.log_weights), np.exp(expected.T)
    np.testing.assert_allclose(weights[:, :6], expected[:, :6], atol=1e-9)
    np.testing.assert_allclose(np.sort(weights, axis=0), np.sort(expected, axis=0), atol=1e-9)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert smoothed.log_weights.dtype == np.float64 and np.isposinf(k_hat).any()


def test_traced_float32():
    """Under jit the types and shapes stay, values are within 1e-3 of ArviZ's, and invalid ratios give NaN."""
    x = np.float32(log_ratios(1000)[:, [1, 2, 3, 7]])
    smoothed = jax.jit(evaluation.pareto_smooth)(x.reshape(1000, 2, 2))
    weights, k_hat = arviz.psislw(x.T.astype(float))
    assert smoothed.log_weights.dtype == np.float32 and smoothed.k_hat.shape == (2, 2)
    np.testing.assert_allclose(smoothed.k_hat.ravel(), k_hat, atol=1e-3)
    np.testing.assert_allclose(np.exp(smoothed.log_weights.reshape(1000, 4)), np.exp(weights.T), atol=1e-5)
    for invalid in (np.nan, np.inf, -np.inf):  # -inf: all ratios of the column are 0
        added = np.array([[0, invalid], [0, 0]], np.float32)
        k_hat = jax.jit(evaluation.pareto_smooth)(x.reshape(1000, 2, 2) + added).k_hat
        np.testing.assert_array_equal(np.isnan(k_hat), [[False, True], [False, False]])


def test_numpyro_has_the_same_k_hat():
    importance = pytest.importorskip("numpyro.infer.importance")
    x = log_ratios(1000)[:, [0, 1, 2, 3, 4, 6, 8]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few ratios in the tail
        expected = [importance._psis_khat(column) for column in x.T]
    np.testing.assert_allclose(evaluation.pareto_smooth(x).k_hat, expected, atol=1e-9)


def test_k_hat_of_generalised_pareto_ratios():
    """Three shapes, 400 samples of 4000 ratios each: the mean k-hat is (M k + 5) / (M + 10) with M = 190 ratios in the
    tail, within 4 standard errors (false alarms: 2e-4) and a bias of 2 / M. The estimates have the standard deviation
    (1 + k) / sqrt(M) of maximum likelihood within 50 %. Estimates without the prior are refused by the same bound.
    """
    shapes, num, num_tail = np.array([-0.3, 0.7, 2.0]), 400, 190
    uniform = np.random.default_rng(0).uniform(size=(4000, num, 3))
    k_hat = evaluation.pareto_smooth(np.log(np.expm1(-shapes * np.log(uniform)) / shapes)).k_hat

    def is_right(estimates):
        bound = 4 * estimates.std(axis=0) / math.sqrt(num) + 2 / num_tail
        return np.abs(estimates.mean(axis=0) - (num_tail * shapes + 5) / (num_tail + 10)) < bound

    assert is_right(k_hat).all()
    assert not is_right(((num_tail + 10) * k_hat - 5) / num_tail)[[0, 2]].any()
    np.testing.assert_allclose(k_hat.std(axis=0), (1 + shapes) / math.sqrt(num_tail), rtol=0.5)


def test_smoothed_weights_have_less_variance():
    """Estimates of a mean under log-normal ratios, 400 of 1000 draws: a smaller error than with the raw weights."""
    draws = np.random.default_rng(1).normal(size=(1000, 400))
    x = 1.5 * draws - 1.5**2 / 2  # the ratio of N(1.5, 1) to N(0, 1)
    raw = np.exp(x) / np.exp(x).sum(axis=0)
    smoothed = np.exp(evaluation.pareto_smooth(x).log_weights)
    error, smoothed_error = (np.square((w * draws).sum(axis=0) - 1.5).mean() for w in (raw, smoothed))
    assert smoothed_error < 0.95 * error


def gaussian_density(params, rng_key, precision):
    return -0.5 * params @ (precision @ params), {"unused": rng_key}


def test_k_hat_grows_with_the_correlation():
    """A mean-field fit of standard deviations s to two normals of unit variance with correlation c.

    The best fit has s^2 = 1 - c^2 and log r = c (z_1^2 - z_2^2) / 2 with standard normals z. E r^a is finite for
    a < 1/c, so k = c. For s = 1, k = c / (1 + c). Means over 32 fits of 4000 draws are between k - 0.2 and k + 0.1.
    The bias is -0.11 at c = 0.9, because the tail approaches a power law slowly. The standard error is at most 0.021
    (margins of 4 and more: false alarms 1e-4). The same bounds tell the two scales apart at c = 0.9, where about 7 % of
    the best fits have a k-hat below 0.6 (10 and more of 32: 5e-5).
    """
    correlation = np.array([0.3, 0.6, 0.9])
    precision = np.linalg.inv(np.eye(2) + correlation[:, None, None] * (1 - np.eye(2))).astype(np.float32)

    def k_hat(scale, precision, rng_key):
        rho = jnp.log(jnp.expm1(scale))  # scale = softplus(rho)
        variational = posteriors.MeanFieldParams(jnp.zeros(2), jnp.full(2, rho))
        fit = evaluation.check_variational_fit
        return fit(FAMILY, gaussian_density, variational, rng_key, precision, chunk_size=1000).k_hat

    of_keys = jax.jit(jax.vmap(jax.vmap(k_hat, (None, None, 0)), (0, 0, None)))
    keys = jax.random.split(jax.random.key(0), 32)
    scale = np.float32(np.sqrt(1 - correlation**2))
    best, wide = (np.asarray(of_keys(s, precision, keys)) for s in (scale, np.ones_like(scale)))
    for estimates, k in ((best, correlation), (wide, correlation / (1 + correlation))):
        assert (np.abs(estimates.mean(axis=1) - k + 0.05) < 0.15).all()
    assert abs(wide[2].mean() - 0.9 + 0.05) > 0.15
    assert (np.diff(best, axis=0) > 0).all()
    assert (best[2] > 0.6).mean() > 0.7 and (best[0] < 0.7).all()


def test_exact_fit_and_expectations():
    """Equal ratios, or equal up to rounding: k-hat is below the threshold and all weights are 1 / S.

    For a fit half a standard deviation off, the weighted mean is within 4 standard errors of sd sqrt(2.06 / 4000),
    which is 0.023 sd (false alarms: 1e-4), and the mean of the fit is not. The ratios do not depend on the chunks.
    """
    variational = FAMILY.init({"w": jnp.array([1.5, -0.5])})
    scale = 0.05

    def rounded(params, rng_key, batch):
        return jnp.sum(jax.scipy.stats.norm.logpdf(params["w"], jnp.array([1.5, -0.5]), scale)) + 1000.0

    def same(params, rng_key, batch):
        return FAMILY.log_prob(variational, params)

    for density in (rounded, same):
        check = evaluation.check_variational_fit(FAMILY, density, variational, jax.random.key(0), num_draws=500)
        assert check.k_hat < check.threshold and check.log_ratios.shape == (500,)
        assert annealing.weight_effective_sample_size(check.log_weights) == pytest.approx(500, rel=1e-4)
        assert check.expectation is None
    assert np.isneginf(check.k_hat)

    shifted = FAMILY.init({"w": jnp.array([1.5, -0.5]) + 0.5 * scale})
    options = {"num_draws": 4000, "statistic": lambda params: params["w"], "chunk_size": 999}
    check = evaluation.check_variational_fit(FAMILY, rounded, shifted, jax.random.key(1), **options)
    bound = 4 * 0.023 * scale
    assert check.k_hat < check.threshold == 0.7 and bound < 0.5 * scale
    np.testing.assert_allclose(check.expectation, [1.5, -0.5], atol=bound)
    whole = evaluation.check_variational_fit(FAMILY, rounded, shifted, jax.random.key(1), chunk_size=4000)
    np.testing.assert_allclose(whole.log_ratios, check.log_ratios, atol=1e-3)


def test_threshold():
    assert evaluation.k_hat_threshold(100) == 0.5 and evaluation.k_hat_threshold(10_000) == 0.7
    with pytest.raises(ValueError, match="num_draws must be at least 2; got 1"):
        evaluation.k_hat_threshold(1)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        (np.zeros(1), r"log_ratios must be \[num_draws >= 2, \.\.\.\]; got shape \(1,\)"),
        (np.float64(0), r"log_ratios must be \[num_draws >= 2, \.\.\.\]; got shape \(\)"),
        (np.array([0, np.nan, 1]), "log_ratios must not be NaN; got 1 of 3 values that are not"),
        (np.array([0, np.inf, 1]), r"log_ratios must be below infinity; got 1 values of \+inf"),
        (np.array([[0, -np.inf], [0, -np.inf]]), "log_ratios must be finite for at least one draw; got only -inf"),
    ],
)
def test_invalid_ratios(ratios, message):
    with pytest.raises(ValueError, match=message) as error:
        evaluation.pareto_smooth(ratios)
    assert "\n" not in str(error.value)


def test_invalid_arguments():
    variational, key = FAMILY.init(jnp.zeros(2)), jax.random.key(0)
    with pytest.raises(ValueError, match="relative_efficiency must be positive and finite; got 0"):
        evaluation.pareto_smooth(np.zeros(10), relative_efficiency=0)
    with pytest.raises(ValueError, match=r"logdensity must return a scalar; got an array of shape \(2,\)"):
        evaluation.check_variational_fit(FAMILY, lambda params, key, batch: params, variational, key)
    with pytest.raises(ValueError, match=r"logdensity must take \(params, rng_key, batch\); got \(params\)"):
        evaluation.check_variational_fit(FAMILY, lambda params: params.sum(), variational, key)
