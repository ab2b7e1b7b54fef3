"""What experiments on real-valued targets share: likelihood, prior of the noise, posterior over weights, measures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax import evaluation, posteriors
from bayesjax.evaluation import calibration, uncertainty
from bayesjax.objectives.heteroscedastic import gaussian_log_likelihood
from bayesjax.posteriors import MeanField

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that bands are drawn between."""
LOG_PRECISION = (2.0, 2.0)
"""Mean and deviation of the normal prior of the noise's log precision, for targets of variance 1."""


def log_likelihood(apply: Callable) -> Callable:
    """Of one example `(x, y)`, from means `apply(params["network"], rng_key, x) [1]` and `params["log_precision"]`."""

    def of_one(params: Any, rng_key: jax.Array, example: tuple) -> jax.Array:
        x, y = example
        return gaussian_log_likelihood(apply(params["network"], rng_key, x)[0], -params["log_precision"], y)

    return of_one


def posterior(initial_scale: float, prior_scale: float) -> tuple[MeanField, Callable]:
    """A mean-field family over the entry "network", beside points, and its divergence from a fan-in Gaussian."""
    kl = posteriors.kl.apply_to_entry(posteriors.kl_to_fan_in_gaussian(prior_scale), "network")
    return posteriors.apply_to_entry(posteriors.mean_field(initial_scale), "network"), kl


def noise_unit(num_data: int) -> float:
    """The error of a log variance from so many normal draws: about the posterior deviation of the log precision."""
    return float(np.sqrt(2 / num_data))


def noise_scales(log_precision: np.ndarray) -> np.ndarray:
    """Standard deviations of the noise, in float64."""
    return np.exp(-0.5 * log_precision.astype(float))


class Measures(NamedTuple):
    """What a predictive of real-valued targets is worth.

    Attributes:
      rmse: of its mean, in the units of the targets.
      nll: negative log density of a target, nats in these units.
      in_band: the fraction of targets between its quantiles of 5 and 95 %.
    """

    rmse: evaluation.Estimate
    nll: evaluation.Estimate
    in_band: evaluation.Estimate


def measured(y: np.ndarray, means: np.ndarray, scales: np.ndarray, target_scale: float) -> Measures:
    """Measures of a mixture of normals.

    Args:
      y: standardised targets `[num]`.
      means: of the draws, `[num_draws, num]`.
      scales: of their noise, broadcastable to the means.
      target_scale: the unit of `y`.
    """
    squares = evaluation.mean_over_points((y - means.mean(axis=0)) ** 2)
    rmse = np.sqrt(squares.value)
    density = uncertainty.mixture_log_density(y, means, scales) - np.log(target_scale)
    low, high = uncertainty.mixture_quantiles((0.05, 0.95), means, scales)
    return Measures(
        evaluation.Estimate(float(target_scale * rmse), float(target_scale * squares.stderr / (2 * rmse))),
        evaluation.mean_over_points(-density),
        calibration.coverage(y, low, high),
    )


if __name__ == "__main__":
    from experiments import common

    common.not_a_command()
