"""Whether probabilities mean what they say: of what is predicted with confidence c, a fraction c should be right.

    ECE = sum_b n_b / n |accuracy_b - confidence_b|

over bins of the confidence, the largest probability. Bins are half open, (low, high], and together hold every point,
those at confidence 0 and 1 included. Float64 numpy. Sources: Naeini, Cooper & Hauskrecht, "Obtaining well calibrated
probabilities using Bayesian binning", AAAI 2015; Guo et al., "On calibration of modern neural networks", ICML 2017;
Nixon et al., "Measuring calibration in deep learning", 2019, for bins of equal counts.
"""

from typing import NamedTuple

import numpy as np

from bayesjax import checks
from bayesjax.evaluation import inputs
from bayesjax.evaluation.predictive import Estimate, mean_over_points
from bayesjax.types import ArrayLike


class Reliability(NamedTuple):
    """A reliability diagram: what bins of the confidence hold. Empty bins have NaN for their means.

    Attributes:
      counts: points in each bin, `[num_bins]`; they sum to the number of points.
      confidence: mean largest probability in each bin.
      accuracy: fraction that is right in each bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the gap between accuracy and confidence, weighted by the counts."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy[used] - self.confidence[used])
        return float((self.counts[used] * gaps).sum() / self.counts.sum())


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15, equal_counts: bool = False
) -> Reliability:
    """Accuracy by confidence.

    Args:
      probabilities: `[num, num_classes]`, averaged over draws.
      labels: integers `[num]` in 0 .. num_classes - 1.
      num_bins: bins.
      equal_counts: bins of as nearly equal counts as can be ("adaptive"), instead of equal widths. Equal confidences
        may then fall in two bins.

    Raises:
      ValueError: if a shape is wrong, a label is not an integer in range, or a row is not a distribution.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    return bin_confidences(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, num_bins, equal_counts)


def bin_confidences(
    confidence: np.ndarray, right: np.ndarray, num_bins: int, equal_counts: bool = False
) -> Reliability:
    """The diagram of confidences and of how right each is (0 or 1, or a probability), both `[num]`.

    Raises:
      ValueError: if `num_bins` is not positive, the shapes differ, or a number is not finite.
    """
    checks.count(num_bins=num_bins)
    confidence, right = inputs.numbers(confidence, "confidence", "[num]"), inputs.numbers(right, "right", "[num]")
    inputs.same_shape(confidence=confidence, right=right)
    if equal_counts:
        bins = np.empty(len(confidence), int)
        for i, members in enumerate(np.array_split(np.argsort(confidence, kind="stable"), num_bins)):
            bins[members] = i
    else:
        bins = np.searchsorted(np.arange(1, num_bins) / num_bins, confidence, side="left")
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(bins, values, num_bins) / counts for values in (confidence, right))
        return Reliability(counts, *means)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15) -> float:
    """ECE over bins of equal width; arguments as of `reliability`. Biased up on few points: say how many there were."""
    return reliability(probabilities, labels, num_bins=num_bins).error


def adaptive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15) -> float:
    """ECE over bins of equal counts; arguments as of `reliability`."""
    return reliability(probabilities, labels, num_bins=num_bins, equal_counts=True).error


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean of sum_k (p_k - [k = label])^2, from 0 to 2, with its standard error over points; as `reliability`.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    probabilities, labels = inputs.probabilities_and_labels(probabilities, labels)
    values = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return mean_over_points(values)


def coverage(targets: ArrayLike, low: ArrayLike, high: ArrayLike) -> Estimate:
    """The fraction of targets in their intervals [low, high], with its binomial standard error.

    Args:
      targets: `[num]`.
      low, high: the ends of the intervals, `[num]`; they may be infinite.

    Raises:
      ValueError: if a shape is wrong, a number is NaN, or a lower end is above the upper one.
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
