"""Pruning by signal-to-noise ratio, which removes the weights whose posterior is compatible with 0.

    ratio_j = |mu_j| / sigma_j

mu_j and sigma_j are the posterior mean and standard deviation of weight j. The weights with the lowest ratios across
all layers are removed first. A removed weight is exactly 0 in every draw. Source: Blundell et al., "Weight uncertainty
in neural networks", ICML 2015, section 5.3, after Graves, "Practical variational inference for neural networks",
NeurIPS 2011. Read `experiments/bayes_by_backprop.py` next.
"""

import jax
import jax.numpy as jnp

from bayesjax.posteriors.mean_field import MeanFieldParams, scales
from bayesjax.types import Params


def signal_to_noise(variational: MeanFieldParams) -> Params:
    """The signal-to-noise ratio |mu| / sigma of every weight.

    mu and sigma are the posterior mean and standard deviation. In decibels, the ratio is 20 log10(|mu| / sigma).

    Args:
      variational: mean and rho of every weight.

    Returns:
      A tree shaped like the weights.
    """
    return jax.tree.map(lambda mu, sd: jnp.abs(mu) / sd, variational.mean, scales(variational))


def prune(variational: MeanFieldParams, fraction: float) -> tuple[MeanFieldParams, Params]:
    """Removes a fraction of all weights, those with the lowest signal-to-noise ratios.

    Args:
      variational: mean and rho of every weight.
      fraction: fraction of the weights to remove, in [0, 1]; their number is rounded down.

    Returns:
      The pruned posterior, and a pytree of booleans that is true for the weights that remain. Removed weights have mean
      and sigma 0, so entropy and KL of the pruned posterior are infinite. Use it for prediction only.

    Raises:
      ValueError: if `fraction` is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1]; got {fraction}")
    leaves, structure = jax.tree.flatten(signal_to_noise(variational))
    ratios = jnp.concatenate([leaf.ravel() for leaf in leaves])
    num_removed = int(fraction * ratios.size + 1e-9)  # 0.29 * 100 is slightly less than 29 in floats
    is_kept = jnp.ones(ratios.size, bool).at[jnp.argsort(ratios)[:num_removed]].set(False)
    pieces = jnp.split(is_kept, jnp.cumsum(jnp.array([leaf.size for leaf in leaves]))[:-1].tolist())
    mask = structure.unflatten([piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)])
    mean = jax.tree.map(lambda keep, mu: jnp.where(keep, mu, 0), mask, variational.mean)
    rho = jax.tree.map(lambda keep, value: jnp.where(keep, value, -jnp.inf), mask, variational.rho)
    return MeanFieldParams(mean, rho), mask
