"""Several processes as one run: each process has its own devices, and all run the same program.

    initialize()                      connects this process to the others, before any computation
    spread(kernel, data=4)            a mesh over the devices of all processes (parallel.py)
    fetch(values)                     whole host arrays on every process, from shards on any device
    broadcast_from_first(compute)     the result of process 0 on all processes, for decisions about files and time
    gather(value)                     the values of all processes on every process, for errors of one of them

Every process holds every key and the whole batch, or its own share (`shares.py`). So only the reductions and gathers of
the kernel's step communicate. All processes must call `fetch`, `broadcast_from_first` and `gather` at the same points
of the program: if one process takes a different branch, the others wait forever. Only process 0 writes files. With one
process they communicate nothing.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bayesjax.types import PyTree

T = TypeVar("T")


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connects this process to the other processes of a run, unless it is connected already.

    Without arguments, JAX reads all three from the environment of a TPU pod, SLURM, MPI or Kubernetes. CPU devices then
    communicate by Gloo.

    Args:
      coordinator_address: host:port of process 0.
      num_processes: number of processes.
      process_id: index of this process, from 0.

    Raises:
      ValueError: if an argument is missing and the environment does not provide it.
      RuntimeError: if JAX has already run a computation.
    """
    if not jax.distributed.is_initialized():
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
        barrier()


def is_first() -> bool:
    """Whether this is process 0, which writes files and shows progress."""
    return jax.process_index() == 0


def fetch(values: PyTree) -> PyTree:
    """Copies values to whole NumPy arrays on every process. All processes must call the function together.

    Args:
      values: a pytree of arrays, which may be spread over devices and processes.

    Returns:
      The same pytree with NumPy leaves. Random keys are returned unchanged.
    """

    def whole(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        is_key = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else np.asarray(leaf)

    return jax.tree.map(whole, values)


def place_like(example: Any, value: np.ndarray) -> Any:
    """Places a value on the devices of `example`, with its sharding. Every process must hold the whole value."""
    if not isinstance(example, jax.Array) or isinstance(value, jax.Array):  # a key
        return value
    return jax.make_array_from_callback(value.shape, example.sharding, lambda index: value[index])


def broadcast_from_first(compute: Callable[[], T]) -> T:
    """Calls `compute` on process 0 only and returns its result on all processes.

    All processes must call this function together, and all wait for process 0.

    Args:
      compute: returns a JSON-serialisable value.
    """
    if jax.process_count() == 1:
        return compute()
    return gather(compute() if is_first() else None)[0]


def gather(value: Any) -> list[Any]:
    """Returns the values of all processes, in their order, on every process.

    All processes must call this function together, and all wait for the last.

    Args:
      value: a JSON-serialisable value.
    """
    if jax.process_count() == 1:
        return [value]
    message = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = _rows(np.array([len(message)], np.int32))[:, 0]
    rows = _rows(np.resize(message, lengths.max()))
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def barrier() -> None:
    """Waits for all processes. Gloo requires that processes start their first communication within thirty seconds."""
    broadcast_from_first(lambda: None)


def _rows(row: np.ndarray) -> np.ndarray:
    """Returns the rows of all processes, which must have equal lengths, on all processes.

    Only one device per process takes part, so that devices do not compete for the threads of a CPU.
    """
    devices = np.array([jax.local_devices(process_index=process)[0] for process in range(jax.process_count())])
    spec = NamedSharding(Mesh(devices, ("process",)), PartitionSpec("process"))
    return fetch(jax.make_array_from_callback((len(devices), *row.shape), spec, lambda index: row[None]))
