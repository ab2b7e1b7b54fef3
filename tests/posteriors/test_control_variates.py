"""Tests of control variates: no bias at any anchor, no variance at the anchor, little variance near it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import posteriors, tree

NUM_DATA, BATCH_SIZE = 60, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(NUM_DATA, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5] + RNG.normal(size=NUM_DATA) > 0).astype(np.float32)
BATCHES = (X.reshape(-1, BATCH_SIZE, 3), Y.reshape(-1, BATCH_SIZE))


def log_likelihood(params, rng_key, example):
    """Logistic regression, with aux."""
    x, y = example
    logit = x @ params["w"] + params["b"]
    return y * logit - jnp.logaddexp(0.0, logit), {"logit": logit}


DENSITY = posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), NUM_DATA)


def near(distance):
    """A point so far from the mode, which is found by Newton's method."""

    def value(flat):
        return DENSITY({"w": flat[:3], "b": flat[3]}, jax.random.key(0), (X, Y))[0]

    @jax.jit
    def step(flat):
        return flat - jnp.linalg.solve(jax.hessian(value)(flat), jax.grad(value)(flat))

    flat = jnp.zeros(4)
    for _ in range(20):
        flat = step(flat)
    flat = flat + distance * jnp.array([0.5, -0.5, 0.5, 0.5])
    return {"w": flat[:3], "b": flat[3]}


def gradients(density, params):
    """Gradients of every batch, `[num_batches, 4]`."""
    key = jax.random.key(1)
    of = jax.vmap(jax.grad(lambda params, batch: density(params, key, batch)[0]), in_axes=(None, 0))(params, BATCHES)
    return np.concatenate([np.asarray(of["w"]), np.asarray(of["b"])[:, None]], axis=1)


ANCHOR = near(0.05)


@pytest.fixture(scope="module")
def corrected():
    gradient = posteriors.full_gradient(DENSITY, ANCHOR, jax.random.key(0), BATCHES)
    return posteriors.control_variates(DENSITY, ANCHOR, gradient)


def test_full_gradient_is_that_of_all_data():
    """The mean over the batches is the gradient of one batch of everything."""
    found = posteriors.full_gradient(DENSITY, ANCHOR, jax.random.key(0), BATCHES)
    expected = jax.grad(lambda params: DENSITY(params, jax.random.key(0), (X, Y))[0])(ANCHOR)
    for name in ("w", "b"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("distance", [0.0, pytest.param(0.1, marks=pytest.mark.slow), 8.0])
def test_unbiased_and_of_less_variance_near_the_anchor(corrected, distance):
    """The mean over all batches is the plain one; the variance is 0.01 of it at the mode and more far away."""
    params = near(distance)
    plain, ours = gradients(DENSITY, params), gradients(corrected, params)
    np.testing.assert_allclose(ours.mean(axis=0), plain.mean(axis=0), rtol=1e-3, atol=1e-3)
    ratio = ours.var(axis=0).sum() / plain.var(axis=0).sum()
    assert ratio < 0.02 if distance < 1 else ratio > 0.2


def test_no_variance_at_the_anchor(corrected):
    """There every batch has the gradient of all data."""
    assert gradients(corrected, ANCHOR).std(axis=0).max() < 1e-4
    assert gradients(DENSITY, ANCHOR).std(axis=0).max() > 1


def noisy(params, rng_key, batch):
    """A density whose gradient is the noise of its key."""
    return params @ jax.random.normal(rng_key, params.shape)


def test_the_anchor_sees_the_noise_of_the_parameters():
    """The noise of a key then cancels everywhere, and what remains is the gradient given; other noise leaves more."""
    given = jnp.array([1.0, -2.0])
    density = posteriors.control_variates(noisy, jnp.zeros(2), given)
    for seed in range(3):
        found = jax.grad(density)(jnp.ones(2), jax.random.key(seed), None)
        np.testing.assert_allclose(found, given, atol=1e-6)


def test_full_gradient_gives_each_batch_noise_of_its_own():
    """The mean of 64 normals has variance 1/64, within 4 standard errors of 1000 (6e-5); one key for all has 1."""
    batches = jnp.zeros((64, 1))
    keys = jax.random.split(jax.random.key(2), 500)
    found = jax.jit(jax.vmap(lambda key: posteriors.full_gradient(noisy, jnp.zeros(2), key, batches)))(keys)
    assert abs(64 * np.var(found) - 1) < 4 * np.sqrt(2 / 1000)


def test_aux_and_scalars(corrected):
    """aux passes through; a density without it stays without it; a gradient of another structure is refused."""
    batch = (X[:BATCH_SIZE], Y[:BATCH_SIZE])
    _, aux = corrected(ANCHOR, jax.random.key(0), batch)
    assert aux["logit"].shape == ()
    gradient = jax.tree.map(jnp.zeros_like, ANCHOR)
    plain = posteriors.control_variates(lambda *arguments: DENSITY(*arguments)[0], ANCHOR, gradient)
    assert plain(ANCHOR, jax.random.key(0), batch).shape == ()
    assert tree.norm(jax.grad(plain)(ANCHOR, jax.random.key(0), batch)) < 1e-4
    with pytest.raises(ValueError, match="gradient must have the structure of the anchor"):
        posteriors.control_variates(DENSITY, ANCHOR, {"w": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"gradient must have the shapes of the anchor, .*\(3,\).*; got .*'w': \(\)"):
        posteriors.control_variates(DENSITY, ANCHOR, {"w": jnp.zeros(()), "b": jnp.zeros(())})
