"""Bayesian linear regression against the dense normal distribution of the targets, and moments of its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import posteriors

NUM, DIM, LOG_PRECISION = 12, 3, 0.7


def problem():
    random = np.random.default_rng(0)
    return random.normal(size=(NUM, DIM)).astype(np.float32), random.normal(size=NUM).astype(np.float32)


def exact(x, y, log_precision):
    """log N(y; 0, X X^T + I / b), in float64."""
    covariance = x.astype(float) @ x.T + np.exp(-log_precision) * np.eye(len(x))
    return scipy.stats.multivariate_normal.logpdf(y, np.zeros(len(x)), covariance)


def test_evidence_is_the_density_of_the_targets():
    x, y = problem()
    np.testing.assert_allclose(
        posteriors.linear_regression(x, y, LOG_PRECISION).log_evidence, exact(x, y, LOG_PRECISION), rtol=1e-5
    )


def test_gradients_are_those_of_the_exact_density():
    """Central differences of the exact density, for the inputs, the targets and the noise."""
    x, y = problem()
    arguments = (x, y, np.float32(LOG_PRECISION))
    gradients = jax.grad(lambda *args: posteriors.linear_regression(*args).log_evidence, argnums=(0, 1, 2))(*arguments)
    for i, gradient in enumerate(gradients):
        for index in np.ndindex(np.shape(arguments[i])):
            shift = np.zeros(np.shape(arguments[i]))
            shift[index] = 1e-4
            above, below = (exact(*arguments[:i], arguments[i] + sign * shift, *arguments[i + 1 :]) for sign in (1, -1))
            difference = (above - below) / 2e-4
            np.testing.assert_allclose(gradient[index], difference, rtol=1e-3, atol=1e-3)


def by_cholesky(x, y, log_precision):
    """The evidence from the Cholesky factor of the precision matrix itself, the wrong variant for float32."""
    precision = jnp.exp(log_precision)
    factor = jnp.linalg.cholesky(jnp.eye(x.shape[1]) + precision * x.T @ x)
    mean = precision * jax.scipy.linalg.cho_solve((factor, True), x.T @ y)
    fixed = jax.lax.stop_gradient(mean)
    exponent = precision * jnp.sum((y - x @ fixed) ** 2) + jnp.sum(fixed**2)
    return 0.5 * (len(y) * (log_precision - jnp.log(2 * jnp.pi)) - exponent) - jnp.log(jnp.diag(factor)).sum()


@pytest.mark.parametrize("log_precision", [4.0, 9.0, 13.0])
def test_float32_suffices_for_correlated_inputs(log_precision):
    """Activations of a ReLU network: the precision matrices have condition numbers of 1e6, 4e7 and 6e7."""
    random = np.random.default_rng(1)
    x = np.maximum(random.normal(size=(300, 2)) @ random.normal(size=(2, 40)) + 1, 0).astype(np.float32)
    y = (x @ random.normal(size=40) / 10 + 0.01 * random.normal(size=300)).astype(np.float32)
    precision = np.eye(40) + np.exp(log_precision) * x.T.astype(float) @ x
    inverse = np.linalg.inv(precision)
    mean = np.exp(log_precision) * inverse @ (x.T.astype(float) @ y)
    wanted = np.exp(log_precision) * (np.outer(y - x @ mean, mean) - x @ inverse)  # the gradient in the inputs

    def error(function):
        gradient = jax.grad(function)(jnp.asarray(x), jnp.asarray(y), jnp.float32(log_precision))
        return np.linalg.norm(gradient - wanted) / np.linalg.norm(wanted)

    ours = posteriors.linear_regression
    exponent = np.exp(log_precision) * np.sum((y - x @ mean) ** 2) + mean @ mean
    evidence = 150 * (log_precision - np.log(2 * np.pi)) - 0.5 * (exponent + np.linalg.slogdet(precision)[1])
    np.testing.assert_allclose(ours(x, y, log_precision).log_evidence, evidence, rtol=2e-5)
    refined, plain = error(lambda *args: ours(*args).log_evidence), error(by_cholesky)
    assert refined < 1e-3 and not plain < 100 * refined  # plain may be NaN


def test_draws_have_the_mean_and_covariance_of_the_posterior():
    """20 000 draws; bounds of five standard errors have a false-alarm rate below 1e-5. A covariance of A is noticed."""
    x, y = problem()
    posterior = posteriors.linear_regression(x, y, LOG_PRECISION)
    keys = jax.random.split(jax.random.key(0), 20_000)
    draws = np.asarray(jax.vmap(posteriors.sample_linear_regression, in_axes=(0, None))(keys, posterior))
    precision = np.eye(DIM) + np.exp(LOG_PRECISION) * x.T @ x
    covariance = np.linalg.inv(precision)
    scales = np.sqrt(np.diag(covariance))
    wanted = np.exp(LOG_PRECISION) * covariance @ x.T @ y
    assert np.all(np.abs(draws.mean(axis=0) - wanted) < 5 * scales / np.sqrt(len(draws)))
    close = 5 * np.sqrt(2 / len(draws)) * np.outer(scales, scales)
    assert np.all(np.abs(np.cov(draws.T) - covariance) < close)
    assert not np.all(np.abs(np.cov((jnp.asarray(draws) @ precision).T) - covariance) < close)


def test_wrong_shapes_are_named():
    x, y = problem()
    with pytest.raises(
        ValueError, match=r"targets \[num\] and log_precision a scalar; got \(12, 3\), \(11,\) and \(\)"
    ):
        posteriors.linear_regression(x, y[1:], 0.0)
