"""A kernel spread over devices: the batch along an axis `data`, the particles along an axis `particle`, or both.

    kernel = spread(kernel, data=4, particle=2)       the same init, step and numbers, on eight devices

The step that is spread is the kernel's own: each device runs it on its part of the batch and of the particles, with the
axes bound, and `axes.py` says what is done along them: one mean of the gradients over `data`; players made of particles
gathered over `particle` for those that face them. Every random number is that of its example's or particle's place in
the whole, so a run on any number of devices is the run on one, up to the rounding of sums in another order. The devices
may be those of several processes (`processes.py`).

`transform` is the transform that binds the axes: "shard_map", which JAX advises, or "pmap", of one axis. Both trace the
same function. `check_vma=False`: with the check, JAX differentiates a replicated parameter that meets sharded data
into a gradient that is already summed over devices, and the mean in `kernels/gradient.py` would leave N times the mean.
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
    """Each device takes its part of every batch; the state is the same on all. See `spread`.

    Args:
      kernel: any kernel.
      num_devices: all devices if None.
      transform: "shard_map" or "pmap".
    """
    return spread(kernel, data=jax.device_count() if num_devices is None else num_devices, transform=transform)


def particle_parallel(kernel: Kernel, num_devices: int | None = None, *, transform: str = "shard_map") -> Kernel:
    """Each device takes its part of the particles; all see the whole batch. See `spread`.

    Args:
      kernel: `kernels.particles(...)`, or a `kernels.alternate(...)` of which some players are particles; a player
        whose particles do not divide over the devices moves alike on all of them.
      num_devices: all devices if None.
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
    """The same kernel on `data * particle` devices.

    Args:
      kernel: any kernel; with `particle > 1`, one made of particles.
      data: number of parts of the batch: of the leading axis of its leaves (the second, if the first runs over
        particles). It must divide them.
      particle: number of parts of the particles; it must divide their number (in a game, that of some player; the
        others' are whole on every device).
      transform: "shard_map", or "pmap" for one of the two axes, on the devices of one process.
      devices: those to use, the first `data * particle` of them, or those of a topology to compile for
        (`jax.experimental.topologies`); if None, all there are, equally many of each process.

    Returns:
      A kernel with the same states, infos and numbers; `init` places the state on the devices.

    Raises:
      ValueError: if the numbers do not fit the devices, the particles or, from `step`, the batch.
    """
    from bayesjax.kernels import AlternateInfo, AlternateState  # here and below: loads Optax, which training does not

    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}; got {transform!r}")
    checks.count(data=data, particle=particle)
    num, found = data * particle, len(jax.devices() if devices is None else devices)
    if num > found:
        raise ValueError(f"{data} x {particle} devices are asked for and there are {found}")
    if transform == "pmap" and jax.process_count() > 1:
        raise ValueError("pmap inside jit is of one process's devices; on several processes use transform='shard_map'")
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
        # device_put takes a state from wherever it is; but jit drops it, and on several processes it compares values.
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
    """The arguments of `spread` that put all of `num_devices` to use: as many on the particles as divide them, which
    costs no reduction of gradients, and the batch over the rest.

    Args:
      kernel: any kernel.
      num_devices: how many devices.
      transform: "shard_map", or "pmap", which takes one axis.
    """
    particle = max((math.gcd(num_devices, num) for num in _num_particles(kernel).values()), default=1)
    if transform == "pmap" and particle < num_devices:
        particle = 1
    return {"data": num_devices // particle, "particle": particle}


def _devices(num: int) -> list[Any]:
    """The first `num` devices, equally many of each process."""
    processes = range(jax.process_count())
    if num % len(processes):
        raise ValueError(f"{num} devices are asked for, which do not divide over {len(processes)} processes")
    each = num // len(processes)
    return [device for process in processes for device in jax.local_devices(process_index=process)[:each]]


def _specs(structure: ParticleAxis | Players | None, make: type, particle: int) -> Any:
    """Where the particles are in a state or info, as a prefix of its tree; `make` is the type that holds players."""
    if isinstance(structure, Players):
        return make({name: _specs(player, make, particle) for name, player in structure.players.items()})
    is_spread = isinstance(structure, ParticleAxis) and structure.num % particle == 0
    return PartitionSpec(PARTICLE) if is_spread else PartitionSpec()


def _batch_specs(kernel: Kernel, batch: PyTree, data: int, particle: int) -> Any:
    """How a batch is spread; the positions that a single player of a game is given are the same on all devices."""
    if isinstance(batch, Given):
        return Given(_batch_specs(kernel, batch.data, data, particle), {name: PartitionSpec() for name in batch.others})
    return jax.tree.map(lambda leaf: _batch_spec(kernel, leaf, data, particle), batch)


def _batch_spec(kernel: Kernel, leaf: Any, data: int, particle: int) -> PartitionSpec:
    """How a leaf of the batch is spread."""
    own = kernel.structure.batch_axis if isinstance(kernel.structure, ParticleAxis) else None
    if own not in (None, 0):
        raise ValueError(f"only a batch whose particle axis is the first can be spread; got batch_axis {own}")
    parts = [DATA] if own is None else [PARTICLE, DATA]
    shape, sizes = np.shape(leaf), {DATA: data, PARTICLE: particle}
    for axis, name in enumerate(parts):
        if sizes[name] > 1 and (len(shape) <= axis or shape[axis] % sizes[name]):
            raise ValueError(
                f"the batch has a leaf of shape {shape}; axis {axis} must divide over {sizes[name]} devices"
            )
    return PartitionSpec(*(name if sizes[name] > 1 else None for name in parts[: len(shape)]))


def _num_particles(kernel: Kernel) -> dict[str, int]:
    """The number of particles of the kernel, or of each player that is made of particles."""
    structure = kernel.structure
    players = structure.players if isinstance(structure, Players) else {"the kernel": structure}
    return {name: player.num for name, player in players.items() if isinstance(player, ParticleAxis)}


def _check_particles(kernel: Kernel, particle: int) -> None:
    """Raises ValueError unless there are particles that divide evenly."""
    numbers = _num_particles(kernel)
    if not numbers:
        raise ValueError("a kernel of one network has no particles to spread: wrap it in kernels.particles")
    if all(num % particle for num in numbers.values()):
        found = " and ".join(f"{name} has {num} particles" for name, num in numbers.items())
        raise ValueError(f"{found}, which do not divide over {particle} devices")


def _pmapped(kernel: Kernel, mesh: Mesh, specs: tuple[Any, Any, Any]) -> Any:
    """`kernel.step` under `pmap`: a spread axis of length n becomes two, `[devices, n / devices]`, and comes back."""
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
