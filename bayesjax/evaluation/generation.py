"""A report on generated samples: the measures that `fidelity.py` lists, and an extrapolated Fréchet distance.

    FD_infinity = 2 FD(n) - mean FD(n / 2)

The Fréchet distance FD of n generated samples is biased upwards by about C / n. The extrapolation to n = infinity from
n and n / 2 removes this term; the number of real samples is unchanged. Source: Chong & Forsyth, "Effectively unbiased
FID and Inception score", CVPR 2020. Read `fidelity.py` for the measures and their sources.
"""

from typing import NamedTuple

import numpy as np

from bayesjax.evaluation import fidelity
from bayesjax.types import ArrayLike

MIN_SAMPLES = 12
"""Fewest samples that a report accepts: half of them still have five neighbours each."""


class ExtrapolatedDistance(NamedTuple):
    """A Fréchet distance extrapolated to infinitely many generated samples.

    Attributes:
      value: the extrapolated distance; it may be negative.
      full: the distance of all generated samples.
      half: mean distance of the two halves of the generated samples.
      num_real: number of real samples.
      num_fake: number of generated samples.
    """

    value: float
    full: float
    half: float
    num_real: int
    num_fake: int


class GenerationReport(NamedTuple):
    """Measures of generated samples against real ones, each with the numbers of samples that it used.

    Attributes:
      frechet_distance: Fréchet distance of the features.
      extrapolated: Fréchet distance of the features, extrapolated to infinitely many generated samples.
      kernel_distance: kernel distance of the features, over 25 subsets.
      inception_score: inception score of the classifier's probabilities of the generated samples.
      precision_recall: precision, recall, density and coverage of the features.
    """

    frechet_distance: fidelity.FrechetDistance
    extrapolated: ExtrapolatedDistance
    kernel_distance: fidelity.KernelDistance
    inception_score: fidelity.InceptionScore
    precision_recall: fidelity.PrecisionRecall


def extrapolated_frechet_distance(real: ArrayLike, fake: ArrayLike, *, seed: int = 0) -> ExtrapolatedDistance:
    """The squared Fréchet distance of features, extrapolated to infinitely many generated samples.

        FD_infinity = 2 FD(n) - mean FD(n / 2)

    FD(n) is the distance of all n generated samples, and the mean is over two random halves of them. The halves are
    random because the given samples may be sorted by class.

    Args:
      real: features of real samples, `[num_real, dim]`.
      fake: features of generated samples, `[num_fake, dim]`.
      seed: random seed of the halves.

    Returns:
      The extrapolated distance, the distances that it is computed from, and the numbers of samples.

    Raises:
      ValueError: if the features differ in `dim` or are not finite, or if there are fewer than two real or four
        generated samples.
    """
    full = fidelity.frechet_distance(real, fake)
    fake = np.asarray(fake)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(fake)), 2)
    half = float(np.mean([fidelity.frechet_distance(real, fake[rows]).value for rows in halves]))
    return ExtrapolatedDistance(2 * full.value - half, full.value, half, full.num_real, full.num_fake)


def generation_report(
    real: ArrayLike, fake: ArrayLike, fake_probabilities: ArrayLike, *, max_precision_recall: int = 5000, seed: int = 0
) -> GenerationReport:
    """Computes all measures of generated samples from a classifier's features and probabilities.

    The kernel distance uses 25 subsets of at most 1000 samples and at most half of either set.

    Args:
      real: features of real samples, `[num_real, dim]`.
      fake: features of generated samples, `[num_fake, dim]`.
      fake_probabilities: the classifier's probabilities of the generated samples, `[num_fake, num_classes]`.
      max_precision_recall: largest number of samples of either set for precision, recall, density and coverage, which
        use the first samples. Their cost is proportional to the product of the two numbers of samples.
      seed: random seed of the halves for the extrapolation, and of the subsets for the kernel distance.

    Returns:
      The measures, each with the numbers of samples that it used.

    Raises:
      ValueError: if either set has fewer than `MIN_SAMPLES` samples, or features or probabilities are invalid.
    """
    if min(len(real), len(fake)) < MIN_SAMPLES or len(fake_probabilities) != len(fake):
        raise ValueError(
            f"real and fake must have at least {MIN_SAMPLES} samples each, and fake_probabilities as many as fake; "
            f"got {len(real)}, {len(fake)} and {len(fake_probabilities)}"
        )
    extrapolated = extrapolated_frechet_distance(real, fake, seed=seed)
    subset_size = min(1000, min(len(real), len(fake)) // 2)  # a subset must not contain all samples
    return GenerationReport(
        fidelity.FrechetDistance(extrapolated.full, extrapolated.num_real, extrapolated.num_fake),
        extrapolated,
        fidelity.kernel_distance(real, fake, subset_size=subset_size, num_subsets=25, seed=seed),
        fidelity.inception_score(fake_probabilities),
        fidelity.precision_recall(real[:max_precision_recall], fake[:max_precision_recall]),
    )
