"""The only loop: chunks of kernel steps scanned under one jit, with everything that is not mathematics between them.

    for each chunk:   state <- scan of   state, info <- kernel.step(fold_in(rng_key, t), state, data(t))

Step t depends on nothing but (rng_key, t, state), so a run that stops after any chunk and resumes from its checkpoint
is bit-identical to one that never stopped. Between chunks the loop shows progress, writes metrics, keeps draws, saves
checkpoints, and stops at the first non-finite state with the last good one kept. On several processes (`processes.py`)
every one of them returns the whole trace, and the first alone shows and writes. Read `checkpoint.py` next.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks
from bayesjax.training import processes
from bayesjax.training.checkpoint import Checkpointer, CheckpointMismatch, Record
from bayesjax.training.chunks import Chunks
from bayesjax.training.progress import MetricsFile, Progress, scalars
from bayesjax.types import Array, Kernel, PRNGKey, PyTree

MAX_CHUNK = 100


class Trace(NamedTuple):
    """What a run leaves behind beside its final state; after a resumption, of the whole run.

    Attributes:
      draws: kept positions stacked on a leading axis, `[num_draws, ...]` (numpy); None if there are none.
      info: the kernel's info for each draw, averaged over the `thinning` steps that led to it: the same pytree with the
        leading axis of `draws` (numpy); None if no draw was kept.
      burnin_info: the same for each `thinning` steps of the burn-in; None if there were none.
      metrics: a dict of numbers for each chunk, with the key "step".
      seconds: wall-clock time of this call.
      compile_seconds: the part of `seconds` spent compiling.
      chunk_seconds: the part of `seconds` spent inside compiled chunks.
      steps: the steps taken by this call.
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
    """The state became NaN or infinite.

    Attributes:
      state: the last finite state, at the end of the chunk before.
      step: the steps it had taken.
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
    callback: Callable[[int, Any], dict[str, float]] | None = None,
    checkpointer: Checkpointer | None = None,
    metrics: MetricsFile | None = None,
    label: str | None = None,
) -> tuple[Any, Trace]:
    """Takes steps of a kernel until `num_steps` are done.

    Args:
      rng_key: consumed; step t uses `fold_in(rng_key, t)`.
      kernel: any `types.Kernel`.
      state: where to start, `kernel.init(position, rng_key)`.
      data: None; a pytree, passed to every step as the full batch; or a function `step -> batch` such as
        `data.Minibatches`. A function is traced, once; one that is itself a pytree carries its arrays into jit as
        arguments.
      num_steps: total number of steps, those before a resumption included.
      num_burnin: steps before draws are kept.
      thinning: a draw is kept after every `thinning` steps. Steps after the last whole `thinning` belong to no draw;
        they count in the metrics.
      keep: what to keep of a state, by default its position; `lambda state: ()` keeps nothing.
      chunk_size: steps between looks at the run, a multiple of `thinning`; by default the largest up to 100 that
        divides `num_steps` (100 or so where none of at least 10 does).
      callback: called on the host with the step and the state; its numbers join the metrics. On several processes
        all call it, with a state whose parts may lie on others: `training.fetch` what you read.
      checkpointer: saves the run as it goes, and resumes it if there is something to resume.
      metrics: receives a line per chunk.
      label: name of the progress bar on standard error; None shows none.

    Returns:
      The final state and a `Trace`.

    Raises:
      ValueError: if a count is out of range, or if `data` is a function whose result does not depend on the step or
        has a leaf that is no array, such as an iterator.
      NonFinite: if the state is not finite at the start or stops being so; the checkpoint, if any, then holds the last
        finite one.
      CheckpointMismatch: before the first step, if the checkpoint is of another run (`identity.py`) or has more steps.
      CheckpointError: if a checkpoint cannot be written or read, or another process is writing in its folder.
      KeyboardInterrupt: passed on, after the state of the last chunk is saved.
    """
    if num_steps < 0 or num_burnin < 0 or thinning < 1:
        raise ValueError(
            "num_steps and num_burnin must be at least 0 and thinning at least 1; "
            f"got {num_steps}, {num_burnin} and {thinning}"
        )
    arguments = {"num_burnin": num_burnin, "thinning": thinning, "chunk_size": chunk_size}
    chunk_size = _default_chunk(num_steps, thinning) if chunk_size is None else chunk_size
    if chunk_size < 1 or chunk_size % thinning:
        raise ValueError(f"chunk_size must be a positive multiple of thinning, {thinning}; got {chunk_size}")
    if callable(data):
        checks.varies_with_step(data, "data")
    else:
        checks.arrays(data, "data")
    started = time.perf_counter()
    metrics = metrics if processes.is_first() else None
    chunks = Chunks(kernel, data, keep or (lambda state: state.position), rng_key, state)
    compile_seconds = chunk_seconds = 0.0
    with contextlib.nullcontext() if checkpointer is None else checkpointer.writing():
        done, record = 0, Record()
        if checkpointer is not None:
            done, state, record = checkpointer.restore(state, rng_key, lambda: arguments | chunks.describe(thinning))
            record.structure = chunks.structure(thinning)
        _check_length(done, num_steps, thinning)
        _check_start(state, label)
        if metrics is not None:
            metrics.rewrite(record.metrics)
        restored, saved_metrics = done, list(record.metrics)
        progress = Progress(label, num_steps, done)
        complete, to_save = record.length, _savable(state, checkpointer)
        try:
            for length in _chunk_lengths(done, num_steps, chunk_size, thinning):
                before = time.perf_counter()
                chunk = chunks.compiled(length, min(thinning, length))
                compiled = time.perf_counter()
                moved, kept, info, finite = jax.block_until_ready(chunk(jnp.int32(done), state))
                compile_seconds += compiled - before
                chunk_seconds += time.perf_counter() - compiled
                kept, info, finite = processes.fetch((kept, info, finite))
                reached = done + length
                if not finite:
                    bad = "" if done else _first_step(chunks.compiled(1, 1), state)
                    where = f"the state is not finite after step {reached}; it last was after step {done}"
                    raise NonFinite(_at(label) + where + bad, state, done)
                numbers = {"step": reached, **scalars(info)}
                if callback is not None:
                    numbers |= callback(reached, moved)
                _check_names(saved_metrics, numbers)
                record.add(*_parts(kept, info, np.arange(done + thinning, reached + 1, thinning) > num_burnin), numbers)
                after = _savable(moved, checkpointer)
                done, state, complete, to_save = reached, moved, record.length, after
                if metrics is not None:
                    metrics.write(numbers)
                progress.update(done, numbers)
                if checkpointer is not None and checkpointer.due():
                    checkpointer.save(done, to_save, record)
        except (KeyboardInterrupt, NonFinite):
            record.truncate(complete)  # an interruption may fall between the lines above
            if checkpointer is not None:
                checkpointer.save(done, to_save, record)
            raise
        finally:
            progress.close()
        if checkpointer is not None:
            checkpointer.save(done, to_save, record)
    seconds = time.perf_counter() - started
    return state, Trace(*record.stacked(), record.metrics, seconds, compile_seconds, chunk_seconds, done - restored)


def _parts(kept: PyTree, info: PyTree, is_kept: np.ndarray) -> tuple[PyTree, PyTree, PyTree]:
    """Draws, their infos, and the infos of the burn-in; the steps after the last whole thinning are in neither."""

    def where(is_part: np.ndarray, values: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[: len(is_part)][is_part], values)

    return where(is_kept, kept), where(is_kept, info), where(~is_kept, info)


def _check_length(done: int, num_steps: int, thinning: int) -> None:
    """Raises if a run that has taken `done` steps cannot go on to `num_steps`."""
    if done > num_steps:
        raise CheckpointMismatch(
            f"num_steps must be at least the {done} steps that the checkpoint has taken; got {num_steps}"
        )
    if done % thinning and done < num_steps:
        raise ValueError(
            f"num_steps: a run that ended after {done} steps cannot go on with draws every {thinning} steps"
        )


def _check_names(saved: list[dict[str, float]], numbers: dict[str, float]) -> None:
    """Raises CheckpointMismatch if a metric that every saved line has is missing: another `callback`."""
    for name in saved[0] if saved else ():
        if name not in numbers and all(name in row for row in saved):
            raise CheckpointMismatch(f"the checkpoint's metrics have {name!r}, and `callback` no longer returns it")


def _at(label: str | None) -> str:
    return f"{label}: " if label else ""


def _check_start(state: Any, label: str | None) -> None:
    """Raises NonFinite, naming the leaves, if the run would start from a position that is not finite.

    Other parts of a state may begin infinite, such as the best value so far of an optimiser.
    """
    if bad := _not_finite({"position": getattr(state, "position", ())}):
        raise NonFinite(f"{_at(label)}the start is not finite: {', '.join(bad)}", state, 0)


def _first_step(chunk: Callable, state: Any) -> str:
    """What is wrong with the start of a run whose first chunk fails, in words; empty if the first step is fine."""
    moved, _, info, _ = chunk(jnp.int32(0), state)
    began = _not_finite(state)
    bad = _not_finite(info) or [leaf for leaf in _not_finite(moved) if leaf not in began]
    return f". The start is to blame: at its first step, {', '.join(bad)}" if bad else ""


def _not_finite(values: PyTree) -> list[str]:
    """The leaves that are not finite, by path, with a value that is not."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            whole = processes.fetch(leaf)
            if not np.all(finite := np.isfinite(whole)):
                found.append(f"{jax.tree_util.keystr(path, simple=True, separator='.')} is {whole[~finite].flat[0]}")
    return found


def _savable(state: Any, checkpointer: Checkpointer | None) -> Any:
    """What a checkpoint needs, at hand: an interrupted process can no longer ask the others for their parts."""
    return state if checkpointer is None or jax.process_count() == 1 else processes.fetch(state)


def _default_chunk(num_steps: int, thinning: int) -> int:
    """The largest multiple of `thinning` up to MAX_CHUNK that divides `num_steps`, if that is not too small."""
    largest = max(MAX_CHUNK // thinning, 1) * thinning
    for size in range(largest, min(9, largest - 1), -thinning):
        if num_steps % size == 0:
            return size
    return largest


def _chunk_lengths(done: int, num_steps: int, chunk_size: int, thinning: int) -> Iterator[int]:
    """Full chunks, then whole draws, then what is left: a function of `done`, so a resumed run has the same chunks."""
    while done < num_steps:
        length = min(chunk_size, num_steps - done)
        length -= length % thinning if length > thinning else 0
        yield length
        done += length
