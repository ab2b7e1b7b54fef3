"""Divergences between distributions. Entropies, KL and Jensen-Shannon divergences are in nats.

    H(p, q) = -sum_i p_i log q_i = H(p) + KL(p || q)
    KL(p || q) = sum_i p_i log(p_i / q_i) >= 0, asymmetric
    JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q)/2, in [0, ln 2]
    MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y) >= 0, 0 only at p = q for the Gaussian kernel
    W_2^2(N_0, N_1) = |m_0 - m_1|^2 + tr(S_0 + S_1 - 2 (S_0^1/2 S_1 S_0^1/2)^1/2)

In MMD, x and x' are independent samples of p, y and y' are independent samples of q, and k is a positive definite
kernel. N_0 and N_1 are Gaussians with means m and covariances S. The functions compute closed forms for discrete and
Gaussian distributions, and estimate MMD from samples. Sources: Lin, "Divergence measures based on the Shannon entropy",
1991 (JS); Gretton et al., "A kernel two-sample test", 2012 (MMD); Dowson & Landau, "The Fréchet distance between
multivariate normal distributions", 1982. Read `evaluation/fidelity.py` next, which applies divergences to generated
images.
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import rel_entr, xlogy

from bayesjax import tree
from bayesjax.types import Array

PairKernel = Callable[[Array, Array], Array]
"""A positive definite kernel `(x [n, dim], y [m, dim]) -> [n, m]`."""


def kl_categorical(p: Array, q: Array) -> Array:
    """Kullback-Leibler divergence of two categorical distributions.

        KL(p || q) = sum_i p_i log(p_i / q_i)

    Args:
      p, q: probabilities of the n categories, `[..., n]` each.

    Returns:
      The divergence in nats, of shape `[...]`. It is infinite where q_i = 0 < p_i.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([p, q])
    return rel_entr(p, q).sum(axis=-1)


def js_categorical(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence of two categorical distributions.

        JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m),    m = (p + q) / 2

    Args:
      p, q: probabilities of the n categories, `[..., n]` each.

    Returns:
      The divergence in nats, between 0 and ln 2, of shape `[...]`.
    """
    m = (p + q) / 2
    return (kl_categorical(p, m) + kl_categorical(q, m)) / 2


def js_quadrature(log_p: np.ndarray, log_q: np.ndarray, cell: float) -> float:
    """Jensen-Shannon divergence of two densities, by the midpoint rule in float64.

        JS(p, q) = 1/2 int p log(p / m) + 1/2 int q log(q / m),    m = (p + q) / 2

    Args:
      log_p, log_q: log densities at the midpoints of the cells of a grid, `[num_cells]`, in nats.
      cell: length, area or volume of a cell.

    Returns:
      The divergence in nats.
    """
    log_p, log_q = np.asarray(log_p, float), np.asarray(log_q, float)
    log_m = np.logaddexp(log_p, log_q) - np.log(2)
    return 0.5 * cell * float(np.sum(np.exp(log_p) * (log_p - log_m)) + np.sum(np.exp(log_q) * (log_q - log_m)))


def entropy_categorical(p: Array) -> Array:
    """Entropy of a categorical distribution.

        H(p) = -sum_i p_i log p_i

    Args:
      p: probabilities of the n categories, `[..., n]`.

    Returns:
      The entropy in nats, of shape `[...]`.
    """
    return jax.scipy.special.entr(p).sum(axis=-1)


def cross_entropy_categorical(p: Array, q: Array) -> Array:
    """Cross entropy of two categorical distributions.

        H(p, q) = -sum_i p_i log q_i

    Args:
      p, q: probabilities of the n categories, `[..., n]` each.

    Returns:
      The cross entropy in nats, of shape `[...]`. It is infinite where q_i = 0 < p_i.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([p, q])
    return -xlogy(p, q).sum(axis=-1)


