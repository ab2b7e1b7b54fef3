"""Block Gibbs sampling of two blocks of variables, each drawn whole given the other.

    z ~ p(z | x),    x <- p(x | z)

It keeps p(x) = sum_z p(x, z) and accepts every move. With the conditionals of a Boltzmann machine it is the negative
phase of contrastive divergence; with the encoder and the decoder of a VAE, its pseudo-Gibbs chain. The batch of a step
is the parameters of the two conditionals, so that the same chains follow a machine that is being learnt
(`objectives/boltzmann.py`) or a ladder of tempered ones (`parallel_tempering.py`). Source: Geman & Geman, "Stochastic
relaxation, Gibbs distributions, and the Bayesian restoration of images", 1984.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax.types import Array, Conditional, Kernel, Params, PRNGKey


class BlockGibbsState(NamedTuple):
    """State of `block_gibbs`.

    Attributes:
      position: x, the block that the chain carries.
    """

    position: Array


class BlockGibbsInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      other: z, the other block, as it was drawn between the two positions.
      distance: mean absolute difference of the two positions, over the elements; for binary units, the share that
        changed.
    """

    other: Array
    distance: Array


def block_gibbs(other: Conditional, position: Conditional) -> Kernel:
    """Samples two blocks in turn.

    Args:
      other: `(params, x) -> p(z | x)`.
      position: `(params, z) -> p(x | z)`.

    Returns:
      A kernel of one chain whose state is a `BlockGibbsState` and whose info is a `BlockGibbsInfo`. The batch of `step`
      is `params`. Run many chains with `kernels.particles`.
    """

    def init(x: Array, rng_key: PRNGKey) -> BlockGibbsState:
        del rng_key
        return BlockGibbsState(jnp.asarray(x))

    def step(rng_key: PRNGKey, state: BlockGibbsState, batch: Params) -> tuple[BlockGibbsState, BlockGibbsInfo]:
        other_key, position_key = jax.random.split(rng_key)
        z = other(batch, state.position).sample(seed=other_key)
        x = position(batch, z).sample(seed=position_key).astype(state.position.dtype)
        return BlockGibbsState(x), BlockGibbsInfo(z, jnp.mean(jnp.abs(x - state.position)))

    return Kernel(init, step)
