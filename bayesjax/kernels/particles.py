"""Independent copies of a kernel as one vmapped kernel: chains, ensembles, the J x M networks of a Bayesian GAN.

    step(key, [s_1 .. s_n], batch) = [step(key_1, s_1, batch) .. step(key_n, s_n, batch)]

Every leaf of position, state and info gains a leading particle axis. Each particle has its own key. All particles see
the same batch, or with `batch_axis=0` each its own (chains, folds, label draws, seeds). Particles that share a
minibatch share the noise of its gradient, so they are correlated and not independent chains:
`data.independent_minibatches` gives each chain its own batches. A full batch has no such noise and can be shared. There
is no Python loop over particles: n networks cost one set of batched products. With `chunk_size` a device moves so many
of them at once and then the next: what a step needs for itself is then held for these alone, in memory that is short or
in a cache that is small (chains of HMC whose trajectories are long: see `experiments/hmc_regression.py`). Read
`alternate.py` next.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax import axes, checks, tree
from bayesjax.types import Kernel, Params, ParticleAxis, PRNGKey, PyTree, StructuredKernel


def particles(
    kernel: Kernel, num: int, *, batch_axis: int | None = None, chunk_size: int | None = None
) -> StructuredKernel:
    """Runs `num` independent copies of `kernel`.

    Args:
      kernel: any kernel.
      num: number of particles, at least 1.
      batch_axis: axis of every leaf of the batch that runs over particles; None if they share the batch, in which case
        samplers with minibatches are not independent chains.
      chunk_size: how many a device moves at once, at least 1; None for all.

    Returns:
      A kernel whose `init` takes a stacked position: `[num, ...]` leaves, from `jax.vmap(model.init)` or `tree.stack`.
      Where a `particle` axis is bound and the state holds this device's part of the particles, `step` moves these, each
      with the key of its place; a state that holds all of them (particles inside particles) moves whole.

    Raises:
      ValueError: if `num` or `chunk_size` is not positive; from `init`, if the position is not `num` stacked trees.
    """
    checks.count(num=num)
    if chunk_size is not None:
        checks.count(chunk_size=chunk_size)

    def init(position: Params, rng_key: PRNGKey) -> Any:
        found = tree.leading_axis(position, "position")
        if found != num:
            raise ValueError(f"position must stack {num} particles on its leading axis; its leading axis is {found}")
        return jax.vmap(kernel.init)(position, jax.random.split(rng_key, num))

    def step(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        keys = jax.random.split(rng_key, num)
        if _held(state) < num:
            keys = axes.local_part(keys, axes.PARTICLE)
        if chunk_size is None:
            return jax.vmap(kernel.step, in_axes=(0, 0, batch_axis))(keys, state, batch)
        if batch_axis is None:
            return _in_turns(lambda own: kernel.step(*own, batch), (keys, state), chunk_size)
        own = jax.tree.map(functools.partial(jnp.moveaxis, source=batch_axis, destination=0), batch)
        return _in_turns(lambda own: kernel.step(*own), (keys, state, own), chunk_size)

    return StructuredKernel(init, step, ParticleAxis(num, batch_axis))


def all_particles(kernel: Kernel, position: PyTree) -> PyTree:
    """The position of every particle, gathered where each device of a `particle` axis holds its own."""
    structure = kernel.structure
    is_part = isinstance(structure, ParticleAxis) and _held(position) < structure.num
    return axes.gather(position, axes.PARTICLE) if is_part else position


def _in_turns(step: Callable[[Any], Any], own: PyTree, chunk_size: int) -> Any:
    """`step` of each particle's own, so many at once. `jax.lax.map` leaves out what is beyond the first leaf's length,
    and vmaps a batch of one for nothing."""
    num = jax.tree.leaves(own)[0].shape[0]
    if wrong := {leaf.shape[0] for leaf in jax.tree.leaves(own)} - {num}:
        raise ValueError(f"state and batch must hold {num} particles each; got leading axes of {sorted(wrong)}")
    return jax.lax.map(step, own, batch_size=chunk_size if chunk_size > 1 else None)


def _held(state: PyTree) -> int:
    """The number of particles on this device."""
    return jax.tree.leaves(state)[0].shape[0]
