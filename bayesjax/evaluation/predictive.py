"""The posterior predictive: average what the draws predict.

    p(y | x, D) ~= 1/S sum_s p(y | x, w_s)

Works on stacked draws from any kernel: an ensemble, VI samples, MC dropout masks, SGHMC or HMC draws. Read
`calibration.py` and `uncertainty.py` next.
"""

import functools
import types
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks, tree
from bayesjax.evaluation import inputs
from bayesjax.types import Array, ArrayLike, Params

MAX_COMPILED = 32  # functions whose compiled form `predict` keeps, with the arrays that they close over


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    stderr: float


def predict(apply: Callable[[Params, Array], Array], draws: Params, x: ArrayLike, *, batch_size: int = 1024) -> Array:
    """What each draw predicts.

    A function is compiled once for each shape, across calls; a new lambda is a new function, so define it once, outside
    of loops. As under `jax.jit`, a global variable that `apply` reads is fixed when it is compiled. The methods of an
    object whose attributes may change unnoticed (one that is hashed by its identity, unlike a Flax module or a frozen
    dataclass) are compiled at every call.

    Args:
      apply: `(params, x [n, ...]) -> outputs [n, ...]`, pure.
      draws: stacked parameters, `[num_draws, ...]` leaves.
      x: inputs `[num, ...]`, at least one.
      batch_size: largest number of inputs that all draws see at once, which bounds the memory. All batches have one
        size, so the last one repeats inputs of the one before if it has to.

    Returns:
      Outputs `[num_draws, num, ...]`; average probabilities over axis 0 for the posterior predictive.

    Raises:
      ValueError: if the draws have no common leading axis, `x` is empty, `batch_size` is below 1, or `apply` does not
        return one array with an output for each input.
    """
    checks.count(batch_size=batch_size)
    if tree.leading_axis(draws, "draws") < 1:
        raise ValueError("draws must not be empty; got leaves [0, ...]")
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    num = len(x) if x.ndim else 0
    if not num:
        raise ValueError(f"x must be [num >= 1, ...]; got shape {x.shape}")
    per_draw = _per_draw(apply) if _is_constant(apply) else _per_draw.__wrapped__(apply)
    size = -(-num // -(-num // batch_size))
    outputs = []
    for first in range(0, num, size):
        start = min(first, num - size)
        found = per_draw(draws, x[start : start + size])
        if not isinstance(found, jax.Array):
            raise ValueError(f"apply must return one array; got {type(found).__name__}")
        if found.ndim < 2 or found.shape[1] != size:
            raise ValueError(f"apply must return [{size}, ...] for as many inputs; got shape {found.shape[1:]}")
        outputs.append(found[:, first - start :])
    return jnp.concatenate(outputs, axis=1)


def error_rate(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Fraction of test points whose most probable class is wrong, with its binomial standard error.

    Args:
      probabilities: `[num, num_classes]`, averaged over draws.
      labels: integers `[num]` in 0 .. num_classes - 1.

    Raises:
      ValueError: if a shape is wrong, a label is not an integer in range, or a row is not a distribution.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    wrong = probabilities.argmax(axis=1) != labels
    return Estimate(float(wrong.mean()), float(np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong))))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean of -log p(label) in nats, with its standard error over test points; arguments as in `error_rate`.

    Infinite, with a standard error of NaN, where a label has probability 0. A softmax in float32 gives 0 to a class
    whose logit is about 90 below the largest; `scipy.special.softmax` of float64 logits reaches 745.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    with np.errstate(divide="ignore"):
        return mean_over_points(-np.log(probabilities[np.arange(len(labels)), labels]))


def mean_over_points(values: ArrayLike) -> Estimate:
    """Mean over test points `[num]` with its standard error, which is NaN if a value is not finite."""
    values = inputs.numbers(values, "values", "[num]", allow_nan=True)
    spread = values.std() if np.isfinite(values).all() else np.nan
    return Estimate(float(values.mean()), float(spread / np.sqrt(len(values))))


def mean_estimate(repeats: ArrayLike | Sequence[float]) -> Estimate:
    """Mean of independent repeats `[num]` (seeds, label draws) with its standard error, which is NaN for one repeat."""
    values = inputs.numbers(repeats, "repeats", "[num]", allow_nan=True)
    stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), float(stderr))


def _is_constant(apply: Callable) -> bool:
    """Whether the same object computes the same later: a function, or an object that is hashed by its value."""
    if isinstance(apply, functools.partial):
        return _is_constant(apply.func)
    owner = getattr(apply, "__self__", apply)
    if isinstance(owner, types.FunctionType) or hasattr(owner, "__wrapped__"):
        return True
    try:
        hash(apply)
    except TypeError:
        return False
    return type(owner).__hash__ not in (None, object.__hash__)


@functools.lru_cache(maxsize=MAX_COMPILED)
def _per_draw(apply: Callable) -> Callable:
    return jax.jit(jax.vmap(apply, in_axes=(0, None)))
