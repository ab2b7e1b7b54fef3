"""Semi-supervised GAN: a discriminator over K real classes with logits m_1 .. m_K and a class "fake" with logit 0.

With S = sum_k exp m_k and l = log S,

    P(fake | x) = 1 / (1 + S)        log P(fake) = -softplus(l)
    P(real | x) = S / (1 + S)        log P(real) = -softplus(-l)
    P(y = k | x, real) = exp m_k / S         "conditional": softmax over the real classes
    P(y = k | x) = exp m_k / (1 + S)         "joint": softmax over K + 1 classes

For K = 1 this is the ordinary GAN with logit m_1. Sources: Salimans et al., "Improved techniques for training GANs",
NIPS 2016; Saatci & Wilson, "Bayesian GAN", NIPS 2017, which uses the conditional probabilities. Salimans et al. train
the generator by `feature_matching` instead of a loss of the logits. Read `posteriors/bayesian_gan.py` next.
"""

import chex
import jax
import jax.numpy as jnp

from bayesjax.types import Array


def log_prob_real(logits: Array) -> Array:
    """Log probability log P(real | x) = -softplus(-logsumexp(logits)) in nats, logits `[..., K]` to `[...]`."""
    return -jax.nn.softplus(-jax.nn.logsumexp(logits, axis=-1))


def log_prob_fake(logits: Array) -> Array:
    """Log probability log P(fake | x) = -softplus(logsumexp(logits)) in nats, logits `[..., K]` to `[...]`."""
    return -jax.nn.softplus(jax.nn.logsumexp(logits, axis=-1))


def log_prob_label(logits: Array, label: Array, reading: str = "conditional") -> Array:
    """Log probability of a label, conditional on a real example or joint with it.

        log P(label | x, real) = m_label - log S,    log P(label, real | x) = m_label - log(1 + S),    S = sum_k exp m_k

    Args:
      logits: m, `[..., K]`.
      label: integers in 0 .. K - 1, `[...]`. A label outside of the range gives NaN, which stops a run.
      reading: "conditional" for log P(label | x, real), or "joint" for log P(label, real | x).

    Returns:
      Log probabilities in nats, of shape `[...]`.

    Raises:
      ValueError: if `reading` is unknown, or the shapes do not match.
      AssertionError: if labels are not integers.
    """
    if reading not in ("conditional", "joint"):
        raise ValueError(f"reading must be 'conditional' or 'joint'; got {reading!r}")
    if logits.shape[:-1] != jnp.shape(label):
        raise ValueError(
            f"label must have the shape of logits without the last axis, {logits.shape[:-1]}; got {jnp.shape(label)}"
        )
    chex.assert_type(label, int)
    in_range = (label >= 0) & (label < logits.shape[-1])
    # A comparison instead of a gather, because the gradient of a gather is a scatter, which is sequential on TPUs.
    is_label = jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
    logit = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    if reading == "joint":
        log_normaliser = jax.nn.softplus(log_normaliser)
    return jnp.where(in_range, logit - log_normaliser, jnp.nan)


def class_probabilities(logits: Array) -> Array:
    """P(y | x, real), the softmax over the K real classes: logits `[..., K]` to probabilities `[..., K]`."""
    return jax.nn.softmax(logits, axis=-1)


def feature_matching(real_features: Array, fake_features: Array) -> Array:
    """Feature-matching loss of a batch of real examples x and a batch of generated examples G(z).

        loss = |mean f(x) - mean f(G(z))|^2 / F

    f are F features of the discriminator. Source: Salimans et al., "Improved techniques for training GANs", NIPS 2016,
    section 3.1. The division by F follows the authors' program for MNIST.

    Args:
      real_features: discriminator features of real examples, `[n, F]`.
      fake_features: discriminator features of generated examples, `[m, F]`.

    Returns:
      A scalar.

    Raises:
      AssertionError: if the features are not matrices with the same number of columns.
    """
    chex.assert_rank([real_features, fake_features], 2)
    chex.assert_equal_shape_suffix([real_features, fake_features], 1)
    return jnp.mean((real_features.mean(axis=0) - fake_features.mean(axis=0)) ** 2)
