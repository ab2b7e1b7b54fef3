"""Bayes by Backprop: the negative evidence lower bound over weights, for any network and variational family.

    F(theta) = KL(q(w | theta) || p(w)) / N - 1/n sum_{i in batch} log p(y_i | x_i, w),   w ~ q(w | theta)

One draw of the weights serves the whole batch. A mean per example, so that the KL is weighted 1/N and an epoch counts
it once. Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, equations 1, 2 and 9.

Gradients of less variance, for the same bound: `num_samples` draws, in antithetic pairs with `reflect`; noise of its
own for each example with `models.flipout` or `models.local_reparameterisation`, whose `weights` are what `sample`
returns here. Families and divergences are in `posteriors/mean_field.py` and `posteriors/kl.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.objectives.batch import batch_mean
from bayesjax.types import Array, Numbered, Params, PRNGKey, PyTree, Schedule


def bayes_by_backprop(
    log_likelihood: Callable,
    sample: Callable[[Params, PRNGKey], Params],
    kl: Callable[[Params, Params], Array],
    *,
    num_data: int,
    num_samples: int = 1,
    reflect: Callable[[Params, Params], Params] | None = None,
    kl_weight: float | Schedule = 1.0,
) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """The loss of a weight posterior, to be minimised over its variational parameters.

    Args:
      log_likelihood: of one example, `(params, rng_key, example) -> scalar` or `(scalar, aux)`.
      sample: `(variational, rng_key) -> params`, differentiable in the first argument, e.g.
        `posteriors.mean_field().sample`; whatever the likelihood takes as its first argument.
      kl: `(variational, params) -> nats`, exact or an estimate at the weights drawn: `posteriors.kl_to_gaussian`,
        `kl_sampled` and others.
      num_data: N, the number of examples in the data set; of words or other terms where an example has many and its
        likelihood is a mean over them.
      num_samples: draws of the weights, averaged over.
      reflect: `(variational, params) -> params`, e.g. `posteriors.mean_field().reflect`: every second draw is then the
        reflection of the one before, which cancels what is odd in the noise.
      kl_weight: factor of the divergence: 1 for the bound, less for a tempered ("cold") one; or a function of the step,
        such as `blundell_kl_weights`, for batches that come as `types.Numbered` (`data.number_batches` makes them).

    Returns:
      `(variational, rng_key, batch) -> (loss, aux)`; aux has what the likelihood returned, and under these names "nll"
      (per example) and "kl" (of the weights, nats of the whole data set, not weighted).

    Raises:
      ValueError: if a count is not positive, `num_samples` is odd with `reflect`, or a number for `kl_weight` is
        negative; by the loss, if the likelihood of one example or the divergence is not a scalar, or `kl_weight` is a
        function and the batch not `Numbered`.
    """
    checks.count(num_data=num_data, num_samples=num_samples)
    if reflect is not None and num_samples % 2:
        raise ValueError(f"num_samples must be even for pairs of draws; got {num_samples}")
    if not callable(kl_weight):
        checks.non_negative(kl_weight=kl_weight)
    log_likelihoods = batch_mean(log_likelihood)
    divergence_of = checks.scalar_valued(kl, "kl")

    def at(variational: Params, weights: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        fit, aux = log_likelihoods(weights, rng_key, batch)
        return divergence_of(variational, weights), fit, aux

    def of_one_draw(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        weights_key, data_key = jax.random.split(rng_key)
        return at(variational, sample(variational, weights_key), data_key, batch)

    def of_a_pair(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        weights_key, *data_keys = jax.random.split(rng_key, 3)
        weights = sample(variational, weights_key)
        assert reflect is not None
        draws = weights, reflect(variational, weights)
        pair = [at(variational, draw, key, batch) for draw, key in zip(draws, data_keys, strict=True)]
        return jax.tree.map(lambda one, other: (one + other) / 2, *pair)

    def loss(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        weight, batch = _kl_weight(kl_weight, batch)
        of_draws, num = (of_one_draw, num_samples) if reflect is None else (of_a_pair, num_samples // 2)
        if num == 1:
            divergence, fit, aux = of_draws(variational, rng_key, batch)
        else:
            keys = jax.random.split(rng_key, num)
            draws = jax.vmap(of_draws, in_axes=(None, 0, None))(variational, keys, batch)
            divergence, fit, aux = jax.tree.map(lambda leaf: leaf.mean(axis=0), draws)
        return weight * divergence / num_data - fit, {**aux, "nll": -fit, "kl": divergence}

    return loss


def blundell_kl_weights(num_batches: int) -> Schedule:
    """The weights of the divergence that Blundell et al. recommend: early batches count it, late ones the data.

        M pi_i,   pi_i = 2^(M - i) / (2^M - 1),   i = 1 .. M the batch's place in its epoch

    relative to the uniform pi_i = 1/M. They sum to M over an epoch, so that it has the bound for its mean.
    Source: equation 9 of the same paper.

    Args:
      num_batches: M, in an epoch.

    Returns:
      `step -> weight`, for `bayes_by_backprop(kl_weight=...)`.

    Raises:
      ValueError: if `num_batches` is not positive.
    """
    checks.count(num_batches=num_batches)
    total = 1 - 2.0**-num_batches
    return lambda step: num_batches * jnp.exp2(-(1.0 + jnp.asarray(step) % num_batches)) / total


def _kl_weight(kl_weight: float | Schedule, batch: PyTree) -> tuple[Array | float, PyTree]:
    """The factor at this batch, and the batch without its number."""
    numbered = isinstance(batch, Numbered)
    if callable(kl_weight):
        if not numbered:
            raise ValueError("batch must be Numbered for a kl_weight that depends on the step: see data.number_batches")
        weight = kl_weight(batch.step[0])
        checks.number(kl_weight=weight)
        return weight, batch.batch
    return kl_weight, batch.batch if numbered else batch
