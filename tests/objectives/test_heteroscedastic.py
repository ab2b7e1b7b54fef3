"""Learned noise: SciPy's density, an exact integral over noisy logits, finite at logits of 1e4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from bayesjax.objectives.heteroscedastic import (
    categorical_log_likelihood,
    gaussian_log_likelihood,
    noisy_logits_log_likelihood,
)


def test_gaussian_is_scipy_s():
    mean, s, y = np.array([0.5, -2.0]), np.array([-3.0, 1.0]), np.array([0.6, 1.0])
    found = gaussian_log_likelihood(jnp.asarray(mean), jnp.asarray(s), jnp.asarray(y))
    np.testing.assert_allclose(found, stats.norm.logpdf(y, mean, np.exp(s / 2)).sum(), rtol=1e-6)
    shared = gaussian_log_likelihood(jnp.asarray(mean), jnp.float32(1.0), jnp.asarray(y))
    np.testing.assert_allclose(shared, stats.norm.logpdf(y, mean, np.exp(0.5)).sum(), rtol=1e-6)


def test_the_best_log_variance_is_that_of_the_residual():
    gradient = jax.grad(lambda s: gaussian_log_likelihood(jnp.zeros(1), s, jnp.array([0.5])))(jnp.log(0.25))
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_categorical_is_scipy_s_at_any_logits_and_its_gradient_scatters_nothing():
    logits = np.array([[1e4, -1e4, 0.0], [0.3, -1.0, 2.0]], np.float32)
    gradient = jax.grad(lambda logits, label: categorical_log_likelihood(logits, label).sum())
    for label in range(3):
        found = categorical_log_likelihood(jnp.asarray(logits), jnp.int32(label))
        np.testing.assert_allclose(found, special.log_softmax(logits, axis=-1)[:, label], rtol=1e-6)
        exact = np.eye(3)[label] - special.softmax(logits, axis=-1)
        np.testing.assert_allclose(gradient(jnp.asarray(logits), jnp.int32(label)), exact, atol=1e-6)
    masked = np.array([0.0, 1.0, -np.inf], np.float32)
    np.testing.assert_allclose(
        categorical_log_likelihood(jnp.asarray(masked), jnp.int32(0)), -np.log(1 + np.e), rtol=1e-6
    )
    labels = np.zeros(2, int)
    by_index = jax.vmap(jax.grad(lambda logits, label: jax.nn.log_softmax(logits)[label]))
    assert "scatter" in str(jax.make_jaxpr(by_index)(logits, labels))
    assert "scatter" not in str(jax.make_jaxpr(jax.vmap(jax.grad(categorical_log_likelihood)))(logits, labels))


def test_noisy_logits_are_the_integral_over_the_noise():
    """Two classes: the difference of two noises is N(0, 2 v). The mean over 400 keys is within 4.5 standard errors of
    it; noise of standard deviation v in place of its root is refused."""
    logits, variance = np.array([1.0, -0.5]), 2.0
    exact = integrate.quad(
        lambda d: special.expit(1.5 + d) * stats.norm.pdf(d, 0, np.sqrt(2 * variance)), -30, 30, limit=200
    )[0]

    def probabilities(log_variance):
        of_key = lambda key: noisy_logits_log_likelihood(  # noqa: E731
            jnp.asarray(logits, jnp.float32), log_variance, jnp.int32(0), key, num_samples=200
        )
        return np.exp(np.asarray(jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(0), 400)), np.float64))

    def score(values):
        return abs(values.mean() - exact) / (values.std() / np.sqrt(len(values)))

    assert score(probabilities(np.log(variance))) < 4.5
    assert score(probabilities(2 * np.log(variance))) > 4.5


def test_values_and_gradients_are_finite_at_large_logits():
    logits = jnp.array([1e4, -1e4, 0.0])
    for label in (0, 1, 2):
        value, gradients = jax.value_and_grad(noisy_logits_log_likelihood, argnums=(0, 1))(
            logits, jnp.full(3, 2.0), jnp.int32(label), jax.random.key(0)
        )
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in gradients)
    naive = jnp.log(jnp.exp(logits)[1] / jnp.exp(logits).sum())
    assert not np.isfinite(naive)


def test_without_noise_it_is_the_softmax():
    logits = jnp.array([0.3, -1.0, 2.0])
    found = noisy_logits_log_likelihood(logits, jnp.float32(-60.0), jnp.int32(1), jax.random.key(0), num_samples=3)
    np.testing.assert_allclose(found, jax.nn.log_softmax(logits)[1], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_outputs_have_the_likelihoods_of_float32(dtype):
    """The same numbers with the same noise: `jax.random.normal` in bfloat16 has a mean of -0.012."""
    narrow = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), dtype)
    wide = narrow.astype(jnp.float32)
    for found, expected in (
        (gaussian_log_likelihood(*each) for each in (narrow, wide)),
        (categorical_log_likelihood(each, jnp.int32(1)) for each in (narrow, wide)),
        (noisy_logits_log_likelihood(*each[:2], jnp.int32(1), jax.random.key(0)) for each in (narrow, wide)),
    ):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_log_likelihood(jnp.zeros(2), jnp.zeros(2), jnp.zeros(3)), "must have one shape"),
        (lambda: gaussian_log_likelihood(jnp.zeros(2), jnp.zeros(1), jnp.zeros(2)), "must have one shape"),
        (
            lambda: noisy_logits_log_likelihood(
                jnp.zeros(2), jnp.zeros(2), jnp.int32(0), jax.random.key(0), num_samples=0
            ),
            "num_samples must be at least 1; got 0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
