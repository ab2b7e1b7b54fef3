"""Scalar functions of one example, to be minimised or sampled: one family a file."""

from bayesjax.objectives import (
    adversarial,
    auxiliary_classifier,
    cycle,
    dropout,
    elbo,
    heteroscedastic,
    infogan,
    moment_matching,
    semi_supervised,
)
from bayesjax.objectives.batch import batch_mean
from bayesjax.objectives.bayes_by_backprop import bayes_by_backprop, blundell_weights
from bayesjax.objectives.sharpening import Sharpened, sharpened

__all__ = [
    "Sharpened",
    "adversarial",
    "auxiliary_classifier",
    "batch_mean",
    "bayes_by_backprop",
    "blundell_weights",
    "cycle",
    "dropout",
    "elbo",
    "heteroscedastic",
    "infogan",
    "moment_matching",
    "semi_supervised",
    "sharpened",
]
