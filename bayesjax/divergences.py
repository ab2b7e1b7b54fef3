"""Divergences between distributions, in nats.

    KL(p || q) = sum_i p_i log(p_i / q_i) >= 0, asymmetric
    JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q)/2, in [0, ln 2]

Closed forms for discrete and Gaussian distributions. (The notes print JS once without its factors 1/2.)
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr

from bayesjax.types import Array


def kl_categorical(p: Array, q: Array) -> Array:
    """KL(p || q) of probabilities on the last axis, `[..., n]` to `[...]`; infinite where q = 0 < p."""
    chex.assert_equal_shape([p, q])
    return rel_entr(p, q).sum(axis=-1)


def js_categorical(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence of probabilities on the last axis, `[..., n]` to `[...]`."""
    m = (p + q) / 2
    return (kl_categorical(p, m) + kl_categorical(q, m)) / 2


def entropy_categorical(p: Array) -> Array:
    """Entropy of probabilities on the last axis, `[..., n]` to `[...]`."""
    return jax.scipy.special.entr(p).sum(axis=-1)


def kl_diagonal_gaussian(mean0: Array, scale0: Array, mean1: Array | float = 0.0, scale1: Array | float = 1.0) -> Array:
    """KL(N(mean0, diag scale0^2) || N(mean1, diag scale1^2)), summed over the last axis: `[..., n]` to `[...]`."""
    variance_ratio = (scale0 / scale1) ** 2
    squared_distance = ((mean0 - mean1) / scale1) ** 2
    return 0.5 * jnp.sum(variance_ratio + squared_distance - 1 - jnp.log(variance_ratio), axis=-1)
