"""Streams of which each process reads its own share of every batch, `data.stream(read, share=True)`.

    batch = [share of process 0, share of process 1, ...]        along the leading axis of every leaf

A share goes to the devices of the process that reads it, which are neighbours on the data axis of the state's mesh. No
share is sent to another process. Read `data/streams.py` next, which reads the batches.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bayesjax.axes import DATA
from bayesjax.data.streams import Stream, StreamError
from bayesjax.training import identity, processes
from bayesjax.types import PyTree


def sharding(stream: Stream, state: Any) -> NamedSharding | None:
    """The sharding of stacked batches `[num_steps, batch_size, ...]` whose shares are in different processes.

    All processes must call this function together.

    Args:
      stream: the data of a run.
      state: the state of a run, on the mesh of `training.spread`.

    Returns:
      The sharding, or None if every process reads whole batches, as with one process.

    Raises:
      StreamError: if the state's mesh does not give every process an equal part of the data axis, in the order of the
        processes, or the shares are not equal in shape or cannot be divided over the devices of a process.
    """
    num = jax.process_count()
    if num == 1 or not stream.share:
        return None
    meshes = (leaf.sharding.mesh for leaf in jax.tree.leaves(state) if identity.has_mesh(leaf))
    mesh = next((mesh for mesh in meshes if DATA in mesh.axis_names), None)
    owners = [] if mesh is None else _owners(mesh)
    if mesh is None or owners != [{process} for process in range(num) for _ in range(len(owners) // num)]:
        raise StreamError(
            f"share=True with {num} processes needs training.spread(kernel, data=n), with n a multiple of {num} and "
            f"the devices in the order of the processes; the state has data={max(1, len(owners))}"
        )
    _check_shapes(stream, len(owners) // num)
    return NamedSharding(mesh, PartitionSpec(None, DATA))


def place(batches: PyTree, sharding: NamedSharding | None) -> PyTree:
    """Makes whole batches from the shares of all processes.

    Args:
      batches: stacked batches of this process, leaves `[num_steps, size of the share, ...]`.
      sharding: the result of `sharding`; with None the batches are whole, and are returned as they are.
    """
    if sharding is None:
        return batches

    def whole(leaf: np.ndarray) -> jax.Array:
        num_steps, size, *rest = leaf.shape
        shape = num_steps, size * jax.process_count(), *rest
        return jax.make_array_from_process_local_data(sharding, leaf, shape)

    return jax.tree.map(whole, batches)


def take(stream: Stream, first: int, num: int) -> PyTree:
    """The batches `first` to `first + num - 1` of this process, stacked. All processes must call the function together.

    Raises:
      StreamError: in all processes, if it is raised in one. Otherwise the others would wait for that process forever.
    """
    if jax.process_count() == 1:
        return stream.take(first, num)
    batches, failure = None, None
    try:
        batches = stream.take(first, num)
    except StreamError as error:
        failure = error
    for process, message in enumerate(processes.gather("" if failure is None else str(failure))):
        if message:
            raise StreamError(f"process {process}: {message}") from failure
    return batches


def _owners(mesh: jax.sharding.Mesh) -> list[set[int]]:
    """The processes of the devices at each index of the data axis."""
    rows = np.moveaxis(mesh.devices, mesh.axis_names.index(DATA), 0)
    return [{device.process_index for device in row.flat} for row in rows]


def _check_shapes(stream: Stream, num_parts: int) -> None:
    """Raises StreamError unless all shares have equal shapes and can be divided into `num_parts` equal parts."""
    first, *others = processes.gather(identity.shapes(stream.example))
    for process, other in enumerate(others, 1):
        for path in [*first, *other]:
            if first.get(path) != other.get(path):
                raise StreamError(
                    f"the shares of a batch must have equal shapes; {path or 'the batch'} is "
                    f"{first.get(path, 'absent')} in process 0 and {other.get(path, 'absent')} in process {process}"
                )
    for leaf in jax.tree.leaves(stream.example):
        if not leaf.shape or leaf.shape[0] % num_parts:
            raise StreamError(
                f"a share must have a leading axis of examples, a multiple of the {num_parts} devices along data in a "
                f"process in size; got {leaf.dtype}{list(leaf.shape)}"
            )
