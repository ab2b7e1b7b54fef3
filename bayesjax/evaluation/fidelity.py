"""Measures of generated samples against real ones, on features of a classifier, other features, or raw samples.

    Fréchet distance        |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), of Gaussians fitted to the features
    kernel distance         unbiased MMD^2 with the kernel (x . y / dim + 1)^3
    inception score         exp E_x KL(p(y | x) || E_x p(y | x)), of a classifier's probabilities
    precision, recall       fraction of generated samples near real ones, fraction of real samples near generated ones
    density, coverage       variants of precision and recall that use neighbourhoods of real samples only, and are
                            therefore robust to outliers

m and S are the mean and covariance of real features, m' and S' those of generated features, x and y are two samples.
The distances are called FID and KID only with the features of the Inception network. With other features they need
another name. The expectation of every measure except the kernel distance depends on the number of samples. Every result
contains its numbers of samples; compare values only if these are equal. `two_sample.py` has a test with a p-value, and
`likelihood.py` has Parzen windows. Read `generation.py` next, which computes these measures at once. Sources: Heusel et
al., "GANs trained by a two time-scale update rule", NIPS 2017; Bińkowski et al., "Demystifying MMD GANs", ICLR 2018;
Salimans et al., "Improved techniques for training GANs", NIPS 2016; Kynkäänniemi et al., "Improved precision and recall
metric", NeurIPS 2019; Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020.
"""

from typing import Any, NamedTuple

import numpy as np

from bayesjax import divergences
from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


class FrechetDistance(NamedTuple):
    """A Fréchet distance and the numbers of samples.

    Attributes:
      value: the squared distance, in squared units of the features.
      num_real: number of real samples.
      num_fake: number of generated samples.
    """

    value: float
    num_real: int
    num_fake: int


class KernelDistance(NamedTuple):
    """A kernel distance, as a mean over random subsets.

    Attributes:
      value: mean of the unbiased estimates.
      stderr: standard error over subsets, as if they were independent.
      num_real: number of real samples.
      num_fake: number of generated samples.
      subset_size: number of samples of each kind in a subset.
    """

    value: float
    stderr: float
    num_real: int
    num_fake: int
    subset_size: int


class InceptionScore(NamedTuple):
    """An inception score.

    Attributes:
      value: mean over splits, between 1 and the number of classes.
      stddev: standard deviation over splits, which the literature reports.
      num_fake: number of generated samples.
    """

    value: float
    stddev: float
    num_fake: int


