"""Aleatoric uncertainty, learned: a network that says how noisy its target is.

    regression        log N(y; f(x), exp s(x)) = -1/2 [ exp(-s) (y - f)^2 + s + log 2 pi ]
    classification    log 1/T sum_t softmax(f(x) + exp(s(x) / 2) eps_t)_y,   eps_t ~ N(0, I)

Both are log likelihoods of one example from what the network put out, computed in float32 where that is of half
precision. s = log variance, so that nothing is divided by 0, and a constant s is the homoscedastic model. Without noise
on the logits `categorical_log_likelihood` is left. With a posterior over the weights (`bayes_by_backprop`, `dropout`),
they give both uncertainties; `evaluation/uncertainty.py` splits them.
Source: Kendall & Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017,
equations 8 and 12.
"""

import math

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, PRNGKey


def gaussian_log_likelihood(mean: Array, log_variance: Array, target: Array) -> Array:
    """The density log N(target; mean, exp(log_variance)) of one example, summed over its elements.

    Args:
      mean: `[...]`.
      log_variance: `[...]` or a scalar.
      target: `[...]`, shaped like the mean.

    Raises:
      ValueError: if the shapes do not fit: nothing is broadcast but the variance.
    """
    if jnp.shape(mean) != jnp.shape(target) or jnp.shape(log_variance) not in ((), jnp.shape(mean)):
        raise ValueError(
            f"mean and target must have one shape, log_variance that or none; got {jnp.shape(mean)}, "
            f"{jnp.shape(target)} and {jnp.shape(log_variance)}"
        )
    mean, log_variance, target = tree.widen((mean, log_variance, target))
    square = jnp.exp(-log_variance) * (target - mean) ** 2
    return -0.5 * jnp.sum(square + log_variance + math.log(2 * math.pi))


def categorical_log_likelihood(logits: Array, label: Array) -> Array:
    """Log softmax(logits)[label] without a gather, whose gradient is a scatter: slow on accelerators.

    Args:
      logits: `[..., num_classes]`; -inf is a class that cannot be.
      label: integer scalar in [0, num_classes), the same for all. One outside cannot be seen under `jit`, and gives 0.

    Returns:
      `[...]`.
    """
    chex.assert_rank(label, 0)
    is_label = jnp.broadcast_to(jnp.arange(jnp.shape(logits)[-1]) == label, jnp.shape(logits))
    return jnp.sum(jnp.where(is_label, jax.nn.log_softmax(tree.widen(logits)), 0), axis=-1)


def noisy_logits_log_likelihood(
    logits: Array, log_variance: Array, label: Array, rng_key: PRNGKey, *, num_samples: int = 10
) -> Array:
    """The likelihood log 1/T sum_t softmax(logits + noise_t)[label] of one example; finite at any logits.

    Args:
      logits: `[num_classes]`.
      log_variance: of the noise on each logit, `[num_classes]` or a scalar.
      label: integer scalar.
      rng_key: of the noise.
      num_samples: T.

    Raises:
      ValueError: if `num_samples` is not positive.
    """
    checks.count(num_samples=num_samples)
    chex.assert_rank([logits, label], [1, 0])
    logits, log_variance = tree.widen((logits, log_variance))  # in half precision the noise would have a mean
    noise = jax.random.normal(rng_key, (num_samples, *logits.shape), logits.dtype)
    deviation = jnp.broadcast_to(jnp.exp(0.5 * log_variance), logits.shape)
    log_probabilities = categorical_log_likelihood(logits[None] + deviation[None] * noise, label)
    return jax.nn.logsumexp(log_probabilities) - math.log(num_samples)
