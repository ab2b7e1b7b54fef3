"""Distributions of distrax, NumPyro and distreqx give the same numbers in bounds, evaluations and Gibbs samplers."""

import distrax
import distreqx.distributions as distreqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest

from bayesjax import distributions, kernels
from bayesjax.evaluation import likelihood
from bayesjax.objectives import elbo
from tests.parameters import some

KEY = jax.random.key(0)
NORMAL = {
    "distrax": lambda mean, scale: distrax.Independent(distrax.Normal(mean, scale), 1),
    "numpyro": lambda mean, scale: numpyro.Normal(mean, scale).to_event(1),
    "distreqx": lambda mean, scale: distreqx.Independent(distreqx.Normal(mean, scale)),
}
LAPLACE = {
    "distrax": lambda: distrax.Independent(distrax.Laplace(jnp.zeros(2), jnp.ones(2)), 1),
    "numpyro": lambda: numpyro.Laplace(jnp.zeros(2), jnp.ones(2)).to_event(1),
    "distreqx": lambda: distreqx.Independent(distreqx.Logistic(jnp.zeros(2), jnp.ones(2))),
}
LIBRARIES = list(NORMAL)
MEAN, SCALE, X = jnp.array([0.5, -1.0]), jnp.array([0.3, 2.0]), jnp.array([1.2, -0.4, 0.7])
A = jnp.array([[1.0, 0.5], [1.0, -0.5], [-1.0, 0.0]])


def log_density(values):
    return jax.scipy.stats.norm.logpdf(values, MEAN, SCALE).sum(-1)


def vae(library):
    """Encoder, decoder and prior of one library; the prior is not standard, so a wrong order of the KL would show."""
    normal = NORMAL[library]
    return (
        lambda params, x: normal(params["mean"], params["scale"]),
        lambda params, z: normal(A @ z, 0.8 * jnp.ones(3)),
        normal(jnp.array([0.2, 0.0]), jnp.array([1.0, 1.5])),
    )


PARAMS = {"mean": MEAN, "scale": SCALE}


