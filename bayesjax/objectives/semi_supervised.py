"""A discriminator of K classes and "fake", in K logits: the classes' m_1 .. m_K, and 0 for fake.

With S = sum_k exp m_k and l = log S,

    P(fake | x) = 1 / (1 + S)        log P(fake) = -softplus(l)
    P(real | x) = S / (1 + S)        log P(real) = -softplus(-l)
    P(y = k | x, real) = exp m_k / S         the conditional reading: softmax over the real classes
    P(y = k | x) = exp m_k / (1 + S)         the joint reading: softmax over K + 1 classes

For K = 1 this is the plain GAN with logit m_1. Source: Salimans et al., "Improved techniques for training GANs", NIPS
2016, and Saatci & Wilson, "Bayesian GAN", NIPS 2017, who use the conditional reading. The former's generator does not
play against the logits but has the discriminator's features match in the mean: `feature_matching`.
"""

import chex
import jax
import jax.numpy as jnp

from bayesjax.types import Array


def log_prob_real(logits: Array) -> Array:
    """Log P(real | x): logits `[..., K]` to `[...]`."""
    return -jax.nn.softplus(-jax.nn.logsumexp(logits, axis=-1))


def log_prob_fake(logits: Array) -> Array:
    """Log P(fake | x): logits `[..., K]` to `[...]`."""
    return -jax.nn.softplus(jax.nn.logsumexp(logits, axis=-1))


def log_prob_label(logits: Array, label: Array, reading: str = "conditional") -> Array:
    """Log P(label | x, real) or, with `reading="joint"`, log P(label, real | x).

    Args:
      logits: `[..., K]`.
      label: `[...]` integers in 0 .. K - 1. A label outside gives NaN, which stops a run, rather than a wrong class.
      reading: "conditional" or "joint".

    Raises:
      ValueError: if `reading` is neither, or the shapes do not match.
    """
    if reading not in ("conditional", "joint"):
        raise ValueError(f"reading must be 'conditional' or 'joint'; got {reading!r}")
    if logits.shape[:-1] != jnp.shape(label):
        raise ValueError(
            f"label must have the shape of logits less the last axis, {logits.shape[:-1]}; got {jnp.shape(label)}"
        )
    chex.assert_type(label, int)
    in_range = (label >= 0) & (label < logits.shape[-1])
    # A comparison, not a gather: the gradient of a gather is a scatter, which TPUs run one example after the other.
    is_label = jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
    logit = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    if reading == "joint":
        log_normaliser = jax.nn.softplus(log_normaliser)
    return jnp.where(in_range, logit - log_normaliser, jnp.nan)


def class_probabilities(logits: Array) -> Array:
    """P(y | x, real): softmax over the K real classes, `[..., K]`."""
    return jax.nn.softmax(logits, axis=-1)


def feature_matching(real_features: Array, fake_features: Array) -> Array:
    """|E f(x) - E f(G(z))|^2 / F: of two batches of features `[n, F]`, not of one example.

    Source: Salimans et al. (2016), section 3.1; the mean over features is that of their program for MNIST.
    """
    chex.assert_rank([real_features, fake_features], 2)
    chex.assert_equal_shape_suffix([real_features, fake_features], 1)
    return jnp.mean((real_features.mean(axis=0) - fake_features.mean(axis=0)) ** 2)
