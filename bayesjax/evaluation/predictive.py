"""The posterior predictive: average what the draws predict.

    p(y | x, D) ~= 1/S sum_s p(y | x, w_s)

Works on stacked draws from any kernel: an ensemble, VI samples, MC dropout masks, SGHMC or HMC draws.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import tree
from bayesjax.types import Array, ArrayLike, Params


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    stderr: float


def predict(apply: Callable[[Params, Array], Array], draws: Params, x: ArrayLike, *, batch_size: int = 1024) -> Array:
    """What each draw predicts.

    Args:
      apply: `(params, x [n, ...]) -> outputs [n, ...]`.
      draws: stacked parameters, `[num_draws, ...]` leaves.
      x: inputs `[num, ...]`.
      batch_size: inputs seen at once by all draws, which bounds the memory.

    Returns:
      Outputs `[num_draws, num, ...]`; average probabilities over axis 0 for the posterior predictive.
    """
    tree.leading_axis(draws, "draws")
    per_draw = jax.jit(jax.vmap(apply, in_axes=(0, None)))
    outputs = [per_draw(draws, x[start : start + batch_size]) for start in range(0, len(x), batch_size)]
    return jnp.concatenate(outputs, axis=1)


def error_rate(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Fraction of test points whose most probable class is wrong, with its binomial standard error.

    Args:
      probabilities: `[num, num_classes]`.
      labels: integers `[num]`.

    Raises:
      ValueError: if the lengths differ.
    """
    _check_lengths(probabilities, labels)
    wrong = np.asarray(probabilities).argmax(axis=-1) != np.asarray(labels)
    return Estimate(float(wrong.mean()), float(np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong))))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean of -log p(label) in nats, with its standard error over test points; as `error_rate`."""
    _check_lengths(probabilities, labels)
    chosen = np.take_along_axis(np.asarray(probabilities, float), np.asarray(labels)[:, None], axis=-1)
    values = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
    return mean_over_points(values)


def _check_lengths(probabilities: ArrayLike, labels: ArrayLike) -> None:
    if len(probabilities) != len(labels):
        raise ValueError(f"labels must have one entry for each of {len(probabilities)} rows; got {len(labels)}")


def mean_over_points(values: ArrayLike) -> Estimate:
    """Mean over test points with its standard error, which is NaN if a value is not finite."""
    values = np.asarray(values, float)
    spread = values.std() if np.isfinite(values).all() else np.nan
    return Estimate(float(values.mean()), float(spread / np.sqrt(len(values))))


def mean_estimate(repeats: ArrayLike | Sequence[float]) -> Estimate:
    """Mean of independent repeats (seeds, label draws) with its standard error, which is NaN for one repeat."""
    values = np.asarray(repeats, float)
    stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), float(stderr))
