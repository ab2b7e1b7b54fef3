"""Heteroscedastic likelihoods: the network predicts the variance of its target, the aleatoric uncertainty.

    regression        log N(y; f(x), exp s(x)) = -1/2 [ exp(-s) (y - f)^2 + s + log 2 pi ]
    classification    log 1/T sum_t softmax(f(x) + exp(s(x) / 2) eps_t)_y,   eps_t ~ N(0, I)

The log likelihoods of one example are functions of the network's outputs f(x) and s(x). They are computed in float32
for outputs in half precision. s is the log variance, which avoids divisions by 0. A constant s gives the homoscedastic
model. Without noise on the logits, the likelihood for classification reduces to `categorical_log_likelihood`. With a
posterior over the weights (`bayes_by_backprop`, `dropout`) the likelihoods give aleatoric and epistemic uncertainty.
Read `evaluation/uncertainty.py` next, which separates the two. Source: Kendall & Gal, "What uncertainties do we need in
Bayesian deep learning for computer vision?", NeurIPS 2017, equations 8 and 12.
"""

import math

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, PRNGKey


def gaussian_log_likelihood(mean: Array, log_variance: Array, target: Array) -> Array:
    """Gaussian log likelihood of one example, summed over the elements of its target y.

        log N(y; f, exp s) = -1/2 sum_j [ exp(-s_j) (y_j - f_j)^2 + s_j + log 2 pi ]

    Args:
      mean: predicted mean f, `[...]`.
      log_variance: logarithm s of the variance, `[...]` or a scalar.
      target: y, of the shape of the mean.

    Returns:
      A scalar, in nats.

    Raises:
      ValueError: if the shapes differ. Only a scalar variance is broadcast.
    """
    if jnp.shape(mean) != jnp.shape(target) or jnp.shape(log_variance) not in ((), jnp.shape(mean)):
        raise ValueError(
            f"mean and target must have one shape, log_variance the same or none; got {jnp.shape(mean)}, "
            f"{jnp.shape(target)} and {jnp.shape(log_variance)}"
        )
    mean, log_variance, target = tree.widen((mean, log_variance, target))
    square = jnp.exp(-log_variance) * (target - mean) ** 2
    return -0.5 * jnp.sum(square + log_variance + math.log(2 * math.pi))


def categorical_log_likelihood(logits: Array, label: Array) -> Array:
    """Log probability log softmax(logits)[label] of a label.

    It is computed without a gather, whose gradient is a scatter and slow on accelerators.

    Args:
      logits: logits of the classes, `[..., num_classes]`; -inf excludes a class.
      label: integer scalar in [0, num_classes), the same for all rows. Labels are not checked, because they may be
        traced. For a label outside of the range the result is 0.

    Returns:
      Log probabilities in nats, of shape `[...]`.

    Raises:
      AssertionError: if the label is not a scalar.
    """
    chex.assert_rank(label, 0)
    is_label = jnp.broadcast_to(jnp.arange(jnp.shape(logits)[-1]) == label, jnp.shape(logits))
    return jnp.sum(jnp.where(is_label, jax.nn.log_softmax(tree.widen(logits)), 0), axis=-1)


def noisy_logits_log_likelihood(
    logits: Array, log_variance: Array, label: Array, rng_key: PRNGKey, *, num_samples: int = 10
) -> Array:
    """Log likelihood of one label under Gaussian noise on the logits.

        log p(label) = log 1/T sum_t softmax(logits + exp(log_variance / 2) eps_t)[label],    eps_t ~ N(0, I)

    It is finite for any finite logits.

    Args:
      logits: logits of the classes without noise, `[num_classes]`.
      log_variance: log variance of the noise on each logit, `[num_classes]` or a scalar.
      label: integer scalar in [0, num_classes).
      rng_key: consumed.
      num_samples: T, the number of draws of the noise.

    Returns:
      A scalar, in nats.

    Raises:
      ValueError: if `num_samples` is not positive.
      AssertionError: if `logits` is not a vector or the label is not a scalar.
    """
    checks.count(num_samples=num_samples)
    chex.assert_rank([logits, label], [1, 0])
    logits, log_variance = tree.widen((logits, log_variance))  # noise drawn in half precision has a non-zero mean
    noise = jax.random.normal(rng_key, (num_samples, *logits.shape), logits.dtype)
    deviation = jnp.broadcast_to(jnp.exp(0.5 * log_variance), logits.shape)
    log_probabilities = categorical_log_likelihood(logits[None] + deviation[None] * noise, label)
    return jax.nn.logsumexp(log_probabilities) - math.log(num_samples)
