"""Scalar functions of one example, to be minimised or sampled: one family a file."""

from bayesjax.objectives import adversarial, elbo, semi_supervised
from bayesjax.objectives.batch import batch_mean
from bayesjax.objectives.bayes_by_backprop import bayes_by_backprop

__all__ = ["adversarial", "batch_mean", "bayes_by_backprop", "elbo", "semi_supervised"]
