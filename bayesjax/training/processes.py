"""Several processes as one run: each has devices of its own, and all compute the same program.

    initialize()                      joins this process to the others, before anything is computed
    spread(kernel, data=4)            a mesh over the devices of all (parallel.py)
    fetch(values)                     whole host arrays on every process, wherever their parts lie
    broadcast_from_first(compute)     the result of process 0 on all processes, for decisions about files and time

Every process holds the whole batch and every key, so nothing is sent but what the kernel's step reduces or gathers.
What is fetched or decided is so on all processes at the same place of the program: one that took another branch would
leave the others waiting for ever. The first process alone writes files. On one process all of this does nothing.
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
    """Joins this process to the others of a run; nothing if it has joined already. CPU devices then talk by gloo.

    Args:
      coordinator_address: host:port of the first process. Without arguments JAX finds all three from the cluster: a TPU
        pod, SLURM, MPI, Kubernetes.
      num_processes: how many there are.
      process_id: which of them this is, from 0.

    Raises:
      ValueError: if nothing tells what is missing.
      RuntimeError: if JAX has computed something already.
    """
    if not jax.distributed.is_initialized():
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
        barrier()


def is_first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return jax.process_index() == 0


def fetch(values: PyTree) -> PyTree:
    """The values as whole numpy arrays on every process, keys as they are; all processes must call it together."""

    def whole(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        is_key = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else np.asarray(leaf)

    return jax.tree.map(whole, values)


def place_like(example: Any, value: np.ndarray) -> Any:
    """The value, which every process has whole, on the devices where `example` lies."""
    if not isinstance(example, jax.Array) or isinstance(value, jax.Array):  # the latter is a key
        return value
    return jax.make_array_from_callback(value.shape, example.sharding, lambda index: value[index])


def broadcast_from_first(compute: Callable[[], T]) -> T:
    """What `compute` returns on the first process, on all; on the others it is not called.

    All processes must call this together, and none goes on before the first has computed.

    Args:
      compute: returns a value that JSON can hold.
    """
    if jax.process_count() == 1:
        return compute()
    message = np.frombuffer(json.dumps(compute()).encode() if is_first() else b"", np.uint8)
    (length,) = _row_of_first(np.array([len(message)], np.int32))
    return json.loads(_row_of_first(np.resize(message, length)).tobytes())


def barrier() -> None:
    """Waits for the others, before devices that have not yet talked to each other do: for that, gloo must find them
    within half a minute of each other."""
    broadcast_from_first(lambda: None)


def _row_of_first(row: np.ndarray) -> np.ndarray:
    """The first process's row; one device of each process takes part, so that no two share a machine's threads."""
    devices = np.array([jax.local_devices(process_index=process)[0] for process in range(jax.process_count())])
    spec = NamedSharding(Mesh(devices, ("process",)), PartitionSpec("process"))
    return fetch(jax.make_array_from_callback((len(devices), *row.shape), spec, lambda index: row[None]))[0]
