"""Do the chains agree, and how many independent draws are they worth?

    R-hat = sqrt( (within-chain variance * (n-1)/n + between-chain variance / n) / within-chain variance )

On split chains (each cut in two, so that a drift shows as disagreement). The numbers come from `blackjax.diagnostics`;
what is added here is the splitting and the layout. Source: Gelman et al., "Bayesian data analysis", 3rd ed., 11.4.
"""

import jax.numpy as jnp

from bayesjax.types import Array, ArrayLike


def split_chains(chains: ArrayLike) -> Array:
    """Cuts each chain in two halves: `[num_chains, num_draws, ...]` to `[2 num_chains, num_draws // 2, ...]`."""
    half = chains.shape[1] // 2
    chains = jnp.asarray(chains)
    return jnp.concatenate([chains[:, :half], chains[:, half : 2 * half]])


def r_hat(chains: ArrayLike) -> Array:
    """Split R-hat of a scalar or an array of them; 1 at convergence, commonly accepted below 1.01 to 1.05.

    Args:
      chains: `[num_chains, num_draws >= 4, ...]`.

    Returns:
      `[...]`.

    Raises:
      ValueError: if there are fewer than four draws.
    """
    from blackjax.diagnostics import potential_scale_reduction

    _check(chains)
    return potential_scale_reduction(split_chains(chains))


def effective_sample_size(chains: ArrayLike) -> Array:
    """Effective number of independent draws in all chains together, from split chains: `[num_chains, num_draws, ...]`
    to `[...]`."""
    from blackjax.diagnostics import effective_sample_size as blackjax_effective_sample_size

    _check(chains)
    return blackjax_effective_sample_size(split_chains(chains))


def _check(chains: ArrayLike) -> None:
    if jnp.ndim(chains) < 2 or jnp.shape(chains)[1] < 4:
        raise ValueError(f"chains must be [num_chains, num_draws >= 4, ...]; got shape {jnp.shape(chains)}")
