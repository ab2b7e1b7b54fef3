"""Log densities over weights: priors, the log posterior of a network, the conditionals of the Bayesian GAN; the
mean-field family."""

from bayesjax.posteriors.bayesian_gan import GANBatch, discriminator_conditional, generator_conditional
from bayesjax.posteriors.log_posterior import data_sum, log_posterior
from bayesjax.posteriors.mean_field import (
    MeanField,
    MeanFieldParams,
    entropy,
    kl_sampled,
    kl_to_gaussian,
    mean_field,
    scales,
)
from bayesjax.posteriors.priors import fan_in_gaussian, fan_in_scales, gaussian, sample_gaussian, scale_mixture

__all__ = [
    "GANBatch",
    "MeanField",
    "MeanFieldParams",
    "data_sum",
    "discriminator_conditional",
    "entropy",
    "fan_in_gaussian",
    "fan_in_scales",
    "gaussian",
    "generator_conditional",
    "kl_sampled",
    "kl_to_gaussian",
    "log_posterior",
    "mean_field",
    "sample_gaussian",
    "scale_mixture",
    "scales",
]
