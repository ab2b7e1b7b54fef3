"""Kernels spread over devices: the batch along an axis `data`, the particles along an axis `particle`, or both.

    kernel = spread(kernel, data=4, particle=2)       the same init, step and numbers, on eight devices

Each device runs the kernel's own step on its part of the batch and of the particles, with the axes bound. `axes.py`
defines the communication along the axes: the gradients are averaged over `data`, and the particles of a player are
gathered over `particle` for the other players. Random numbers depend on the index of an example or particle in the
whole batch or set of particles. A run on any number of devices therefore equals the run on one device, up to the
rounding of sums in a different order. The devices may belong to several processes (`processes.py`).

`transform` names the JAX function that binds the axes: "shard_map", which JAX recommends, or "pmap", which has one
axis. Both trace the same step. The check of `shard_map` is off (`check_vma=False`). If it were on, the gradient of
replicated parameters on sharded data would already be summed over devices. The mean in `kernels/gradient.py` would then
be too large by a factor of the number of devices.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bayesjax import checks
from bayesjax.axes import DATA, PARTICLE
from bayesjax.types import Given, Kernel, ParticleAxis, Players, PRNGKey, PyTree

TRANSFORMS = ("shard_map", "pmap")


def data_parallel(kernel: Kernel, num_devices: int | None = None, *, transform: str = "shard_map") -> Kernel:
    """Spreads the batch of a kernel over devices and replicates the state.

    Result and errors are those of `spread`.

    Args:
      kernel: any kernel.
      num_devices: number of devices; None means all.
      transform: "shard_map" or "pmap".
    """
    return spread(kernel, data=jax.device_count() if num_devices is None else num_devices, transform=transform)


def particle_parallel(kernel: Kernel, num_devices: int | None = None, *, transform: str = "shard_map") -> Kernel:
    """Spreads the particles of a kernel over devices, each of which receives the whole batch.

    Result and errors are those of `spread`.

    Args:
      kernel: `kernels.particles(...)`, or a `kernels.alternate(...)` in which some players are particles. A player
        whose number of particles is not a multiple of the number of devices is replicated.
      num_devices: number of devices; None means all.
      transform: "shard_map" or "pmap".
    """
    return spread(kernel, particle=jax.device_count() if num_devices is None else num_devices, transform=transform)


def spread(
    kernel: Kernel,
    *,
    data: int = 1,
    particle: int = 1,
    transform: str = "shard_map",
    devices: Sequence[Any] | None = None,
) -> Kernel:
    """Spreads a kernel over `data * particle` devices.

    Args:
      kernel: any kernel; with `particle > 1` it must be made of particles.
      data: number of parts of the batch. It must divide the leading axis of the batch's leaves, or the second axis if
        the first one runs over particles.
      particle: number of parts of the particles. It must divide the number of particles. In a game it must divide that
        of at least one player; the other players are replicated.
      transform: "shard_map", or "pmap", which accepts only one of `data` and `particle` above 1, and one process.
      devices: the devices to use, of which the first `data * particle` are taken. They may be those of a topology to
        compile for (`jax.experimental.topologies`). None takes equally many devices of each process.

    Returns:
      A kernel with the same states and infos; its `init` places the state on the devices.

    Raises:
      ValueError: if the sizes do not match the number of devices or particles. `step` raises it if they do not match
        the batch.
    """
    from bayesjax.kernels import AlternateInfo, AlternateState  # imported here and below, since it loads Optax

    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}; got {transform!r}")
    checks.count(data=data, particle=particle)
    num, num_available = data * particle, len(jax.devices() if devices is None else devices)
    if num > num_available:
        raise ValueError(f"data and particle need {data} x {particle} devices; there are {num_available}")
    if transform == "pmap" and jax.process_count() > 1:
        raise ValueError(
            "pmap inside jit uses the devices of one process; with several processes use transform='shard_map'"
        )
    if transform == "pmap" and data > 1 and particle > 1:
        raise ValueError(
            f"pmap has one axis; got data={data} and particle={particle}: use transform='shard_map' for both"
        )
    if particle > 1:
        _check_particles(kernel, particle)
    if num == 1:
        return kernel
    grid = np.asarray(_devices(num) if devices is None else devices[:num]).reshape(data, particle)
    mesh = Mesh(grid, (DATA, PARTICLE), axis_types=(AxisType.Auto, AxisType.Auto))
    state_spec = _specs(kernel.structure, AlternateState, particle)
    info_spec = _specs(kernel.structure, AlternateInfo, particle)

    def init(position: PyTree, rng_key: PRNGKey) -> Any:
        state = kernel.init(position, rng_key)
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_spec)
        # device_put accepts a state on any device, but jit ignores it, and with several processes it compares values.
        is_traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(state))
        place = jax.lax.with_sharding_constraint if is_traced or jax.process_count() > 1 else jax.device_put
        return place(state, shardings)

    def step(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        batch_spec = _batch_specs(kernel, batch, data, particle)
        if transform == "pmap":
            return _pmapped(kernel, mesh, (state_spec, info_spec, batch_spec))(rng_key, state, batch)
        sharded = jax.shard_map(
            kernel.step,
            mesh=mesh,
            in_specs=(PartitionSpec(), state_spec, batch_spec),
            out_specs=(state_spec, info_spec),
            check_vma=False,
        )
        return sharded(rng_key, state, batch)

    return Kernel(init, step)


def axis_sizes(kernel: Kernel, num_devices: int, transform: str = "shard_map") -> dict[str, int]:
    """Chooses the arguments `data` and `particle` of `spread` so that they use all of `num_devices`.

    The particle axis is as large as the number of particles allows, because it needs no reduction of gradients. The
    batch is spread over the remaining factor.

    Args:
      kernel: any kernel.
      num_devices: number of devices.
      transform: "shard_map", or "pmap", which has only one axis.

    Returns:
      `{"data": ..., "particle": ...}`.
    """
    particle = max((math.gcd(num_devices, num) for num in _num_particles(kernel).values()), default=1)
    if transform == "pmap" and particle < num_devices:
        particle = 1
    return {"data": num_devices // particle, "particle": particle}


def _devices(num: int) -> list[Any]:
    """The first devices of each process, equally many and `num` in total."""
    processes = range(jax.process_count())
    if num % len(processes):
        raise ValueError(f"the number of devices, {num}, must be a multiple of the {len(processes)} processes")
    each = num // len(processes)
    return [device for process in processes for device in jax.local_devices(process_index=process)[:each]]


def _specs(structure: ParticleAxis | Players | None, make: type, particle: int) -> Any:
    """The placement of a state or info, as a prefix of its tree. `make` is the type that holds the players' parts."""
    if isinstance(structure, Players):
        return make({name: _specs(player, make, particle) for name, player in structure.players.items()})
    is_spread = isinstance(structure, ParticleAxis) and structure.num % particle == 0
    return PartitionSpec(PARTICLE) if is_spread else PartitionSpec()


