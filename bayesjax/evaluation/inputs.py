"""Argument checks of the evaluation functions: shapes, types, ranges and NaN.

Every function except `same_shape` returns its argument as a NumPy array (numbers and probabilities in float64, labels
in int64). An invalid argument raises a `ValueError` whose message is one line with the argument's name, the expected
value and the given one. Shapes must match exactly: `[num]` is never broadcast against `[num, 1]`. The arrays must be
concrete, because evaluation runs on the host. Read `calibration.py` next for its use.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from bayesjax.types import ArrayLike

TOLERANCE = 0.01
"""Largest accepted distance of a sum of probabilities from 1. A softmax in bfloat16 is off by at most 0.006."""


def numbers(
    values: ArrayLike | Sequence[float] | float,
    name: str,
    axes: str,
    *,
    allow_infinite: bool = False,
    allow_nan: bool = False,
) -> np.ndarray:
    """Checks an array of real numbers and converts it to float64. An array without elements is an error.

    Args:
      values: the argument.
      name: name of the argument in the error message.
      axes: the expected axes, such as "[num]" or "[num_draws, ..., num_classes]", with "..." for any number of axes.
      allow_infinite: whether infinite values are accepted.
      allow_nan: whether NaN and infinite values are accepted.

    Raises:
      ValueError: if the shape or type is wrong, or a value is not finite.
    """
    array = _array(values, name)
    names = axes.strip("[]").split(", ")
    is_right = array.ndim >= len(names) - 1 if "..." in names else array.ndim == len(names)
    if not is_right or not array.size:
        raise ValueError(f"{name} must be {axes} and not empty; got shape {array.shape}")
    if not (jnp.issubdtype(array.dtype, np.floating) or array.dtype.kind in "biu"):
        raise ValueError(f"{name} must be real numbers; got {array.dtype}")
    array = array.astype(np.float64)
    if not allow_nan:
        wrong = np.isnan(array) if allow_infinite else ~np.isfinite(array)
        if wrong.any():
            expected = "not be NaN" if allow_infinite else "be finite"
            raise ValueError(f"{name} must {expected}; got {wrong.sum()} of {wrong.size} values that are not")
    return array


def same_shape(**arrays: np.ndarray) -> None:
    """Checks that all arrays have the same shape.

    Args:
      **arrays: arrays by their names in the error message.

    Raises:
      ValueError: if two shapes differ.
    """
    shapes = [array.shape for array in arrays.values()]
    if len(set(shapes)) > 1:
        names, got = (" and ".join(map(str, part)) for part in (arrays, shapes))
        raise ValueError(f"{names} must have one shape; got {got}")


def broadcast_to_means(values: ArrayLike | float, name: str, means: np.ndarray, axes: str) -> np.ndarray:
    """Broadcasts a number, or an array whose axes have the lengths of those of `means` or length 1, to their shape.

    Args:
      values: the argument.
      name: name of the argument in the error message.
      means: the array whose shape the result has.
      axes: the axes of the means, as in `numbers`.

    Returns:
      An array of the shape of `means`.

    Raises:
      ValueError: if the shapes do not fit, or a value is not finite.
    """
    array = _array(values, name)
    fits = array.ndim == means.ndim and all(
        n in (1, expected) for n, expected in zip(array.shape, means.shape, strict=True)
    )
    if array.ndim and not fits:
        raise ValueError(
            f"{name} must be a number, or {axes} like the means, {means.shape}, where an axis may have length 1; "
            f"got shape {array.shape}"
        )
    return np.broadcast_to(numbers(array.reshape(array.shape or (1,)), name, "[...]"), means.shape)


def probabilities(values: ArrayLike, name: str = "probabilities", axes: str = "[num, num_classes]") -> np.ndarray:
    """Checks that probabilities over at least two classes are non-negative and sum to 1 within TOLERANCE.

    Rows are not normalised.

    Args:
      values: the argument.
      name: name of the argument in the error message.
      axes: the expected axes, as in `numbers`; the last one is over classes.

    Raises:
      ValueError: if the shape is wrong, or a row is not a distribution, such as a row of logits.
    """
    array = numbers(values, name, axes, allow_nan=True)
    if array.shape[-1] < 2:
        raise ValueError(f"{name} must be {axes} with at least two classes; got shape {array.shape}")
    sums = array.sum(axis=-1)
    if np.isnan(sums).any():
        problem = f"{np.isnan(sums).sum()} rows with NaN"
    elif (array < 0).any():
        problem = f"a value of {array.min():.3g}: logits need a softmax"
    elif (np.abs(sums - 1) > TOLERANCE).any():
        problem = f"a row of sum {sums.flat[np.abs(sums - 1).argmax()]:.3g}: logits need a softmax"
    else:
        return array
    raise ValueError(f"{name} must be non-negative and sum to 1 over the classes within {TOLERANCE}; got {problem}")


def probabilities_and_labels(values: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Checks probabilities `[num, num_classes]` and integer labels `[num]` in 0 .. num_classes - 1.

    Returns:
      The probabilities in float64 and the labels in int64.

    Raises:
      ValueError: if a shape, type or value is wrong. The message has a hint if the labels have a one-hot shape.
    """
    rows, classes = probabilities(values), _array(labels, "labels")
    if classes.shape != rows.shape[:1]:
        hint = ": use labels.argmax(axis=-1) if they are one-hot" if classes.shape == rows.shape else ""
        raise ValueError(
            f"probabilities must be [num, num_classes] and labels [num]; got {rows.shape} and {classes.shape}{hint}"
        )
    return rows, label_map(classes, "labels", rows.shape[1])


def label_map(values: ArrayLike, name: str, num_classes: int, void: int | None = None) -> np.ndarray:
    """Checks integer labels of any shape in 0 .. num_classes - 1.

    Args:
      values: the argument.
      name: name of the argument in the error message.
      num_classes: number of classes.
      void: a further accepted label, which marks pixels without a class; None if there is none.

    Raises:
      ValueError: if a value is not an integer, or is neither a class nor void.
    """
    array = _array(values, name)
    expected = f"{name} must be integers in 0 .. {num_classes - 1}{'' if void is None else f' or void, {void}'}"
    if array.dtype.kind not in "iu":
        raise ValueError(f"{expected}; got {array.dtype}")
    wrong = (array < 0) | (array >= num_classes)
    if void is not None:
        wrong &= array != void
    if wrong.any():
        raise ValueError(f"{expected}; got {array[wrong].min()} .. {array[wrong].max()}")
    return array.astype(np.int64)


def booleans(values: ArrayLike, name: str, axes: str = "[num]") -> np.ndarray:
    """Checks booleans, or numbers that are all 0 or 1, and converts them to booleans.

    Args:
      values: the argument.
      name: name of the argument in the error message.
      axes: the expected axes, as in `numbers`.

    Raises:
      ValueError: if the shape is wrong, or a value is neither 0 nor 1.
    """
    array = numbers(values, name, axes)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must be booleans, or 0 and 1; got {array.min():g} .. {array.max():g}")
    return array.astype(bool)


def _array(values: ArrayLike | Sequence[float] | float, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} must be one array; got {error}") from error
