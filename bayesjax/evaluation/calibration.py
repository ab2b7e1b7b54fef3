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
      labels: integers `[num]`.
      num_bins: bins.
      equal_counts: bins of as nearly equal counts as can be ("adaptive"), instead of equal widths. Equal confidences
        may then fall in two bins.

    Raises:
      ValueError: if the shapes do not fit, a label is out of range, or what is given are no probabilities.
    """
    probabilities, labels = _checked(probabilities, labels)
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, num_bins, equal_counts)


def binned(confidence: np.ndarray, right: np.ndarray, num_bins: int, equal_counts: bool = False) -> Reliability:
    """The diagram of confidences and of how right each is (0 or 1, or a probability), both `[num]`.

    Raises:
      ValueError: if `num_bins` is not positive.
    """
    checks.count(num_bins=num_bins)
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
    probabilities, labels = _checked(probabilities, labels)
    values = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return mean_over_points(values)


def coverage(targets: ArrayLike, low: ArrayLike, high: ArrayLike) -> Estimate:
    """The fraction of targets in their intervals [low, high], with its binomial standard error; all `[num]`.

    Raises:
      ValueError: if the shapes differ.
    """
    targets, low, high = (np.asarray(values, np.float64) for values in (targets, low, high))
    if not targets.shape == low.shape == high.shape:
        raise ValueError(f"targets, low and high must have one shape; got {targets.shape}, {low.shape}, {high.shape}")
    inside = ((low <= targets) & (targets <= high)).mean()
    return Estimate(float(inside), float(np.sqrt(inside * (1 - inside) / targets.size)))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if values.ndim != 2 or labels.shape != values.shape[:1] or not len(labels):
        raise ValueError(
            f"probabilities must be [num, num_classes] and labels [num]; got {values.shape} and {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= values.shape[1]:
        raise ValueError(f"labels must be integers in 0 .. {values.shape[1] - 1}; got {labels.min()} .. {labels.max()}")
    if not (values >= 0).all() or not np.allclose(values.sum(axis=1), 1, atol=1e-3):
        raise ValueError("probabilities must be non-negative and sum to 1 over the classes: these do not")
    return values, labels
