"""Block Gibbs sampling of two blocks of variables, each drawn whole given the other.

    z ~ p(z | x),    x <- p(x | z)

The chain leaves p(x) = sum_z p(x, z) invariant, and every move is accepted. With the conditionals of a Boltzmann
machine, it is the negative phase of contrastive divergence. With the encoder and the decoder of a VAE, it is the VAE's
pseudo-Gibbs chain. The batch of a step consists of the parameters of the two conditionals. Chains can therefore follow
a machine that is being learnt (`objectives/boltzmann.py`), or sample a ladder of tempered machines
(`parallel_tempering.py`). Source: Geman & Geman, "Stochastic relaxation, Gibbs distributions, and the Bayesian
restoration of images", 1984. Read `objectives/boltzmann.py` next.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import distributions, tree
from bayesjax.types import Array, Conditional, Kernel, Params, PRNGKey, PyTree


class BlockGibbsState(NamedTuple):
    """State of `block_gibbs`.

    Attributes:
      position: x, the block that the chain carries.
    """

    position: PyTree


class BlockGibbsInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      other: z, the other block, which was drawn between the two positions.
      distance: mean absolute difference of the two positions over their elements. For binary units it is the fraction
        of units that changed.
    """

    other: PyTree
    distance: Array


def block_gibbs(other: Conditional, position: Conditional) -> Kernel:
    """Samples two blocks in turn: z ~ p(z | x), then x ~ p(x | z).

    Args:
      other: `(params, x) -> p(z | x)`, a distribution of distrax, NumPyro or distreqx.
      position: `(params, z) -> p(x | z)`. A draw of either block is an array, or a pytree of arrays such as
        `distrax.Joint` draws.

    Returns:
      A kernel of one chain whose state is a `BlockGibbsState` and whose info is a `BlockGibbsInfo`. The batch of `step`
      is `params`. The position keeps the type that `init` is given. Run many chains with `particles`; each has its own
      key.
    """

    def init(position: PyTree, rng_key: PRNGKey) -> BlockGibbsState:
        del rng_key
        return BlockGibbsState(jax.tree.map(jnp.asarray, position))

    def step(rng_key: PRNGKey, state: BlockGibbsState, batch: Params) -> tuple[BlockGibbsState, BlockGibbsInfo]:
        other_key, position_key = jax.random.split(rng_key)
        z = distributions.sample(other(batch, state.position), other_key)
        x = tree.cast_like(distributions.sample(position(batch, z), position_key), state.position)
        return BlockGibbsState(x), BlockGibbsInfo(z, _mean_distance(x, state.position))

    return Kernel(init, step)


def _mean_distance(x: PyTree, y: PyTree) -> Array:
    """Mean absolute difference over all elements of all leaves, in float32 or a wider type."""
    differences = jax.tree.map(lambda a, b: jnp.sum(jnp.abs(a - b)), tree.widen(x), tree.widen(y))
    return tree.sum_leaves(differences) / tree.num_elements(x)
