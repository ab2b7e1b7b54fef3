"""A kernel spread over devices: the batch along an axis `data`, the particles along an axis `particle`, or both.

    kernel = spread(kernel, data=4, particle=2)       the same init, step and numbers, on eight devices

The step that is spread is the kernel's own: each device runs it on its part of the batch and of the particles, with the
axes bound, and `axes.py` says what is done along them: one mean of the gradients over `data`; players made of particles
gathered over `particle` for those that face them. Every random number is that of its example's or particle's place in
the whole, so a run on any number of devices is the run on one, up to the rounding of sums in another order.

`how` is the transform that binds the axes: "shard_map", which JAX advises, or "pmap", of one axis. Both trace the
same function. `check_vma=False`: with the check, JAX differentiates a replicated parameter that meets sharded data
into a gradient that is already summed over devices, and the mean in `kernels/gradient.py` would leave N times the mean.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bayesjax.axes import DATA, PARTICLE
from bayesjax.types import Given, Kernel, PRNGKey, PyTree

HOW = ("shard_map", "pmap")


def data_parallel(kernel: Kernel, num_devices: int | None = None, *, how: str = "shard_map") -> Kernel:
    """Each device takes its part of every batch; the state is the same on all. See `spread`.

    Args:
      kernel: any kernel.
      num_devices: all devices if None.
      how: "shard_map" or "pmap".
    """
    return spread(kernel, data=num_devices or jax.device_count(), how=how)


def particle_parallel(kernel: Kernel, num_devices: int | None = None, *, how: str = "shard_map") -> Kernel:
    """Each device takes its part of the particles; all see the whole batch. See `spread`.

    Args:
      kernel: `kernels.particles(...)`, or a `kernels.alternate(...)` of which some players are particles.
      num_devices: all devices if None.
      how: "shard_map" or "pmap".
    """
    return spread(kernel, particle=num_devices or jax.device_count(), how=how)


def spread(
    kernel: Kernel,
    *,
    data: int = 1,
    particle: int = 1,
    how: str = "shard_map",
    devices: Sequence[Any] | None = None,
) -> Kernel:
    """The same kernel on `data * particle` devices.

    Args:
      kernel: any kernel; with `particle > 1`, one made of particles.
      data: number of parts of the batch: of the leading axis of its leaves (the second, if the first runs over
        particles). It must divide them.
      particle: number of parts of the particles; it must divide their number.
      how: "shard_map", or "pmap" for one of the two axes.
      devices: those to use, the first `data * particle` of them, or those of a topology to compile for
        (`jax.experimental.topologies`); `jax.devices()` if None.

    Returns:
      A kernel with the same states, infos and numbers; `init` places the state on the devices.

    Raises:
      ValueError: if the numbers do not fit the devices, the particles or, from `step`, the batch.
    """
    from bayesjax.kernels import AlternateInfo, AlternateState  # here and below: loads Optax, which training does not

    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(HOW)}; got {how!r}")
    if data < 1 or particle < 1:
        raise ValueError(f"data and particle must be at least 1; got {data} and {particle}")
    devices = jax.devices() if devices is None else devices
    if data * particle > len(devices):
        raise ValueError(f"{data} x {particle} devices are asked for and there are {len(devices)}")
    if how == "pmap" and data > 1 and particle > 1:
        raise ValueError(f"pmap has one axis; got data={data} and particle={particle}: use how='shard_map' for both")
    if particle > 1:
        _check_particles(kernel, particle)
    if data * particle == 1:
        return kernel
    grid = np.asarray(devices[: data * particle]).reshape(data, particle)
    mesh = Mesh(grid, (DATA, PARTICLE), axis_types=(AxisType.Auto, AxisType.Auto))
    state_spec, info_spec = _specs(kernel, AlternateState), _specs(kernel, AlternateInfo)

    def init(position: PyTree, rng_key: PRNGKey) -> Any:
        state = kernel.init(position, rng_key)
        return jax.device_put(state, jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_spec))

    def step(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        batch_spec = _batch_specs(kernel, batch, data, particle)
        if how == "pmap":
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


def _specs(kernel: Kernel, of_players: type) -> Any:
    """Where the particles are in a state or info, as a prefix of its tree."""
    from bayesjax.kernels import Alternate, Particles

    if isinstance(kernel, Alternate):
        return of_players({name: _specs(player, of_players) for name, player in kernel.players.items()})
    return PartitionSpec(PARTICLE) if isinstance(kernel, Particles) else PartitionSpec()


def _batch_specs(kernel: Kernel, batch: PyTree, data: int, particle: int) -> Any:
    """How a batch is spread; the positions that a single player of a game is given are the same on all devices."""
    if isinstance(batch, Given):
        return Given(_batch_specs(kernel, batch.data, data, particle), {name: PartitionSpec() for name in batch.others})
    return jax.tree.map(lambda leaf: _batch_spec(kernel, leaf, data, particle), batch)


def _batch_spec(kernel: Kernel, leaf: Any, data: int, particle: int) -> PartitionSpec:
    """How a leaf of the batch is spread."""
    from bayesjax.kernels import Particles

    own = kernel.batch_axis if isinstance(kernel, Particles) else None
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


def _check_particles(kernel: Kernel, particle: int) -> None:
    """Raises ValueError unless there are particles and they divide evenly."""
    from bayesjax.kernels import Alternate, Particles

    players = kernel.players if isinstance(kernel, Alternate) else {"the kernel": kernel}
    numbers = {name: player.num for name, player in players.items() if isinstance(player, Particles)}
    if not numbers:
        raise ValueError("a kernel of one network has no particles to spread: wrap it in kernels.particles")
    for name, num in numbers.items():
        if num % particle:
            raise ValueError(f"{name} has {num} particles, which do not divide over {particle} devices")


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
