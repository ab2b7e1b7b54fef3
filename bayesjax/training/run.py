"""The training loop of all methods. It runs a kernel in chunks of steps; each chunk is one compiled scan.

    for each chunk:   state <- scan of   state, info <- kernel.step(fold_in(rng_key, t), state, data(t))

Step t depends only on (rng_key, t, state). A run that stops after any chunk and resumes from its checkpoint is
therefore bit-identical to an uninterrupted run. Between chunks the loop shows progress, writes metrics, stores draws
and saves checkpoints. It stops at the first non-finite state and keeps the last finite one. With several processes
(`processes.py`), each process returns the whole trace, and only process 0 shows progress and writes files. Read
`checkpoint.py` next.
"""

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bayesjax import checks
from bayesjax.data.streams import Stream, StreamError
from bayesjax.training import processes, shares
from bayesjax.training.checkpoint import Checkpointer, CheckpointMismatch, Record
from bayesjax.training.chunks import Chunks
from bayesjax.training.diagnosis import SamplerWarning, sampler_warnings
from bayesjax.training.progress import MetricsFile, Progress, scalars
from bayesjax.types import Array, Kernel, PRNGKey, PyTree

MAX_CHUNK = 100


class Trace(NamedTuple):
    """The results of a run besides its final state. Draws, infos and metrics include those before a resumption.

    Attributes:
      draws: kept positions, stacked on a leading axis, `[num_draws, ...]` (NumPy); None if there are none.
      info: the kernel's info for each draw, averaged over the `thinning` steps that end with the draw, with the leading
        axis of `draws` (NumPy); None if there are no draws.
      burnin_info: the kernel's info averaged over every `thinning` steps of the burn-in; None without a burn-in.
      metrics: a dictionary of numbers for each chunk, with the key "step".
      seconds: wall-clock time of this call.
      compile_seconds: the part of `seconds` that was spent on compilation.
      chunk_seconds: the part of `seconds` that was spent in compiled chunks.
      steps: number of steps of this call.
    """

    draws: PyTree
    info: PyTree
    burnin_info: PyTree
    metrics: list[dict[str, float]]
    seconds: float
    compile_seconds: float
    chunk_seconds: float
    steps: int


class NonFinite(FloatingPointError):
    """The state has become NaN or infinite.

    Attributes:
      state: the last finite state, at the end of the previous chunk.
      step: the number of steps after which the state was `state`.
    """

    def __init__(self, message: str, state: Any, step: int):
        super().__init__(message)
        self.state, self.step = state, step


