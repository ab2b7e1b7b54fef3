"""Closed forms against independent computations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bayesjax import divergences

RANDOM = np.random.default_rng(0)
P, Q = RANDOM.dirichlet(np.ones(6), (2, 4))


def kl(p, q):
    return sum(pi * np.log(pi / qi) for pi, qi in zip(p, q, strict=True) if pi > 0)


def test_kl_categorical():
    """KL(p || q) = sum p log(p / q) by row; not KL(q || p); 0 at p = q; infinite where q = 0 < p, not where p = 0."""
    values = divergences.kl_categorical(jnp.asarray(P), jnp.asarray(Q))
    np.testing.assert_allclose(values, [kl(p, q) for p, q in zip(P, Q, strict=True)], rtol=1e-5)
    assert not np.allclose(values, [kl(q, p) for p, q in zip(P, Q, strict=True)], rtol=1e-2)
    assert divergences.kl_categorical(jnp.asarray(P), jnp.asarray(P)).tolist() == [0] * 4
    assert divergences.kl_categorical(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) == jnp.inf
    assert divergences.kl_categorical(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])) == pytest.approx(np.log(2))


def test_kl_categorical_refuses_other_shapes():
    """Probabilities on different spaces have no divergence."""
    with pytest.raises(AssertionError):
        divergences.kl_categorical(jnp.ones(3) / 3, jnp.ones(2) / 2)


def test_js_categorical():
    """JS = (KL(p || m) + KL(q || m)) / 2: symmetric, ln 2 on disjoint supports (2 ln 2 if the halves are forgotten)."""
    values = divergences.js_categorical(jnp.asarray(P), jnp.asarray(Q))
    expected = [(kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2 for p, q in zip(P, Q, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(values, divergences.js_categorical(jnp.asarray(Q), jnp.asarray(P)), rtol=1e-6)
    assert divergences.js_categorical(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])) == pytest.approx(np.log(2))


def test_entropy_categorical():
    """ln n for the uniform, 0 for a certainty, scipy's value between."""
    np.testing.assert_allclose(
        divergences.entropy_categorical(jnp.asarray(P)), scipy.stats.entropy(P, axis=-1), rtol=1e-5
    )
    assert divergences.entropy_categorical(jnp.ones(8) / 8) == pytest.approx(np.log(8))
    assert divergences.entropy_categorical(jnp.array([0.0, 1.0])) == 0


def test_kl_diagonal_gaussian():
    """Sum over coordinates of the integral p log(p / q), by quadrature; the other direction differs."""
    mean0, scale0, mean1, scale1 = (np.array(row) for row in ([0.3, -1.0], [0.7, 1.9], [-0.2, 0.5], [1.1, 0.8]))

    def integral(mean0, scale0, mean1, scale1):
        p, q = scipy.stats.norm(mean0, scale0), scipy.stats.norm(mean1, scale1)
        bounds = (mean0 - 12 * scale0, mean0 + 12 * scale0)
        return scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *bounds, epsabs=1e-11)[0]

    expected = sum(integral(*column) for column in zip(mean0, scale0, mean1, scale1, strict=True))
    arguments = [jnp.asarray(row, jnp.float32) for row in (mean0, scale0, mean1, scale1)]
    assert divergences.kl_diagonal_gaussian(*arguments) == pytest.approx(expected, rel=1e-5)
    assert divergences.kl_diagonal_gaussian(*arguments[2:], *arguments[:2]) != pytest.approx(expected, rel=1e-2)


def test_kl_diagonal_gaussian_to_the_standard_normal():
    """Defaults are N(0, I); zero there, and the reparameterised VAE's 1/2 sum(s^2 + m^2 - 1 - log s^2) elsewhere."""
    mean, log_scale = jnp.asarray(RANDOM.normal(size=(2, 3, 5)), jnp.float32)
    scale = jnp.exp(log_scale)
    expected = 0.5 * (scale**2 + mean**2 - 1 - 2 * log_scale).sum(axis=-1)
    np.testing.assert_allclose(divergences.kl_diagonal_gaussian(mean, scale), expected, rtol=1e-5)
    assert divergences.kl_diagonal_gaussian(jnp.zeros(4), jnp.ones(4)) == 0


def test_gradients_are_finite_at_certainty():
    """Training may drive a probability to 0: JS keeps a finite gradient in the logits that made it."""
    logits = jnp.array([30.0, -30.0, -80.0])
    gradient = jax.grad(lambda m: divergences.js_categorical(jax.nn.softmax(m), jnp.ones(3) / 3))(logits)
    assert jnp.isfinite(gradient).all()
