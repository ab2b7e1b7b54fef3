"""Tests of the last-layer Laplace approximation: a linear model, the Hessian of a softmax, and posterior draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import posteriors

RNG = np.random.default_rng(0)
NUM, FEATURES = 30, 3
PHI = RNG.normal(size=(NUM, FEATURES))
PRECISIONS = (2.0, 0.5)


def laplace(log_likelihood, kernel, bias, y, **arguments):
    """Compiled as one program."""
    fit = lambda *arrays: posteriors.last_layer_laplace(log_likelihood, *arrays, PRECISIONS, **arguments)  # noqa: E731
    return jax.jit(fit)(kernel, bias, PHI, y)


def covariance(posterior):
    factor = np.asarray(posterior.factor)
    return np.linalg.inv(factor @ factor.T)


def test_of_a_linear_model_it_is_the_posterior():
    """Noise of 0.3: P = Phi' Phi / 0.3^2 + prior, bias last; chunks of 7 change nothing."""
    with jax.enable_x64(True):
        log_likelihood = lambda f, y: -0.5 * jnp.sum((y - f) ** 2) / 0.3**2  # noqa: E731
        kernel, bias, y = jnp.zeros((FEATURES, 1)), jnp.zeros(1), RNG.normal(size=(NUM, 1))
        found = [laplace(log_likelihood, kernel, bias, y, chunk_size=size) for size in (7, NUM)]
        extended = np.concatenate([PHI, np.ones((NUM, 1))], axis=1)
        exact = np.linalg.inv(extended.T @ extended / 0.3**2 + np.diag([2.0, 2.0, 2.0, 0.5]))
        for posterior in found:
            np.testing.assert_allclose(covariance(posterior), exact, rtol=1e-9)


def test_of_a_softmax_it_is_the_inverse_hessian():
    """The Hessian of the log posterior is from automatic differentiation, in the order of kernel rows, then bias."""
    with jax.enable_x64(True):
        y = RNG.integers(3, size=NUM)
        kernel, bias = jnp.asarray(RNG.normal(size=(FEATURES, 3))), jnp.asarray(RNG.normal(size=3))

        def log_likelihood(f, label):
            return jax.nn.log_softmax(f)[label]

        def log_posterior(flat):
            w = flat.reshape(FEATURES + 1, 3)
            fit = jax.vmap(log_likelihood)(PHI @ w[:-1] + w[-1], y).sum()
            return fit - 0.5 * (2.0 * jnp.sum(w[:-1] ** 2) + 0.5 * jnp.sum(w[-1] ** 2))

        posterior = laplace(log_likelihood, kernel, bias, y)
        hessian = jax.jit(jax.hessian(log_posterior))(jnp.concatenate([kernel, bias[None]]).ravel())
        np.testing.assert_allclose(covariance(posterior), np.linalg.inv(-hessian), rtol=1e-8)


def test_draws_have_the_covariance():
    """20 000 draws: means and covariances within 4 standard errors; 14 comparisons, 0.1 % false alarms."""
    log_likelihood = lambda f, y: -0.5 * jnp.sum((y - f) ** 2)  # noqa: E731
    kernel, bias = jnp.ones((FEATURES, 1)), jnp.full(1, -2.0)
    posterior = laplace(log_likelihood, kernel, bias, jnp.zeros((NUM, 1)))
    keys = jax.random.split(jax.random.key(0), 20_000)
    w, b = jax.jit(jax.vmap(posteriors.sample_last_layer, in_axes=(None, 0)))(posterior, keys)
    draws = np.concatenate([np.asarray(w)[..., 0], np.asarray(b)], axis=1).astype(float)
    exact = covariance(posterior)
    variance = np.diagonal(exact)
    assert (np.abs(draws.mean(axis=0) - [1, 1, 1, -2]) < 4 * np.sqrt(variance / 20_000)).all()
    spread = np.sqrt((exact**2 + np.outer(variance, variance)) / 20_000)
    assert (np.abs(np.cov(draws.T) - exact) < 4 * spread).all()


def test_wrong_shapes_are_refused():
    fit = lambda f, y: -jnp.sum(f**2)  # noqa: E731
    for phi, y, precision, message in [
        (PHI[:, :2], np.zeros(NUM), PRECISIONS, r"features must be \[num, 3\]"),
        (PHI, np.zeros(NUM - 1), PRECISIONS, "targets must have one entry for each of 30 rows"),
        (PHI, np.zeros(NUM), (1.0, 0.0), "prior_precision must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            posteriors.last_layer_laplace(fit, jnp.zeros((FEATURES, 1)), jnp.zeros(1), phi, y, precision)
