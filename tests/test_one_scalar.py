"""User functions that must return a scalar raise an error for an array, with the shape of one example's value."""

import re

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import objectives, posteriors
from bayesjax.objectives import SharpenedPosterior, adversarial, dropout, elbo, regularisation
from bayesjax.types import Given, Numbered
from experiments.shared import released_bayesian_gan

NUM, KEY = 3, jax.random.key(0)
X, WEIGHTS, FLAT = jnp.ones((NUM, 2)), {"kernel": jnp.ones((2, 2))}, lambda params: jnp.zeros(())
FAMILY, KL = posteriors.mean_field(), posteriors.kl_to_gaussian()
VARIATIONAL = FAMILY.init(WEIGHTS)
GAN = Given(posteriors.GANBatch(X, X, jnp.zeros(NUM, int)), {name: X for name in ("discriminator", "generator")})


def zero(params, rng_key, example):
    return jnp.zeros(())


def bound(f, kl=KL, **options):
    return objectives.bayes_by_backprop(f, FAMILY.sample, kl, num_data=9, **options)(VARIATIONAL, KEY, X)


def sharpened(f, kl=KL):
    loss = objectives.posterior_sharpening(f, FAMILY.sample, kl, num_data=9, num_in_batch=NUM)
    return loss(SharpenedPosterior(VARIATIONAL, WEIGHTS), KEY, X)


def log_posterior(f, log_prior=FLAT, **options):
    return posteriors.log_posterior(f, log_prior, 9, **options)(WEIGHTS, KEY, X)


def kl_by_path(f):
    return posteriors.kl.by_path({"*": lambda variational, weights: f(weights, KEY, None)})(VARIATIONAL, WEIGHTS)


def of_prior(f):
    return lambda params: f(params, KEY, None)


def of_weights(f):
    return lambda variational, weights: f(weights, KEY, None)


class Decoded(distrax.Distribution):
    """A distribution that a user wrote, over one vector."""

    def __init__(self, log_prob):
        self._log_prob_of, self.event_shape, self.batch_shape = log_prob, (2,), ()

    event_shape = batch_shape = None

    def log_prob(self, value):
        return self._log_prob_of(None, KEY, value)

    def _sample_n(self, key, n):
        raise NotImplementedError


def negative_elbo(f):
    normal = distrax.MultivariateNormalDiag(jnp.zeros(2))
    return elbo.negative_elbo(lambda params, x: normal, lambda params, z: Decoded(f), normal)(None, KEY, X[0])


ONE = {
    "batch_mean": lambda f: objectives.batch_mean(f)(WEIGHTS, KEY, X),
    "bayes_by_backprop": bound,
    "bayes_by_backprop, pairs": lambda f: bound(f, num_samples=2, reflect=FAMILY.reflect),
    "bayes_by_backprop, kl": lambda f: bound(zero, of_weights(f)),
    "sharpened": sharpened,
    "sharpened, kl": lambda f: sharpened(zero, of_weights(f)),
    "mc_dropout": lambda f: dropout.mc_dropout(f, num_data=9, rates=0.1)(WEIGHTS, KEY, X),
    "log_posterior": log_posterior,
    "log_posterior, terms": lambda f: log_posterior(f, as_terms=True),
    "log_posterior, chunks": lambda f: log_posterior(f, chunk_size=2),
    "log_posterior, terms of chunks": lambda f: log_posterior(f, chunk_size=2, as_terms=True),
    "log_posterior, prior": lambda f: log_posterior(zero, of_prior(f)),
    "log_posterior, prior as a term": lambda f: log_posterior(zero, of_prior(f), as_terms=True),
    "from_loss": lambda f: posteriors.from_loss(f, FLAT, 9)(WEIGHTS, KEY, X),
    "from_loss, prior": lambda f: posteriors.from_loss(zero, of_prior(f), 9)(WEIGHTS, KEY, X),
    "as_loss": lambda f: posteriors.as_loss(f, 9)(WEIGHTS, KEY, X),
    "control_variates": lambda f: posteriors.control_variates(f, WEIGHTS, WEIGHTS)(WEIGHTS, KEY, X),
    "full_gradient": lambda f: posteriors.full_gradient(f, WEIGHTS, KEY, X),
    "last_layer_laplace": lambda f: posteriors.last_layer_laplace(
        lambda outputs, y: f(outputs, KEY, y), WEIGHTS["kernel"], jnp.zeros(2), X, X, (1.0, 1.0)
    ),
    "kl_sampled": lambda f: posteriors.kl_sampled(of_prior(f))(VARIATIONAL, WEIGHTS),
    "priors.by_path": lambda f: posteriors.priors.by_path({"*": of_prior(f)})(WEIGHTS),
    "kl.by_path": kl_by_path,
    "negative_elbo": negative_elbo,
    "gradient_penalty": lambda f: adversarial.gradient_penalty(lambda x: f(None, KEY, x), X[0]),
    "r1_penalty": lambda f: adversarial.r1_penalty(lambda x: f(None, KEY, x), X[0]),
    "r2_penalty": lambda f: adversarial.r2_penalty(lambda x: f(None, KEY, x), X[0]),
    "lazy_penalty": lambda f: regularisation.lazy_penalty(lambda: f(None, KEY, X[0]), jnp.int32(0), 4),
}


