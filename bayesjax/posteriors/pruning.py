"""Pruning by signal-to-noise: remove the weights whose posterior cannot tell them from 0.

    |mu_j| / sigma_j,   the lowest of them first, across all layers

A removed weight is 0 with no noise, in every draw. Source: Blundell et al., "Weight uncertainty in neural networks",
ICML 2015, section 5.3, after Graves, "Practical variational inference for neural networks", NeurIPS 2011.
"""

import jax
import jax.numpy as jnp

from bayesjax.posteriors.mean_field import MeanFieldParams, scales
from bayesjax.types import Params


def signal_to_noise(variational: MeanFieldParams) -> Params:
    """|mu| / sigma of every weight, as a ratio (20 log10 of it is in decibel)."""
    return jax.tree.map(lambda mu, sd: jnp.abs(mu) / sd, variational.mean, scales(variational))


def prune(variational: MeanFieldParams, fraction: float) -> tuple[MeanFieldParams, Params]:
    """Removes that fraction of all weights, those of the lowest signal-to-noise.

    Args:
      variational: the posterior.
      fraction: of the number of weights, rounded down to a whole number of them; in [0, 1].

    Returns:
      The posterior with the removed weights at exactly 0 in every draw (their sigma is 0, so that entropy and KL are
      infinite: it is to predict with), and what is left as a pytree of booleans.

    Raises:
      ValueError: if `fraction` is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1]; got {fraction}")
    leaves, structure = jax.tree.flatten(signal_to_noise(variational))
    ratios = jnp.concatenate([leaf.ravel() for leaf in leaves])
    num_removed = int(fraction * ratios.size + 1e-9)  # 0.29 of 100 is 29, in floats, too
    kept = jnp.ones(ratios.size, bool).at[jnp.argsort(ratios)[:num_removed]].set(False)
    pieces = jnp.split(kept, jnp.cumsum(jnp.array([leaf.size for leaf in leaves]))[:-1].tolist())
    mask = structure.unflatten([piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)])
    mean = jax.tree.map(lambda keep, mu: jnp.where(keep, mu, 0), mask, variational.mean)
    rho = jax.tree.map(lambda keep, value: jnp.where(keep, value, -jnp.inf), mask, variational.rho)
    return MeanFieldParams(mean, rho), mask
