"""Whether a generator has collapsed or goes round in circles: what a run logs while it can still be stopped.

    diversity   mean distance of two fakes / mean distance of two data       1 if as diverse, 0 if all are one
    swing       root mean square of m_{t+1} - m_t, in units of what sampling noise alone would give

m_t is the mean of the samples at check t. A generator that stands still swings by 1, whatever the number of samples (by
0 if its noise is the same at each check); one that goes round between modes swings by tens. Both take features of any
kind, or the samples themselves. How near samples are to data is in `fidelity.py`.
"""

import numpy as np

from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


def diversity(real: ArrayLike, fake: ArrayLike) -> float:
    """Mean distance of two fakes over that of two real examples, `[num, dim]` each; neighbours in order are pairs.

    NaN where a fake is NaN: a run may log this while its generator diverges.

    Raises:
      ValueError: if a shape is wrong, or the real examples are not finite or all equal.
    """
    real, fake = inputs.numbers(real, "real", "[num, dim]"), inputs.numbers(fake, "fake", "[num, dim]", allow_nan=True)
    if real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(f"real and fake must be [num >= 2, dim] of one dim; got {real.shape} and {fake.shape}")
    of_real, of_fake = _mean_distance(real), _mean_distance(fake)
    if of_real == 0:
        raise ValueError("real examples must not all be equal")
    return of_fake / of_real


def mean_drift(samples: ArrayLike) -> np.ndarray:
    """How far the mean of the samples moves between checks, in units of sampling noise.

    Args:
      samples: `[num_checks, num, dim]`, independent of one another within a check.

    Returns:
      `[num_checks - 1]`; infinite where a collapsed generator, whose samples have no noise, moves, NaN where samples
      are not finite.

    Raises:
      ValueError: if the shape is wrong, or there are fewer than two checks or samples.
    """
    samples = inputs.numbers(samples, "samples", "[num_checks, num, dim]", allow_nan=True)
    if min(samples.shape[:2]) < 2:
        raise ValueError(f"samples must be [num_checks >= 2, num >= 2, dim]; got {samples.shape}")
    squares = np.sum(np.diff(samples.mean(axis=1), axis=0) ** 2, axis=-1)
    noise = samples.var(axis=1, ddof=1).sum(axis=-1) / samples.shape[1]  # of the mean's square distance, at each check
    expected = noise[1:] + noise[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares == 0, 0.0, np.sqrt(squares / expected))  # NaN stays NaN


def _mean_distance(x: np.ndarray) -> float:
    """Of each sample to the next, and of the last to the first."""
    return float(np.linalg.norm(x - np.roll(x, 1, axis=0), axis=1).mean())
