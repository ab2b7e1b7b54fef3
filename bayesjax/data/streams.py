"""Streams: batches that the host reads while the device computes, for data that do not fit in memory.

    batches = data.stream(read, example)              read(step) -> batch, for example rows of a file on the disk
    batches = data.stream(loader)                     any iterable of batches, such as a DataLoader of PyTorch
    training.run(rng_key, kernel, state, batches, num_steps=1000)

`training.run` takes the batches of a chunk of steps from the stream, one for each step and in order, and passes them to
the compiled loop as one array. Meanwhile a thread reads the batches of the next chunk. With a function of the step, a
resumed run reads the batches of the interrupted run. An iterable has to be read again from its beginning. Read
`training/run.py` next, which consumes streams.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.types import PyTree

MAX_CHUNK_BYTES = 2**28
"""Largest size in bytes of the batches of a chunk, over all processes. Two chunks are in memory at a time."""


class StreamError(ValueError):
    """A stream ended early, failed, or gave a batch of another shape; the message names the batch."""


class InOrder:
    """The batch of a step from an iterable, which is read in order.

    Args:
      iterable: yields the batches of the steps 0, 1, 2, ...
    """

    def __init__(self, iterable: Iterable[PyTree]):
        self._iterable, self._iterator = iterable, iter(iterable)
        self._num_read, self._last = 0, None

    def __call__(self, step: int) -> PyTree:
        """The batch of a step; earlier batches are read and dropped, and a passed batch is read from the beginning.

        Raises:
          StreamError: if the iterable has ended, or is an iterator that has passed the batch.
        """
        if step < self._num_read - 1:
            if iter(self._iterable) is self._iterable:
                raise StreamError(
                    f"the stream is an iterator that has passed batch {step}; its next is batch {self._num_read}: pass "
                    "an iterable that can begin again, or a function of the step"
                )
            self._iterator, self._num_read = iter(self._iterable), 0
        if step > self._num_read:
            print(
                f"the stream cannot seek: reading {step - self._num_read} earlier batches; the run equals an "
                "uninterrupted one only if they are the same as before",
                file=sys.stderr,
            )
        while self._num_read <= step:
            try:
                self._last = next(self._iterator)
            except StopIteration:
                raise StreamError(
                    f"the stream ended after {self._num_read} batches; the run needs one for each step"
                ) from None
            self._num_read += 1
        return self._last


class Stream:
    """Batches by step, as `stream` makes them.

    Args:
      read: `step -> batch`.
      example: a batch, or shapes and types of its leaves; None reads the first batch.
      share: whether each process reads only its share of a batch.

    Attributes:
      example: shapes and types of the leaves of a batch, or of the share of this process.
      share: as the argument.
    """

    def __init__(self, read: Callable[[int], PyTree], example: PyTree = None, share: bool = False):
        self._read, self.share = read, share
        self._pending: tuple[int, int, threading.Thread, list[Any]] | None = None
        example = self._batch(0) if example is None else example
        self.example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), _canonical(leaf)), example)

    @property
    def whole_example(self) -> PyTree:
        """Shapes and types of the leaves of a whole batch, to which all processes contribute equal shares."""
        num = jax.process_count() if self.share else 1
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] * num, *leaf.shape[1:]) if leaf.shape else (), leaf.dtype),
            self.example,
        )

    @property
    def longest_chunk(self) -> int:
        """The largest number of batches in a chunk, by MAX_CHUNK_BYTES."""
        num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.whole_example))
        return max(1, MAX_CHUNK_BYTES // max(num_bytes, 1))

    def prefetch(self, first: int, num: int) -> None:
        """Starts to read the batches `first` to `first + num - 1` in a thread."""
        if num < 1:
            return
        result: list[Any] = []

        def work() -> None:
            try:
                result.append(self._batches(first, num))
            except BaseException as error:  # raised by `take`, in the thread that called it
                result.append(error)

        thread = threading.Thread(target=work, daemon=True)
        self._pending = first, num, thread, result
        thread.start()

    def take(self, first: int, num: int) -> PyTree:
        """The batches `first` to `first + num - 1`, stacked on a leading axis.

        Raises:
          StreamError: if the stream has ended, its source raises an error, or a batch does not have the shapes and
            types of the example.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending[2].join()
            if pending[:2] == (first, num):
                (result,) = pending[3]
                if isinstance(result, BaseException):
                    raise result
                return result
        return self._batches(first, num)

    def _batches(self, first: int, num: int) -> PyTree:
        leaves, structure = jax.tree.flatten(self.example)
        stacked = [np.empty((num, *leaf.shape), leaf.dtype) for leaf in leaves]
        for i in range(num):
            given, got = jax.tree.flatten(self._batch(first + i))
            if got != structure:
                raise StreamError(f"batch {first + i} of the stream must have the structure {structure}; got {got}")
            for target, leaf, like in zip(stacked, given, leaves, strict=True):
                shape, dtype = leaf.shape, _canonical(leaf)
                if (shape, dtype) != (like.shape, like.dtype):
                    raise StreamError(
                        f"batch {first + i} of the stream must be {like.dtype}{list(like.shape)}, as the example; got "
                        f"{dtype}{list(shape)}" + _hint(shape, like.shape)
                    )
                if leaf.dtype.kind in "iu" and leaf.dtype != dtype and leaf.size:
                    limits = np.iinfo(dtype)
                    if leaf.min() < limits.min or leaf.max() > limits.max:
                        raise StreamError(
                            f"batch {first + i} of the stream has integers beyond {dtype}: {leaf.min()} .. {leaf.max()}"
                        )
                target[i] = leaf
        return jax.tree.unflatten(structure, stacked)

    def _batch(self, step: int) -> PyTree:
        try:
            batch = jax.tree.map(np.asarray, self._read(step))
            for path, leaf in jax.tree.leaves_with_path(batch):
                if not jnp.issubdtype(leaf.dtype, jnp.number) and leaf.dtype != bool:
                    raise TypeError(f"{leaf.dtype} at {jax.tree_util.keystr(path) or 'the batch'} is not a number")
            return batch
        except StreamError:
            raise
        except Exception as error:  # the function or the iterable is the user's, and may raise anything
            cause = " ".join(str(error).split())
            raise StreamError(f"reading batch {step} of the stream failed: {type(error).__name__}: {cause}") from error


