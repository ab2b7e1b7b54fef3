"""Mean-field normals over weights: the variational posterior of Bayes by Backprop, for any network.

    q(w | mu, rho) = prod_j N(w_j; mu_j, sigma_j^2),   sigma_j = log(1 + exp rho_j)
    w = mu + sigma eps,   eps ~ N(0, I)

The family is defined over pytrees of weights, so a Bayesian MLP, CNN or RNN is the plain Flax module applied to a draw.
Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, section 3.2. Read `kl.py` next, which has
the divergences from a prior, and then `objectives/bayes_by_backprop.py`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.posteriors.softplus import inverse_softplus, softplus
from bayesjax.types import Array, Params, PRNGKey


class MeanFieldParams(NamedTuple):
    """The variational parameters of the mean-field family.

    Attributes:
      mean: mu, shaped like the weights.
      rho: rho, shaped like the weights; the standard deviations are sigma = softplus(rho).
    """

    mean: Params
    rho: Params


class Perturbed(NamedTuple):
    """A draw of the weights as the sum of its mean and its noise, for `models.flipout`.

    Attributes:
      mean: mu, shaped like the weights.
      noise: sigma eps, shaped like the weights; the weights are mean + noise.
    """

    mean: Params
    noise: Params


class Moments(NamedTuple):
    """The mean and scale of the weights, for `models.local_reparameterisation`, which samples activations.

    Attributes:
      mean: mu, shaped like the weights.
      scale: the standard deviation sigma, shaped like the weights.
    """

    mean: Params
    scale: Params


class MeanField(NamedTuple):
    """The functions of a mean-field family. With `apply_to_entry`, they act on one entry of a dictionary.

    Attributes:
      init: `params -> MeanFieldParams`, with the given weights as means.
      sample: `(variational, rng_key) -> params`, one draw of all weights.
      log_prob: `(variational, params) -> scalar`, log q(w) in nats.
      reflect: `(variational, params) -> params`, the antithetic draw 2 mu - w of a draw w or of a `Perturbed`.
      perturb: `(variational, rng_key) -> Perturbed`, one draw as its mean and its noise.
      moments: `(variational, rng_key) -> Moments`; the key is not used.
    """

    init: Callable[[Params], Any]
    sample: Callable[[Any, PRNGKey], Params]
    log_prob: Callable[[Any, Params], Array]
    reflect: Callable[[Any, Params], Params]
    perturb: Callable[[Any, PRNGKey], Any]
    moments: Callable[[Any, PRNGKey], Any]


def mean_field(scale: float = 0.05) -> MeanField:
    """The family of independent normals over all weights.

        q(w | mu, rho) = prod_j N(w_j; mu_j, sigma_j^2),   sigma_j = log(1 + exp rho_j)

    Args:
      scale: initial standard deviation of every weight, positive.

    Returns:
      The functions of the family.

    Raises:
      ValueError: if `scale` is not positive and finite. `reflect` raises it if its second argument is a `Moments`.
    """
    checks.positive(scale=scale)

    def init(params: Params) -> MeanFieldParams:
        return MeanFieldParams(params, jax.tree.map(lambda w: jnp.full_like(w, inverse_softplus(scale)), params))

    def sample(variational: MeanFieldParams, rng_key: PRNGKey) -> Params:
        noise = tree.normal_like(rng_key, variational.mean)
        return jax.tree.map(lambda mu, sd, eps: mu + sd * eps, variational.mean, scales(variational), noise)

    def log_prob(variational: MeanFieldParams, params: Params) -> Array:
        def leaf(mu: Array, sd: Array, w: Array) -> Array:
            return -jnp.sum(0.5 * ((w - mu) / sd) ** 2 + jnp.log(sd)) - 0.5 * w.size * math.log(2 * math.pi)

        wide = tree.widen(variational)
        return tree.sum_leaves(jax.tree.map(leaf, wide.mean, scales(wide), tree.widen(params)))

    def reflect(variational: MeanFieldParams, params: Params) -> Params:
        if isinstance(params, Moments):
            raise ValueError("params must be a draw; got Moments, which cannot be reflected")
        if isinstance(params, Perturbed):
            return Perturbed(params.mean, jax.tree.map(jnp.negative, params.noise))
        return jax.tree.map(lambda mu, w: 2 * mu - w, variational.mean, params)

    def perturb(variational: MeanFieldParams, rng_key: PRNGKey) -> Perturbed:
        noise = tree.normal_like(rng_key, variational.mean)
        return Perturbed(variational.mean, jax.tree.map(jnp.multiply, scales(variational), noise))

    def moments(variational: MeanFieldParams, rng_key: PRNGKey) -> Moments:
        del rng_key
        return Moments(variational.mean, scales(variational))

    return MeanField(init, sample, log_prob, reflect, perturb, moments)


def apply_to_entry(family: MeanField, name: str) -> MeanField:
    """Applies a family to one entry of a dictionary, such as a network's weights.

    The other entries, such as the precision of the noise, are optimised as point estimates. They are the same in every
    draw.

    Args:
      family: the family of the entry.
      name: key of the entry.

    Returns:
      A family over dictionaries.
    """

    def draw_entry(draw: Callable) -> Callable:
        return lambda variational, rng_key: {**variational, name: draw(variational[name], rng_key)}

    return MeanField(
        init=lambda params: {**params, name: family.init(params[name])},
        sample=draw_entry(family.sample),
        log_prob=lambda variational, params: family.log_prob(variational[name], params[name]),
        reflect=lambda variational, params: {**params, name: family.reflect(variational[name], params[name])},
        perturb=draw_entry(family.perturb),
        moments=draw_entry(family.moments),
    )


def scales(variational: MeanFieldParams) -> Params:
    """The standard deviation sigma = softplus(rho) of every weight, shaped like the weights.

    Args:
      variational: mean and rho of every weight.
    """
    return jax.tree.map(softplus, variational.rho)


def entropy(variational: MeanFieldParams) -> Array:
    """The entropy -E log q(w) = sum_j [log sigma_j + (1 + log 2 pi) / 2] of the mean-field family in nats, a scalar.

    Args:
      variational: mean and rho of every weight.
    """
    logs = tree.sum_leaves(jax.tree.map(lambda sd: jnp.sum(jnp.log(sd)), scales(tree.widen(variational))))
    return logs + tree.num_elements(variational.mean) * 0.5 * (1 + math.log(2 * math.pi))
