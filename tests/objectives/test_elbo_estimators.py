"""Beside the reparameterised bound: the score function's gradient, and a posterior over the decoder's weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_elbo import NUM, ROUGH, A, X, closed_form, differ, encode, float64, sampled

from bayesjax import objectives, posteriors

__all__ = ["float64"]  # a fixture


@pytest.mark.parametrize(
    ("form", "several"),
    [(closed_form, True), *(pytest.param(sampled, several, marks=pytest.mark.slow) for several in (False, True))],
)
def test_score_function_has_the_gradient_of_the_draws_and_more_variance(form, several):
    """Every element of the mean gradient of 20000 draws, 10 of them: false alarms 6e-4. Without log q it is refused.

    With several draws and a beta, so are 1/L on the score's term and a beta left out of it.
    """
    make = functools.partial(form, num_samples=3, beta=2.5) if several else form
    params = {name: jnp.asarray(leaf) for name, leaf in ROUGH.items()}
    keys = jax.random.split(jax.random.key(2), (3, NUM))

    def gradients(objective, keys):
        found = jax.vmap(jax.value_and_grad(lambda params, key: objective(params, key, X)[0]), (None, 0))
        values, gradients = jax.jit(found)(params, keys)
        return np.asarray(values), np.concatenate([np.reshape(leaf, (NUM, -1)) for leaf in gradients.values()], axis=1)

    values, by_draws = gradients(make(), keys[0])
    same_values, _ = gradients(make(gradient="score_function"), keys[0])
    np.testing.assert_allclose(same_values, values, rtol=1e-12)
    _, by_score = gradients(make(gradient="score_function"), keys[1])
    _, blind = gradients(make(encode=lambda params, x: encode(jax.lax.stop_gradient(params), x)), keys[2])
    assert not any(differ(a, b) for a, b in zip(by_draws.T, by_score.T, strict=True))
    assert any(differ(a, b) for a, b in zip(blind.T, by_score.T, strict=True))
    of_encoder = slice(A.size, None)  # A comes first, then mean and scale
    assert (by_score.var(axis=0)[of_encoder] > 2 * by_draws.var(axis=0)[of_encoder]).all()


@pytest.mark.slow
def test_full_variational_bayes():
    """Appendix F: a posterior over the decoder's weights too is Bayes by Backprop with the ELBO as log likelihood.

    With weights known to be A (scale 1e-6) the loss is the negative ELBO and KL / N, of which aux has the KL.
    """
    family, num_data = posteriors.mean_field(1e-6), 5
    variational = {"encoder": {"mean": ROUGH["mean"], "scale": ROUGH["scale"]}, "A": family.init(jnp.asarray(A))}

    def sample(variational, rng_key):
        return {**variational["encoder"], "A": family.sample(variational["A"], rng_key)}

    def kl(variational, params):
        return posteriors.kl_to_gaussian()(variational["A"], params["A"])

    def elbo_of_one(params, rng_key, x):
        loss, aux = closed_form()(params, rng_key, x)
        return -loss, aux

    loss = objectives.bayes_by_backprop(elbo_of_one, sample, kl, num_data=num_data)
    batch, key = jnp.stack([jnp.asarray(X)] * 3), jax.random.key(0)
    value, aux = loss(variational, key, batch)
    plain, _ = objectives.batch_mean(closed_form())(ROUGH, jax.random.split(key)[1], batch)
    divergence = float(posteriors.kl_to_gaussian()(variational["A"], None))
    assert float(value) == pytest.approx(float(plain) + divergence / num_data, abs=1e-3)
    assert float(aux["kl"]) == pytest.approx(divergence)
    assert float(value) != pytest.approx(float(plain) + divergence, abs=1e-3)
    gradient = jax.grad(lambda variational: loss(variational, key, batch)[0])(variational)
    assert all(jnp.isfinite(leaf).all() and jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
