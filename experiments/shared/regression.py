"""Regression: likelihood, mean-field posterior, measures, and the table of results on the UCI data sets."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax import evaluation, posteriors
from bayesjax.evaluation import calibration, uncertainty
from bayesjax.objectives.heteroscedastic import gaussian_log_likelihood
from bayesjax.posteriors import MeanField
from experiments.harness import Column, Table

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of the predictive quantiles that bound the bands of figures."""
LOG_PRECISION = (2.0, 2.0)
"""Mean and standard deviation of the normal prior of the noise's log precision, for targets of variance 1."""
TABLE = Table(
    {"dataset": "data set", "method": "method"},
    [
        Column("RMSE", "test RMSE", 4),
        Column("RMSE", "published RMSE", field="paper"),
        Column("log-likelihood", "test log-likelihood", 3),
        Column("log-likelihood", "published log-likelihood", field="paper"),
        Column("RMSE", "splits", field="n"),
        Column("largest R-hat"),
        Column("median R-hat"),
        Column("least bulk ESS", digits=0),
        Column("divergent %", digits=1),
    ],
    note="± is the standard error over the splits. RMSE and log-likelihood (nats) are in the units of the targets.",
)
"""Table of `mc_dropout` and `hmc_regression`, whose results the documentation shows together."""


def log_likelihood(apply: Callable) -> Callable:
    """Returns `(params, rng_key, (x, y)) -> log N(y; mean, 1 / precision)`, in nats, of one example.

    Args:
      apply: `(params["network"], rng_key, x) -> mean [1]`. The log precision is `params["log_precision"]`.
    """

    def log_prob(params: Any, rng_key: jax.Array, example: tuple) -> jax.Array:
        x, y = example
        return gaussian_log_likelihood(apply(params["network"], rng_key, x)[0], -params["log_precision"], y)

    return log_prob


def network_posterior(initial_scale: float, prior_scale: float) -> tuple[MeanField, Callable]:
    """A mean-field family over the entry "network" of params, and its KL divergence from a fan-in Gaussian prior."""
    kl = posteriors.kl.apply_to_entry(posteriors.kl_to_fan_in_gaussian(prior_scale), "network")
    return posteriors.apply_to_entry(posteriors.mean_field(initial_scale), "network"), kl


def noise_unit(num_data: int) -> float:
    """Approximate posterior standard deviation of the log precision: sqrt(2 / num_data), as for any log variance."""
    return float(np.sqrt(2 / num_data))


def noise_scales(log_precision: np.ndarray) -> np.ndarray:
    """Standard deviations of the noise, in float64, from log precisions of any shape."""
    return np.exp(-0.5 * log_precision.astype(float))


class Measures(NamedTuple):
    """Quality of a predictive distribution of real-valued targets.

    Attributes:
      rmse: root mean squared error of the predictive mean, in the units of the targets.
      nll: mean negative log density, in nats, of the targets in their units.
      in_band: fraction of targets between the predictive quantiles of 5 % and 95 %.
    """

    rmse: evaluation.Estimate
    nll: evaluation.Estimate
    in_band: evaluation.Estimate


def measure(y: np.ndarray, means: np.ndarray, scales: np.ndarray, target_scale: float) -> Measures:
    """Evaluates the predictive distribution of draws, an equally weighted mixture of normals.

    Args:
      y: standardised targets `[num]`.
      means: predictive means of the draws, `[num_draws, num]`.
      scales: standard deviations of their noise, broadcastable to the means.
      target_scale: standard deviation by which the targets were divided.
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
