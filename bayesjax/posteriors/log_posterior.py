"""The log posterior of a network's weights, and the one place that knows the factor N/n.

    log p(w | D) = log p(w) + N/n sum_{i in batch} log p(y_i | x_i, w) + const

The minibatch sum is scaled up to the whole data set, so that the value does not depend on the batch size n and the
density can be sampled at temperature 1. The prior is counted once.
"""

from collections.abc import Callable

import jax

from bayesjax import axes, tree
from bayesjax.types import Array, Density, Params, Prior, PRNGKey, PyTree


def data_sum(values: Array, num_data: float) -> Array:
    """N/n times the sum of a batch's n values: an unbiased estimate of the sum over N data. Any shape to a scalar."""
    return num_data * values.mean()


def log_posterior(log_likelihood: Callable, log_prior: Prior, num_data: int) -> Density:
    """Log posterior density up to a constant, estimated on a minibatch.

    Args:
      log_likelihood: of one example, `(params, rng_key, example) -> scalar` or `(scalar, aux)`.
      log_prior: `params -> scalar`.
      num_data: N, the number of examples in the data set.

    Returns:
      `(params, rng_key, batch) -> (scalar, aux)`, `aux` averaged over the batch; every leaf of `batch` has a leading
      batch axis.

    Raises:
      ValueError: if `num_data` is not positive.
    """
    if num_data < 1:
        raise ValueError(f"num_data must be at least 1; got {num_data}")

    def logdensity(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.own_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        out = jax.vmap(log_likelihood, in_axes=(None, 0, 0))(params, keys, batch)
        values, aux = out if isinstance(out, tuple) else (out, {})
        return log_prior(params) + data_sum(values, num_data), jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return logdensity
