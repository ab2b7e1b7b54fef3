"""Posterior sharpening: a variational posterior whose draws take a step down the gradient of the batch they are for.

    phi ~ q(phi),   theta ~ N(phi - eta * g, s^2 I),   g = -grad_phi 1/n sum_{i in batch} log p(y_i | x_i, phi)

    F = KL(q(phi) || p(phi)) / N + |eta * g|^2 / (2 s^2 n) - 1/n sum_{i in batch} log p(y_i | x_i, theta)

The prior is p(phi) N(theta | phi, s^2 I), so that the second term is the divergence of theta's two normals, of which
every batch of n terms has its own theta. The step sizes eta, one for each weight, are learned with q. Source:
Fortunato, Blundell & Vinyals, "Bayesian recurrent neural networks", 2017. The step needs labels. Predictions are
made with phi alone, as there; the model's own would add N(0, s^2 I).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import axes, checks, tree
from bayesjax.objectives.batch import batch_mean
from bayesjax.types import Array, Params, PRNGKey, PyTree


class SharpenedPosterior(NamedTuple):
    """What is optimised.

    Attributes:
      variational: of q(phi), whatever `sample` takes.
      step_sizes: eta, shaped like the weights.
    """

    variational: Params
    step_sizes: Params


def posterior_sharpening(
    log_likelihood: Callable,
    sample: Callable[[Params, PRNGKey], Params],
    kl: Callable[[Params, Params], Array],
    *,
    num_data: int,
    num_in_batch: int,
    scale: float = 0.02,
    kl_weight: float = 1.0,
    through_gradient: bool = False,
) -> Callable[[SharpenedPosterior, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """The loss of a sharpened posterior, to be minimised over a `SharpenedPosterior`.

    Args:
      log_likelihood, sample, kl, num_data: as in `bayes_by_backprop`.
      num_in_batch: n, the number of examples in a batch (of words, if `num_data` is a number of words).
      scale: s, the standard deviation of theta about its centre.
      kl_weight: factor of both divergences; below 1, a tempered posterior.
      through_gradient: whether the loss is differentiated through g as well, for second derivatives: the gradient of F
        as it stands. Otherwise g is taken for a constant, at half the cost.

    Returns:
      `(sharpened, rng_key, batch) -> (loss, aux)`; aux has what the likelihood returned at theta, and "nll" (per
      example, at theta), "kl" (of phi, nats of the whole data set) and "sharpening" (the second divergence, nats of a
      batch).

    Raises:
      ValueError: if a count is not positive, `scale` not positive and finite, or `kl_weight` negative; by the loss, if
        the likelihood of one example or the divergence is not a scalar.
    """
    checks.count(num_data=num_data, num_in_batch=num_in_batch)
    checks.positive(scale=scale)
    checks.non_negative(kl_weight=kl_weight)
    log_likelihoods = batch_mean(log_likelihood)
    divergence_of = checks.scalar_valued(kl, "kl")

    def loss(position: SharpenedPosterior, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        phi_key, theta_key, phi_data_key, theta_data_key = jax.random.split(rng_key, 4)
        phi = sample(position.variational, phi_key)
        gradient = jax.grad(lambda phi: -log_likelihoods(phi, phi_data_key, batch)[0])(phi)
        gradient = axes.mean(gradient, axes.DATA)
        if not through_gradient:
            gradient = jax.lax.stop_gradient(gradient)
        steps = jax.tree.map(jnp.multiply, position.step_sizes, gradient)
        noise = tree.normal_like(theta_key, phi)
        theta = jax.tree.map(lambda w, step, xi: w - step + scale * xi, phi, steps, noise)
        fit, aux = log_likelihoods(theta, theta_data_key, batch)
        sharpening, divergence = tree.dot(steps, steps) / (2 * scale**2), divergence_of(position.variational, phi)
        value = kl_weight * (divergence / num_data + sharpening / num_in_batch) - fit
        return value, {**aux, "nll": -fit, "kl": divergence, "sharpening": sharpening}

    return loss
