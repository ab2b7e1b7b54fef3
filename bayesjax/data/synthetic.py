"""Synthetic data with a known distribution, for experiments and tests.

    ten_clusters      the mixture on which the authors of the Bayesian GAN show mode collapse and how to avoid it
    single_gaussian   the data that the text of their paper describes, a Gaussian, which has only one mode
    ring, grid        8 and 25 narrow Gaussians in the plane, a standard test of mode collapse

The random seeds are fixed, so the data are the same on every machine. Read `dataset.py` next, which loads them by name.
"""

from typing import NamedTuple

import numpy as np


class Mixture(NamedTuple):
    """A mixture of isotropic Gaussians in the plane with equal weights.

    Attributes:
      centres: the means, `[num_components, 2]`.
      scale: the standard deviation of each component.
    """

    centres: np.ndarray
    scale: float


def _on_circle(num: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(num) / num
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


MIXTURES = {
    "ring": Mixture(_on_circle(8), 0.02),
    "grid": Mixture(np.stack(np.meshgrid(*[np.arange(-4.0, 5.0, 2.0)] * 2), axis=-1).reshape(-1, 2), 0.05),
}
"""Mixtures by name. Sources: Metz et al., "Unrolled GANs", ICLR 2017; Srivastava et al., "VEEGAN", NIPS 2017."""


def mixture(name: str, num_data: int = 10000) -> np.ndarray:
    """Draws from the ring or the grid in random order, equally many from each component, with random seed 1234.

        x = centre + scale e,    e ~ N(0, I)

    Sources are named at `MIXTURES`.

    Args:
      name: "ring" or "grid".
      num_data: number of draws.

    Returns:
      float32 `[num_data, 2]`.
    """
    centres, scale = MIXTURES[name]
    rng = np.random.RandomState(1234)
    component = rng.permutation(np.arange(num_data) % len(centres))
    return (centres[component] + scale * rng.normal(size=(num_data, 2))).astype(np.float32)


def ten_clusters(num_data: int = 10000, dim: int = 100, latent_dim: int = 2, num_clusters: int = 10) -> np.ndarray:
    """Draws Gaussian clusters on separate random planes, with random seed 1234. Columns are then standardised.

        x = A_c z in cluster c,    z ~ N(m_c, I),    (A_c)_ij ~ N(0, 25),    m_c ~ N(0, 25 I)

    Source: the program released with Saatci & Wilson, "Bayesian GAN", NIPS 2017. The text of the paper describes other
    data; see `single_gaussian`.

    Args:
      num_data: number of draws.
      dim: dimension of x.
      latent_dim: dimension of z.
      num_clusters: number of clusters.

    Returns:
      float32 `[num_data, dim]`, shuffled.
    """
    rng = np.random.RandomState(1234)
    per_cluster = np.full(num_clusters, num_data // num_clusters)
    per_cluster[: num_data % num_clusters] += 1
    clusters = []
    for size in per_cluster:
        plane = 5 * rng.normal(size=(dim, latent_dim))
        mean = 5 * rng.normal(size=latent_dim)
        clusters.append((mean + rng.normal(size=(size, latent_dim))) @ plane.T)
    x = np.concatenate(clusters)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return rng.permutation(x).astype(np.float32)


def single_gaussian(num_data: int = 10000, dim: int = 100, latent_dim: int = 2) -> np.ndarray:
    """Draws from one Gaussian close to a random plane, with random seed 1234. Columns are then standardised.

        x = A z + e,    z ~ N(0, 10 I),    A_ij ~ N(0, 1),    e ~ N(0, 0.01 I)

    Given A, x is N(0, 10 A A^T + 0.01 I) before standardisation.

    Source: the text of Saatci & Wilson, "Bayesian GAN", NIPS 2017. Their program has other data; see `ten_clusters`.

    Args:
      num_data: number of draws.
      dim: dimension of x.
      latent_dim: dimension of z.

    Returns:
      float32 `[num_data, dim]`.
    """
    rng = np.random.RandomState(1234)
    plane = rng.normal(size=(dim, latent_dim))
    z = np.sqrt(10) * rng.normal(size=(num_data, latent_dim))
    x = z @ plane.T + 0.1 * rng.normal(size=(num_data, dim))
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
