"""A normal of its own for every weight: the variational posterior of Bayes by Backprop, for any network.

    q(w | mu, rho) = prod_j N(w_j; mu_j, sigma_j^2),   sigma_j = log(1 + exp rho_j)
    w = mu + sigma eps,   eps ~ N(0, I)                                              (not mu + sigma^2 eps)

Weights are a pytree and the family is one over pytrees, so that a Bayesian MLP, CNN or RNN is the plain Flax module,
applied to a draw. Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, section 3.2. Read
`objectives/bayes_by_backprop.py` next.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import tree
from bayesjax.posteriors.softplus import inverse_softplus, softplus
from bayesjax.types import Array, Params, Prior, PRNGKey


class MeanFieldParams(NamedTuple):
    """What is optimised.

    Attributes:
      mean: mu, shaped like the weights.
      rho: sigma = softplus(rho), shaped like the weights.
    """

    mean: Params
    rho: Params


class MeanField(NamedTuple):
    """The family, as functions.

    Attributes:
      init: `params -> MeanFieldParams`, with those weights as means.
      sample: `(variational, rng_key) -> params`, one draw of all weights.
      log_prob: `(variational, params) -> scalar`, log q of weights.
    """

    init: Callable[[Params], MeanFieldParams]
    sample: Callable[[MeanFieldParams, PRNGKey], Params]
    log_prob: Callable[[MeanFieldParams, Params], Array]


def mean_field(scale: float = 0.05) -> MeanField:
    """Independent normals whose standard deviations start at `scale`.

    Raises:
      ValueError: if `scale` is not positive and finite.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive and finite; got {scale}")

    def init(params: Params) -> MeanFieldParams:
        return MeanFieldParams(params, jax.tree.map(lambda w: jnp.full_like(w, inverse_softplus(scale)), params))

    def sample(variational: MeanFieldParams, rng_key: PRNGKey) -> Params:
        noise = tree.normal_like(rng_key, variational.mean)
        return jax.tree.map(lambda mu, sd, eps: mu + sd * eps, variational.mean, scales(variational), noise)

    def log_prob(variational: MeanFieldParams, params: Params) -> Array:
        def leaf(mu: Array, sd: Array, w: Array) -> Array:
            return -jnp.sum(0.5 * ((w - mu) / sd) ** 2 + jnp.log(sd)) - 0.5 * w.size * math.log(2 * math.pi)

        return tree.total(jax.tree.map(leaf, variational.mean, scales(variational), params))

    return MeanField(init, sample, log_prob)


def scales(variational: MeanFieldParams) -> Params:
    """The standard deviation of every weight."""
    return jax.tree.map(softplus, variational.rho)


def entropy(variational: MeanFieldParams) -> Array:
    """-E log q(w) in nats: sum_j log sigma_j + (1 + log 2 pi) / 2."""
    logs = tree.total(jax.tree.map(lambda sd: jnp.sum(jnp.log(sd)), scales(variational)))
    return logs + tree.num_elements(variational.mean) * 0.5 * (1 + math.log(2 * math.pi))


def kl_to_gaussian(scale: float = 1.0) -> Callable[[MeanFieldParams, Params], Array]:
    """KL(q || N(0, scale^2 I)) in closed form, `(variational, weights) -> nats`; the weights drawn are not used.

    Raises:
      ValueError: if `scale` is not positive and finite.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive and finite; got {scale}")

    def divergence(variational: MeanFieldParams, weights: Params) -> Array:
        del weights

        def leaf(mu: Array, sd: Array) -> Array:
            return jnp.sum(0.5 * (sd**2 + mu**2) / scale**2 - jnp.log(sd)) + mu.size * (math.log(scale) - 0.5)

        return tree.total(jax.tree.map(leaf, variational.mean, scales(variational)))

    return divergence


def kl_sampled(log_prior: Prior) -> Callable[[MeanFieldParams, Params], Array]:
    """An unbiased estimate of KL(q || p) for any prior: -H(q) - log p(w) at the weights drawn.

    The entropy is exact, where Blundell et al. have log q(w) at the same weights: what is random is log p alone.
    """
    return lambda variational, weights: -entropy(variational) - log_prior(weights)
