"""A VAE without hidden layers is probabilistic PCA, whose best parameters are known in closed form.

    z ~ N(0, I_2), x | z ~ N(W z + b, s^2 I_6),  q(z | x) = N(A x + a, diag)

The bound is tight where the columns of W are orthogonal, so its maximum is the maximum of the likelihood: W spans the
first eigenvectors of the data's covariance, and s^2 is the mean of the eigenvalues left out. Source: Tipping & Bishop,
"Probabilistic principal component analysis", JRSS B 1999; Lucas et al., "Don't blame the ELBO!", NeurIPS 2019.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
import scipy.stats

from bayesjax import kernels, objectives, training
from bayesjax.models import vae
from bayesjax.objectives import elbo

LATENT_DIM, NUM_STEPS, NUM_SAMPLES = 2, 4000, 4


def data():
    """200 points around a plane in 6 dimensions."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(2, 6)) * np.array([[1.0], [0.5]])
    return (random.normal(size=(200, 2)) @ directions + 0.3 * random.normal(size=(200, 6)) + 0.5).astype(np.float32)


def best(x):
    """The largest mean log-likelihood of probabilistic PCA, and the principal subspace `[6, 2]`."""
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    noise, signal = values[:-LATENT_DIM], values[-LATENT_DIM:]
    terms = np.log(signal).sum() + noise.size * np.log(noise.mean()) + len(values) * (1 + np.log(2 * np.pi))
    return -terms / 2, vectors[:, -LATENT_DIM:]


@pytest.fixture(scope="module")
def trained():
    """Parameters after training on all data at every step, Adam's step size going down to zero."""
    x = data()
    model = vae.VAE(LATENT_DIM, (6,), hidden=(), likelihood="gaussian_shared")
    bound = elbo.negative_elbo(*vae.conditionals(model), model.prior(), num_samples=NUM_SAMPLES)
    kernel = kernels.optimize(objectives.batch_mean(bound), optax.adam(optax.cosine_decay_schedule(0.01, NUM_STEPS)))
    start = kernel.init(model.init(jax.random.key(0), x[:1])["params"], jax.random.key(1))
    state, _ = training.run(jax.random.key(2), kernel, start, jnp.asarray(x), num_steps=NUM_STEPS, thinning=NUM_STEPS)
    return model, state.position, bound


def generative(model, params):
    """b, W and s^2 of the decoder."""
    at = model.apply({"params": params}, jnp.concatenate([jnp.zeros((1, 2)), jnp.eye(2)]), method="decode")
    means, scale = np.asarray(at.mean(), float), np.asarray(at.stddev(), float)
    return means[0], (means[1:] - means[0]).T, scale[0, 0] ** 2


@pytest.mark.slow
def test_likelihood_is_that_of_probabilistic_pca(trained):
    model, params, bound = trained
    x = data()
    b, w, variance = generative(model, params)
    likelihood = scipy.stats.multivariate_normal(b, w @ w.T + variance * np.eye(6)).logpdf(x).mean()
    maximum, _ = best(x)
    assert maximum - 0.01 < likelihood <= maximum + 1e-5
    # The bound is tight: 4 standard errors of 2000 draws for each of 200 points, false alarms 6e-5.
    keys = jax.random.split(jax.random.key(3), 2000)
    draws = jax.jit(jax.vmap(lambda key: -objectives.batch_mean(bound)(params, key, jnp.asarray(x))[0]))(keys)
    error = float(draws.std()) / np.sqrt(draws.size)
    assert maximum - 0.01 - 4 * error < draws.mean() < likelihood + 4 * error


def test_subspace_is_the_principal_one(trained):
    """The largest angle between the two planes, and columns at right angles; columns of PCA's own plane are turned by
    any rotation, the bound's are not."""
    model, params, _ = trained
    _, w, _ = generative(model, params)
    _, principal = best(data())
    assert np.sin(scipy.linalg.subspace_angles(w, principal)).max() < 0.02
    lengths = np.linalg.norm(w, axis=0)
    assert abs(w[:, 0] @ w[:, 1]) < 0.02 * lengths.prod()
    # The next plane, of the second and third eigenvectors, is refused.
    other = np.linalg.eigh(np.cov(data().T))[1][:, -3:-1]
    assert np.sin(scipy.linalg.subspace_angles(w, other)).max() > 0.5