def kl_diagonal_gaussian(mean0: Array, scale0: Array, mean1: Array | float = 0.0, scale1: Array | float = 1.0) -> Array:
    """Kullback-Leibler divergence of two Gaussians with diagonal covariances.

        KL(N_0 || N_1) = 1/2 sum_j [ (s_0j^2 + (m_0j - m_1j)^2) / s_1j^2 - 1 - 2 log(s_0j / s_1j) ]

    Args:
      mean0, mean1: means m_0 and m_1, `[..., n]` or a number.
      scale0, scale1: standard deviations s_0 and s_1, `[..., n]` or a number.

    Returns:
      The divergence in nats, of shape `[...]`.

    Raises:
      ValueError: if two arguments that are not numbers differ in the length of the last axis.
    """
    shapes = [jnp.shape(array) for array in (mean0, scale0, mean1, scale1)]
    if len({shape[-1] for shape in shapes if shape}) > 1:
        raise ValueError(f"means and scales must have one length of the last axis; got shapes {shapes}")
    mean0, scale0, mean1, scale1 = _aligned(mean0, scale0, mean1, scale1)
    ratio = scale0 / scale1
    squared_distance = ((mean0 - mean1) / scale1) ** 2
    return 0.5 * jnp.sum(ratio**2 + squared_distance - 1 - 2 * jnp.log(ratio), axis=-1)  # log(ratio**2) would underflow


def kl_gaussian(mean0: Array, covariance0: Array, mean1: Array, covariance1: Array) -> Array:
    """Kullback-Leibler divergence of two Gaussians.

        KL(N_0 || N_1) = 1/2 [ tr(S_1^-1 S_0) + (m_1 - m_0)' S_1^-1 (m_1 - m_0) - dim + log det S_1 - log det S_0 ]

    Args:
      mean0, mean1: means m_0 and m_1, `[dim]`.
      covariance0, covariance1: covariances S_0 and S_1, `[dim, dim]`, symmetric and positive definite.

    Returns:
      The divergence in nats, a scalar. It is NaN if a covariance is singular.

    Raises:
      AssertionError: if the shapes of the means or of the covariances differ.
    """
    chex.assert_equal_shape([mean0, mean1])
    chex.assert_equal_shape([covariance0, covariance1])
    factor0, factor1 = jnp.linalg.cholesky(covariance0), jnp.linalg.cholesky(covariance1)
    whitened_factor = jax.scipy.linalg.solve_triangular(factor1, factor0, lower=True)
    whitened_mean = jax.scipy.linalg.solve_triangular(factor1, mean1 - mean0, lower=True)
    log_ratio = jnp.log(jnp.diagonal(factor1)).sum() - jnp.log(jnp.diagonal(factor0)).sum()
    return 0.5 * (jnp.sum(whitened_factor**2) + jnp.sum(whitened_mean**2) - len(mean0)) + log_ratio


