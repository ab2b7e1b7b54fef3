"""Log densities over weights, and variational posteriors.

The subpackage contains priors, the log posterior of a network, and the conditional posteriors of the Bayesian GAN. For
variational inference it has the mean-field family, its divergences from a prior, and pruning. It also has the Laplace
approximation of the last layer, linear regression in closed form, and control variates for minibatch gradients.
"""

from bayesjax.posteriors import kl, priors
from bayesjax.posteriors.bayesian_gan import GANBatch, discriminator_conditional, generator_conditional
from bayesjax.posteriors.control_variates import control_variates, full_gradient
from bayesjax.posteriors.kl import kl_sampled, kl_to_fan_in_gaussian, kl_to_gaussian, kl_to_laplace
from bayesjax.posteriors.laplace_approximation import LastLayerPosterior, last_layer_laplace, sample_last_layer
from bayesjax.posteriors.linear_regression import LinearRegression, linear_regression, sample_linear_regression
from bayesjax.posteriors.log_posterior import as_loss, data_sum, from_loss, log_posterior
from bayesjax.posteriors.mean_field import (
    MeanField,
    MeanFieldParams,
    Moments,
    Perturbed,
    apply_to_entry,
    entropy,
    mean_field,
    scales,
)
from bayesjax.posteriors.priors import (
    fan_in_gaussian,
    fan_in_scales,
    gaussian,
    laplace_prior,
    sample_gaussian,
    scale_mixture,
)
from bayesjax.posteriors.pruning import prune, signal_to_noise

__all__ = [
    "GANBatch",
    "LastLayerPosterior",
    "LinearRegression",
    "MeanField",
    "MeanFieldParams",
    "Moments",
    "Perturbed",
    "apply_to_entry",
    "as_loss",
    "control_variates",
    "data_sum",
    "discriminator_conditional",
    "entropy",
    "fan_in_gaussian",
    "fan_in_scales",
    "from_loss",
    "full_gradient",
    "gaussian",
    "generator_conditional",
    "kl",
    "kl_sampled",
    "kl_to_fan_in_gaussian",
    "kl_to_gaussian",
    "kl_to_laplace",
    "laplace_prior",
    "last_layer_laplace",
    "linear_regression",
    "log_posterior",
    "mean_field",
    "priors",
    "prune",
    "sample_gaussian",
    "sample_last_layer",
    "sample_linear_regression",
    "scale_mixture",
    "scales",
    "signal_to_noise",
]
