"""Scalar functions of one example, to be minimised or sampled: one family a file."""

from bayesjax.objectives import adversarial, elbo, semi_supervised
from bayesjax.objectives.batch import batch_mean

__all__ = ["adversarial", "batch_mean", "elbo", "semi_supervised"]
