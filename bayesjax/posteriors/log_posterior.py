"""The log posterior of a network's weights, estimated on minibatches with the factor N/n.

    log p(w | D) = log p(w) + N/n sum_{i in batch} log p(y_i | x_i, w) + const

The sum over the n examples of a minibatch is scaled up to the N examples of the data set. The scale of the log density
then does not depend on the batch size, so the posterior can be sampled at temperature 1. The prior counts once.
`from_loss` turns a loss into a log density, and `as_loss` does the reverse. The log likelihood of one example, a log
prior and a loss must be scalars. Arrays raise a ValueError, because a mean over output axes would temper the posterior.
Read `kernels/sghmc.py` next.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Density, Params, Prior, PRNGKey, PyTree


def data_sum(values: Array, num_data: float) -> Array:
    """Unbiased estimate N/n sum_i values_i of a sum over all N examples, from the n examples of a batch.

    Args:
      values: one scalar for each example of the batch, `[n]`.
      num_data: N, the number of examples in the data set.

    Returns:
      A scalar.

    Raises:
      ValueError: if `values` does not have exactly one axis, since a mean over outputs would change the scale.
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
    """The log posterior density up to a constant, estimated on a minibatch.

        log p(w | D) = log p(w) + N/n sum_{i in batch} log p(y_i | x_i, w) + const

    w are the parameters, D is the data set of N examples, and n is the number of examples in a batch.

    Args:
      log_likelihood: the log likelihood of one example without a batch axis, `(params, rng_key, example) -> scalar` or
        `(scalar, aux)`. For a model with several outputs it is the sum over them.
      log_prior: log p(w), `params -> scalar`.
      num_data: N, the number of examples in the data set.
      chunk_size: number of examples processed at once, for batches whose activations do not fit into memory. Value and
        gradient are summed chunk by chunk, and each chunk is computed a second time for the gradient. None processes
        the whole batch at once.
      as_terms: whether to return the terms of the sum as an array `[1 + n]`: the log prior, and N/n times the log
        likelihood of each example. HMC and NUTS then compute differences term by term, which keeps precision where the
        sum exceeds 1e5.

    Returns:
      `(params, rng_key, batch) -> (scalar or terms, aux)`, with `aux` averaged over the batch. Every leaf of `batch`
      has a leading batch axis.

    Raises:
      ValueError: if `num_data` or `chunk_size` is not an integer of at least 1. The returned density raises it if the
        likelihood of one example or the prior is not a scalar, or the leaves of `batch` differ in the length of their
        leading axis.
    """
    checks.count(num_data=num_data)
    if chunk_size is not None:
        checks.count(chunk_size=chunk_size)
    checked_likelihood = checks.scalar_valued(log_likelihood, "log_likelihood of one example")
    log_prior = checks.scalar_valued(log_prior, "log_prior")

    def logdensity(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.local_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        if chunk_size is None:
            out = jax.vmap(checked_likelihood, in_axes=(None, 0, 0))(params, keys, batch)
        else:
            of_example = jax.checkpoint(lambda key_and_example: checked_likelihood(params, *key_and_example))
            out = jax.lax.map(of_example, (keys, batch), batch_size=chunk_size)
        values, aux = tree.value_and_aux(out)
        if as_terms:
            value = jnp.concatenate([jnp.reshape(log_prior(params), 1), num_data / values.size * tree.widen(values)])
        else:
            value = log_prior(params) + data_sum(values, num_data)
        return value, jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return logdensity


def from_loss(loss: Density, log_prior: Prior, num_data: float) -> Density:
    """The log density that corresponds to a loss, so that any optimised objective can be sampled.

        log density(w) = log prior(w) - N loss(w)

    For a cross entropy this is the log posterior. For the losses of a game (`objectives.adversarial.GAMES`) it is the
    conditional of a player in the Bayesian GAN, with exp(-loss) as the likelihood of one example.

    Args:
      loss: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, a mean per example.
      log_prior: `params -> scalar`.
      num_data: N, the number of examples over which the log likelihood is summed; the loss is a mean over them.

    Returns:
      `(params, rng_key, batch) -> (scalar, aux)`.

    Raises:
      ValueError: if `num_data` is not positive. The returned density raises it if the loss or the prior is not a
        scalar.
    """
    checks.positive(num_data=num_data)
    loss, log_prior = checks.scalar_valued(loss, "loss"), checks.scalar_valued(log_prior, "log_prior")

    def logdensity(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        value, aux = tree.value_and_aux(loss(params, rng_key, batch))
        return log_prior(params) - num_data * tree.widen(value), aux

    return logdensity


def as_loss(logdensity: Density, num_data: float) -> Density:
    """The loss -log p(w) / N. Its minimum is the mode of the density p.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, not the terms of
        `log_posterior(as_terms=True)`.
      num_data: N, the number of examples over which the log likelihood is summed.

    Returns:
      `(params, rng_key, batch) -> (scalar, aux)`.

    Raises:
      ValueError: if `num_data` is not positive. The returned loss raises it if the log density is not a scalar.
    """
    checks.positive(num_data=num_data)
    logdensity = checks.scalar_valued(logdensity, "logdensity")

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        value, aux = tree.value_and_aux(logdensity(params, rng_key, batch))
        return -value / num_data, aux

    return loss
