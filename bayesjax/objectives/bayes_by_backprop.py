"""Bayes by Backprop: the negative evidence lower bound over weights, for any network and variational family.

    F(theta) = KL(q(w | theta) || p(w)) / N - 1/n sum_{i in batch} log p(y_i | x_i, w),   w ~ q(w | theta)

The same draw w of the weights is used for all n examples of a batch. The loss is a mean over examples, so the KL has
weight 1/N for N examples in the data set, and counts once in each epoch. Source: Blundell et al., "Weight uncertainty
in neural networks", ICML 2015, equations 1, 2 and 9.

The variance of the gradient can be reduced without changing the bound. One way is to average over `num_samples` draws,
in antithetic pairs with `reflect`. Another is separate noise for each example with `models.flipout` or
`models.local_reparameterisation`, whose argument `weights` is then returned by `sample`. Read
`posteriors/mean_field.py` and `posteriors/kl.py` for variational families and divergences.
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
    """Negative evidence lower bound over weights, to be minimised over variational parameters.

        F(theta) = KL(q(w | theta) || p(w)) / N - 1/n sum_i log p(y_i | x_i, w),    w ~ q(w | theta)

    theta are the variational parameters, p(w) is the prior, and i runs over the n examples of a batch.

    Args:
      log_likelihood: `(params, rng_key, example) -> scalar` or `(scalar, aux)`, for one example.
      sample: `(variational, rng_key) -> params`, differentiable in the first argument, such as
        `posteriors.mean_field().sample`. It returns the first argument of the likelihood.
      kl: `(variational, params) -> nats`, exact or an estimate at the drawn weights, such as
        `posteriors.kl_to_gaussian` or `posteriors.kl_sampled`.
      num_data: N, the number of examples in the data set. If the likelihood of an example is a mean over terms, such as
        words, N is the number of terms.
      num_samples: number of draws of the weights to average over.
      reflect: `(variational, params) -> params`, such as `posteriors.mean_field().reflect`. Every second draw is then
        the reflection of the previous one, which cancels the terms of the gradient that are odd in the noise.
      kl_weight: weight of the divergence: 1 for the bound, less for a tempered ("cold") posterior. It may be a function
        of the step, such as `blundell_kl_weights`, for batches of type `types.Numbered` (see `data.number_batches`).

    Returns:
      `(variational, rng_key, batch) -> (loss, aux)`. `aux` contains the aux of the likelihood, "nll" (nats per example)
      and "kl" (nats for the whole data set, without the weight).

    Raises:
      ValueError: if a count is not positive, `num_samples` is odd with `reflect`, or `kl_weight` is negative. The
        returned loss raises it if the likelihood of one example or the divergence is not a scalar, or if `kl_weight` is
        a function but the batch is not `Numbered`.
    """
    checks.count(num_data=num_data, num_samples=num_samples)
    if reflect is not None and num_samples % 2:
        raise ValueError(f"num_samples must be even if reflect is given; got {num_samples}")
    if not callable(kl_weight):
        checks.non_negative(kl_weight=kl_weight)
    log_likelihoods = batch_mean(log_likelihood)
    scalar_kl = checks.scalar_valued(kl, "kl")

    def evaluate(variational: Params, weights: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        fit, aux = log_likelihoods(weights, rng_key, batch)
        return scalar_kl(variational, weights), fit, aux

    def evaluate_draw(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        weights_key, data_key = jax.random.split(rng_key)
        return evaluate(variational, sample(variational, weights_key), data_key, batch)

    def evaluate_pair(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, Array, PyTree]:
        weights_key, *data_keys = jax.random.split(rng_key, 3)
        weights = sample(variational, weights_key)
        assert reflect is not None
        draws = weights, reflect(variational, weights)
        pair = [evaluate(variational, draw, key, batch) for draw, key in zip(draws, data_keys, strict=True)]
        return jax.tree.map(lambda one, other: (one + other) / 2, *pair)

    def loss(variational: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        weight, batch = _kl_weight(kl_weight, batch)
        evaluate_one, num = (evaluate_draw, num_samples) if reflect is None else (evaluate_pair, num_samples // 2)
        if num == 1:
            divergence, fit, aux = evaluate_one(variational, rng_key, batch)
        else:
            keys = jax.random.split(rng_key, num)
            draws = jax.vmap(evaluate_one, in_axes=(None, 0, None))(variational, keys, batch)
            divergence, fit, aux = jax.tree.map(lambda leaf: leaf.mean(axis=0), draws)
        return weight * divergence / num_data - fit, {**aux, "nll": -fit, "kl": divergence}

    return loss


def blundell_kl_weights(num_batches: int) -> Schedule:
    """Weights of the divergence that decrease within an epoch, as Blundell et al. recommend.

        weight_i = M pi_i,   pi_i = 2^(M - i) / (2^M - 1),   i = 1 .. M: index of the batch in its epoch

    The factor M makes the weights relative to the uniform pi_i = 1/M. The weights of an epoch add up to M, so the mean
    loss of an epoch is the bound. Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, equation
    9.

    Args:
      num_batches: M, the number of batches in an epoch.

    Returns:
      `step -> weight`, for `bayes_by_backprop(kl_weight=...)`.

    Raises:
      ValueError: if `num_batches` is not positive.
    """
    checks.count(num_batches=num_batches)
    total = 1 - 2.0**-num_batches
    return lambda step: num_batches * jnp.exp2(-(1.0 + jnp.asarray(step) % num_batches)) / total


def _kl_weight(kl_weight: float | Schedule, batch: PyTree) -> tuple[Array | float, PyTree]:
    """The weight of the divergence at this batch, and the batch without its step."""
    is_numbered = isinstance(batch, Numbered)
    if callable(kl_weight):
        if not is_numbered:
            raise ValueError("batch must be Numbered if kl_weight is a function of the step; see data.number_batches")
        weight = kl_weight(batch.step[0])
        checks.number(kl_weight=weight)
        return weight, batch.batch
    return kl_weight, batch.batch if is_numbered else batch
