"""How good a labelling of pixels is: counts of pairs of labels, and what is read off them.

    global accuracy = sum_k n_kk / sum n,   class average = mean_k n_kk / sum_j n_kj,
    mean IoU = mean_k n_kk / (sum_j n_kj + sum_j n_jk - n_kk),          n_kj pixels of label k labelled j

over the whole set, as in Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017. Averages are over the classes that
occur. Void pixels are not counted: name their label.
"""

from typing import NamedTuple

import numpy as np

from bayesjax import checks
from bayesjax.evaluation import inputs
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


def confusion_matrix(
    predicted: ArrayLike, labels: ArrayLike, num_classes: int, *, void: int | None = None
) -> np.ndarray:
    """Numbers of pixels by label and prediction, `[num_classes, num_classes]`.

    Args:
      predicted: integers in 0 .. num_classes - 1, of any shape; void pixels have a prediction, too.
      labels: integers of the same shape, in 0 .. num_classes - 1 or `void`.
      num_classes: number of classes.
      void: the label of pixels that are not counted, such as -1, 255 or num_classes; None if there is none.

    Raises:
      ValueError: if the shapes differ, a prediction is not a class, or a label is neither a class nor void.
    """
    checks.count(num_classes=num_classes)
    if void is not None and 0 <= void < num_classes:
        raise ValueError(f"void must not be a class, 0 .. {num_classes - 1}; got {void}")
    predicted = inputs.label_map(predicted, "predicted", num_classes)
    labels = inputs.label_map(labels, "labels", num_classes, void)
    inputs.same_shape(predicted=predicted, labels=labels)
    counted = labels != void if void is not None else np.ones(labels.shape, bool)
    pairs = labels[counted] * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(counts: np.ndarray) -> Accuracy:
    """The three fractions of counts `[num_classes, num_classes]`, from `confusion_matrix` or a sum of several.

    Raises:
      ValueError: if the counts are not square, one is negative, or all are 0.
    """
    counts = inputs.numbers(counts, "counts", "[num_classes, num_classes]")
    if counts.shape[0] != counts.shape[1] or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"counts must be [num_classes, num_classes], non-negative and not all 0; got shape {counts.shape} and "
            f"values {counts.min():g} .. {counts.max():g}"
        )
    right, of_label, of_prediction = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = of_label > 0
    union = of_label + of_prediction - right
    return Accuracy(
        float(right.sum() / counts.sum()),
        float((right[there] / of_label[there]).mean()),
        float((right[there] / union[there]).mean()),
    )


def boundaries(labels: ArrayLike) -> np.ndarray:
    """Marks the pixels whose label differs from that of a neighbour above, below, left or right.

    Args:
      labels: integers `[..., height, width]`.

    Returns:
      Booleans of the same shape.

    Raises:
      ValueError: if the labels have fewer than two axes or are not integers.
    """
    labels = np.asarray(labels)
    if labels.ndim < 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers [..., height, width]; got {labels.dtype} of shape {labels.shape}")
    found = np.zeros(labels.shape, bool)
    down, right = labels[..., 1:, :] != labels[..., :-1, :], labels[..., 1:] != labels[..., :-1]
    found[..., 1:, :] |= down
    found[..., :-1, :] |= down
    found[..., 1:] |= right
    found[..., :-1] |= right
    return found