class PrecisionRecall(NamedTuple):
    """Precision, recall, density and coverage.

    The ball of a sample reaches to its k-th nearest neighbour among the samples of its own kind, real or generated.

    Attributes:
      precision: fraction of generated samples inside the ball of some real sample.
      recall: fraction of real samples inside the ball of some generated sample.
      density: mean number of real balls that contain a generated sample, divided by k; it may exceed 1.
      coverage: fraction of real balls that contain a generated sample.
      num_real: number of real samples.
      num_fake: number of generated samples.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    num_real: int
    num_fake: int


class ModeCoverage(NamedTuple):
    """Modes of a known mixture that a generator covers.

    Attributes:
      num_covered: number of components with at least one sample near their centre.
      high_quality: fraction of samples near a centre.
      divergence: KL(q || uniform) in nats, where q is the distribution over components of the samples near a centre;
        infinite if there are none.
      num_fake: number of generated samples.
    """

    num_covered: int
    high_quality: float
    divergence: float
    num_fake: int


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> FrechetDistance:
    """Squared Fréchet distance between Gaussians fitted to real and generated features, in float64.

        FD = |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2)

    m and m' are the means, S and S' the unbiased covariances.

    Args:
      real: features of real samples, `[num_real, dim]`.
      fake: features of generated samples, `[num_fake, dim]`.

    Returns:
      The distance, in squared units of the features, and the numbers of samples.

    Raises:
      ValueError: if the features are not `[num, dim]` with one `dim`, a number is not finite, or there are fewer than
        two samples of a kind.
    """
    real, fake = _features(real, fake)
    moments = [(x.mean(axis=0), np.atleast_2d(np.cov(x.T))) for x in (real, fake)]
    return FrechetDistance(divergences.frechet_gaussian(*moments[0], *moments[1]), len(real), len(fake))


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, *, subset_size: int = 1000, num_subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """Unbiased squared MMD of features with the kernel (x . y / dim + 1)^3, over random subsets, in float64.

    The standard error describes the choice of subsets from the given samples, and is NaN if a subset contains all
    samples. The distance of new samples varies more, because subsets overlap. For 25 subsets of 1000 out of 10 000
    samples, it varies twice as much.

    Args:
      real: features of real samples, `[num_real, dim]`.
      fake: features of generated samples, `[num_fake, dim]`.
      subset_size: number of samples of each kind in a subset, at least 2. It is reduced if there are fewer samples.
      num_subsets: number of random subsets, at least 2.
      seed: random seed of the subsets.

    Returns:
      The mean over subsets, its standard error and the numbers of samples.

    Raises:
      ValueError: if features are invalid as in `frechet_distance`, or `subset_size` or `num_subsets` is below 2.
    """
    real, fake = _features(real, fake)
    if num_subsets < 2 or subset_size < 2:
        raise ValueError(f"num_subsets and subset_size must be at least 2; got {num_subsets} and {subset_size}")
    size, random = min(subset_size, len(real), len(fake)), np.random.default_rng(seed)
    values = [
        _cubic_mmd_squared(*(x[random.choice(len(x), size, replace=False)] for x in (real, fake)))
        for _ in range(num_subsets)
    ]
    stderr = float(np.std(values, ddof=1) / np.sqrt(num_subsets)) if size < min(len(real), len(fake)) else np.nan
    return KernelDistance(float(np.mean(values)), stderr, len(real), len(fake), size)


def _cubic_mmd_squared(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD^2 with the cubic kernel, in float64 because the terms nearly cancel."""
    dim, num = x.shape[1], len(x)
    xx, yy, xy = ((a @ b.T / dim + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum(k.sum() - np.trace(k) for k in (xx, yy)) / (num * (num - 1))
    return float(within - 2 * xy.mean())


def inception_score(probabilities: ArrayLike, *, num_splits: int = 10) -> InceptionScore:
    """Inception score, from the class probabilities that a classifier assigns to generated samples.

        score = exp E_x KL(p(y | x) || E_x p(y | x)),    p(y | x): probability of class y for sample x

    The score rewards confident predictions of many classes. It does not use real data, and one sample of each class
    suffices for the maximum. Splits are consecutive, so shuffle samples that are sorted by class.

    Args:
      probabilities: class probabilities of generated samples, `[num, num_classes]`.
      num_splits: number of splits.

    Returns:
      Mean and standard deviation of the score over splits, and the number of samples.

    Raises:
      ValueError: if the shape is wrong, a row is not a distribution, or `num_splits` is not between 1 and the number of
        samples.
    """
    p = inputs.probabilities(probabilities)
    if not 1 <= num_splits <= len(p):
        raise ValueError(f"num_splits must lie in 1 .. {len(p)}; got {num_splits}")
    scores = []
    for part in np.array_split(p, num_splits):
        mean = part.mean(axis=0)
        logs = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(mean, 1e-300))
        scores.append(np.exp(np.mean(np.sum(part * logs, axis=-1))))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), len(p))


