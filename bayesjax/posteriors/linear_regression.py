"""Bayesian linear regression: the posterior and the evidence of a linear layer with Gaussian noise, in closed form.

For targets y `[num]`, inputs X `[num, dim]` and the noise precision b, with weights w ~ N(0, I) a priori,

    w | y ~ N(m, A^-1),    A = I + b X^T X,    m = b A^-1 X^T y
    log p(y | X) = num/2 log(b / 2 pi) - 1/2 (b |y - X m|^2 + |m|^2) - 1/2 log det A

A sampler of a network's other weights can integrate out the output layer with `log_evidence`, whose inputs are the
activations of the layer before (`experiments/hmc_regression.py`). Another scale of the weights is a factor of X.

Source: Bishop, "Pattern recognition and machine learning", 2006, sections 3.3 and 3.5.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    precision = jnp.exp(log_precision)
    factor = jnp.linalg.cholesky(jnp.eye(dim) + precision * inputs.T @ inputs)
    mean = precision * jax.scipy.linalg.cho_solve((factor, True), inputs.T @ targets)
    fixed = jax.lax.stop_gradient(mean)  # the exponent is stationary in m, so its gradient needs none of m
    exponent = precision * jnp.sum((targets - inputs @ fixed) ** 2) + jnp.sum(fixed**2)
    log_determinant = 2 * jnp.sum(jnp.log(jnp.diag(factor)))
    log_evidence = 0.5 * (num * (log_precision - jnp.log(2 * jnp.pi)) - exponent - log_determinant)
    return LinearRegression(mean, factor, log_evidence)


def sample_linear_regression(rng_key: PRNGKey, posterior: LinearRegression) -> Array:
    """Draws the weights `[dim]` from their posterior."""
    noise = jax.random.normal(rng_key, posterior.mean.shape)
    return posterior.mean + jax.scipy.linalg.solve_triangular(posterior.factor.T, noise)
