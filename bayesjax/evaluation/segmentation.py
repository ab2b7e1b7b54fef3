"""How good a labelling of pixels is: counts of pairs of labels, and what is read off them.

    global accuracy = sum_k n_kk / sum n,   class average = mean_k n_kk / sum_j n_kj,
    mean IoU = mean_k n_kk / (sum_j n_kj + sum_j n_jk - n_kk),          n_kj pixels of label k labelled j

over the whole set, as in Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017; classes that do not occur do not
count.
"""

from typing import NamedTuple

import numpy as np

from bayesjax.types import ArrayLike


class Accuracy(NamedTuple):
    """Fractions in [0, 1].

    Attributes:
      overall: of all pixels that are right.
      class_average: of each class's pixels that are right, averaged over the classes.
      mean_iou: intersection over union, averaged over the classes.
    """

    overall: float
    class_average: float
    mean_iou: float


def confusion(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Pixels by label and prediction, `[num_classes, num_classes]`; labels from `num_classes` on count for nothing.

    Args:
      predicted: integers in 0 .. num_classes - 1, of any shape.
      labels: integers, of the same shape.
      num_classes: classes that count.

    Raises:
      ValueError: if the shapes differ or a prediction is no class.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape:
        raise ValueError(f"predicted and labels must have one shape; got {predicted.shape} and {labels.shape}")
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < num_classes:
        raise ValueError(f"predicted must lie in 0 .. {num_classes - 1}; got {predicted.min()} .. {predicted.max()}")
    counted = labels < num_classes
    pairs = labels[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(counts: np.ndarray) -> Accuracy:
    """Of `confusion`, or of a sum of several."""
    right, of_label, of_prediction = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = of_label > 0
    union = of_label + of_prediction - right
    return Accuracy(
        float(right.sum() / counts.sum()),
        float((right[there] / of_label[there]).mean()),
        float((right[there] / union[there]).mean()),
    )


def boundaries(labels: ArrayLike) -> np.ndarray:
    """Where a pixel has another label than one of its four neighbours; `[..., height, width]` booleans."""
    labels = np.asarray(labels)
    found = np.zeros(labels.shape, bool)
    down, right = labels[..., 1:, :] != labels[..., :-1, :], labels[..., 1:] != labels[..., :-1]
    found[..., 1:, :] |= down
    found[..., :-1, :] |= down
    found[..., 1:] |= right
    found[..., :-1] |= right
    return found
