"""The posterior predictive: predictions averaged over posterior draws.

    p(y | x, D) ~= 1/S sum_s p(y | x, w_s)

The S draws w_s are stacked. They may be an ensemble, samples of a variational posterior, keys of MC dropout masks, or
draws of SGHMC or HMC. Read `calibration.py` and `uncertainty.py` next.
"""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks, tree
from bayesjax.evaluation import inputs
from bayesjax.types import Array, ArrayLike, Params

MAX_COMPILED = 32  # number of functions whose compiled form is cached, with the arrays that they close over


class Estimate(NamedTuple):
    """An estimate and its standard error.

    Attributes:
      value: the estimate.
      stderr: its standard error, in the same unit; NaN if unknown.
    """

    value: float
    stderr: float


def predict(
    apply: Callable[[Params, Any], Array],
    draws: Params,
    x: ArrayLike,
    *,
    chunk_size: int = 1024,
    draw_chunk_size: int | None = None,
) -> Array:
    """Computes the predictions of every posterior draw at every input.

    `apply` is compiled once for each shape of its arguments, also across calls. A new lambda is a new function, so
    define it once, outside of loops. As under `jax.jit`, a global variable that `apply` reads is fixed when `apply` is
    compiled. A method of an object that is hashed by its identity (unlike a Flax module or a frozen dataclass) is
    compiled at every call, because the object's attributes may have changed.

    Args:
      apply: `(params, x [n, ...]) -> outputs [n, ...]`, a pure function.
      draws: stacked parameters, leaves `[num_draws, ...]`.
      x: inputs `[num, ...]`, at least one.
      chunk_size: largest number of inputs that are evaluated at once. It bounds the memory. All chunks have one size;
        the last one overlaps the one before it where `num` is not a multiple.
      draw_chunk_size: number of draws that are evaluated at once, under `vmap`; None for all of them, 1 for a loop.

    Returns:
      Outputs `[num_draws, num, ...]`.

    Raises:
      ValueError: if the draws have no common leading axis, `x` is empty, a chunk size is below 1, or `apply` does not
        return one array with an output for each input.
    """
    return _in_chunks(apply, draws, x, chunk_size, draw_chunk_size, average=False)


def predict_mean(
    apply: Callable[[Params, Any], Array],
    draws: Params,
    x: ArrayLike,
    *,
    chunk_size: int = 1024,
    draw_chunk_size: int | None = None,
) -> Array:
    """Mean over posterior draws of their predictions: the posterior predictive if `apply` returns probabilities.

        mean(x) = 1/S sum_s apply(w_s, x),    w_s: draw s of S

    It equals `predict(...).mean(axis=0)` up to rounding. It holds the predictions of all draws at only `chunk_size`
    inputs at a time.

    Args:
      apply, draws, x, chunk_size, draw_chunk_size: as in `predict`.

    Returns:
      Means `[num, ...]`.

    Raises:
      ValueError: as in `predict`.
    """
    return _in_chunks(apply, draws, x, chunk_size, draw_chunk_size, average=True)


def error_rate(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Fraction of test points whose most probable class is wrong, with its binomial standard error.

    Args:
      probabilities: class probabilities averaged over draws, `[num, num_classes]`.
      labels: integers `[num]` in 0 .. num_classes - 1.

    Returns:
      The fraction and its standard error.

    Raises:
      ValueError: if a shape is wrong, a label is not an integer in range, or a row is not a distribution.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    wrong = probabilities.argmax(axis=1) != labels
    return Estimate(float(wrong.mean()), float(np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong))))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean of -log p(label) over test points in nats, with its standard error.

    It is infinite, with a standard error of NaN, if a label has probability 0. A softmax in float32 is 0 for a class
    whose logit is about 90 below the largest one; `scipy.special.softmax` of float64 logits reaches 0 only at about
    745. Arguments and errors are those of `error_rate`.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    with np.errstate(divide="ignore"):
        return mean_over_points(-np.log(probabilities[np.arange(len(labels)), labels]))


def mean_over_points(values: ArrayLike) -> Estimate:
    """Mean over test points with its standard error.

    Args:
      values: one number for each test point, `[num]`.

    Returns:
      The mean and its standard error, which is NaN if a value is not finite.

    Raises:
      ValueError: if `values` is empty, or does not have exactly one axis of real numbers.
    """
    values = inputs.numbers(values, "values", "[num]", allow_nan=True)
    spread = values.std() if np.isfinite(values).all() else np.nan
    return Estimate(float(values.mean()), float(spread / np.sqrt(len(values))))


def mean_estimate(repeats: ArrayLike | Sequence[float]) -> Estimate:
    """Mean over independent repeats, such as random seeds or splits, with its standard error.

    Args:
      repeats: one number for each repeat, `[num]`.

    Returns:
      The mean and its standard error (with num - 1 degrees of freedom), which is NaN for a single repeat.

    Raises:
      ValueError: if `repeats` is empty, or does not have exactly one axis of real numbers.
    """
    values = inputs.numbers(repeats, "repeats", "[num]", allow_nan=True)
    stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), float(stderr))


def _is_constant(apply: Callable) -> bool:
    """Whether a compiled form of `apply` stays valid: for functions, and objects that are hashed by their value."""
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
def _compiled(apply: Callable, draw_chunk_size: int | None) -> Callable[[Params, ArrayLike], Array]:
    """`(draws, x) -> outputs`, jitted, with the draws as leading axis."""

    def checked(params: Params, x: ArrayLike) -> Array:
        output: Any = apply(params, x)
        if not isinstance(output, jax.Array | np.ndarray):
            raise ValueError(f"apply must return one array; got {type(output).__name__}")
        if output.ndim < 1 or len(output) != len(x):
            raise ValueError(f"apply must return [{len(x)}, ...] for as many inputs; got shape {output.shape}")
        return jnp.asarray(output)

    @jax.jit
    def outputs(draws: Params, x: ArrayLike) -> Array:
        if draw_chunk_size is None:
            return jax.vmap(checked, in_axes=(0, None))(draws, x)
        batch_size = draw_chunk_size if draw_chunk_size > 1 else None
        return jax.lax.map(lambda params: checked(params, x), draws, batch_size=batch_size)

    return outputs


def _in_chunks(
    apply: Callable, draws: Params, x: ArrayLike, chunk_size: int, draw_chunk_size: int | None, *, average: bool
) -> Array:
    checks.count(chunk_size=chunk_size)
    if draw_chunk_size is not None:
        checks.count(draw_chunk_size=draw_chunk_size)
    if tree.leading_axis(draws, "draws") < 1:
        raise ValueError("draws must not be empty; got leaves [0, ...]")
    points = x if isinstance(x, jax.Array) else np.asarray(x)
    num = len(points) if points.ndim else 0
    if not num:
        raise ValueError(f"x must be [num >= 1, ...]; got shape {points.shape}")
    compiled = (_compiled if _is_constant(apply) else _compiled.__wrapped__)(apply, draw_chunk_size)
    size = -(-num // -(-num // chunk_size))
    parts = []
    for first in range(0, num, size):
        start = min(first, num - size)
        values = compiled(draws, points[start : start + size])[:, first - start :]
        # The mean is taken chunk by chunk, so that the predictions of all draws are in memory for one chunk only.
        parts.append(values.mean(axis=0) if average else values)
    return jnp.concatenate(parts, axis=0 if average else 1)
