"""Posterior sharpening: a variational posterior whose draws are moved by a gradient step on the loss of their batch.

    phi ~ q(phi),   theta ~ N(phi - eta * g, s^2 I),   g = -grad_phi 1/n sum_{i in batch} log p(y_i | x_i, phi)

    F = KL(q(phi) || p(phi)) / N + |eta * g|^2 / (2 s^2 n) - 1/n sum_{i in batch} log p(y_i | x_i, theta)

The prior is p(phi) N(theta | phi, s^2 I). The second term is the KL divergence between the two normal distributions of
theta, its posterior and its prior. It is divided by n, because each batch of n examples has its own theta. The step
sizes eta, one for each weight, are learned together with q. Source: Fortunato, Blundell & Vinyals, "Bayesian recurrent
neural networks", 2017. The gradient step needs labels, so predictions use phi as the weights, as in the paper. The
model itself would add noise from N(0, s^2 I) to phi. Read `experiments/bayesian_rnn.py` next.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import axes, checks, tree
from bayesjax.objectives.batch import batch_mean
from bayesjax.types import Array, Params, PRNGKey, PyTree


class SharpenedPosterior(NamedTuple):
    """Parameters of a sharpened posterior.

    Attributes:
      variational: parameters of q(phi), the first argument of `sample`.
      step_sizes: the step sizes eta of the gradient step, a pytree with the structure and shapes of the weights.
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
    """Negative evidence lower bound of a sharpened posterior, to be minimised over a `SharpenedPosterior`.

        F = KL(q(phi) || p(phi)) / N + |eta * g|^2 / (2 s^2 n) - 1/n sum_i log p(y_i | x_i, theta)

    phi is a draw from q(phi), and theta a draw from N(phi - eta * g, s^2 I) with step sizes eta. The gradient of the
    loss is g = -grad_phi 1/n sum_i log p(y_i | x_i, phi), and i runs over the examples of the batch.

    Args:
      log_likelihood: `(params, rng_key, example) -> scalar` or `(scalar, aux)`, for one example.
      sample: `(variational, rng_key) -> phi`, differentiable in the first argument.
      kl: `(variational, phi) -> nats`, the divergence KL(q(phi) || p(phi)), exact or an estimate at phi.
      num_data: N, the number of examples in the data set.
      num_in_batch: n, the number of examples in a batch (the number of words, if `num_data` counts words).
      scale: s, the standard deviation of theta around its mean.
      kl_weight: weight of both divergences; below 1 for a tempered posterior.
      through_gradient: whether the loss is differentiated through g, which needs second derivatives and gives the exact
        gradient of F. Otherwise g is treated as a constant, at half the cost.

    Returns:
      `(position, rng_key, batch) -> (loss, aux)`. `aux` contains the aux of the likelihood at theta, "nll" (nats per
      example, at theta), "kl" (of phi, nats for the whole data set) and "sharpening" (the second divergence, nats for a
      batch).

    Raises:
      ValueError: if a count is not positive, `scale` is not positive and finite, or `kl_weight` is negative. The
        returned loss raises it if the likelihood of one example or the divergence is not a scalar.
    """
    checks.count(num_data=num_data, num_in_batch=num_in_batch)
    checks.positive(scale=scale)
    checks.non_negative(kl_weight=kl_weight)
    log_likelihoods = batch_mean(log_likelihood)
    scalar_kl = checks.scalar_valued(kl, "kl")

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
        sharpening, divergence = tree.dot(steps, steps) / (2 * scale**2), scalar_kl(position.variational, phi)
        value = kl_weight * (divergence / num_data + sharpening / num_in_batch) - fit
        return value, {**aux, "nll": -fit, "kl": divergence, "sharpening": sharpening}

    return loss
