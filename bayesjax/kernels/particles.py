"""Independent copies of a kernel as one vmapped kernel: chains, ensembles, the networks of a Bayesian GAN.

    step(key, [s_1 .. s_n], batch) = [step(key_1, s_1, batch) .. step(key_n, s_n, batch)]

Every leaf of position, state and info gains a leading particle axis. Each particle has its own key. By default all
particles receive the same batch. With `batch_axis=0` each receives its own, as for independent chains, folds of a
cross-validation, or several random choices of labelled examples or seeds. Particles that share a minibatch share the
noise of its gradient, so they are correlated and not independent chains. Use `data.independent_minibatches` to give
each chain its own batches. A full batch has no such noise and can be shared.

The particles are vmapped, so n networks are computed as one set of batched matrix products. With `chunk_size`, a device
moves only that many particles at once, one chunk after the other. This saves memory, and is faster where the
intermediate values of all particles exceed the cache, as in `experiments/hmc_regression.py`. Read `alternate.py` next.
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
      batch_axis: axis of every leaf of the batch that runs over particles; None if they share the batch. Samplers that
        share minibatches are not independent chains.
      chunk_size: number of particles that a device moves at once, at least 1; None means all.

    Returns:
      A kernel whose `init` takes a stacked position with leaves `[num, ...]`, from `jax.vmap(model.init)` or
      `tree.stack`. Where a `particle` axis is bound and the state holds only the particles of this device, `step` moves
      those, with the same keys as on one device. A state that holds all particles is moved as a whole.

    Raises:
      ValueError: if `kernel` is not a kernel, or `num` or `chunk_size` is not positive. `init` raises it if the
        position is not `num` stacked trees, and `step` if `batch_axis` of the batch does not have `num` entries.
    """
    checks.kernel(kernel=kernel)
    checks.count(num=num)
    if chunk_size is not None:
        checks.count(chunk_size=chunk_size)

    def init(position: Params, rng_key: PRNGKey) -> Any:
        length = tree.leading_axis(position, "position")
        if length != num:
            raise ValueError(f"position must stack {num} particles on its leading axis; its leading axis is {length}")
        return jax.vmap(kernel.init)(position, jax.random.split(rng_key, num))

    def step(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        keys = jax.random.split(rng_key, num)
        if _num_local(state) < num:
            keys = axes.local_part(keys, axes.PARTICLE)
        if batch_axis is not None:
            _check_batch(batch, batch_axis, len(keys))
        if chunk_size is None:
            return jax.vmap(kernel.step, in_axes=(0, 0, batch_axis))(keys, state, batch)
        if batch_axis is None:
            return _map_in_chunks(lambda one: kernel.step(*one, batch), (keys, state), chunk_size)
        batches = jax.tree.map(functools.partial(jnp.moveaxis, source=batch_axis, destination=0), batch)
        return _map_in_chunks(lambda one: kernel.step(*one), (keys, state, batches), chunk_size)

    return StructuredKernel(init, step, ParticleAxis(num, batch_axis))


def all_particles(kernel: Kernel, position: PyTree) -> PyTree:
    """Returns the positions of all particles, gathered from the devices of a `particle` axis if they are divided.

    Args:
      kernel: the kernel of the particles, or any other kernel, whose position is returned unchanged.
      position: its position on this device, with leaves `[num on this device, ...]` for particles.
    """
    structure = kernel.structure
    is_part = isinstance(structure, ParticleAxis) and _num_local(position) < structure.num
    return axes.gather(position, axes.PARTICLE) if is_part else position


def _check_batch(batch: PyTree, batch_axis: int, num: int) -> None:
    """Raises ValueError unless every leaf of the batch has an entry for each particle."""
    for leaf in jax.tree.leaves(batch):
        shape = jnp.shape(leaf)
        if not -len(shape) <= batch_axis < len(shape) or shape[batch_axis] != num:
            raise ValueError(
                f"axis {batch_axis} of the batch must run over the {num} particles; got shape {shape}: "
                "data.independent_minibatches gives each particle its own batch"
            )


def _map_in_chunks(step: Callable[[Any], Any], arguments: PyTree, chunk_size: int) -> Any:
    """Maps `step` over the leading axis of its arguments, a chunk at a time.

    The lengths are checked because `jax.lax.map` would drop elements beyond the length of the first leaf.
    """
    num = jax.tree.leaves(arguments)[0].shape[0]
    if wrong := {leaf.shape[0] for leaf in jax.tree.leaves(arguments)} - {num}:
        raise ValueError(f"state and batch must hold {num} particles each; got leading axes of {sorted(wrong)}")
    return jax.lax.map(step, arguments, batch_size=chunk_size if chunk_size > 1 else None)  # no vmap over one particle


def _num_local(state: PyTree) -> int:
    """The number of particles on this device."""
    return jax.tree.leaves(state)[0].shape[0]
