"""Accuracy of semantic segmentation, from a confusion matrix of pixels.

    global accuracy = sum_k n_kk / sum n,   class average = mean_k n_kk / sum_j n_kj,
    mean IoU = mean_k n_kk / (sum_j n_kj + sum_j n_jk - n_kk)

n_kj is the number of pixels of label k that are predicted as j, over the whole data set. Averages are over the classes
that occur in the labels. Pixels with a void label are not counted. Source: Badrinarayanan, Kendall & Cipolla, "SegNet:
a deep convolutional encoder-decoder architecture for image segmentation", PAMI 2017. Read
`experiments/bayesian_segnet.py` next.
"""

from typing import NamedTuple

import numpy as np

from bayesjax import checks
from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


class Accuracy(NamedTuple):
    """Accuracies of a segmentation, each between 0 and 1.

    Attributes:
      overall: global accuracy, the fraction of correct pixels.
      class_average: accuracy on the pixels of one class, averaged over the classes.
      mean_iou: intersection over union, averaged over the classes.
    """

    overall: float
    class_average: float
    mean_iou: float


def confusion_matrix(
    predicted: ArrayLike, labels: ArrayLike, num_classes: int, *, void: int | None = None
) -> np.ndarray:
    """Counts the pixels of each pair of label and prediction.

    Args:
      predicted: integers in 0 .. num_classes - 1, of any shape, also at void pixels.
      labels: integers of the same shape, in 0 .. num_classes - 1 or `void`.
      num_classes: number of classes.
      void: label of pixels that are not counted, such as -1, 255 or num_classes; None if there is none.

    Returns:
      Counts `[num_classes, num_classes]`, labels by predictions.

    Raises:
      ValueError: if the shapes differ, a prediction is not a class, a label is neither a class nor void, `num_classes`
        is not positive, or `void` is a class.
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
    """Global accuracy, class average and mean intersection over union of a confusion matrix.

    Args:
      counts: `[num_classes, num_classes]` from `confusion_matrix`, or a sum of such matrices.

    Raises:
      ValueError: if the counts are not square, one is negative, or all are 0.
    """
    counts = inputs.numbers(counts, "counts", "[num_classes, num_classes]")
    if counts.shape[0] != counts.shape[1] or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"counts must be [num_classes, num_classes], non-negative and not all 0; got shape {counts.shape} and "
            f"values {counts.min():g} .. {counts.max():g}"
        )
    correct, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    occurs = labelled > 0
    union = labelled + predicted - correct
    return Accuracy(
        float(correct.sum() / counts.sum()),
        float((correct[occurs] / labelled[occurs]).mean()),
        float((correct[occurs] / union[occurs]).mean()),
    )


def boundaries(labels: ArrayLike) -> np.ndarray:
    """Marks the pixels whose label differs from the label of a pixel above, below, left or right.

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
    is_boundary = np.zeros(labels.shape, bool)
    down, right = labels[..., 1:, :] != labels[..., :-1, :], labels[..., 1:] != labels[..., :-1]
    is_boundary[..., 1:, :] |= down
    is_boundary[..., :-1, :] |= down
    is_boundary[..., 1:] |= right
    is_boundary[..., :-1] |= right
    return is_boundary
