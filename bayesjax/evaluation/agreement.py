"""Agreement of a predictive distribution with a reference, such as the predictive of long HMC runs.

    agreement        fraction of test points where predictive and reference have the same most probable class
    total variation  mean over test points of sum_c |p(c) - q(c)| / 2; 0 if p = q, 1 if no class is possible under both
    KL               mean over test points of KL(reference || predictive), in nats
    calibration      expected calibration error for labels drawn from the reference
    W2               mean over test points of the 2-Wasserstein distance between draws of the predictive and of the
                     reference, in units of the target

p is the predictive and q the reference. All measures except the calibration error are means over test points, and come
with a standard error over test points. A reference file is a text file with one row of class probabilities for each
test point, separated by commas or blanks. Reference predictives of HMC are published in this format. Sources: Izmailov,
Vikram, Hoffman & Wilson, "What are Bayesian neural network posteriors really like?", ICML 2021, section 7 (agreement
and total variation); Wilson et al., "Evaluating approximate inference in Bayesian deep learning", 2022 (W2 for
regression). Read `calibration.py` next.
"""

from pathlib import Path

import numpy as np

from bayesjax.data import files
from bayesjax.evaluation import calibration, inputs
from bayesjax.evaluation.predictive import Estimate, mean_over_points
from bayesjax.types import ArrayLike


def agreement(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Fraction of test points where predictive and reference have the same most probable class.

    Args:
      probabilities: class probabilities of the predictive, `[num, num_classes]`.
      reference: class probabilities of the reference, `[num, num_classes]`.

    Returns:
      The fraction and its standard error over test points.

    Raises:
      ValueError: if the shapes differ, or a row is not a distribution.
    """
    p, q = _distributions(probabilities, reference)
    return mean_over_points(p.argmax(axis=1) == q.argmax(axis=1))


def total_variation(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of the total variation distance sum_c |p(c) - q(c)| / 2, which lies between 0 and 1.

    p is the predictive and q the reference. The mean is returned with its standard error over test points. Arguments
    and errors are those of `agreement`.
    """
    p, q = _distributions(probabilities, reference)
    return mean_over_points(np.abs(p - q).sum(axis=1) / 2)


def kl_from_reference(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of KL(reference || predictive), in nats.

    It is infinite if the predictive gives probability 0 to a class to which the reference does not. It is returned with
    its standard error over test points. Arguments and errors are those of `agreement`.
    """
    p, q = _distributions(probabilities, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(q > 0, q * (np.log(q) - np.log(p)), 0.0)
    return mean_over_points(terms.sum(axis=1))


def calibration_error(probabilities: ArrayLike, reference: ArrayLike, *, num_bins: int = 15) -> float:
    """Expected calibration error for labels drawn from the reference.

        ECE = sum_b n_b / n |mean_b q(most probable class of p) - mean_b max p|

    p is the predictive, q the reference, and n_b of the n test points have a confidence max p in bin b. The result is
    the limit of `calibration.expected_calibration_error` for many labels drawn from each row of the reference. It is 0
    if p = q, and also if p is correct on average at each level of confidence.

    Args:
      probabilities: class probabilities of the predictive, `[num, num_classes]`.
      reference: class probabilities of the reference, `[num, num_classes]`.
      num_bins: number of bins of equal width.

    Returns:
      The error, between 0 and 1.

    Raises:
      ValueError: if the shapes differ, a row is not a distribution, or `num_bins` is not positive.
    """
    p, q = _distributions(probabilities, reference)
    correct = np.take_along_axis(q, p.argmax(axis=1)[:, None], axis=1)[:, 0]
    return calibration.bin_confidences(p.max(axis=1), correct, num_bins).error


def wasserstein_distance(draws: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of the 2-Wasserstein distance between two sets of draws of a scalar target.

        W2^2 = int_0^1 (F^-1(u) - G^-1(u))^2 du,    F, G the empirical distribution functions

    Args:
      draws: draws of the predictive, `[num_draws, num]`.
      reference: draws of the reference, `[num_reference, num]`. The numbers of draws may differ.

    Returns:
      The mean distance, in units of the target, and its standard error over test points.

    Raises:
      ValueError: if a shape is wrong, the numbers of test points differ, or a draw is not finite.
    """
    x = inputs.numbers(draws, "draws", "[num_draws, num]")
    y = inputs.numbers(reference, "reference", "[num_reference, num]")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"draws and reference must be of the same test points; got shapes {x.shape} and {y.shape}")
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    # Both quantile functions are step functions. Between neighbouring jumps of either one, both are constant.
    ends = np.unique(np.concatenate([np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y)]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middle, weight = (starts + ends) / 2, ends - starts
    at_x, at_y = (np.minimum((middle * len(z)).astype(int), len(z) - 1) for z in (x, y))
    return mean_over_points(np.sqrt(weight @ np.square(x[at_x] - y[at_y])))


def load_reference(path: str | Path, *, num_classes: int | None = None) -> np.ndarray:
    """Reads class probabilities from a file with one row for each test point.

    Args:
      path: a text file of numbers separated by commas or blanks, or an `.npy` file.
      num_classes: expected number of columns; None accepts any number.

    Returns:
      Float64 `[num, num_classes]`.

    Raises:
      ValueError: if the file has the wrong format or no rows, or a row is not a distribution over `num_classes`
        classes.
      FileNotFoundError: if there is no such file.
    """
    rows = inputs.probabilities(_read(Path(path)), str(path))
    if num_classes is not None and rows.shape[1] != num_classes:
        raise ValueError(f"{path} must have {num_classes} probabilities a row; got {rows.shape[1]}")
    return rows


def save_reference(path: str | Path, probabilities: ArrayLike) -> Path:
    """Writes class probabilities in the text format that `load_reference` reads, with seven significant digits.

    Args:
      path: the file to write. Missing parent folders are created.
      probabilities: `[num, num_classes]`.

    Returns:
      The path.

    Raises:
      ValueError: if a row is not a distribution.
    """
    rows = inputs.probabilities(probabilities)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%.7g", delimiter=",")
    return path


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        array = files.read_npy(path)
        files.check_real(array, str(path))
        return np.asarray(array, float)
    return files.read_numbers(path)


def _distributions(probabilities: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, q = inputs.probabilities(probabilities), inputs.probabilities(reference, "reference")
    inputs.same_shape(probabilities=p, reference=q)
    return p, q
