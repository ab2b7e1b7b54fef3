"""Checks and conversions of the arrays of a data set: images to float32 in [0, 1], and labels to int32.

Read `dataset.py` next, which calls these functions.
"""

from collections.abc import Sequence

import numpy as np

from bayesjax.data import files


def normalise_images(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Converts all arrays of a data set to float32 and adds an axis of channels to grey images.

    Arrays of uint8 are divided by 255, unless all of them contain only 0 and 1. This is decided for all arrays of the
    data set together, because a split without bright pixels has the same scale as the other splits.

    Args:
      arrays: the arrays by their names in error messages; images `[num, height, width(, channels)]` or vectors
        `[num, dim]`.

    Returns:
      The converted arrays, in the same order.

    Raises:
      ValueError: if an array is empty, has an element that is not a finite real number, or holds images with more than
        4 channels or with values outside [0, 1] after the division.
    """
    for name, x in arrays.items():
        if x.ndim < 2 or not x.size:
            raise ValueError(f"{name} must hold at least one example, [num, ...]; got shape {x.shape}")
        files.check_real(x, name)
        if x.ndim == 4 and x.shape[-1] > 4:
            raise ValueError(
                f"{name} must be [num, height, width, channels] with 1 to 4 channels; got shape {x.shape}: if the "
                f"channels come first, np.moveaxis({name.rpartition(' ')[2]}, 1, -1) puts them last"
            )
    is_scaled = any(x.dtype == np.uint8 and x.max() > 1 for x in arrays.values())
    return [_as_float(x, 255 if is_scaled and x.dtype == np.uint8 else 1, name) for name, x in arrays.items()]


def _as_float(x: np.ndarray, scale: int, name: str) -> np.ndarray:
    out = x.astype(np.float32) / scale
    if not np.isfinite(out).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if x.ndim in (3, 4) and not (out.min() >= 0 and out.max() <= 1):
        raise ValueError(f"{name} must hold uint8 images or floats in [0, 1]; got {x.dtype} in [{x.min()}, {x.max()}]")
    return out[..., None] if x.ndim == 3 else out


def checked_labels(y: np.ndarray, num: int, num_classes: int, name: str) -> np.ndarray:
    """Converts labels to int32.

    Args:
      y: labels `[num]`.
      num: number of examples.
      num_classes: number of classes.
      name: name of the array, used only in the error message.

    Raises:
      ValueError: if the labels are not `num` integers in 0 .. num_classes - 1.
    """
    if y.shape != (num,) or y.dtype.kind not in "ui":
        raise ValueError(f"{name} must be {num} integers, one for each example; got {y.dtype} of shape {y.shape}")
    if num and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(f"{name} must lie in 0 .. {num_classes - 1}, the classes; got {y.min()} .. {y.max()}")
    return y.astype(np.int32)


def check_classes(labels: np.ndarray, num_classes: int, name: str) -> None:
    """Raises ValueError if a class has no training example, such as class 0 in labels that start at 1.

    Args:
      labels: training labels, integers in 0 .. num_classes - 1.
      num_classes: the largest label plus 1.
      name: name of the array, used only in the error message.
    """
    present = np.unique(labels)
    if len(present) < num_classes:
        absent = next((i for i, label in enumerate(present) if i != label), len(present))
        raise ValueError(
            f"{name} must count the classes from 0 without gaps; got {present[0]} .. {present[-1]} with no example of "
            f"class {absent}: pass num_classes if classes may be empty"
        )


def test_runs(num: int) -> np.ndarray:
    """A mask of the test split `[num]`, which is a tenth of the examples in five runs of consecutive examples.

    Runs keep neighbouring frames of a video in one split. Single test frames would resemble training frames.

    Args:
      num: number of examples, at least 2.
    """
    num_test, is_test = max(1, num // 10), np.zeros(num, bool)
    places = np.array_split(np.arange(num), min(5, num_test))
    for place, run in zip(places, np.array_split(np.arange(num_test), len(places)), strict=True):
        start = place[0] + (len(place) - len(run)) // 2
        is_test[start : start + len(run)] = True
    return is_test


def test_tenth(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A mask of the test split `[num]`, which is a random tenth of every class, at least one example, by a fixed seed.

    Args:
      labels: classes `[num]`.
      names: names of the classes, used only in the error message.

    Raises:
      ValueError: if a class has fewer than 2 examples.
    """
    is_test, random = np.zeros(len(labels), bool), np.random.default_rng(0)
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise ValueError(f"{name} must have at least 2 examples, for two splits; got {len(rows)}")
        is_test[random.permutation(rows)[: max(1, len(rows) // 10)]] = True
    return is_test
