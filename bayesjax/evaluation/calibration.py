"""Calibration: a fraction c of the predictions made with confidence c should be correct.

    ECE = sum_b n_b / n |accuracy_b - confidence_b|

The expected calibration error (ECE) is a sum over bins b of the confidence, which is the largest class probability. Bin
b holds n_b of the n predictions. Bins are half open, (low, high], and confidences of 0 and 1 belong to the first and
the last bin. All functions compute in float64 with NumPy. Sources: Naeini, Cooper & Hauskrecht, "Obtaining well
calibrated probabilities using Bayesian binning", AAAI 2015; Guo et al., "On calibration of modern neural networks",
ICML 2017; Nixon et al., "Measuring calibration in deep learning", 2019 (bins of equal counts). Read `uncertainty.py`
next.
"""

from typing import NamedTuple

import numpy as np

from bayesjax import checks
from bayesjax.evaluation import inputs
from bayesjax.evaluation.predictive import Estimate, mean_over_points
from bayesjax.types import ArrayLike


class Reliability(NamedTuple):
    """A reliability diagram: counts, mean confidence and accuracy for each bin of the confidence.

    Attributes:
      counts: number of points in each bin, `[num_bins]`.
      confidence: mean confidence in each bin, `[num_bins]`; NaN in empty bins.
      accuracy: fraction of correct predictions in each bin, `[num_bins]`; NaN in empty bins.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, the mean over bins of |accuracy - confidence|, weighted by the counts."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy[used] - self.confidence[used])
        return float((self.counts[used] * gaps).sum() / self.counts.sum())


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15, equal_counts: bool = False
) -> Reliability:
    """Computes counts, mean confidence and accuracy of predictions in bins of their confidence.

    Args:
      probabilities: class probabilities averaged over posterior draws, `[num, num_classes]`.
      labels: integers `[num]` in 0 .. num_classes - 1.
      num_bins: number of bins.
      equal_counts: whether bins hold equal counts ("adaptive" bins) instead of having equal widths. Points of equal
        confidence may then fall into different bins.

    Returns:
      Counts, mean confidence and accuracy of each bin.

    Raises:
      ValueError: if a shape is wrong, a label is not an integer in range, a row is not a distribution, or `num_bins` is
        not positive.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    return bin_confidences(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, num_bins, equal_counts)


def bin_confidences(
    confidence: np.ndarray, correct: np.ndarray, num_bins: int, equal_counts: bool = False
) -> Reliability:
    """Computes a reliability diagram from the confidence and the correctness of each prediction.

    Args:
      confidence: confidence of each prediction, `[num]`.
      correct: 1 for a correct prediction and 0 for a wrong one, or the probability of being correct, `[num]`.
      num_bins: number of bins.
      equal_counts: whether bins hold equal counts instead of having equal widths.

    Returns:
      Counts, mean confidence and accuracy of each bin.

    Raises:
      ValueError: if `num_bins` is not positive, the shapes differ, or a number is not finite.
    """
    checks.count(num_bins=num_bins)
    confidence, correct = inputs.numbers(confidence, "confidence", "[num]"), inputs.numbers(correct, "correct", "[num]")
    inputs.same_shape(confidence=confidence, correct=correct)
    if equal_counts:
        bins = np.empty(len(confidence), int)
        for i, members in enumerate(np.array_split(np.argsort(confidence, kind="stable"), num_bins)):
            bins[members] = i
    else:
        bins = np.searchsorted(np.arange(1, num_bins) / num_bins, confidence, side="left")
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(bins, values, num_bins) / counts for values in (confidence, correct))
        return Reliability(counts, *means)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15) -> float:
    """Expected calibration error over bins of equal width, sum_b n_b / n |accuracy_b - confidence_b|.

    The estimate is biased upwards for few test points, so report their number with it. Arguments (except
    `equal_counts`) and errors are those of `reliability`.
    """
    return reliability(probabilities, labels, num_bins=num_bins).error


def adaptive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15) -> float:
    """Expected calibration error over bins of equal counts of the largest class probability.

    The adaptive calibration error of Nixon et al. (2019) averages over all classes instead. Arguments (except
    `equal_counts`) and errors are those of `reliability`.
    """
    return reliability(probabilities, labels, num_bins=num_bins, equal_counts=True).error


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Brier score, the mean over test points of sum_k (p_k - [k = label])^2, between 0 and 2.

    It is returned with its standard error over test points. `probabilities`, `labels` and their errors are those of
    `reliability`. Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    values = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return mean_over_points(values)


def coverage(targets: ArrayLike, low: ArrayLike, high: ArrayLike) -> Estimate:
    """Fraction of targets inside their intervals [low, high], with its binomial standard error.

    Args:
      targets: `[num]`.
      low: lower ends of the intervals, `[num]`; they may be infinite.
      high: upper ends of the intervals, `[num]`; they may be infinite.

    Returns:
      The fraction and its standard error.

    Raises:
      ValueError: if a shape is wrong, a number is NaN, or a lower end exceeds its upper end.
    """
    targets, low, high = (
        inputs.numbers(values, name, "[num]", allow_infinite=True)
        for values, name in ((targets, "targets"), (low, "low"), (high, "high"))
    )
    inputs.same_shape(targets=targets, low=low, high=high)
    if (low > high).any():
        raise ValueError(f"low must not exceed high; got {(low > high).sum()} of {len(low)} intervals where it does")
    inside = ((low <= targets) & (targets <= high)).mean()
    return Estimate(float(inside), float(np.sqrt(inside * (1 - inside) / targets.size)))
