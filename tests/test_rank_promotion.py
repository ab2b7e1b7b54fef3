"""Every part works with `jax_numpy_rank_promotion="raise"`, which users set to find implicit broadcasts."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import divergences, evaluation, models, objectives, posteriors
from bayesjax.evaluation import likelihood
from bayesjax.objectives import (
    SharpenedPosterior,
    adversarial,
    auxiliary_classifier,
    cycle,
    dropout,
    elbo,
    heteroscedastic,
    infogan,
    moment_matching,
    regularisation,
    semi_supervised,
)
from bayesjax.types import CodeHead, Numbered
from experiments.shared import released_bayesian_gan

KEY, X = jax.random.key(0), jnp.ones((6, 3))
TABLE, ROW, LABELS, LABEL = jnp.ones((3, 4)) / 4, jnp.ones(4), jnp.array([0, 1, 2]), jnp.int32(1)
CUBE = jnp.ones((2, 3, 4))
WEIGHTS = {"layer": {"kernel": TABLE, "bias": ROW}, "scale": jnp.ones(())}
FAMILY = posteriors.mean_field()
VARIATIONAL = FAMILY.init(WEIGHTS)
PRIORS = {
    "gaussian": posteriors.gaussian(),
    "fan in": posteriors.fan_in_gaussian(),
    "mixture": posteriors.scale_mixture(),
    "laplace": posteriors.laplace_prior(),
    "by path": posteriors.priors.by_path({"*/bias": posteriors.gaussian(), "*": posteriors.laplace_prior()}),
}
KLS = {
    "gaussian": posteriors.kl_to_gaussian(),
    "fan in": posteriors.kl_to_fan_in_gaussian(),
    "laplace": posteriors.kl_to_laplace(),
    "sampled": posteriors.kl_sampled(posteriors.scale_mixture()),
    "by path": posteriors.kl.by_path({"*/bias": posteriors.kl_to_gaussian(), "*": posteriors.kl_to_laplace()}),
}


def log_likelihood(weights, rng_key, x):
    outputs = x @ weights["layer"]["kernel"] + weights["layer"]["bias"] + jax.random.normal(rng_key)
    return -jnp.sum(outputs**2)


def gradient(loss, position, batch=X):
    return jax.grad(lambda position: loss(position, KEY, batch)[0])(position)


def bound(**options):
    return objectives.bayes_by_backprop(log_likelihood, FAMILY.sample, KLS["gaussian"], num_data=60, **options)


def normal(mean, scale):
    return distrax.Independent(distrax.Normal(mean, scale), 1)


def encode(params, x):
    return normal(params * x[:2], jnp.ones(2))


def decode(params, z):
    return normal(params * jnp.append(z, z[0]), jnp.ones(3))


PARTS = encode, decode, normal(jnp.zeros(2), jnp.ones(2))


def weight_noise(estimator, form, module, x):
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    weights = getattr(FAMILY, form)(FAMILY.init(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)), KEY)
    return jax.grad(lambda weights: jnp.sum(estimator(module)(weights, KEY, x)))(weights)


def growing_gans():
    z, x, shape, features = jnp.ones((4, 3)), jnp.ones((4, 4, 4, 1)), (4, 4, 1), (2, 2)
    generators = [
        models.stylegan.Generator(models.stylegan.Mapping(3, 1), module.Synthesis(shape, features))
        for module in (models.stylegan, models.stylegan2)
    ]
    drawn = [models.stylegan.draw_noise(KEY, 4, each.synthesis.noise_sizes) for each in generators]
    styles = models.stylegan.mix_styles(z, z, 1, 4)
    return [
        models.progressive.Generator(shape, features).init_with_output(KEY, z, 1, 0.5),
        models.progressive.Discriminator(shape, 1, features).init_with_output(KEY, x, 1, 0.5),
        models.stylegan2.Discriminator(shape, 1, features).init_with_output(KEY, x),
        [each.init_with_output(KEY, z, noise) for each, noise in zip(generators, drawn, strict=True)],
        models.progressive.real_images(x, 1, 0.5), models.stylegan.truncate(styles, z[0], 0.5),
    ]  # fmt: skip


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.ConvTranspose(2, (3, 3))(nn.Conv(2, (3, 3), strides=2)(models.convolution.Conv(3, (3, 3))(x)))
        return nn.Dense(2)(models.convolution.ConvTranspose(2, (3, 3))(x).reshape(-1))


def laplace():
    def fit(outputs, y):
        return -jnp.sum((outputs - y) ** 2)

    found = posteriors.last_layer_laplace(fit, TABLE, ROW, X, jnp.ones((6, 4)), (1.0, 1.0))
    return posteriors.sample_last_layer(found, KEY)


def control_variates():
    density = posteriors.log_posterior(log_likelihood, PRIORS["gaussian"], 60)
    at_anchor = posteriors.full_gradient(density, WEIGHTS, KEY, X.reshape(3, 2, 3))
    return gradient(posteriors.control_variates(density, WEIGHTS, at_anchor), WEIGHTS)


CALLS = {
    "categorical": lambda: [
        getattr(divergences, name)(TABLE, TABLE)
        for name in ("kl_categorical", "js_categorical", "cross_entropy_categorical")
    ],
    "kl_diagonal_gaussian": lambda: divergences.kl_diagonal_gaussian(TABLE, TABLE, ROW, ROW),
    "kl_diagonal_gaussian to a standard normal": lambda: divergences.kl_diagonal_gaussian(TABLE, TABLE),
    "kl_gaussian": lambda: divergences.kl_gaussian(ROW, jnp.eye(4), ROW, jnp.eye(4)),
    "mmd of a polynomial kernel": lambda: divergences.mmd_squared(TABLE, TABLE, divergences.polynomial_kernel()),
    "unbiased mmd in blocks": lambda: divergences.mmd_squared(
        TABLE, TABLE, divergences.gaussian_kernel([1.0, 2.0]), is_unbiased=True, chunk_size=2
    ),
    "moment_matching": lambda: moment_matching.moment_matching_loss(TABLE, TABLE),
    "gaussian_log_likelihood": lambda: heteroscedastic.gaussian_log_likelihood(ROW, jnp.zeros(()), ROW),
    "noisy logits": lambda: [
        heteroscedastic.noisy_logits_log_likelihood(ROW, log_variance, LABEL, KEY) for log_variance in (ROW, ROW[0])
    ],
    "infogan": lambda: infogan.information_bound(
        CodeHead([ROW, ROW], ROW, ROW), infogan.sample_code(KEY, (4, 4), 4)
    ),
    "invariant_information": lambda: infogan.invariant_information(TABLE, TABLE),
    "penalties": lambda: [
        penalty(lambda x: jnp.sum(x**2), adversarial.interpolate(KEY, TABLE, TABLE))
        for penalty in (adversarial.gradient_penalty, adversarial.r1_penalty, adversarial.r2_penalty)
    ],
    "regularisation": lambda: (
        regularisation.batch_r1_penalty(lambda x: jnp.sum(x**2, axis=1), TABLE), regularisation.drift_penalty(ROW),
        regularisation.path_length(lambda w: (TABLE @ w.T)[..., None], TABLE, KEY),
        regularisation.lazy_penalty(lambda: regularisation.path_length_penalty(ROW, ROW[0]), LABEL, 4, ROW[0]),
    ),
    "games of pairs": lambda: [loss(TABLE, TABLE) for loss in adversarial.RELATIVISTIC],
    "games": lambda: [
        (adversarial.smooth_labels(game).discriminator_loss(TABLE, TABLE), game.generator_loss(TABLE))
        for game in adversarial.GAMES.values()
    ],
    "cycle": lambda: (
        cycle.cycle_loss(jnp.sin, jnp.cos, TABLE), cycle.exchange(KEY, cycle.empty_pool(5, (4,)), TABLE)
    ),
    "semi_supervised": lambda: (
        [semi_supervised.log_prob_label(TABLE, LABELS, reading) for reading in ("conditional", "joint")],
        semi_supervised.log_prob_fake(TABLE), semi_supervised.feature_matching(TABLE, TABLE),
    ),
    "released_bayesian_gan": lambda: (
        released_bayesian_gan.discriminator_loss(TABLE, CUBE, ROW),
        released_bayesian_gan.generator_loss(CUBE, CUBE, CUBE),
        released_bayesian_gan.prior_and_noise(
            WEIGHTS, KEY, num_data=9, prior_scale=1.0, friction=0.1, learning_rate=0.1
        ),
    ),
    "auxiliary_classifier": lambda: auxiliary_classifier.discriminator_loss((ROW[0], ROW), LABEL, (ROW[0], ROW), LABEL),
    "terms in chunks": lambda: posteriors.log_posterior(
        log_likelihood, PRIORS["gaussian"], 60, chunk_size=2, as_terms=True
    )(WEIGHTS, KEY, X),
    "bayes_by_backprop in pairs": lambda: gradient(bound(num_samples=4, reflect=FAMILY.reflect), VARIATIONAL),
    "weights of Blundell": lambda: gradient(
        bound(kl_weight=objectives.blundell_kl_weights(3)), VARIATIONAL, Numbered(jnp.zeros(6, int), X)
    ),
    "sharpened": lambda: gradient(
        objectives.posterior_sharpening(log_likelihood, FAMILY.sample, KLS["laplace"], num_data=60, num_in_batch=6),
        SharpenedPosterior(VARIATIONAL, WEIGHTS),
    ),
    "mc_dropout": lambda: gradient(dropout.mc_dropout(log_likelihood, num_data=60, rates=0.1), WEIGHTS),
    "mean_field": lambda: (FAMILY.log_prob(VARIATIONAL, WEIGHTS), FAMILY.moments(VARIATIONAL, KEY)),
    "control_variates": control_variates,
    "laplace": laplace,
    "growing_gans": growing_gans,
    "score function": lambda: gradient(
        objectives.batch_mean(elbo.negative_elbo(*PARTS, num_samples=3, gradient="score_function")), 1.0
    ),
    "iwae": lambda: gradient(objectives.batch_mean(elbo.negative_iwae_bound(*PARTS, num_samples=3)), 1.0),
    "importance_sampling": lambda: likelihood.importance_sampling(
        *PARTS, 1.0, KEY, X, num_samples=7, sample_chunk_size=3
    ),
    "annealed": lambda: likelihood.annealed_importance_sampling(
        *PARTS[1:], 1.0, KEY, X, num_temperatures=10, num_chains=2
    ),
    "parzen_window": lambda: likelihood.parzen_window(np.ones((3, 3)), np.ones((2, 3)), 1.0),
    "flipout of dense layers": lambda: weight_noise(models.flipout, "perturb", nn.Dense(2), X),
    "flipout of convolutions": lambda: weight_noise(models.flipout, "perturb", Convolutions(), jnp.ones((8, 8, 1))),
    "local_reparameterisation": lambda: weight_noise(models.local_reparameterisation, "moments", nn.Dense(2), X),
    **{f"prior, {name}": lambda prior=prior: jax.grad(prior)(WEIGHTS) for name, prior in PRIORS.items()},
    **{f"kl, {name}": lambda kl=kl: jax.grad(lambda v: kl(v, WEIGHTS))(VARIATIONAL) for name, kl in KLS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_no_rank_is_promoted(name):
    """Only traced, which is where JAX refuses."""
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(CALLS[name])


def test_evaluation_on_the_host_promotes_no_rank():
    """What cannot be traced, and R-hat of chains traced or known: the broadcasts of BlackJAX are not the user's."""
    chains = np.random.default_rng(0).normal(size=(2, 8, 3))
    with jax.numpy_rank_promotion("raise"):
        assert evaluation.ProjectedDivergence(chains[0], step=0.5)(chains[1]) > 0
        for measure in (evaluation.r_hat, jax.jit(evaluation.r_hat), evaluation.effective_sample_size):
            assert measure(chains).shape == (3,)
