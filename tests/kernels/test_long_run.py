"""A long SGHMC run on a linear regression with minibatches: moments against the exact posterior (make test-slow)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data, kernels, posteriors, training

NUM_DATA, DIM, NOISE = 200, 5, 0.5


def linear_regression():
    """y = X w + N(0, NOISE^2), prior w ~ N(0, I): data, exact posterior mean and covariance."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_DATA, DIM)) @ np.diag([1.0, 1.0, 0.5, 0.5, 0.2])
    y = x @ rng.normal(size=DIM) + NOISE * rng.normal(size=NUM_DATA)
    covariance = np.linalg.inv(np.eye(DIM) + x.T @ x / NOISE**2)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}, covariance @ x.T @ y / NOISE**2, covariance


def sample(num_data, step_size, num_chains=64, num_steps=20_000):
    """Kept draws `[num_draws, num_chains, DIM]` of the posterior that believes in `num_data` data."""
    arrays, _, _ = linear_regression()

    def log_likelihood(params, rng_key, example):
        return -0.5 * ((example["y"] - example["x"] @ params) / NOISE) ** 2

    density = posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), num_data)
    kernel = kernels.particles(kernels.sghmc(density, step_size=step_size, friction=0.1), num_chains)
    state = kernel.init(jnp.zeros((num_chains, DIM)), jax.random.key(1))
    batches = data.Minibatches(jax.random.key(2), arrays, 50)
    _, trace = training.run(
        jax.random.key(3), kernel, state, batches, num_steps=num_steps, num_burnin=num_steps // 4, thinning=50
    )
    return trace.draws


def excess(draws, mean, covariance):
    """Worst deviation of posterior means (in standard errors from chains) and worst relative error of the variances."""
    chain_means = draws.mean(axis=0)
    z = (chain_means.mean(axis=0) - mean) / (chain_means.std(axis=0, ddof=1) / np.sqrt(len(chain_means)))
    ratio = draws.var(axis=(0, 1)) / np.diag(covariance)
    return np.abs(z).max(), np.abs(ratio - 1).max()


@pytest.mark.slow
def test_posterior_of_linear_regression_with_minibatches():
    """Means within 4.5 standard errors (false alarms: 5 coordinates, 3e-5 in all); variances within 5 %, which leaves
    room for the minibatch noise at this step size. Power: a density that believes in half the data is far off."""
    _, mean, covariance = linear_regression()
    worst_mean, worst_variance = excess(sample(NUM_DATA, 1e-5), mean, covariance)
    assert worst_mean < 4.5
    assert worst_variance < 0.05
    _, wrong_variance = excess(sample(NUM_DATA // 2, 1e-5), mean, covariance)
    assert wrong_variance > 0.3
