"""Argument checks of evaluation: shapes, types, ranges and NaN, in one place.

Every function here returns its argument as a NumPy array (numbers and probabilities in float64, labels in int64), or
raises a one-line `ValueError` that names the argument, what came and what was expected. Shapes must match exactly:
`[num]` is never broadcast against `[num, 1]`. The arrays must be concrete, since evaluation runs on the host.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from bayesjax.types import ArrayLike

TOLERANCE = 0.01
"""Largest distance from 1 of a sum of probabilities. A softmax in bfloat16 is off by up to 0.006, logits by more."""


def numbers(
    values: ArrayLike | Sequence[float] | float,
    name: str,
    axes: str,
    *,
    allow_infinite: bool = False,
    allow_nan: bool = False,
) -> np.ndarray:
    """Real numbers of a shape such as "[num]", "[num_draws, num]" or "[num_draws, ..., num_classes]", in float64.

    Args:
      values: the argument.
      name: its name in the message.
      axes: the expected axes, "..." for any number of them. An array without elements is refused.
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
    """Raises ValueError unless all arrays have exactly one shape."""
    shapes = [array.shape for array in arrays.values()]
    if len(set(shapes)) > 1:
        names, got = (" and ".join(map(str, part)) for part in (arrays, shapes))
        raise ValueError(f"{names} must have one shape; got {got}")


def broadcast_to_means(values: ArrayLike | float, name: str, means: np.ndarray, axes: str) -> np.ndarray:
    """Numbers for every element of `means`: one for all of them, or an array with the same axes, each whole or 1.

    Args:
      values: the argument.
      name: its name in the message.
      means: the array whose shape the result has.
      axes: the axes of the means, as in `numbers`.

    Returns:
      An array in the shape of `means`.
    """
    array = _array(values, name)
    fits = array.ndim == means.ndim and all(
        n in (1, wanted) for n, wanted in zip(array.shape, means.shape, strict=True)
    )
    if array.ndim and not fits:
        raise ValueError(
            f"{name} must be a number, or {axes} as the means, {means.shape}, where an axis may have length 1; "
            f"got shape {array.shape}"
        )
    return np.broadcast_to(numbers(array.reshape(array.shape or (1,)), name, "[...]"), means.shape)


def probabilities(values: ArrayLike, name: str = "probabilities", axes: str = "[num, num_classes]") -> np.ndarray:
    """Distributions over at least two classes: non-negative, with sum 1 over the last axis within TOLERANCE.

    The rows are returned as they came, not normalised.

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
    """Probabilities `[num, num_classes]` and integer labels `[num]` in 0 .. num_classes - 1.

    Raises:
      ValueError: if a shape, type or value is wrong; the message names one-hot labels.
    """
    rows, classes = probabilities(values), _array(labels, "labels")
    if classes.shape != rows.shape[:1]:
        hint = ": use labels.argmax(axis=-1) if they are one-hot" if classes.shape == rows.shape else ""
        raise ValueError(
            f"probabilities must be [num, num_classes] and labels [num]; got {rows.shape} and {classes.shape}{hint}"
        )
    return rows, label_map(classes, "labels", rows.shape[1])


def label_map(values: ArrayLike, name: str, num_classes: int, void: int | None = None) -> np.ndarray:
    """Integers in 0 .. num_classes - 1 of any shape, and the label `void` where one is named.

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
    """Booleans, or numbers that are all 0 or 1.

    Raises:
      ValueError: if the shape is wrong, or a value is neither, such as a class label.
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
