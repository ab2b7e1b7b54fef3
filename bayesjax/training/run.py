"""The only loop: chunks of kernel steps scanned under one jit, with everything that is not mathematics between them.

    for each chunk:   state <- scan of   state, info <- kernel.step(fold_in(rng_key, t), state, data(t))

Step t depends on nothing but (rng_key, t, state), so a run that stops after any chunk and resumes from its checkpoint
is bit-identical to one that never stopped. Between chunks the loop shows progress, writes metrics, keeps draws, saves
checkpoints, and stops at the first non-finite state with the last good one kept. On several processes (`processes.py`)
every one of them returns the whole trace, and the first alone shows and writes. Read `checkpoint.py` next.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks, tree
from bayesjax.training import processes
from bayesjax.training.checkpoint import Checkpointer, Record
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
    every_chunk: Callable[[int, Any], dict[str, float]] | None = None,
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
      every_chunk: called on the host with the step and the state; its numbers join the metrics. On several processes
        all call it, with a state whose parts may lie on others: `training.fetch` what you read.
      checkpointer: saves the run as it goes, and resumes it if there is something to resume.
      metrics: receives a line per chunk.
      label: name of the progress bar on standard error; None shows none.

    Returns:
      The final state and a `Trace`.

    Raises:
      ValueError: if a count is out of range, or if `data` is a function whose result does not depend on the step.
      NonFinite: if the state is not finite at the start or stops being so; the checkpoint, if any, then holds the last
        finite one.
      KeyboardInterrupt: passed on, after the state of the last chunk is saved.
    """
    if num_steps < 0 or num_burnin < 0 or thinning < 1:
        raise ValueError(
            "num_steps and num_burnin must be at least 0 and thinning at least 1; "
            f"got {num_steps}, {num_burnin} and {thinning}"
        )
    chunk_size = _default_chunk(num_steps, thinning) if chunk_size is None else chunk_size
    if chunk_size < 1 or chunk_size % thinning:
        raise ValueError(f"chunk_size must be a positive multiple of thinning, {thinning}; got {chunk_size}")
    if callable(data):
        checks.varies_with_step(data, "data")
    started = time.perf_counter()
    record, done = Record(), 0
    if checkpointer is not None:
        done, state, record = checkpointer.restore(state, rng_key)
    restored = done
    if done % thinning and done < num_steps:
        raise ValueError(
            f"num_steps: a run that ended after {done} steps cannot go on with draws every {thinning} steps"
        )
    if not processes.is_first():
        metrics = None
    if metrics is not None:
        metrics.rewrite(record.metrics)
    keep = keep or (lambda state: state.position)
    compile_chunk, structure = _chunk_compiler(kernel, data, keep, rng_key, state)
    if done:
        record.structure = structure()
    _check_start(state, label)
    progress = Progress(label, num_steps, done)
    compile_seconds = chunk_seconds = 0.0
    complete, to_save = record.length, _savable(state, checkpointer)
    try:
        for length in _chunk_lengths(done, num_steps, chunk_size, thinning):
            before = time.perf_counter()
            chunk = compile_chunk(length, min(thinning, length))
            compiled = time.perf_counter()
            moved, kept, info, finite = jax.block_until_ready(chunk(jnp.int32(done), state))
            compile_seconds += compiled - before
            chunk_seconds += time.perf_counter() - compiled
            kept, info, finite = processes.fetch((kept, info, finite))
            if not finite:
                bad = "" if done else _first_step(compile_chunk(1, 1), state)
                where = f"the state is not finite after step {done + length}; it last was after step {done}"
                raise NonFinite(_at(label) + where + bad, state, done)
            reached = done + length
            is_kept = np.arange(done + thinning, reached + 1, thinning) > num_burnin
            whole = (kept, info), (info,)
            (draws, draws_info), (burnin_info,) = (
                jax.tree.map(lambda leaf, which=which: leaf[: len(which)][which], part)
                for part, which in zip(whole, (is_kept, ~is_kept), strict=True)
            )
            numbers = {"step": reached, **scalars(info)}
            if every_chunk is not None:
                numbers |= every_chunk(reached, moved)
            record.add(draws, draws_info, burnin_info, numbers)
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


def _at(label: str | None) -> str:
    return f"{label}: " if label else ""


def _check_start(state: Any, label: str | None) -> None:
    """Raises NonFinite, naming the leaves, if the run would start from a state that is not finite."""
    if bad := _not_finite(state):
        raise NonFinite(f"{_at(label)}the start is not finite: {', '.join(bad)}", state, 0)


def _first_step(chunk: Callable, state: Any) -> str:
    """What is wrong with the start of a run whose first chunk fails, in words; empty if the first step is fine."""
    _, _, info, finite = chunk(jnp.int32(0), state)
    bad = _not_finite(info) or ([] if processes.fetch(finite) else ["the state is not finite"])
    return f". The start is to blame: at its first step, {', '.join(bad)}" if bad else ""


def _not_finite(values: PyTree) -> list[str]:
    """The leaves that are not finite, by path, with a value that is not."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            whole = processes.fetch(leaf)
            if not np.all(finite := np.isfinite(whole)):
                found.append(f"{jax.tree_util.keystr(path).removeprefix('.')} is {whole[~finite].flat[0]}")
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


def _chunk_compiler(
    kernel: Kernel, data: PyTree, keep: Callable, rng_key: PRNGKey, example: Any
) -> tuple[Callable, Callable]:
    """`compile(length, thinning) -> chunk(done, state) -> (state, kept, info, finite)`, compiled once per length; and a
    function that gives the structure of (kept, info) without running anything."""
    data_is_function = callable(data)
    carries_arrays = not (data_is_function and jax.tree_util.all_leaves([data]))
    argument = data if carries_arrays else None

    def chunk(length: int, thinning: int, rng_key: PRNGKey, argument: PyTree, done: Array, state: Any):
        source = argument if carries_arrays else data

        def one_step(state: Any, step: Array):
            batch = source(step) if data_is_function else source
            return kernel.step(jax.random.fold_in(rng_key, step), state, batch)

        def one_draw(state: Any, first: Array):
            state, infos = jax.lax.scan(one_step, state, first + jnp.arange(thinning))
            return state, (keep(state), jax.tree.map(lambda leaf: leaf.mean(axis=0), infos))

        state, (kept, info) = jax.lax.scan(one_draw, state, done + jnp.arange(0, length, thinning))
        return state, kept, info, tree.all_finite(state)

    compiled = {}

    def compile_chunk(length: int, thinning: int) -> Callable:
        if (length, thinning) not in compiled:
            jitted = jax.jit(chunk, static_argnums=(0, 1))
            compiled[length, thinning] = jitted.lower(
                length, thinning, rng_key, argument, jnp.int32(0), example
            ).compile()
            processes.meet()
        return lambda done, state: compiled[length, thinning](rng_key, argument, done, state)

    def structure() -> PyTree:
        out = jax.eval_shape(lambda *arguments: chunk(1, 1, *arguments), rng_key, argument, jnp.int32(0), example)
        return jax.tree.structure((out[1], out[2], out[2]))

    return compile_chunk, structure
