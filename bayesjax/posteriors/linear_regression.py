"""Bayesian linear regression: the posterior and the evidence of a linear layer with Gaussian noise, in closed form.

For targets y `[num]`, inputs X `[num, dim]` and the noise precision b, with weights w ~ N(0, I) a priori,

    w | y ~ N(m, A^-1),    A = I + b X^T X,    m = b A^-1 X^T y
    log p(y | X) = num/2 log(b / 2 pi) - 1/2 (b |y - X m|^2 + |m|^2) - 1/2 log det A

A sampler of a network's other weights can integrate out the output layer with `log_evidence`, whose inputs are the
activations of the layer before (`experiments/hmc_regression.py`). Another scale of the weights is a factor of X.

Activations make A ill-conditioned: its condition number exceeds 1e7 where the noise is small. The Cholesky
factor of A in float32 then gives gradients with errors of a tenth and more, or does not exist. With B = [sqrt(b) X; I],
A = B^T B is therefore factorised in two steps. L is the factor of A + s I with a small shift s, and R the factor of
L^-1 A L^-T, which is computed from B L^-T and is well-conditioned. Hence A = (L R) (L R)^T for any L, and no gradient
passes through L.

Sources: Bishop, "Pattern recognition and machine learning", 2006, sections 3.3 and 3.5; Fukaya et al., "Shifted
Cholesky QR for computing the QR factorization of ill-conditioned matrices", SIAM Journal on Scientific Computing 42,
2020.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from bayesjax.types import Array, ArrayLike, PRNGKey


class LinearRegression(NamedTuple):
    """The posterior of the weights, and the evidence of the targets.

    Attributes:
      mean: m, `[dim]`.
      factor: lower Cholesky factor of the precision matrix A, `[dim, dim]`.
      log_evidence: log p(y | X) in nats, a scalar.
    """

    mean: Array
    factor: Array
    log_evidence: Array


def linear_regression(inputs: ArrayLike, targets: ArrayLike, log_precision: ArrayLike) -> LinearRegression:
    """The posterior of a linear layer with prior N(0, I), and its evidence, which is differentiable in all arguments.

    Args:
      inputs: X, `[num, dim]`, with a column of ones for a bias.
      targets: y, `[num]`.
      log_precision: log b, a scalar.

    Raises:
      ValueError: if the shapes differ from these.
    """
    inputs, targets, log_precision = jnp.asarray(inputs), jnp.asarray(targets), jnp.asarray(log_precision)
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or log_precision.ndim:
        raise ValueError(
            "inputs must be [num, dim], targets [num] and log_precision a scalar; "
            f"got {inputs.shape}, {targets.shape} and {log_precision.shape}"
        )
    num, dim = inputs.shape
    scale = jnp.exp(0.5 * log_precision)
    rows = jnp.concatenate([scale * inputs, jnp.eye(dim)])
    padded = jnp.concatenate([scale * targets, jnp.zeros(dim)])
    first = jax.lax.stop_gradient(_shifted_factor(rows.T @ rows))
    orthogonal = solve_triangular(first, rows.T, lower=True).T  # nearly so: its columns have the Gram matrix R R^T
    second = jnp.linalg.cholesky(orthogonal.T @ orthogonal)
    coefficients = cho_solve((second, True), orthogonal.T @ padded)
    # The exponent is stationary in the coefficients, so its gradient needs none of them.
    residuals = padded - orthogonal @ jax.lax.stop_gradient(coefficients)
    log_determinant = 2 * jnp.sum(jnp.log(jnp.diag(first)) + jnp.log(jnp.diag(second)))
    log_evidence = 0.5 * (num * (log_precision - jnp.log(2 * jnp.pi)) - jnp.sum(residuals**2) - log_determinant)
    return LinearRegression(solve_triangular(first.T, coefficients), first @ second, log_evidence)


def _shifted_factor(matrix: Array) -> Array:
    """The Cholesky factor of a matrix plus a shift of 10 rounding errors of its trace, so that it exists."""
    shift = 10 * jnp.finfo(matrix.dtype).eps * jnp.trace(matrix)
    return jnp.linalg.cholesky(matrix + shift * jnp.eye(len(matrix), dtype=matrix.dtype))


def sample_linear_regression(rng_key: PRNGKey, posterior: LinearRegression) -> Array:
    """Draws the weights `[dim]` from their posterior."""
    noise = jax.random.normal(rng_key, posterior.mean.shape)
    return posterior.mean + solve_triangular(posterior.factor.T, noise)