def run(
    rng_key: PRNGKey,
    kernel: Kernel,
    state: Any,
    data: PyTree | Callable[[Array], PyTree] = None,
    *,
    num_steps: int,
    num_burnin: int = 0,
    thinning: int = 1,
    keep: Callable[[Any], PyTree] | None = None,
    chunk_size: int | None = None,
    callback: Callable[[int, Any], dict[str, float] | None] | None = None,
    checkpointer: Checkpointer | None = None,
    metrics: MetricsFile | None = None,
    label: str | None = None,
    warn: bool = True,
) -> tuple[Any, Trace]:
    """Runs a kernel for `num_steps` steps.

    Args:
      rng_key: consumed; step t uses `fold_in(rng_key, t)`.
      kernel: any `types.Kernel`.
      state: the initial state, `kernel.init(position, rng_key)`.
      data: None; a pytree, which every step receives as the full batch; a function `step -> batch`, such as
        `data.Minibatches`; or a `data.stream`. A function is traced once. If it is also a pytree, its arrays are
        arguments of jit.
      num_steps: total number of steps, including those before a resumption.
      num_burnin: number of steps before the first draw is kept.
      thinning: number of steps per draw. Steps after the last multiple of it yield no draw, but enter the metrics.
      keep: function of the state whose result is the draw; by default the position. `lambda state: ()` keeps nothing.
      chunk_size: number of steps per chunk, a multiple or a divisor of `thinning`. The default is the largest multiple
        up to 100 that divides `num_steps`, or about 100 if that multiple is below 10. If `thinning` is above 100, it is
        the largest divisor of `thinning` up to 100, or `thinning` if that divisor is below 10.
      callback: `(step, state) -> numbers by name` for the metrics, or None; it is called on the host after each chunk.
        Every process calls it; arrays may be spread over processes, so read them through `training.fetch`.
      checkpointer: saves the run periodically and resumes it from an existing checkpoint.
      metrics: receives one line per chunk.
      label: name of the progress bar on standard error; None disables the bar.
      warn: whether to warn at the end if the diagnostics of a sampler show that its draws are not from the target
        (`diagnosis.py`).

    Returns:
      The final state and a `Trace`.

    Warns:
      SamplerWarning: once for each problem of the draws.

    Raises:
      ValueError: if a count is out of range, if `kernel` has no `step` or `state` no position, if it is called under
        vmap, jit or grad, or if `data` is a function whose result does not depend on the step, or has leaves that are
        not arrays, such as an iterator.
      NonFinite: if the initial position or a later state is not finite; a checkpoint then holds the last finite state.
      StreamError: if a stream ends early or fails, or its shares do not fit together (`shares.py`). If there
        have been steps, a checkpoint then holds the state after the last chunk.
      CheckpointMismatch: if the checkpoint belongs to a different run (`identity.py`) or has more than `num_steps`
        steps. It is raised before the first step.
      CheckpointError: if a checkpoint cannot be written or read, or if another process is writing in its folder.
      KeyboardInterrupt: raised again after the state of the last chunk is saved.
    """
    if num_steps < 0 or num_burnin < 0 or thinning < 1:
        raise ValueError(
            "num_steps and num_burnin must be at least 0 and thinning at least 1; "
            f"got {num_steps}, {num_burnin} and {thinning}"
        )
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((rng_key, state))):
        raise ValueError(
            "training.run is a loop on the host, which vmap, jit and grad cannot transform: use kernels.particles for "
            "many chains, networks or seeds"
        )
    checks.kernel(kernel=kernel)
    if keep is None and not hasattr(state, "position"):
        raise ValueError(f"state must be kernel.init(position, rng_key), with a position; got {type(state).__name__}")
    arguments = {"num_burnin": num_burnin, "thinning": thinning, "chunk_size": chunk_size}
    chunk_size = _default_chunk(num_steps, thinning) if chunk_size is None else chunk_size
    if chunk_size < 1 or (chunk_size % thinning and thinning % chunk_size):
        raise ValueError(f"chunk_size must be a multiple or a divisor of thinning, {thinning}; got {chunk_size}")
    if isinstance(data, Stream):
        chunk_size = _limited_chunk(chunk_size, thinning, data.longest_chunk)
    inner = min(thinning, chunk_size)  # number of steps over which a chunk averages infos
    if inner < thinning:
        arguments["info_steps"] = inner
    if callable(data):
        checks.varies_with_step(data, "data")
    elif not isinstance(data, Stream):
        checks.arrays(data, "data")
    started = time.perf_counter()
    metrics = metrics if processes.is_first() else None
    chunks = Chunks(kernel, data, keep or (lambda state: state.position), rng_key, state, thinning)
    compile_seconds = chunk_seconds = 0.0
    with contextlib.nullcontext() if checkpointer is None else checkpointer.writing():
        done, record = 0, Record()
        if checkpointer is not None:
            done, state, record = checkpointer.restore(state, rng_key, lambda: arguments | chunks.describe(inner))
            record.structure = chunks.structure(inner)
        record.infos_per_draw = thinning // inner
        _check_length(done, num_steps, thinning, inner)
        _check_start(state, label)
        if metrics is not None:
            metrics.rewrite(record.metrics)
        restored, saved_metrics = done, list(record.metrics)
        progress = Progress(label, num_steps, done)
        complete, to_save = record.length, _savable(state, checkpointer)
        try:
            lengths = [*_chunk_lengths(done, num_steps, chunk_size, thinning), 0]
            for length, next_length in itertools.pairwise(lengths):
                before = time.perf_counter()
                chunk = chunks.compiled(length, min(inner, length))
                compiled = time.perf_counter()
                batches = None
                if isinstance(data, Stream):
                    batches = shares.take(data, done, length)
                    data.prefetch(done + length, next_length)
                new_state, kept, info, finite = jax.block_until_ready(chunk(jnp.int32(done), state, batches))
                compile_seconds += compiled - before
                chunk_seconds += time.perf_counter() - compiled
                kept, info, finite = processes.fetch((kept, info, finite))
                reached = done + length
                if not finite:
                    cause = "" if done else _describe_first_step(chunks.compiled(1, 1), state, batches)
                    where = f"the state is not finite after step {reached}; it was finite after step {done}"
                    usual = ". The usual cause is a step size or learning rate that is too large"
                    raise NonFinite(_prefix(label) + where + (cause or usual), state, done)
                numbers = {"step": reached, **scalars(info)}
                if callback is not None:
                    numbers |= callback(reached, new_state) or {}
                _check_names(saved_metrics, numbers)
                ends = np.arange(done + inner, reached + 1, inner)
                record.add(*_split_burnin(kept, info, ends, thinning, num_burnin), numbers)
                # Assigned together, so that an interruption cannot leave values of two chunks.
                done, state, complete, to_save = reached, new_state, record.length, _savable(new_state, checkpointer)
                if metrics is not None:
                    metrics.write(numbers)
                progress.update(done, numbers)
                if checkpointer is not None and checkpointer.due():
                    checkpointer.save(done, to_save, record)
        except (KeyboardInterrupt, NonFinite, StreamError):
            record.truncate(complete)  # the interruption may have come after `record.add`
            if checkpointer is not None:
                checkpointer.save(done, to_save, record)
            raise
        finally:
            progress.close()
        if checkpointer is not None:
            checkpointer.save(done, to_save, record)
    seconds = time.perf_counter() - started
    draws, info, burnin_info = record.stacked()
    if warn and processes.is_first():
        for line in sampler_warnings(draws, info):
            warnings.warn(_prefix(label) + line, SamplerWarning, stacklevel=2)
    return state, Trace(
        draws, info, burnin_info, record.metrics, seconds, compile_seconds, chunk_seconds, done - restored
    )


