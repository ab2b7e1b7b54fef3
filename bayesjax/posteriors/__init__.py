"""Log densities over weights: priors, the log posterior of a network, the conditionals of the Bayesian GAN."""

from bayesjax.posteriors.bayesian_gan import GANBatch, discriminator_conditional, generator_conditional
from bayesjax.posteriors.log_posterior import data_sum, log_posterior
from bayesjax.posteriors.priors import fan_in_gaussian, fan_in_scales, gaussian, sample_gaussian

__all__ = [
    "GANBatch",
    "data_sum",
    "discriminator_conditional",
    "fan_in_gaussian",
    "fan_in_scales",
    "gaussian",
    "generator_conditional",
    "log_posterior",
    "sample_gaussian",
]
