"""Losses and log densities of one example, each a scalar function. Each module has one family.

Optimisers minimise losses. Samplers draw from the distributions that log densities define.
"""

from bayesjax.objectives import (
    adversarial,
    auxiliary_classifier,
    boltzmann,
    cycle,
    dropout,
    elbo,
    heteroscedastic,
    infogan,
    moment_matching,
    regularisation,
    semi_supervised,
)
from bayesjax.objectives.batch import batch_mean
from bayesjax.objectives.bayes_by_backprop import bayes_by_backprop, blundell_kl_weights
from bayesjax.objectives.sharpening import SharpenedPosterior, posterior_sharpening

__all__ = [
    "SharpenedPosterior",
    "adversarial",
    "auxiliary_classifier",
    "batch_mean",
    "bayes_by_backprop",
    "blundell_kl_weights",
    "boltzmann",
    "cycle",
    "dropout",
    "elbo",
    "heteroscedastic",
    "infogan",
    "moment_matching",
    "posterior_sharpening",
    "regularisation",
    "semi_supervised",
]
