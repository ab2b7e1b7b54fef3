"""How far samples are from data in the plane of the data's two leading principal components.

The measure of the Bayesian GAN's synthetic experiment, as its released code takes it: PCA(2) fitted on the data; a
Gaussian kernel density (Scott's bandwidth) of the data and of the samples on a grid of step 0.1 that reaches 3 beyond
the data; the Jensen-Shannon divergence of the two, in nats (0 to ln 2 = 0.693).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.types import Array

MAX_POINTS = 1_000_000


class ProjectedDivergence:
    """Compares samples with a data set; the data's projection and density are computed once.

    Args:
      data: `[num, dim]`, dim >= 2.
      step: spacing of the grid.
      margin: how far the grid reaches beyond the projected data.
    """

    def __init__(self, data: np.ndarray, *, step: float = 0.1, margin: float = 3.0):
        data = np.asarray(data, np.float64)
        if data.ndim != 2 or data.shape[1] < 2 or len(data) < 3:
            raise ValueError(f"data must be [num >= 3, dim >= 2]; got shape {data.shape}")
        self.mean = data.mean(axis=0)
        self.components = np.linalg.svd(data - self.mean, full_matrices=False)[2][:2]
        self.projected_data = self.project(data)
        low, high = self.projected_data.min(axis=0) - margin, self.projected_data.max(axis=0) + margin
        if not step > 0 or np.prod((high - low) / step) > MAX_POINTS:
            raise ValueError(
                f"step must be positive and coarse enough for at most {MAX_POINTS} grid points over "
                f"{high[0] - low[0]:.3g} x {high[1] - low[1]:.3g}; got {step}: standardise the data or raise the step"
            )
        axes = [np.arange(a, b, step) for a, b in zip(low, high, strict=True)]
        self.grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        self.cell = step**2
        self.data_density = kernel_density(self.projected_data, self.grid)

    def project(self, samples: Any) -> np.ndarray:
        """Principal coordinates `[num, 2]` of `[num, dim]`."""
        return (np.asarray(samples, np.float64) - self.mean) @ self.components.T

    def __call__(self, samples: Any) -> float:
        """JS divergence in nats between the densities of the data and of `samples` `[num, dim]`, in the plane."""
        return self.of_projected(self.project(samples))

    def of_projected(self, projected: Any) -> float:
        """The same of samples that are projected already, `[num, 2]`.

        Mass outside the grid counts for nothing, as in the released code: samples that leave the plane's window
        altogether read as ln(2)/2, not as 0.
        """
        p, q = self.data_density * self.cell, kernel_density(np.asarray(projected, np.float64), self.grid) * self.cell
        m = (p + q) / 2
        terms = [np.where(a > 0, a * np.log(np.maximum(a, 1e-300) / np.maximum(m, 1e-300)), 0).sum() for a in (p, q)]
        return float(sum(terms) / 2)


def kernel_density(samples: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Gaussian kernel density with Scott's bandwidth, equal to `scipy.stats.gaussian_kde` to float32 rounding.

    Args:
      samples: `[num, dim]`.
      points: `[num_points, dim]` where to evaluate.
    """
    num, dim = samples.shape
    covariance = np.atleast_2d(np.cov(samples.T)) * num ** (-2 / (dim + 4))
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    center = samples.mean(axis=0)
    log_normaliser = -0.5 * dim * np.log(2 * np.pi) + np.log(np.abs(np.linalg.det(whiten))) - np.log(num)
    sums = _kernel_sums(
        jnp.asarray((points - center) @ whiten.T, jnp.float32), jnp.asarray((samples - center) @ whiten.T, jnp.float32)
    )
    return np.exp(log_normaliser) * np.asarray(sums, np.float64)


@partial(jax.jit, static_argnames="block")
def _kernel_sums(points: Array, samples: Array, block: int = 512) -> Array:
    """sum_j exp(-|x_i - y_j|^2 / 2), a block of points at a time, one coordinate after the other (a trailing axis of
    two would keep the processor's vectors empty)."""

    def sums(chunk: Array) -> Array:
        squares = [(chunk[:, None, axis] - samples[:, axis]) ** 2 for axis in range(samples.shape[1])]
        return jnp.exp(-0.5 * sum(squares)).sum(axis=-1)

    num_blocks = -(-len(points) // block)
    padded = jnp.pad(points, ((0, num_blocks * block - len(points)), (0, 0)))
    return jax.lax.map(sums, padded.reshape(num_blocks, block, -1)).reshape(-1)[: len(points)]
