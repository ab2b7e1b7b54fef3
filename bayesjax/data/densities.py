"""Known densities with a sampler and a log density, for evaluating density estimation.

    p(x) = 1/K sum_k N(x; m_k, F F^T),    K components with means m_k and one covariance F F^T

    moons      64 Gaussians along each of two interleaved half circles
    ring       eight Gaussians on a circle
    gaussian   one Gaussian with a correlation of 0.90

All computations are in float64. Read `experiments/density_estimation.py` next.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special


class GaussianMixture(NamedTuple):
    """An equally weighted mixture of Gaussians N(means_k, factor factor^T) with one covariance.

    Attributes:
      means: `[num_components, dim]`.
      factor: Cholesky factor of the covariance, `[dim, dim]`, lower triangular.
    """

    means: np.ndarray
    factor: np.ndarray

    def sample(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Returns `num` draws, `[num, dim]`, from NumPy's generator `rng`."""
        noise = rng.normal(size=(num, self.means.shape[1])) @ self.factor.T
        return self.means[rng.integers(len(self.means), size=num)] + noise

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Returns the log density `[num]` in nats at points `[num, dim]`."""
        inverse = np.linalg.inv(self.factor)
        points, centres = x @ inverse.T, self.means @ inverse.T
        normaliser = self.means.shape[1] / 2 * math.log(2 * math.pi) + np.log(np.diagonal(self.factor)).sum()
        constant = normaliser + math.log(len(self.means))

        def chunk_log_prob(chunk: np.ndarray) -> np.ndarray:
            squares = 0.5 * np.sum(chunk**2, axis=1)[:, None] + 0.5 * np.sum(centres**2, axis=1)
            return special.logsumexp(chunk @ centres.T - squares, axis=1) - constant

        return np.concatenate([chunk_log_prob(chunk) for chunk in np.array_split(points, 1 + len(x) // 10_000)])


def _on_arc(num: int, length: float, offset: float) -> np.ndarray:
    """`num` evenly spaced points `[num, 2]` of the unit circle; `length` and `offset` are angles in radians."""
    angles = length * (np.arange(num) + offset) / num
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_ARC = _on_arc(64, np.pi, 0.5)
PLANAR_MIXTURES = {
    "moons": GaussianMixture(1.5 * np.concatenate([_ARC - [0.5, 0.25], [0.5, 0.25] - _ARC]), 0.15 * np.eye(2)),
    "ring": GaussianMixture(2 * _on_arc(8, 2 * np.pi, 0.0), 0.2 * np.eye(2)),
    "gaussian": GaussianMixture(np.array([[0.5, -0.5]]), np.array([[1.0, 0.0], [0.72, 0.35]])),
}
"""The three densities that the module describes, by name."""
