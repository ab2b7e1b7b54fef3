"""The Laplace approximation of the last layer: a Gaussian posterior around a trained network.

The last layer maps features phi(x) of the previous layers to outputs f = phi W + b, and log p(y | f) is the log
likelihood. The generalised Gauss-Newton approximation of the negative Hessian of the log posterior in W and b is

    P = sum_i (phi_i, 1)(phi_i, 1)' x L_i + prior precision,    L_i = -d^2 log p(y_i | f_i) / df df'

and the posterior is N(mode, P^-1), with all other layers fixed at the mode. The symbol x is the Kronecker product. L is
diag(p) - p p' for a softmax with probabilities p, and 1 / s^2 for a Gaussian of variance s^2. For these two likelihoods
P is the exact Hessian. Sources: MacKay, "A practical Bayesian framework for backpropagation networks", 1992; Kristiadi,
Hein & Hennig, "Being Bayesian, even just a bit, fixes overconfidence in ReLU networks", ICML 2020; Daxberger et al.,
"Laplace redux", 2021. Read `evaluation/predictive.py` next for predictions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, ArrayLike, PRNGKey, PyTree


class LastLayerPosterior(NamedTuple):
    """A Gaussian posterior N(mode, P^-1) over the weights of a last layer.

    Attributes:
      kernel: kernel at the mode, `[features, outputs]`.
      bias: bias at the mode, `[outputs]`.
      factor: lower Cholesky factor of the precision matrix P, `[dim, dim]` with dim = (features + 1) outputs. The rows
        of the kernel come first and the bias last.
    """

    kernel: Array
    bias: Array
    factor: Array


def last_layer_laplace(
    log_likelihood: Callable[[Array, PyTree], Array],
    kernel: Array,
    bias: Array,
    features: ArrayLike,
    targets: PyTree,
    prior_precision: tuple[float, float],
    *,
    chunk_size: int = 256,
) -> LastLayerPosterior:
    """The Gaussian approximation N(mode, P^-1) of the posterior of a last layer.

        P = sum_i (phi_i, 1)(phi_i, 1)' x L_i + prior precision,    L_i = -d^2 log p(y_i | f_i) / df df'

    phi_i are the features and y_i the target of training example i. f_i are the outputs of the layer at the mode, and
    the symbol x is the Kronecker product.

    Args:
      log_likelihood: log p(y | f) as `(outputs [outputs], target) -> scalar`, for one example without a batch axis.
      kernel: kernel of the last layer at the mode, `[features, outputs]`.
      bias: bias of the last layer at the mode, `[outputs]`.
      features: inputs of the last layer for the training data, `[num, features]`.
      targets: targets of the training data, leaves `[num, ...]`.
      prior_precision: prior precisions of the elements of the kernel and of the bias.
      chunk_size: number of examples whose Hessians are computed at once.

    Returns:
      The posterior, for `sample_last_layer`.

    Raises:
      ValueError: if the shapes do not fit, a precision is not positive, or the likelihood of one example is not a
        scalar.
    """
    num_features, num_outputs = kernel.shape
    if features.ndim != 2 or features.shape[1] != num_features or bias.shape != (num_outputs,):
        raise ValueError(
            f"features must be [num, {num_features}] and bias [{num_outputs}] for a kernel {kernel.shape}; "
            f"got {features.shape} and {bias.shape}"
        )
    kernel_precision, bias_precision = prior_precision
    for precision in prior_precision:
        checks.positive(prior_precision=precision)
    if tree.leading_axis(targets, "targets") != len(features):
        raise ValueError(f"targets must have one entry for each of {len(features)} rows of features")

    dim = (num_features + 1) * num_outputs
    total = jnp.zeros((num_features + 1, num_outputs) * 2)
    hessian = jax.hessian(checks.scalar_valued(log_likelihood, "log_likelihood of one example"))
    for start in range(0, len(features), chunk_size):
        part = jnp.asarray(features[start : start + chunk_size])
        chunk_targets = jax.tree.map(lambda leaf, start=start: jnp.asarray(leaf[start : start + chunk_size]), targets)
        curvature = -jax.vmap(hessian)(part @ kernel + bias[None], chunk_targets)
        extended = jnp.concatenate([part, jnp.ones((len(part), 1), part.dtype)], axis=1)
        total += jnp.einsum("na,nb,nkl->akbl", extended, extended, curvature, optimize=True)
    prior = jnp.concatenate(
        [jnp.full(num_features * num_outputs, kernel_precision), jnp.full(num_outputs, bias_precision)]
    )
    return LastLayerPosterior(kernel, bias, jnp.linalg.cholesky(total.reshape(dim, dim) + jnp.diag(prior)))


def sample_last_layer(posterior: LastLayerPosterior, rng_key: PRNGKey) -> tuple[Array, Array]:
    """Draws the weights of a last layer from their posterior.

    Args:
      posterior: from `last_layer_laplace`.
      rng_key: consumed.

    Returns:
      The kernel `[features, outputs]` and the bias `[outputs]`.
    """
    num_features, num_outputs = posterior.kernel.shape
    noise = jax.random.normal(rng_key, (len(posterior.factor),))
    deviation = jax.scipy.linalg.solve_triangular(posterior.factor, noise, trans="T", lower=True)
    deviation = deviation.reshape(num_features + 1, num_outputs)
    return posterior.kernel + deviation[:-1], posterior.bias + deviation[-1]