def stream(
    source: Callable[[int], PyTree] | Iterable[PyTree], example: PyTree = None, *, share: bool = False
) -> Stream:
    """Makes the batches of a function or an iterable available to `training.run`.

    Args:
      source: a function `step -> batch`, called on the host with steps 0, 1, 2, ... It should return the same batch
        whenever it is called with the same step. Or an iterable of batches; it must have one for every step of a run.
        Two streams of one iterator divide its batches among them, so give each stream an iterator of its own.
        Batches are pytrees of NumPy arrays, all of the same shapes and types. Tensors of PyTorch are converted.
      example: a batch, or its shapes and types as `jax.ShapeDtypeStruct`; None reads the first batch.
      share: with several processes, whether `source` gives only the share of the batch that belongs to this process.
        `training.run` joins the shares along the leading axis, in the order of the processes. They must be equal in
        shape, and the kernel must be spread over data (`training.spread`). Otherwise every process must read the same
        whole batches. With one process the share is the whole batch.

    Returns:
      The `data` argument of `training.run`.

    Raises:
      ValueError: if `source` is neither a function nor an iterable, or a generator function that is not called.
      StreamError: if `example` is None and the first batch cannot be read.
    """
    if inspect.isgeneratorfunction(source):
        raise ValueError(f"source is a generator function: pass {source.__name__}(), the generator that it returns")
    if callable(source):
        return Stream(source, example, share)
    if not isinstance(source, Iterable):
        raise ValueError(f"source must be a function step -> batch or an iterable; got {type(source).__name__}")
    return Stream(InOrder(source), example, share)


def _canonical(leaf: Any) -> np.dtype:
    """The type that a leaf has in JAX: without x64, 64-bit types become 32-bit types."""
    dtype = leaf.dtype if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf).dtype
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def _hint(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    is_short = len(shape) == len(expected) > 0 and shape[1:] == expected[1:] and shape[0] < expected[0]
    return ": drop the last, short batch of an epoch" if is_short else ""