def precision_recall(
    real: ArrayLike, fake: ArrayLike, *, num_neighbours: int = 5, chunk_size: int = 1024
) -> PrecisionRecall:
    """Precision, recall, density and coverage of features, by nearest neighbours.

        precision = mean_j 1[y_j is in some B(x_i)],            recall   = mean_i 1[x_i is in some B(y_j)]
        density   = mean_j #{i: y_j is in B(x_i)} / k,          coverage = mean_i 1[B(x_i) contains some y_j]

    x_i are real and y_j generated features. The ball B of a sample reaches to its k-th nearest neighbour of the same
    kind. Sources: Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage).

    Args:
      real: features of real samples, `[num_real, dim]`.
      fake: features of generated samples, `[num_fake, dim]`.
      num_neighbours: the number k of neighbours, at least 1 and less than the number of samples of each kind.
        Kynkäänniemi et al. use 3 for precision and recall, and Naeem et al. 5 for density and coverage.
      chunk_size: number of rows of a distance matrix that are in memory at once.

    Returns:
      The four measures and the numbers of samples.

    Raises:
      ValueError: if features are invalid as in `frechet_distance`, or `num_neighbours` is not at least 1 and less than
        the number of samples of each kind.
    """
    real, fake = _features(real, fake)
    if not 1 <= num_neighbours < min(len(real), len(fake)):
        raise ValueError(f"num_neighbours must lie in 1 .. {min(len(real), len(fake)) - 1}; got {num_neighbours}")
    real_radii, fake_radii = (_square_radii(x, num_neighbours, chunk_size) for x in (real, fake))
    in_real = np.zeros(len(fake))  # number of real balls that contain each generated sample
    in_fake, is_covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start in range(0, len(real), chunk_size):
        rows = slice(start, start + chunk_size)
        squares = _squares(real[rows], fake)
        is_in = squares <= real_radii[rows, None]
        in_real += is_in.sum(axis=0)
        is_covered[rows] = is_in.any(axis=1)
        in_fake[rows] = (squares <= fake_radii).any(axis=1)
    return PrecisionRecall(
        precision=float((in_real > 0).mean()),
        recall=float(in_fake.mean()),
        density=float(in_real.mean() / num_neighbours),
        coverage=float(is_covered.mean()),
        num_real=len(real),
        num_fake=len(fake),
    )


def mode_coverage(samples: ArrayLike, centres: ArrayLike, scale: float, *, num_deviations: float = 3.0) -> ModeCoverage:
    """Counts the components of a mixture of equal Gaussians that generated samples cover.

    Source of the counts: Srivastava et al., "VEEGAN: reducing mode collapse in GANs using implicit variational
    learning", NIPS 2017.

    Args:
      samples: generated samples `[num, dim]`. Samples that are not finite are near no centre.
      centres: centres of the components, `[num_components, dim]`.
      scale: standard deviation of each component.
      num_deviations: largest distance of a sample to its nearest centre, in standard deviations, to count as near.

    Returns:
      The number of covered components, the fraction of near samples, and the divergence from equal shares.

    Raises:
      ValueError: if a shape is wrong, there is no sample or no centre, a centre is not finite, or `scale` or
        `num_deviations` is not positive.
    """
    samples = inputs.numbers(samples, "samples", "[num, dim]", allow_nan=True)
    centres = inputs.numbers(centres, "centres", "[num_components, dim]")
    if samples.shape[1] != centres.shape[1]:
        raise ValueError(f"samples and centres must be [num, dim] of one dim; got {samples.shape} and {centres.shape}")
    if not (scale > 0 and num_deviations > 0):
        raise ValueError(f"scale and num_deviations must be positive; got {scale} and {num_deviations}")
    distances = np.sqrt(_squares(samples, centres))
    is_near = distances.min(axis=1) <= num_deviations * scale  # comparisons with NaN are false
    shares = np.bincount(distances.argmin(axis=1)[is_near], minlength=len(centres)) / max(is_near.sum(), 1)
    logs = np.log(np.maximum(shares, 1e-300) * len(centres))
    divergence = float(np.sum(shares * logs)) if is_near.any() else np.inf
    return ModeCoverage(int((shares > 0).sum()), float(is_near.mean()), divergence, len(samples))


def _features(real: Any, fake: Any) -> tuple[np.ndarray, np.ndarray]:
    real, fake = inputs.numbers(real, "real", "[num, dim]"), inputs.numbers(fake, "fake", "[num, dim]")
    if real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(f"real and fake must be [num >= 2, dim] of one dim; got {real.shape} and {fake.shape}")
    return real, fake


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances `[len(x), len(y)]` in float64."""
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    return np.maximum(np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T, 0.0)


def _square_radii(x: np.ndarray, num_neighbours: int, chunk_size: int) -> np.ndarray:
    """Squared distance of each sample to its k-th nearest neighbour, `[num]`."""
    parts = [
        np.partition(_squares(x[start : start + chunk_size], x), num_neighbours, axis=1)[:, num_neighbours]
        for start in range(0, len(x), chunk_size)
    ]  # the sample itself has distance 0 and index 0
    return np.concatenate(parts)