def _split_burnin(
    kept: PyTree, info: PyTree, ends: np.ndarray, thinning: int, num_burnin: int
) -> tuple[PyTree, PyTree, PyTree]:
    """Draws, their infos, and the infos of the burn-in.

    `ends` has the steps at which the averages in `info` end; steps after the last of them are in none of the results.
    """
    steps_of_draws = -(-ends // thinning) * thinning
    is_kept = steps_of_draws > num_burnin

    def select(mask: np.ndarray, values: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[: len(mask)][mask], values)

    return select(is_kept & (ends == steps_of_draws), kept), select(is_kept, info), select(~is_kept, info)


def _check_length(done: int, num_steps: int, thinning: int, inner: int) -> None:
    """Raises if a run of `done` steps cannot be continued to `num_steps`."""
    if done > num_steps:
        raise CheckpointMismatch(
            f"num_steps must be at least the {done} steps that the checkpoint has taken; got {num_steps}"
        )
    if done % inner and done < num_steps:
        raise ValueError(
            f"num_steps: a run that ended after {done} steps cannot continue with a draw every {thinning} steps"
        )


def _check_names(saved: list[dict[str, float]], numbers: dict[str, float]) -> None:
    """Raises CheckpointMismatch if a metric of all saved lines is missing, because `callback` has changed."""
    for name in saved[0] if saved else ():
        if name not in numbers and all(name in row for row in saved):
            raise CheckpointMismatch(f"the checkpoint's metrics contain {name!r}, which `callback` no longer returns")


def _prefix(label: str | None) -> str:
    return f"{label}: " if label else ""


def _check_start(state: Any, label: str | None) -> None:
    """Raises NonFinite, with the names of the leaves, if the initial position is not finite.

    Other parts of a state may start infinite, such as the best loss of an optimiser.
    """
    if bad := _not_finite({"position": getattr(state, "position", ())}):
        raise NonFinite(f"{_prefix(label)}the initial position is not finite: {', '.join(bad)}", state, 0)


def _describe_first_step(chunk: Callable, state: Any, batches: PyTree) -> str:
    """Describes the leaves that the first step of the run makes non-finite, or returns "" if there are none."""
    new_state, _, info, _ = chunk(jnp.int32(0), state, jax.tree.map(lambda leaf: leaf[:1], batches))
    initial = _not_finite(state)
    bad = _not_finite(info) or [leaf for leaf in _not_finite(new_state) if leaf not in initial]
    return f". The initial state is the cause: after the first step, {', '.join(bad)}" if bad else ""


def _not_finite(values: PyTree) -> list[str]:
    """Descriptions of the leaves that are not finite: the path and one such value."""
    descriptions = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            array = processes.fetch(leaf)
            if not np.all(finite := np.isfinite(array)):
                descriptions.append(
                    f"{jax.tree_util.keystr(path, simple=True, separator='.')} is {array[~finite].flat[0]}"
                )
    return descriptions


def _savable(state: Any, checkpointer: Checkpointer | None) -> Any:
    """The state as a checkpoint needs it. It is fetched now, because an interrupted process cannot fetch it later."""
    return state if checkpointer is None or jax.process_count() == 1 else processes.fetch(state)


def _default_chunk(num_steps: int, thinning: int) -> int:
    """The largest multiple of `thinning` from 10 to MAX_CHUNK that divides `num_steps`.

    If there is none, it is the largest multiple up to MAX_CHUNK. If `thinning` itself exceeds MAX_CHUNK, it is the
    largest divisor of `thinning` from 10 to MAX_CHUNK, or else `thinning`.
    """
    if thinning > MAX_CHUNK:
        return next((size for size in range(MAX_CHUNK, 9, -1) if thinning % size == 0), thinning)
    largest = max(MAX_CHUNK // thinning, 1) * thinning
    for size in range(largest, min(9, largest - 1), -thinning):
        if num_steps % size == 0:
            return size
    return largest


def _limited_chunk(chunk_size: int, thinning: int, longest: int) -> int:
    """The largest multiple or divisor of `thinning` up to `chunk_size` and to `longest`."""
    size = min(chunk_size, longest)
    if size >= thinning:
        return size - size % thinning
    return next(length for length in range(size, 0, -1) if thinning % length == 0)


def _chunk_lengths(done: int, num_steps: int, chunk_size: int, thinning: int) -> Iterator[int]:
    """The lengths of the remaining chunks: full chunks, then whole draws, then the remaining steps.

    They depend only on `done`, so a resumed run has the same chunks.
    """
    while done < num_steps:
        length = min(chunk_size, num_steps - done)
        length -= length % thinning if length > thinning else 0
        yield length
        done += length
