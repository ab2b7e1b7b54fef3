"""Bayes by Backprop: the negative evidence lower bound over weights, for any network and variational family.

    F(theta) = KL(q(w | theta) || p(w)) / N - 1/n sum_{i in batch} log p(y_i | x_i, w),   w ~ q(w | theta)

One draw of the weights serves the whole batch. A mean per example, so that the KL is weighted 1/N and an epoch counts
it once. Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, equations 1 and 2.
"""

from collections.abc import Callable

import jax

from bayesjax.objectives.batch import batch_mean
from bayesjax.types import Array, Params, PRNGKey, PyTree


def bayes_by_backprop(
    log_likelihood: Callable,
    sample: Callable[[Params, PRNGKey], Params],
    kl: Callable[[Params, Params], Array],
    *,
    num_data: int,
    num_samples: int = 1,
) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """The loss of a weight posterior, to be minimised over its variational parameters.

    Args:
      log_likelihood: of one example, `(params, rng_key, example) -> scalar` or `(scalar, aux)`.
      sample: `(variational, rng_key) -> params`, differentiable in the first argument, e.g.
        `posteriors.mean_field().sample`.
      kl: `(variational, params) -> nats`, exact or an estimate at the weights drawn: `posteriors.kl_to_gaussian` or
        `kl_sampled`.
      num_data: N, the number of examples in the data set.
      num_samples: draws of the weights, averaged over.

    Returns:
      `(variational, rng_key, batch) -> (loss, aux)`; aux has what the likelihood returned, and under these names "nll"
      (per example) and "kl" (of the weights, nats of the whole data set).

    Raises:
      ValueError: if a count is not positive.
    """
    if num_data < 1 or num_samples < 1:
        raise ValueError(f"num_data and num_samples must be at least 1; got {num_data} and {num_samples}")
    log_likelihoods = batch_mean(log_likelihood)

    def of_one_draw(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        weights_key, data_key = jax.random.split(rng_key)
        weights = sample(variational, weights_key)
        fit, aux = log_likelihoods(weights, data_key, batch)
        divergence = kl(variational, weights)
        return divergence / num_data - fit, {**aux, "nll": -fit, "kl": divergence}

    def loss(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        if num_samples == 1:
            return of_one_draw(variational, rng_key, batch)
        draws = jax.vmap(of_one_draw, in_axes=(None, 0, None))(
            variational, jax.random.split(rng_key, num_samples), batch
        )
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), draws)

    return loss
