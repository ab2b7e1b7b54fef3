"""Total variation between the draws of two samplers, from histograms, with the value that Monte Carlo error explains.

    TV(p, q) = 1/2 sum_b |p_b - q_b|

p_b and q_b are the fractions of draws in bin b. The bins have equal probability under the reference. The total
variation of the binned laws is a lower bound of that of the laws. Histograms of finitely many draws differ even if the
laws are equal, so the estimate is compared with a floor: the same estimate for two random halves of the reference
chains. Whole chains are divided, so that the floor accounts for their autocorrelation. Chains must be independent.
Source: Levin, Peres & Wilmer, "Markov chains and mixing times", 2009, chapter 4 (total variation). Read
`diagnostics.py` next for R-hat, which compares the chains of one sampler with one another.
"""

from typing import NamedTuple

import numpy as np

from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


class HistogramDistance(NamedTuple):
    """Total variation between draws and a reference, and its floor.

    Attributes:
      value: total variation between all chains and one half of the reference chains, averaged over random halves.
      stderr: standard error of the value, by the jackknife over chains.
      floor: total variation between two halves of the reference chains, averaged over random halves; the expected
        value if both laws are equal.
      upper_floor: 95 % quantile of the floor over random halves. If the laws are equal, the value exceeds it in at most
        about 5 % of cases.
    """

    value: float
    stderr: float
    floor: float
    upper_floor: float


def histogram_total_variation(
    chains: ArrayLike, reference: ArrayLike, *, num_bins: int = 20, num_splits: int = 200, seed: int = 0
) -> HistogramDistance:
    """Estimates the total variation between the laws of two sets of chains from histograms of their draws.

        TV(p, q) = 1/2 sum_b |p_b - q_b|

    Args:
      chains: n >= 2 independent chains, `[n, num_draws]`, or `[n, num_draws, dim]` for a histogram of `dim` axes.
      reference: 2n independent chains of the reference, `[2n, num_draws]` or `[2n, num_draws, dim]`, so that each half
        has as many draws as `chains`.
      num_bins: number of bins along each axis, at least 2. Their edges are quantiles of the reference.
      num_splits: number of random divisions of the reference into halves, at least 2.
      seed: random seed of the divisions.

    Returns:
      The estimate with its standard error, and the floor with its 95 % quantile.

    Raises:
      ValueError: if a shape is wrong, a draw is not finite, there are fewer than two chains, or a number is below 2.
    """
    x, y = inputs.numbers(chains, "chains", "[n, num_draws, ...]"), np.shape(reference)
    if x.ndim not in (2, 3) or len(x) < 2 or y != (2 * len(x), *x.shape[1:]):
        raise ValueError(
            "chains must be [n >= 2, num_draws] or [n, num_draws, dim] and reference twice as many such chains; "
            f"got shapes {x.shape} and {y}"
        )
    if min(num_bins, num_splits) < 2:
        raise ValueError(f"num_bins and num_splits must be at least 2; got {num_bins} and {num_splits}")
    known = inputs.numbers(reference, "reference", "[2n, num_draws, ...]")
    x, known = (each.reshape(*each.shape[:2], -1) for each in (x, known))
    edges = np.quantile(known, np.arange(1, num_bins) / num_bins, axis=(0, 1))
    ours, theirs = _fractions(x, edges), _fractions(known, edges)
    rng, num = np.random.default_rng(seed), len(x)
    halves = [rng.permutation(2 * num) for _ in range(num_splits)]
    first = np.array([theirs[half[:num]].mean(axis=0) for half in halves])
    second = 2 * theirs.mean(axis=0) - first
    floors = _distance(first, second)
    value = _distance(ours.mean(axis=0), first).mean()
    return HistogramDistance(
        float(value), _jackknife(ours, theirs), float(floors.mean()), float(np.quantile(floors, 0.95))
    )


def _fractions(chains: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Fraction of each chain's draws in each bin, `[num_chains, num_bins ** dim]`."""
    num, index = len(chains), np.zeros(chains.shape[:2], int)
    for axis, inner in enumerate(edges.T):
        index = index * (len(inner) + 1) + np.searchsorted(inner, chains[..., axis], side="right")
    size = (len(edges) + 1) ** chains.shape[2]
    counts = np.bincount((index + size * np.arange(num)[:, None]).ravel(), minlength=num * size)
    return counts.reshape(num, size) / chains.shape[1]


def _distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation between distributions over the last axis."""
    return np.abs(p - q).sum(axis=-1) / 2


def _jackknife(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Standard error of the total variation between the means of two sets of chains: each chain is left out once."""
    total, variance = (ours.mean(axis=0), theirs.mean(axis=0)), 0.0
    for own, other, chains in ((total[0], total[1], ours), (total[1], total[0], theirs)):
        num = len(chains)
        values = _distance((num * own - chains) / (num - 1), other)
        variance += (num - 1) / num * np.square(values - values.mean()).sum()
    return float(np.sqrt(variance))