@pytest.mark.parametrize("library", LIBRARIES)
def test_draws_and_log_densities(library):
    """Shapes with and without sample axes; the law of draws within 5 standard errors, false-alarm rate 3e-6."""
    normal = NORMAL[library](MEAN, SCALE)
    assert distributions.sample(normal, KEY).shape == (2,)
    assert distributions.sample(normal, KEY, (5, 3)).shape == (5, 3, 2)
    drawn, log_prob = distributions.sample_and_log_prob(normal, KEY, (20_000,))
    np.testing.assert_allclose(log_prob, log_density(drawn), rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(distributions.log_prob(normal, drawn, (20_000,)), log_prob, rtol=2e-5, atol=1e-5)
    assert (abs(drawn.mean(0) - MEAN) < 5 * SCALE / 20_000**0.5).all()
    assert (abs(drawn.std(0) / SCALE - 1) < 5 / 40_000**0.5).all()
    one, log_prob = distributions.sample_and_log_prob(normal, KEY)
    np.testing.assert_allclose(log_prob, log_density(one), rtol=2e-5)
    np.testing.assert_array_equal(distributions.mean(normal), MEAN)
    assert distributions.shapes(normal) == ((2,), ())


@pytest.mark.parametrize("library", ["numpyro", "distreqx"])
def test_the_elbo_is_that_of_distrax(library):
    """The divergence in closed form is equal; means of the loss and of its gradient agree within 5 standard errors.

    False-alarm rate 6e-6 for ten comparisons. With the reversed divergence the difference is larger.
    """

    def evaluated(parts, **options):
        objective = elbo.negative_elbo(*parts, num_samples=2, **options)
        values = jax.vmap(jax.value_and_grad(objective, has_aux=True), in_axes=(None, 0, None))
        (loss, aux), gradient = jax.jit(values)(PARAMS, jax.random.split(KEY, 5000), X)
        return jnp.column_stack([loss, gradient["mean"], gradient["scale"]]), aux["kl"][0]

    def largest_difference(a, b):
        return (abs(a.mean(0) - b.mean(0)) / jnp.sqrt((a.var(0) + b.var(0)) / 5000 + 1e-9)).max()

    ours, kl = evaluated(vae("distrax"))
    theirs, their_kl = evaluated(vae(library))
    np.testing.assert_allclose(their_kl, kl, rtol=1e-5)
    assert largest_difference(theirs, ours) < 5
    encode, decode, prior = vae(library)
    reversed_kl = distributions.kl_divergence(prior, encode(PARAMS, X))
    assert abs(reversed_kl - kl) > 0.1
    sampled, _ = evaluated((encode, decode, prior), kl="sampled")
    assert largest_difference(sampled, ours) < 5
    score, _ = evaluated((encode, decode, prior), gradient="score_function")
    assert largest_difference(score, ours) < 5


def test_different_libraries_in_one_bound():
    """A sampled divergence works between libraries; the closed form is an error of one line, as within one library."""
    encode, decode, _ = vae("numpyro")
    _, _, prior = vae("distrax")
    value, _ = elbo.negative_elbo(encode, decode, prior, kl="sampled")(PARAMS, KEY, X)
    assert np.isfinite(value)
    with pytest.raises(ValueError, match=r"between Independent Normal of numpyro and Independent Normal of"):
        elbo.negative_elbo(encode, decode, prior)(PARAMS, KEY, X)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pair_without_a_closed_form(library):
    """distreqx itself returns the divergence of normal distributions for any class that has a scale."""
    with pytest.raises(ValueError, match=f"no closed form between .* of {library} and .* of {library}; use kl='samp"):
        distributions.kl_divergence(NORMAL[library](MEAN, SCALE), LAPLACE[library]())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_distribution_of_many_events_is_an_error(library):
    """Without to_event or Independent, the log densities of pixels would be averaged."""
    many = {"distrax": distrax.Normal, "numpyro": numpyro.Normal, "distreqx": distreqx.Normal}[library]
    encode, _, prior = vae(library)
    with pytest.raises(ValueError, match=r"decode"):
        elbo.negative_elbo(encode, lambda params, z: many(A @ z, jnp.ones(3)), prior)(PARAMS, KEY, X)
    with pytest.raises(ValueError, match="encode must give a distribution"):
        elbo.negative_elbo(lambda params, x: many(MEAN, SCALE), vae(library)[1], prior, kl="sampled")(PARAMS, KEY, X)


BERNOULLI = {
    "distrax": lambda logits: distrax.Independent(distrax.Bernoulli(logits, dtype=jnp.float32), 1),
    "numpyro": lambda logits: numpyro.Bernoulli(logits=logits).to_event(1),
    "distreqx": lambda logits: distreqx.Independent(distreqx.Bernoulli(logits)),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_discrete_posterior_has_no_gradient_through_its_draws(library):
    """The bound can be evaluated, its reparameterised gradient is an error, and that of the score function is right.

    The mean of 5000 gradients is within 5 standard errors of the one by enumeration, false-alarm rate 1e-6.
    """
    bernoulli, normal = BERNOULLI[library], NORMAL[library]
    logits = jnp.array([0.3, -0.8])
    parts = (
        lambda params, x: bernoulli(params),
        lambda params, z: normal(A @ z.astype(float), 0.8 * jnp.ones(3)),
        bernoulli(jnp.zeros(2)),
    )

    def exact(logits):
        z = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        log_q = (z * jax.nn.log_sigmoid(logits) + (1 - z) * jax.nn.log_sigmoid(-logits)).sum(-1)
        log_joint = jax.scipy.stats.norm.logpdf(X, z @ A.T, 0.8).sum(-1) - 2 * jnp.log(2.0)
        return jnp.sum(jnp.exp(log_q) * (log_q - log_joint))

    for loss in (elbo.negative_elbo(*parts, kl="sampled"), elbo.negative_iwae_bound(*parts, num_samples=1)):
        values = jax.jit(jax.vmap(loss, in_axes=(None, 0, None)))(logits, jax.random.split(KEY, 5000), X)[0]
        assert abs(values.mean() - exact(logits)) < 5 * values.std() / 5000**0.5
        for differentiated in (loss, jax.jit(loss)):
            with pytest.raises(ValueError, match=r"draws are not differentiable, so gradients .*score_function"):
                jax.grad(differentiated, has_aux=True)(logits, KEY, X)
    score = elbo.negative_elbo(*parts, kl="sampled", gradient="score_function")
    gradients = jax.jit(jax.vmap(jax.grad(score, has_aux=True), in_axes=(None, 0, None)))(
        logits, jax.random.split(KEY, 5000), X
    )[0]
    errors = abs(gradients.mean(0) - jax.grad(exact)(logits)) / (gradients.std(0) / 5000**0.5)
    assert (errors < 5).all()


@pytest.mark.parametrize("library", some(LIBRARIES, "numpyro"))
def test_likelihood_and_gibbs_sampling(library):
    """log p(x) by importance sampling and annealing is the exact one, and a Gibbs sampler has its stationary law."""
    encode, decode, prior = vae(library)
    covariance = A @ jnp.diag(jnp.array([1.0, 2.25])) @ A.T + 0.64 * jnp.eye(3)
    exact = jax.scipy.stats.multivariate_normal.logpdf(X, A @ jnp.array([0.2, 0.0]), covariance)
    sampled = likelihood.importance_sampling(encode, decode, prior, PARAMS, KEY, X[None], num_samples=20_000)
    assert abs(float(sampled[0] - exact)) < 0.1
    annealed = likelihood.annealed_importance_sampling(
        decode, prior, PARAMS, KEY, X[None], num_chains=16, num_temperatures=200
    )
    assert abs(float(annealed.log_likelihood[0] - exact)) < 0.3

    normal = NORMAL[library]
    half = lambda params, x: normal(0.5 * x, jnp.ones(2))  # noqa: E731
    kernel = kernels.block_gibbs(half, half)
    state = kernel.init(jnp.zeros(2), KEY)

    def step(state, key):
        state, _ = kernel.step(key, state, None)
        return state, state.position

    draws = jax.lax.scan(step, state, jax.random.split(KEY, 20_000))[1]
    assert (abs(draws.var(0) - 1.25 / (1 - 0.25**2)) < 0.1).all()  # x' = x / 4 + noise of variance 1.25