def frechet_gaussian(mean0: Any, covariance0: Any, mean1: Any, covariance1: Any) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians.

        W_2^2(N_0, N_1) = |m_0 - m_1|^2 + tr(S_0 + S_1 - 2 (S_0^1/2 S_1 S_0^1/2)^1/2)

    It is computed in float64 from eigenvalues of symmetric matrices. This is also accurate for singular covariances,
    which arise from fewer samples than dimensions. A general matrix square root of them could have imaginary parts.

    Args:
      mean0, mean1: means m_0 and m_1, `[dim]`.
      covariance0, covariance1: covariances S_0 and S_1, `[dim, dim]`, symmetric and positive semi-definite.

    Returns:
      The squared distance, in squared units of the variable.

    Raises:
      AssertionError: if the means differ in shape, or a covariance is not `[dim, dim]`.
    """
    arrays = [np.asarray(array, np.float64) for array in (mean0, mean1, covariance0, covariance1)]
    chex.assert_equal_shape(arrays[:2])
    chex.assert_shape(arrays[2:], (len(arrays[0]), len(arrays[0])))
    values, vectors = np.linalg.eigh(arrays[2])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ arrays[3] @ root), 0)).sum()
    distance = np.sum((arrays[0] - arrays[1]) ** 2) + np.trace(arrays[2]) + np.trace(arrays[3]) - 2 * cross
    return float(max(distance, 0.0))


def squared_distances(x: Array, y: Array) -> Array:
    """The squared distances |x_i - y_j|^2 between `[n, dim]` and `[m, dim]`, as `[n, m]` in float32 or a wider type."""
    x, y = tree.widen((x, y))
    centre = jax.lax.stop_gradient(y.mean(axis=0, keepdims=True))  # smaller numbers cancel less
    x, y = x - centre, y - centre
    products = jnp.matmul(x, y.T, precision="highest")  # TPUs would round the products, whose differences are small
    return jnp.maximum(jnp.sum(x**2, axis=-1)[:, None] + jnp.sum(y**2, axis=-1)[None] - 2 * products, 0.0)


def gaussian_kernel(scales: Sequence[float | Array]) -> PairKernel:
    """The Gaussian kernel k(x, y) = sum_s exp(-|x - y|^2 / (2 s^2)).

    Args:
      scales: the positive scales s, in units of x.

    Returns:
      The kernel `(x [n, dim], y [m, dim]) -> [n, m]`.
    """

    def kernel(x: Array, y: Array) -> Array:
        squares = squared_distances(x, y)
        return sum((jnp.exp(-squares / (2 * scale**2)) for scale in scales), jnp.zeros(()))

    return kernel


def polynomial_kernel(degree: int = 3, offset: float = 1.0) -> PairKernel:
    """The polynomial kernel k(x, y) = (x . y / dim + offset)^degree.

    With the default arguments it is the kernel of the kernel Inception distance (Binkowski et al., "Demystifying MMD
    GANs", ICLR 2018).

    Args:
      degree: degree of the polynomial.
      offset: constant that is added to the normalised inner product.

    Returns:
      The kernel `(x [n, dim], y [m, dim]) -> [n, m]`.
    """

    def kernel(x: Array, y: Array) -> Array:
        x, y = tree.widen((x, y))  # half precision overflows and cancels
        return (jnp.matmul(x, y.T, precision="highest") / x.shape[-1] + offset) ** degree

    return kernel


def mmd_squared(x: Array, y: Array, kernel: PairKernel, *, is_unbiased: bool = False, chunk_size: int = 1024) -> Array:
    """The squared maximum mean discrepancy of two samples.

        MMD^2 = mean_ij k(x_i, x_j) + mean_ij k(y_i, y_j) - 2 mean_ij k(x_i, y_j)

    Args:
      x, y: samples, `[n, dim]` and `[m, dim]`.
      kernel: a positive definite kernel k, such as `gaussian_kernel([1.0])`.
      is_unbiased: whether to leave out the pairs of a point with itself. The estimate is then unbiased and may be
        negative. Otherwise it is at least 0, and its mean is too large by about
        (E k(x, x) - E k(x, x')) (1/n + 1/m).
      chunk_size: number of rows of the kernel matrix that are in memory at once, also for the gradient.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes do not fit, there are too few points, or `chunk_size` is less than 1.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not (len(x) and len(y)):
        raise ValueError(f"x and y must be [num >= 1, dim] with the same dim; got {x.shape} and {y.shape}")
    if is_unbiased and min(len(x), len(y)) < 2:
        raise ValueError(f"is_unbiased needs two points of each sample; got {len(x)} and {len(y)}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1; got {chunk_size}")
    within = [_mean_of_pairs(z, z, kernel, chunk_size, is_unbiased) for z in (x, y)]
    return within[0] + within[1] - 2 * _mean_of_pairs(x, y, kernel, chunk_size, False)


def _mean_of_pairs(x: Array, y: Array, kernel: PairKernel, chunk_size: int, skips_diagonal: bool) -> Array:
    """The mean of k(x_i, y_j), over i != j if `skips_diagonal`, computed for one chunk of rows at a time."""

    @jax.checkpoint  # the gradient computes the kernel of a chunk again, so that it is not stored
    def sum_of_rows(block: tuple[Array, Array]) -> Array:
        rows, first = block
        values = kernel(rows, y)
        if skips_diagonal:
            values = jnp.where(first + jnp.arange(len(rows))[:, None] == jnp.arange(len(y))[None], 0.0, values)
        return values.astype(jnp.promote_types(values.dtype, jnp.float32)).sum()

    num_blocks = len(x) // chunk_size
    whole = num_blocks * chunk_size
    blocks = x[:whole].reshape(num_blocks, chunk_size, x.shape[1]), chunk_size * jnp.arange(num_blocks)
    total = jax.lax.map(sum_of_rows, blocks).sum() if num_blocks else jnp.zeros(())
    if whole < len(x):
        total += sum_of_rows((x[whole:], jnp.asarray(whole)))
    return total / (len(x) * (len(y) - skips_diagonal))


def _aligned(*arrays: Array | float) -> list[Array]:
    """Adds leading axes of length 1 so that all arrays have the same number of axes.

    This makes broadcasting explicit, for `jax_numpy_rank_promotion="raise"`.
    """
    ndim = max(jnp.ndim(array) for array in arrays)
    return [jnp.reshape(array, (1,) * (ndim - jnp.ndim(array)) + jnp.shape(array)) for array in arrays]
