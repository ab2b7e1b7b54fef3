"""How near a predictive distribution is to a reference, such as that of long HMC runs.

    agreement        share of test points whose most probable class is the same
    total variation  mean of sum_c |p(c) - q(c)| / 2 over test points; 0 the same, 1 disjoint
    KL               mean of KL(reference || predictive), in nats
    calibration      the expected calibration error if labels were drawn from the reference
    W2               of predictive draws of a number, mean over test points: root mean square of the differences of
                     their quantiles, in units of the target

Each but the calibration error is a mean over test points and comes with its standard error over them. A reference file
is text with one row of class probabilities a test point, separated by commas or blanks: the format in which reference
predictives of HMC are published. Source: Izmailov, Vikram, Hoffman & Wilson, "What are Bayesian neural network
posteriors really like?", ICML 2021 (agreement and total variation, section 7); Wilson et al., "Evaluating approximate
inference in Bayesian deep learning", 2022 (W2 for regression).
"""

from pathlib import Path

import numpy as np

from bayesjax.data import files
from bayesjax.evaluation import calibration, inputs
from bayesjax.evaluation.predictive import Estimate, mean_over_points
from bayesjax.types import ArrayLike


def agreement(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Share of test points where both have the same most probable class.

    Args:
      probabilities: `[num, num_classes]`.
      reference: the same of the reference.

    Raises:
      ValueError: if the shapes differ, or a row is not a distribution.
    """
    p, q = _distributions(probabilities, reference)
    return mean_over_points(p.argmax(axis=1) == q.argmax(axis=1))


def total_variation(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of half the sum of absolute differences, in [0, 1]; arguments as of `agreement`."""
    p, q = _distributions(probabilities, reference)
    return mean_over_points(np.abs(p - q).sum(axis=1) / 2)


def kl_from_reference(probabilities: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of KL(reference || predictive) in nats; arguments as of `agreement`.

    Infinite where the predictive gives no probability to what the reference holds possible.
    """
    p, q = _distributions(probabilities, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(q > 0, q * (np.log(q) - np.log(p)), 0.0)
    return mean_over_points(terms.sum(axis=1))


def calibration_error(probabilities: ArrayLike, reference: ArrayLike, *, num_bins: int = 15) -> float:
    """The expected calibration error if the reference were the truth: labels are drawn from its rows.

        sum_b n_b / n |mean_b q(most probable class of p) - mean_b max p|

    over bins of the confidence max p, as `calibration.expected_calibration_error` on as many labels drawn from each row
    as one likes. 0 if p = q, but also of a p that is right on average wherever it is equally sure.

    Args:
      probabilities, reference: as of `agreement`.
      num_bins: of equal width.
    """
    p, q = _distributions(probabilities, reference)
    right = np.take_along_axis(q, p.argmax(axis=1)[:, None], axis=1)[:, 0]
    return calibration.bin_confidences(p.max(axis=1), right, num_bins).error


def wasserstein_distance(draws: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean over test points of the 2-Wasserstein distance between two sets of draws of one number.

    Args:
      draws: of the predictive, `[num_draws, num]`.
      reference: `[num_reference, num]`; the numbers of draws may differ, quantiles are compared.

    Raises:
      ValueError: if a shape is wrong, the numbers of test points differ, or a draw is not finite.
    """
    x = inputs.numbers(draws, "draws", "[num_draws, num]")
    y = inputs.numbers(reference, "reference", "[num_reference, num]")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"draws and reference must be of the same test points; got shapes {x.shape} and {y.shape}")
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    # Both quantile functions are steps: between two neighbouring jumps of either, both are constant.
    ends = np.unique(np.concatenate([np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y)]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middle, weight = (starts + ends) / 2, ends - starts
    at_x, at_y = (np.minimum((middle * len(z)).astype(int), len(z) - 1) for z in (x, y))
    return mean_over_points(np.sqrt(weight @ np.square(x[at_x] - y[at_y])))


def load_reference(path: str | Path, *, num_classes: int | None = None) -> np.ndarray:
    """Class probabilities `[num, num_classes]` from a file, with a row for each test point.

    Args:
      path: a text file of numbers with commas or blanks between them, or an `.npy` file.
      num_classes: how many columns there should be; None takes what comes.

    Raises:
      ValueError: if the file is neither, has no rows, or a row is not a distribution over as many classes.
      FileNotFoundError: if there is no such file.
    """
    rows = inputs.probabilities(_read(Path(path)), str(path))
    if num_classes is not None and rows.shape[1] != num_classes:
        raise ValueError(f"{path} must have {num_classes} probabilities a row; got {rows.shape[1]}")
    return rows


def save_reference(path: str | Path, probabilities: ArrayLike) -> Path:
    """Writes class probabilities `[num, num_classes]` in the format that `load_reference` reads."""
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
