"""Posterior sharpening on a line through the origin, where the bound, and the evidence above it, are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesjax import axes, objectives, posteriors
from bayesjax.objectives import SharpenedPosterior

NOISE, PRIOR, SCALE, NUM = 0.5, 1.2, 0.3, 12
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=NUM)
Y = 0.7 * X + NOISE * RANDOM.normal(size=NUM)
BATCH = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
A, B = X @ X / NOISE**2, X @ Y / NOISE**2  # minus the log-likelihood is A w^2 / 2 - B w and a constant
MEAN, SD = 0.4, 0.2
BEST = NUM / (A + 1 / SCALE**2)  # of eta: phi - eta g is then the mean of theta given phi and the data
COVARIANCE = NOISE**2 * np.eye(NUM) + (PRIOR**2 + SCALE**2) * np.outer(X, X)
EVIDENCE = stats.multivariate_normal(np.zeros(NUM), COVARIANCE).logpdf(Y)


def log_likelihood(params, rng_key, example):
    del rng_key
    x, y = example
    return -0.5 * ((y - x * params) / NOISE) ** 2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)


def position(eta):
    rho = math.log(math.expm1(SD))
    return SharpenedPosterior(posteriors.MeanFieldParams(jnp.float32(MEAN), jnp.float32(rho)), jnp.float32(eta))


def loss(**settings):
    family = posteriors.mean_field()
    settings = {"num_data": NUM, "num_in_batch": NUM, "scale": SCALE, **settings}
    return objectives.posterior_sharpening(log_likelihood, family.sample, posteriors.kl_to_gaussian(PRIOR), **settings)


def exact(eta):
    """NUM times the loss's mean."""
    shrink, second = 1 - eta * A / NUM, (A * MEAN - B) ** 2 + (A * SD) ** 2
    mean, variance = MEAN * shrink + eta * B / NUM, (SD * shrink) ** 2 + SCALE**2
    constant = 0.5 * Y @ Y / NOISE**2 + NUM * (math.log(NOISE) + 0.5 * math.log(2 * math.pi))
    kl = math.log(PRIOR / SD) + (SD**2 + MEAN**2) / (2 * PRIOR**2) - 0.5
    return 0.5 * A * (mean**2 + variance) - B * mean + constant + kl + eta**2 * second / (2 * SCALE**2 * NUM**2)


def measured(eta, **settings):
    """NUM times the mean loss of 4000 draws, and its standard error."""
    keys, of = jax.random.split(jax.random.key(0), 4000), loss(**settings)
    values = NUM * jax.jit(jax.vmap(lambda key: of(position(eta), key, BATCH)[0]))(keys)
    return float(values.mean()), float(values.std() / math.sqrt(len(keys)))


def test_the_loss_is_the_bound():
    """Within 4 standard errors, a false alarm in 1.6e4 seeds; steps uphill and half a penalty are refused."""
    for eta in (0.0, BEST):
        value, stderr = measured(eta)
        assert abs(value - exact(eta)) < 4 * stderr
    value, stderr = measured(-BEST)
    assert abs(value - exact(BEST)) > 4 * stderr
    value, stderr = measured(BEST, num_in_batch=2 * NUM)
    assert abs(value - exact(BEST)) > 4 * stderr


def test_the_likelihood_draws_its_noise_anew_at_theta():
    """The gradient at phi and the fit at theta have noise (such as dropout) of their own: w xi is linear in w, so that
    the penalty shows the mean noise at phi and aux the mean noise at theta."""

    def noisy(params, rng_key, example):
        noise = jax.random.normal(rng_key)
        return params * noise, {"noise": noise}

    sample, kl = posteriors.mean_field().sample, posteriors.kl_to_gaussian(PRIOR)
    of = objectives.posterior_sharpening(noisy, sample, kl, num_data=NUM, num_in_batch=NUM, scale=SCALE)
    _, aux = of(position(1.0), jax.random.key(0), BATCH)
    at_phi, at_theta = math.sqrt(2 * SCALE**2 * aux["sharpening"]), abs(float(aux["noise"]))
    assert at_phi > 1e-3 and abs(at_phi - at_theta) > 0.05 * at_theta


def test_a_tempered_bound():
    """The weight is of both divergences and of nothing else."""
    of = {weight: loss(kl_weight=weight)(position(BEST), jax.random.key(0), BATCH) for weight in (0.0, 0.3, 1.0)}
    values = {weight: float(value) for weight, (value, _) in of.items()}
    np.testing.assert_allclose(values[0.0], of[0.0][1]["nll"], rtol=1e-6)
    np.testing.assert_allclose(values[0.3], 0.7 * values[0.0] + 0.3 * values[1.0], rtol=1e-5)
    assert values[1.0] > values[0.0] + 0.1


def test_a_step_down_the_gradient_brings_the_bound_nearer_to_the_evidence():
    assert -EVIDENCE < exact(BEST) < exact(0.0)
    (sharp, stderr), (blunt, _) = measured(BEST), measured(0.0)
    assert -EVIDENCE < sharp < blunt - 4 * stderr


def test_through_the_gradient_or_not():
    """The derivative in phi's mean: with second derivatives that of the loss as it stands, without them another one."""
    key, step = jax.random.key(5), 1e-2

    def at(mean, **settings):
        start = position(BEST)
        moved = start._replace(variational=start.variational._replace(mean=mean))
        return loss(**settings)(moved, key, BATCH)[0]

    slope = (at(jnp.float32(MEAN + step)) - at(jnp.float32(MEAN - step))) / (2 * step)
    whole = jax.grad(at)(jnp.float32(MEAN), through_gradient=True)
    part = jax.grad(at)(jnp.float32(MEAN))
    np.testing.assert_allclose(whole, slope, rtol=1e-3)
    assert abs(part - slope) > 0.01 * abs(slope)


@pytest.mark.parametrize("through_gradient", [False, True])
def test_devices_take_the_step_of_the_whole_batch(through_gradient):
    """Two parts of a batch along the `data` axis have the loss and gradient of the whole in their means.

    With gradients of their own parts each would take another step.
    """
    of = loss(through_gradient=through_gradient)
    at, key = position(BEST), jax.random.key(4)
    evaluate = jax.value_and_grad(lambda position, batch: of(position, key, batch)[0])
    whole = jax.jit(evaluate)(at, BATCH)
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, -1), BATCH)
    parts = jax.jit(jax.vmap(evaluate, in_axes=(None, 0), axis_name=axes.DATA))(at, halves)
    jax.tree.map(lambda part, all: np.testing.assert_allclose(part.mean(axis=0), all, rtol=1e-4), parts, whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_in_batch": 0}, "num_in_batch must be at least 1; got 0"),
        ({"scale": 0.0}, "scale must be positive and finite; got 0.0"),
        ({"kl_weight": -1.0}, "kl_weight must be non-negative and finite; got -1.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        loss(**settings)
