"""The log posterior of a network's weights, and the one place that knows the factor N/n.

    log p(w | D) = log p(w) + N/n sum_{i in batch} log p(y_i | x_i, w) + const

The minibatch sum is scaled up to the whole data set, so that the value does not depend on the batch size n and the
density can be sampled at temperature 1. The prior is counted once. `from_loss` does the same for what comes as a loss,
and `as_loss` turns it back. The log likelihood of one example, a log prior and a loss are scalars: a ValueError refuses
an array, because its mean over output axes would temper the posterior.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Density, Params, Prior, PRNGKey, PyTree


def data_sum(values: Array, num_data: float) -> Array:
    """N/n times the sum of a batch's n values: an unbiased estimate of the sum over N data.

    Args:
      values: one scalar for each example, `[n]`.
      num_data: N.

    Raises:
      ValueError: if `values` does not have one axis, since the mean over outputs would change the scale.
    """
    checks.rank("[n], one scalar for each example", 1, values=values)
    return num_data * tree.widen(values).mean()


def log_posterior(
    log_likelihood: Callable,
    log_prior: Prior,
    num_data: int,
    *,
    chunk_size: int | None = None,
    as_terms: bool = False,
) -> Density:
    """Log posterior density up to a constant, estimated on a minibatch.

    Args:
      log_likelihood: the log likelihood of one example without a batch axis, `(params, rng_key, example) -> scalar` or
        `(scalar, aux)`, summed over the outputs of a model that has several.
      log_prior: `params -> scalar`.
      num_data: N, the number of examples in the data set.
      chunk_size: examples seen at once, for batches whose activations do not fit into memory: the value and, in a
        second pass over each chunk, its gradient are added up chunk by chunk. None sees all at once.
      as_terms: whether the value is returned as its terms `[1 + n]`, the prior and N/n times each example's: samplers
        with a decision then subtract term by term, which matters where the sum is beyond 1e5 (`kernels.hmc`).

    Returns:
      `(params, rng_key, batch) -> (scalar or terms, aux)`, `aux` averaged over the batch; every leaf of `batch` has a
      leading batch axis.

    Raises:
      ValueError: if `num_data` or `chunk_size` is no integer of at least 1; by the density, if the likelihood of one
        example or the prior is an array with axes, or the leaves of `batch` differ in their leading axis.
    """
    checks.count(num_data=num_data)
    if chunk_size is not None:
        checks.count(chunk_size=chunk_size)
    of_one = checks.scalar_valued(log_likelihood, "log_likelihood of one example")
    of_prior = checks.scalar_valued(log_prior, "log_prior")

    def logdensity(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.local_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        if chunk_size is None:
            out = jax.vmap(of_one, in_axes=(None, 0, 0))(params, keys, batch)
        else:
            again = jax.checkpoint(lambda example: of_one(params, *example))
            out = jax.lax.map(again, (keys, batch), batch_size=chunk_size)
        values, aux = tree.value_and_aux(out)
        if as_terms:
            value = jnp.concatenate([jnp.reshape(of_prior(params), 1), num_data / values.size * tree.widen(values)])
        else:
            value = of_prior(params) + data_sum(values, num_data)
        return value, jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return logdensity


def from_loss(loss: Density, log_prior: Prior, num_data: float) -> Density:
    """The log density of which a loss is the data's part: what makes any optimised objective a sampled one.

        log p(w) = log prior(w) - N loss(w)

    For a cross entropy it is the log posterior; for the losses of a game (`objectives.adversarial.GAMES`) it is a
    player's conditional in the Bayesian GAN, with exp(-loss) for the likelihood of one example.

    Args:
      loss: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, a mean per example.
      log_prior: `params -> scalar`.
      num_data: N, how many examples the loss counts for.

    Raises:
      ValueError: if `num_data` is not positive; by the density, if the loss or the prior is an array with axes.
    """
    checks.positive(num_data=num_data)
    of_data, of_prior = checks.scalar_valued(loss, "loss"), checks.scalar_valued(log_prior, "log_prior")

    def logdensity(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        value, aux = tree.value_and_aux(of_data(params, rng_key, batch))
        return of_prior(params) - num_data * tree.widen(value), aux

    return logdensity


def as_loss(logdensity: Density, num_data: float) -> Density:
    """Minus a log density per example, for an optimiser that is to find its mode: undoes `from_loss`.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; not the terms of `log_posterior(as_terms=
        True)`.
      num_data: N, how many examples it counts.

    Raises:
      ValueError: if `num_data` is not positive; by the loss, if the log density is an array with axes.
    """
    checks.positive(num_data=num_data)
    evaluate = checks.scalar_valued(logdensity, "logdensity")

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        value, aux = tree.value_and_aux(evaluate(params, rng_key, batch))
        return -value / num_data, aux

    return loss
