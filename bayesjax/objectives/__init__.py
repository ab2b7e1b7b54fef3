"""Scalar functions of one example, to be minimised or sampled: one family a file."""

from bayesjax.objectives import adversarial, dropout, elbo, heteroscedastic, semi_supervised
from bayesjax.objectives.batch import batch_mean
from bayesjax.objectives.bayes_by_backprop import bayes_by_backprop, blundell_weights
from bayesjax.objectives.sharpening import Sharpened, sharpened

__all__ = [
    "Sharpened",
    "adversarial",
    "batch_mean",
    "bayes_by_backprop",
    "blundell_weights",
    "dropout",
    "elbo",
    "heteroscedastic",
    "semi_supervised",
    "sharpened",
]