def each(f):
    """The values of a batch of images, one at a time."""
    return lambda params, images, *labels: jax.vmap(lambda image: f(params, KEY, image))(images)


def generate(params, rng_key, num):
    return jnp.ones((num, 2))


def discriminator(real, fake, label):
    density = posteriors.discriminator_conditional(
        generate, each(real), each(fake), FLAT, num_data=9, batch_size=1, log_prob_label=each(label), num_labelled=9
    )
    return density(WEIGHTS, KEY, GAN)


def generator(f, log_prior=FLAT):
    return posteriors.generator_conditional(generate, each(f), log_prior, num_generated=9, batch_size=NUM)(
        WEIGHTS, KEY, GAN
    )


BATCHES = {
    "generator_conditional": generator,
    "discriminator_conditional, real": lambda f: discriminator(f, zero, zero),
    "discriminator_conditional, fake": lambda f: discriminator(zero, f, zero),
    "discriminator_conditional, label": lambda f: discriminator(zero, zero, f),
    "data_sum": lambda f: posteriors.data_sum(each(f)(None, X), 9),
    "batch_r1_penalty": lambda f: regularisation.batch_r1_penalty(lambda x: each(f)(None, x), X),
    "released_bayesian_gan": lambda f: released_bayesian_gan.discriminator_loss(X, X[None], each(f)(None, X)),
}


@pytest.mark.parametrize("name", [*ONE, *BATCHES])
def test_an_array_is_refused_and_a_scalar_is_not(name):
    """Shapes `[1]`, `[n, 1]` and several outputs, as many as examples among them; nothing is computed, only traced."""
    call = {**ONE, **BATCHES}[name]
    jax.eval_shape(lambda: call(zero))
    for shape in ((1,), (2,), (NUM,), (NUM, 1)):
        shown = shape if name in ONE else (NUM, *shape)
        with pytest.raises(ValueError, match=r"(got|shape) " + re.escape(str(shown))):
            jax.eval_shape(lambda shape=shape: call(lambda params, rng_key, example: jnp.zeros(shape)))


@pytest.mark.parametrize("options", [{}, {"as_terms": True}, {"chunk_size": 2}, {"chunk_size": 2, "as_terms": True}])
def test_three_outputs_count_as_three(options):
    """The gradient of 100 examples with outputs y = w + 1 is 100 in each; averaged over the outputs it was 33.3."""
    w, y = jnp.zeros(3), jnp.ones((5, 3))

    def gradient(log_likelihood):
        density = posteriors.log_posterior(log_likelihood, lambda params: jnp.zeros(()), 100, **options)
        return jax.grad(lambda w: jnp.sum(density(w, KEY, y)[0]))(w)

    np.testing.assert_allclose(gradient(lambda w, rng_key, y: -0.5 * jnp.sum((y - w) ** 2)), 100, rtol=1e-6)
    message = r"log_likelihood of one example must return a scalar; got an array of shape \(3,\): sum over its axes"
    with pytest.raises(ValueError, match=message):
        gradient(lambda w, rng_key, y: -0.5 * (y - w) ** 2)


HYPER_PARAMETERS = {
    "num_data": (posteriors.from_loss, zero, FLAT),
    "num_data of as_loss": (posteriors.as_loss, zero),
    "kl_weight": (lambda weight: bound(zero, kl_weight=weight),),
    "kl_weight of a step": (lambda weight: numbered_bound(lambda step: weight),),
    "scale": (
        lambda scale: objectives.posterior_sharpening(zero, FAMILY.sample, KL, num_data=9, num_in_batch=3, scale=scale),
    ),
    "length_scale": (lambda scale: dropout.mc_dropout(zero, num_data=9, rates=0.1, length_scale=scale),),
    "beta": (lambda beta: elbo.negative_elbo(zero, zero, None, beta=beta),),
    **{
        f"scale of {of.__name__}": (of,)
        for of in (posteriors.gaussian, posteriors.laplace_prior, posteriors.kl_to_gaussian)
    },
    "scale of mean_field": (posteriors.mean_field,),
}


def numbered_bound(kl_weight):
    loss = objectives.bayes_by_backprop(zero, FAMILY.sample, KL, num_data=9, kl_weight=kl_weight)
    return loss(VARIATIONAL, KEY, Numbered(jnp.zeros(NUM, int), X))


@pytest.mark.parametrize("name", HYPER_PARAMETERS)
def test_an_array_is_no_hyper_parameter(name):
    """It would make a scalar value an array of losses."""
    call, *before = HYPER_PARAMETERS[name]
    with pytest.raises(ValueError, match=rf"{name.split()[0]} must be a number; got an array of shape \(2,\)"):
        jax.eval_shape(lambda: call(*before, jnp.ones(2)) and None)