def _batch_specs(kernel: Kernel, batch: PyTree, data: int, particle: int) -> Any:
    """The sharding of a batch. The positions of the other players, which one player receives, are replicated."""
    if isinstance(batch, Given):
        return Given(_batch_specs(kernel, batch.data, data, particle), {name: PartitionSpec() for name in batch.others})
    return jax.tree.map(lambda leaf: _batch_spec(kernel, leaf, data, particle), batch)


def _batch_spec(kernel: Kernel, leaf: Any, data: int, particle: int) -> PartitionSpec:
    """The sharding of a leaf of the batch."""
    particle_axis = kernel.structure.batch_axis if isinstance(kernel.structure, ParticleAxis) else None
    if particle_axis not in (None, 0):
        raise ValueError(f"batch_axis must be None or 0 for a batch to be spread; got {particle_axis}")
    parts = [DATA] if particle_axis is None else [PARTICLE, DATA]
    shape, sizes = np.shape(leaf), {DATA: data, PARTICLE: particle}
    for axis, name in enumerate(parts):
        if sizes[name] > 1 and (len(shape) <= axis or shape[axis] % sizes[name]):
            raise ValueError(
                f"axis {axis} of a batch must be a multiple of the {sizes[name]} devices in size; got shape {shape}"
            )
    return PartitionSpec(*(name if sizes[name] > 1 else None for name in parts[: len(shape)]))


def _num_particles(kernel: Kernel) -> dict[str, int]:
    """The number of particles of the kernel, or of each player that consists of particles."""
    structure = kernel.structure
    players = structure.players if isinstance(structure, Players) else {"the kernel": structure}
    return {name: player.num for name, player in players.items() if isinstance(player, ParticleAxis)}


def _check_particles(kernel: Kernel, particle: int) -> None:
    """Raises ValueError unless some number of particles is a multiple of `particle`."""
    numbers = _num_particles(kernel)
    if not numbers:
        raise ValueError("kernel has no particles to spread: wrap it in kernels.particles")
    if all(num % particle for num in numbers.values()):
        counts = " and ".join(f"{name} has {num} particles" for name, num in numbers.items())
        raise ValueError(f"{counts}; the number must be a multiple of the {particle} devices")


def _pmapped(kernel: Kernel, mesh: Mesh, specs: tuple[Any, Any, Any]) -> Any:
    """`kernel.step` under `pmap`, which splits a spread axis of length n into two, `[devices, n / devices]`."""
    name = DATA if mesh.shape[DATA] > 1 else PARTICLE
    num = mesh.shape[name]

    def axis_of(spec: PartitionSpec) -> int | None:
        return tuple(spec).index(name) if name in tuple(spec) else None

    def over(change: Any, spec: Any, values: PyTree) -> PyTree:
        def leaves(spec: PartitionSpec, part: PyTree) -> PyTree:
            axis = axis_of(spec)
            return part if axis is None else jax.tree.map(lambda leaf: change(leaf, axis), part)

        return jax.tree.map(leaves, spec, values)

    def split(leaf: Any, axis: int) -> Any:
        return leaf.reshape(*leaf.shape[:axis], num, -1, *leaf.shape[axis + 1 :])

    def joined(leaf: Any, axis: int) -> Any:
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    state_spec, info_spec, batch_spec = specs
    axes = [jax.tree.map(axis_of, spec) for spec in specs]
    step = jax.pmap(
        kernel.step,
        axis_name=name,
        in_axes=(None, axes[0], axes[2]),
        out_axes=(axes[0], axes[1]),
        devices=list(mesh.devices.flat),
    )

    def run(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        state, info = step(rng_key, over(split, state_spec, state), over(split, batch_spec, batch))
        return over(joined, state_spec, state), over(joined, info_spec, info)

    return run
