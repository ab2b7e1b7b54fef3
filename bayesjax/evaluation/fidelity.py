"""How near generated samples are to data, by features: of a classifier, of any function, or the samples themselves.

    Fréchet distance        |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), of two Gaussians fitted to the features
    kernel distance         unbiased MMD^2 under (x . y / dim + 1)^3
    inception score         exp E_x KL(p(y | x) || E_x p(y | x)), of a classifier's probabilities
    precision, recall       share of fakes within reach of data, share of data within reach of fakes
    density, coverage       the same, robust to outliers: reach is of the data alone

The first two are called Inception distances (FID, KID) only with the features of the Inception network of 2015; with
others they are to be named by those. All but the kernel distance shrink or grow with the number of samples, so that
they compare only at equal numbers: results carry them. `two_sample.py` has a test with a p-value; `likelihood.py` has
Parzen windows. Sources: Heusel et al., "GANs trained by a two time-scale update rule", NIPS 2017; Bińkowski et al.,
"Demystifying MMD GANs", ICLR 2018; Salimans et al., "Improved techniques for training GANs", NIPS 2016; Kynkäänniemi et
al., "Improved precision and recall metric", NeurIPS 2019; Naeem et al., "Reliable fidelity and diversity metrics for
generative models", ICML 2020.
"""

from typing import Any, NamedTuple

import numpy as np

from bayesjax import divergences
from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


class FrechetDistance(NamedTuple):
    """A distance between two samples, and how many there were.

    Attributes:
      value: the distance.
      num_real, num_fake: the numbers of samples.
    """

    value: float
    num_real: int
    num_fake: int


class KernelDistance(NamedTuple):
    """The kernel distance over subsets.

    Attributes:
      value: mean over subsets, without bias.
      stderr: its standard error over subsets, as if they were independent.
      num_real, num_fake: the numbers of samples.
      subset_size: samples of each in a subset.
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
      stddev: standard stddev over the splits, as the literature reports it.
      num_fake: the number of samples.
    """

    value: float
    stddev: float
    num_fake: int


class PrecisionRecall(NamedTuple):
    """Shares of samples within reach of the other sample.

    Attributes:
      precision: share of fakes in the ball of a real sample, up to its k-th nearest real one.
      recall: share of real samples in the ball of a fake, up to its k-th nearest fake.
      density: mean number of real balls that a fake is in, over k; may exceed 1.
      coverage: share of real balls with a fake in them.
      num_real, num_fake: the numbers of samples.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    num_real: int
    num_fake: int


class ModeCoverage(NamedTuple):
    """What a generator has of a mixture whose components are known.

    Attributes:
      num_covered: components with at least one sample near.
      high_quality: share of samples near a component.
      divergence: KL in nats from the components' shares among those to equal shares; infinite if there are none.
      num_fake: the number of samples.
    """

    num_covered: int
    high_quality: float
    divergence: float
    num_fake: int


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> FrechetDistance:
    """The squared Fréchet distance of features `[num, dim]`, in float64, with unbiased covariances.

    Raises:
      ValueError: if the features do not match, are not finite, or are fewer than two.
    """
    real, fake = _features(real, fake)
    moments = [(x.mean(axis=0), np.atleast_2d(np.cov(x.T))) for x in (real, fake)]
    return FrechetDistance(divergences.frechet_gaussian(*moments[0], *moments[1]), len(real), len(fake))


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, *, subset_size: int = 1000, num_subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """The unbiased squared MMD of features `[num, dim]` under the cubic kernel, over random subsets, in float64.

    The standard error is that of the mean over subsets of the samples at hand, NaN if a subset is all of a sample.
    Fresh samples would differ by more, for subsets share them: by twice as much with 25 subsets of 1000 of 10 000.

    Raises:
      ValueError: as `frechet_distance`, and if there are fewer than two subsets.
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
    """In float64, which `divergences.mmd_squared` has only on request: the terms nearly cancel."""
    dim, num = x.shape[1], len(x)
    xx, yy, xy = ((a @ b.T / dim + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum(k.sum() - np.trace(k) for k in (xx, yy)) / (num * (num - 1))
    return float(within - 2 * xy.mean())


def inception_score(probabilities: ArrayLike, *, num_splits: int = 10) -> InceptionScore:
    """The score of a classifier's probabilities of samples, `[num, num_classes]`.

    It asks for sure predictions of many classes, and knows nothing of the data: one sample of each class will do.
    Splits are of neighbours: samples that stand class by class are to be shuffled before.

    Raises:
      ValueError: if a row is not a distribution, or there are fewer rows than splits.
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
    """Precision, recall, density and coverage of features `[num, dim]`.

    Args:
      real, fake: features.
      num_neighbours: k; the papers use 3 for the first two and 5 for the others.
      chunk_size: rows of the matrices of distances that are in memory at once.

    Raises:
      ValueError: as `frechet_distance`, and if a sample has no k-th neighbour.
    """
    real, fake = _features(real, fake)
    if not 1 <= num_neighbours < min(len(real), len(fake)):
        raise ValueError(f"num_neighbours must lie in 1 .. {min(len(real), len(fake)) - 1}; got {num_neighbours}")
    of_real, of_fake = (_square_radii(x, num_neighbours, chunk_size) for x in (real, fake))
    in_real = np.zeros(len(fake))  # balls of real samples that each fake is in
    in_fake, is_covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start in range(0, len(real), chunk_size):
        rows = slice(start, start + chunk_size)
        squares = _squares(real[rows], fake)
        is_in = squares <= of_real[rows, None]
        in_real += is_in.sum(axis=0)
        is_covered[rows] = is_in.any(axis=1)
        in_fake[rows] = (squares <= of_fake).any(axis=1)
    return PrecisionRecall(
        precision=float((in_real > 0).mean()),
        recall=float(in_fake.mean()),
        density=float(in_real.mean() / num_neighbours),
        coverage=float(is_covered.mean()),
        num_real=len(real),
        num_fake=len(fake),
    )


def mode_coverage(samples: ArrayLike, centres: ArrayLike, scale: float, *, num_deviations: float = 3.0) -> ModeCoverage:
    """How many components of a mixture of equal Gaussians samples reach.

    Args:
      samples: `[num, dim]`; one that is not finite is near nothing.
      centres: of the components, `[num_components, dim]`.
      scale: their standard stddev.
      num_deviations: how near a sample has to be to its nearest centre, in standard deviations.

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
    is_near = distances.min(axis=1) <= num_deviations * scale  # no comparison with NaN holds: it is near nothing
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
    """Squared distances `[len(x), len(y)]`, as `divergences.squared_distances` in float64."""
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    return np.maximum(np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T, 0.0)


def _square_radii(x: np.ndarray, num_neighbours: int, chunk_size: int) -> np.ndarray:
    """Squared distance of each sample to its k-th nearest other one, `[num]`."""
    blocks = [
        np.partition(_squares(x[start : start + chunk_size], x), num_neighbours, axis=1)[:, num_neighbours]
        for start in range(0, len(x), chunk_size)
    ]  # the nearest of all is the sample itself
    return np.concatenate(blocks)
