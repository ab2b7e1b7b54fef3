"""What experiments on real-valued targets share: the likelihood, and a posterior over weights beside points."""

from collections.abc import Callable
from typing import Any

import jax

from bayesjax import posteriors
from bayesjax.objectives.heteroscedastic import gaussian_log_likelihood
from bayesjax.posteriors import MeanField

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that bands are drawn between."""


def log_likelihood(apply: Callable) -> Callable:
    """Of one example `(x, y)`, from means `apply(params["network"], rng_key, x) [1]` and `params["log_precision"]`."""

    def of_one(params: Any, rng_key: jax.Array, example: tuple) -> jax.Array:
        x, y = example
        return gaussian_log_likelihood(apply(params["network"], rng_key, x)[0], -params["log_precision"], y)

    return of_one


def posterior(initial_scale: float, prior_scale: float) -> tuple[MeanField, Callable]:
    """A mean-field family over the entry "network", beside points, and its divergence from a fan-in Gaussian."""
    kl = posteriors.kl.of_entry(posteriors.kl_to_fan_in_gaussian(prior_scale), "network")
    return posteriors.of_entry(posteriors.mean_field(initial_scale), "network"), kl
