"""KL(q || p) from the mean-field family to a prior over weights, in closed form or estimated from a draw.

    KL(N(mu, sigma^2) || N(0, s^2))        = log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2
    KL(N(mu, sigma^2) || Laplace(0, b))    = log(2 b) - 1/2 log(2 pi e sigma^2) + E|w| / b,
                                      E|w| = sigma sqrt(2 / pi) exp(-mu^2 / (2 sigma^2)) + mu (1 - 2 Phi(-mu / sigma))
    KL(q || p)                             = -H(q) - E_q log p(w)                  estimated from one draw, for any p

H(q) is the entropy of q, and Phi the standard normal distribution function. The closed forms are per weight and are
summed over all weights. Each function returns a divergence `(variational, weights) -> nats`, the form that
`objectives.bayes_by_backprop` takes. Closed forms ignore the argument `weights`. `by_path` combines different
divergences for different layers. Read `objectives/bayes_by_backprop.py` next.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.posteriors.mean_field import MeanFieldParams, Moments, Perturbed, entropy, scales
from bayesjax.posteriors.priors import fan_in_scales, log_of_scale
from bayesjax.types import Array, Params, Prior

Divergence = Callable[[MeanFieldParams, Params], Array]
"""`(variational, weights) -> KL(q || p)` in nats; `weights` is a draw from q, a `Perturbed` or `Moments`."""


def kl_to_gaussian(scale: float = 1.0) -> Divergence:
    """KL divergence to the prior `priors.gaussian(scale)` in closed form.

        KL(q || N(0, s^2 I)) = sum_j [ log(s / sigma_j) + (sigma_j^2 + mu_j^2) / (2 s^2) - 1/2 ]

    mu_j and sigma_j are the mean and standard deviation of weight j under q.

    Args:
      scale: s, the standard deviation of the prior.

    Returns:
      A divergence `(variational, weights) -> nats`.

    Raises:
      ValueError: if `scale` is not positive and finite.
    """
    checks.positive(scale=scale)
    return _to_gaussians(lambda params: jax.tree.map(lambda _: scale, params))


def kl_to_fan_in_gaussian(scale: float = 1.0, *, out_axis: int | None = None) -> Divergence:
    """KL divergence to the prior `priors.fan_in_gaussian(scale, out_axis=out_axis)` in closed form.

        KL(q || p) = sum_j [ log(s_j / sigma_j) + (sigma_j^2 + mu_j^2) / (2 s_j^2) - 1/2 ]

    mu_j and sigma_j are the mean and standard deviation of weight j under q, and s_j is its standard deviation under
    the prior, from `priors.fan_in_scales`.

    Args:
      scale: standard deviation of the prior where the fan-in is 1.
      out_axis: as in `priors.fan_in_scales`; 0 for PyTorch's and Equinox's `[out, in, ...]`.

    Returns:
      A divergence `(variational, weights) -> nats`.

    Raises:
      ValueError: if `scale` is not positive and finite. The returned divergence raises it in the cases that
        `priors.fan_in_scales` states.
    """
    checks.positive(scale=scale)
    return _to_gaussians(lambda params: fan_in_scales(params, scale, out_axis=out_axis))


def _to_gaussians(prior_scales: Callable[[Params], Params]) -> Divergence:
    def divergence(variational: MeanFieldParams, weights: Params) -> Array:
        del weights

        def leaf(mu: Array, sd: Array, scale: float) -> Array:
            return jnp.sum(0.5 * (sd**2 + mu**2) / scale**2 - jnp.log(sd)) + mu.size * (log_of_scale(scale) - 0.5)

        wide = tree.widen(variational)
        return tree.sum_leaves(jax.tree.map(leaf, wide.mean, scales(wide), prior_scales(wide.mean)))

    return divergence


def apply_to_entry(divergence: Divergence, name: str) -> Callable[[Params, Params], Array]:
    """Applies a divergence to one entry of a dictionary, as `mean_field.apply_to_entry` does for the family.

    Args:
      divergence: the divergence of the entry.
      name: key of the entry.

    Returns:
      A divergence `(variational, weights) -> nats` of dictionaries, which ignores the other entries.
    """
    return lambda variational, weights: divergence(variational[name], weights[name])


def kl_to_laplace(scale: float = 1.0) -> Divergence:
    """KL divergence to the prior `priors.laplace_prior(scale)` in closed form.

        KL(q || p) = sum_j [ log(2 b) - 1/2 log(2 pi e sigma_j^2) + E_q |w_j| / b ]

    sigma_j is the standard deviation of weight w_j under q. The docstring of the module states E_q |w_j|.

    Args:
      scale: b, in the density exp(-|w| / b) / (2 b) of each weight.

    Returns:
      A divergence `(variational, weights) -> nats`.

    Raises:
      ValueError: if `scale` is not positive and finite.
    """
    checks.positive(scale=scale)

    def divergence(variational: MeanFieldParams, weights: Params) -> Array:
        del weights

        def leaf(mu: Array, sd: Array) -> Array:
            ratio = mu / sd
            distance = sd * math.sqrt(2 / math.pi) * jnp.exp(-0.5 * ratio**2) + mu * jax.lax.erf(ratio / math.sqrt(2))
            return jnp.sum(distance / scale - jnp.log(sd)) + mu.size * (
                log_of_scale(2 * scale) - 0.5 * (1 + math.log(2 * math.pi))
            )

        wide = tree.widen(variational)
        return tree.sum_leaves(jax.tree.map(leaf, wide.mean, scales(wide)))

    return divergence


def kl_sampled(log_prior: Prior) -> Divergence:
    """Unbiased estimate of the KL divergence to any prior p, from one draw of the weights.

        KL(q || p) ~ -H(q) - log p(w),    w ~ q

    The entropy H(q) is exact. Blundell et al. estimate it by -log q(w) at the same draw, which has a larger variance.

    Args:
      log_prior: `weights -> log p(weights)`, a scalar in nats.

    Returns:
      A divergence `(variational, weights) -> nats`.

    Raises:
      ValueError: the returned divergence raises it if the weights are `Moments` rather than a draw, or the prior does
        not return a scalar.
    """
    log_prior = checks.scalar_valued(log_prior, "log_prior")

    def divergence(variational: MeanFieldParams, weights: Params | Perturbed) -> Array:
        if isinstance(weights, Moments):
            raise ValueError(
                "weights must be a draw; got Moments, for which only divergences in closed form are defined"
            )
        if isinstance(weights, Perturbed):
            weights = jax.tree.map(jnp.add, weights.mean, weights.noise)
        return -entropy(variational) - log_prior(weights)

    return divergence


def by_path(divergences: Mapping[str, Divergence]) -> Divergence:
    """The sum of different divergences for different parts of the network.

    A leaf belongs to the first pattern that its path matches (`tree.match_paths`). For example:

        by_path({"Dense_0/*": kl_to_laplace(0.1), "*/bias": kl_to_gaussian(10.0), "*": kl_sampled(scale_mixture())})

    Args:
      divergences: a divergence for each pattern of paths, whose keys are joined by "/".

    Returns:
      A divergence `(variational, weights) -> nats`.

    Raises:
      ValueError: the returned divergence raises it if a leaf matches no pattern, a pattern is the first match of no
        leaf, or the divergence of a part is not a scalar.
    """

    def divergence(variational: MeanFieldParams, weights: Params) -> Array:
        paths = list(tree.leaves_by_path(variational.mean))
        chosen = tree.match_paths(paths, tuple(divergences), "divergences")

        def part(name: str, values: Params) -> dict[str, Array]:
            leaves = zip(paths, jax.tree.leaves(values), chosen, strict=True)
            return {path: leaf for path, leaf, pattern in leaves if pattern == name}

        def part_of_draw(name: str) -> Params:
            if isinstance(weights, (Perturbed, Moments)):
                return type(weights)(*(part(name, half) for half in weights))
            return part(name, weights)

        total = jnp.zeros(())
        for name, divergence_of_part in divergences.items():
            params = MeanFieldParams(part(name, variational.mean), part(name, variational.rho))
            total += checks.scalar(divergence_of_part(params, part_of_draw(name)), f"the divergence of {name}")
        return total

    return divergence
