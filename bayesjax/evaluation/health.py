"""Monitors of a generator during training: mode collapse and oscillation between modes.

    diversity    mean distance between two generated samples / mean distance between two real ones
    mean drift   |m_{t+1} - m_t| / (the value that sampling noise alone would give)

m_t is the mean of the generated samples at evaluation t. Diversity is 1 if the samples are as diverse as the data and 0
if all are equal. The drift of a generator that does not change is about 1 for any number of samples, or 0 if every
evaluation uses the same noise. A generator that oscillates between modes has drifts of 10 and more. Both functions take
features of any kind or the samples themselves. Read `fidelity.py` next, which compares samples with data.
"""

import numpy as np

from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


def diversity(real: ArrayLike, fake: ArrayLike) -> float:
    """Mean distance between two generated samples, relative to that between two real ones.

    Each sample is compared with the next one in order, and the last one with the first.

    Args:
      real: real samples or their features, `[num_real, dim]`.
      fake: generated samples or their features, `[num_fake, dim]`.

    Returns:
      The ratio; NaN if a generated sample is NaN, so that a diverging run can log it.

    Raises:
      ValueError: if a shape is wrong, or the real samples are not finite or all equal.
    """
    real, fake = inputs.numbers(real, "real", "[num, dim]"), inputs.numbers(fake, "fake", "[num, dim]", allow_nan=True)
    if real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(f"real and fake must be [num >= 2, dim] of one dim; got {real.shape} and {fake.shape}")
    real_distance, fake_distance = _mean_distance(real), _mean_distance(fake)
    if real_distance == 0:
        raise ValueError("real examples must not all be equal")
    return fake_distance / real_distance


def mean_drift(samples: ArrayLike) -> np.ndarray:
    """Distance that the mean of generated samples moves between evaluations, in units of sampling noise.

        drift_t = |m_{t+1} - m_t| / sqrt(tr S_t / num + tr S_{t+1} / num)

    m_t and S_t are the mean and the covariance of the samples at evaluation t.

    Args:
      samples: `[num_evaluations, num, dim]`, independent of one another within an evaluation.

    Returns:
      `[num_evaluations - 1]`; infinite where the mean moves although the samples within each evaluation are equal, and
      NaN where samples are not finite.

    Raises:
      ValueError: if the shape is wrong, or there are fewer than two evaluations or samples.
    """
    samples = inputs.numbers(samples, "samples", "[num_evaluations, num, dim]", allow_nan=True)
    if min(samples.shape[:2]) < 2:
        raise ValueError(f"samples must be [num_evaluations >= 2, num >= 2, dim]; got {samples.shape}")
    squares = np.sum(np.diff(samples.mean(axis=1), axis=0) ** 2, axis=-1)
    noise = samples.var(axis=1, ddof=1).sum(axis=-1) / samples.shape[1]  # variance of the mean, at each evaluation
    expected = noise[1:] + noise[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares == 0, 0.0, np.sqrt(squares / expected))  # NaN stays NaN


def _mean_distance(x: np.ndarray) -> float:
    """Mean distance of each sample to the next one, and of the last to the first."""
    return float(np.linalg.norm(x - np.roll(x, 1, axis=0), axis=1).mean())
