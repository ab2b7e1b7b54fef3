"""Checkpoints: save a run as it goes, resume it bit for bit.

    DIR/step_00000500/   state/       the kernel's state (Orbax)
                         run.json     step, seed, configuration and the metrics so far
    DIR/record/00000500.npz           draws and infos kept since the save before

A save becomes visible by a rename, after all its files are written, so that a process killed at any moment leaves the
last complete save intact. Only the newest state is kept; the records together are the draws of the whole run. Of
several processes the first writes and all read, so they must share the folder; their number may change between runs.
"""

import json
import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.training import processes
from bayesjax.types import PRNGKey, PyTree


class CheckpointMismatch(ValueError):
    """The checkpoint belongs to another run; the message names the first difference."""


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message names the folder and the cause."""


class Record:
    """Draws, infos and metrics of a run so far: host arrays in pieces, one a chunk."""

    def __init__(self) -> None:
        self.structure: PyTree = None  # of (draws, info, burnin_info); set by the first piece, or by `run`
        self.pieces: list[list[np.ndarray]] = []
        self.metrics: list[dict[str, float]] = []
        self.num_saved = 0
        self.files: list[str] = []

    def add(self, draws: PyTree, info: PyTree, burnin_info: PyTree, metrics: dict[str, float]) -> None:
        """Adds what a chunk leaves: draws and their infos `[num, ...]`, those of the burn-in, a line of metrics."""
        leaves, self.structure = jax.tree.flatten((draws, info, burnin_info))
        self.pieces.append([np.asarray(leaf) for leaf in leaves])
        self.metrics.append(metrics)

    @property
    def length(self) -> tuple[int, int]:
        """Number of pieces and of lines of metrics; a restored piece is that of a save, which may hold many chunks."""
        return len(self.pieces), len(self.metrics)

    def truncate(self, length: tuple[int, int]) -> None:
        """Drops what was added since `length` was read."""
        del self.pieces[length[0] :], self.metrics[length[1] :]

    def stacked(self) -> tuple[PyTree, PyTree, PyTree]:
        """Draws, their infos and those of the burn-in, each stacked on the leading axis; None for what is empty."""
        if not self.pieces:
            return None, None, None
        parts = jax.tree.unflatten(self.structure, _concatenate(self.pieces))
        draws, info, burnin_info = (part if len(next(iter(jax.tree.leaves(part)), ())) else None for part in parts)
        return draws, info, burnin_info


def _concatenate(pieces: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(leaves) for leaves in zip(*pieces, strict=True)]


class Checkpointer:
    """Saves a run in a folder and resumes it from there.

    Args:
      directory: the folder; made on the first save.
      config: what the run is, as JSON-serialisable values; a checkpoint of another configuration is refused.
      resume: whether to go on from a checkpoint in the folder. If False, the folder must not hold one.
      interval: seconds between saves; 0 saves after every chunk.
    """

    def __init__(
        self, directory: str | Path, *, config: dict | None = None, resume: bool = True, interval: float = 30.0
    ):
        self.directory = Path(directory).absolute()
        self.config = json.loads(json.dumps(config or {}))
        self.resume, self.interval = resume, interval
        self._last_save = time.monotonic()
        self._rng_key: list[int] | None = None

    def due(self) -> bool:
        """Whether `interval` seconds have passed since the last save."""
        return time.monotonic() - self._last_save >= self.interval

    def latest(self) -> Path | None:
        """Folder of the newest complete save, or None."""
        return max(self.directory.glob("step_" + "[0-9]" * 8), default=None)

    def restore(self, example: Any, rng_key: PRNGKey) -> tuple[int, Any, Record]:
        """Step, state and record of the newest save; `(0, example, empty)` if there is none.

        Args:
          example: a state of the same structure, shapes and types.
          rng_key: the run's key, which must be that of the checkpoint.

        Raises:
          CheckpointMismatch: if the checkpoint is of another configuration, seed or state.
          CheckpointError: if there is a checkpoint and `resume` is False: nothing written is ever thrown away.
        """
        self._rng_key = np.asarray(jax.random.key_data(rng_key)).tolist()
        name = processes.from_first(lambda: getattr(self.latest(), "name", None))
        if name is None:
            return 0, example, Record()
        saved = self.directory / name
        if not saved.exists():
            raise CheckpointError(f"process {jax.process_index()} does not see {saved}: all processes must share it")
        if not self.resume:
            raise CheckpointError(f"{saved} already holds a run: resume it, or choose another folder")
        run = json.loads((saved / "run.json").read_text())
        if run["config"] != self.config:
            raise CheckpointMismatch(
                f"{saved} is of another configuration: {first_difference(run['config'], self.config)}"
            )
        if run["rng_key"] != self._rng_key:
            raise CheckpointMismatch(
                f"{saved} is of another run: its rng_key is {run['rng_key']}, this one's {self._rng_key}"
            )
        shapes = _shapes(example)
        if run["shapes"] != shapes:
            raise CheckpointMismatch(f"{saved} holds another state: {first_difference(run['shapes'], shapes)}")
        leaves, structure = jax.tree.flatten(example)
        like = {str(i): np.empty(np.shape(leaf), jnp.result_type(leaf)) for i, leaf in enumerate(leaves)}
        try:
            with _orbax() as checkpointer:
                restored = checkpointer.restore(saved / "state", like)
            record = self._restore_record(run)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"cannot read the checkpoint {saved}: {_cause(error)}") from error
        placed = [processes.place_like(leaf, restored[str(i)]) for i, leaf in enumerate(leaves)]
        return run["step"], jax.tree.unflatten(structure, placed), record

    def save(self, step: int, state: Any, record: Record) -> None:
        """Saves the run after `step` steps; nothing if that is saved already, or by another process than the first.

        On several processes the leaves of `state` must be host arrays (`processes.fetch`).

        Raises:
          CheckpointError: if the folder cannot be written; the save before stays complete.
        """
        target = self.directory / f"step_{step:08d}"
        previous = self.latest()
        self._last_save = time.monotonic()
        if target.exists() or not processes.is_first():
            return
        temporary = self.directory / f"unfinished_{step:08d}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            files = list(record.files)
            if len(record.pieces) > record.num_saved:
                files.append(self._save_pieces(step, _concatenate(record.pieces[record.num_saved :])))
            leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
            with _orbax() as checkpointer:
                checkpointer.save(temporary / "state", leaves)
            run = {
                "step": step,
                "rng_key": self._rng_key,
                "config": self.config,
                "shapes": _shapes(state),
                "metrics": record.metrics,
                "record": files,
            }
            (temporary / "run.json").write_text(json.dumps(run))
            os.rename(temporary, target)
        except (OSError, ValueError, RuntimeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            kept = f"the last complete save is {previous}" if previous else "there is no complete save yet"
            raise CheckpointError(f"cannot write a checkpoint in {self.directory}: {_cause(error)}; {kept}") from error
        record.num_saved, record.files = len(record.pieces), files
        if previous is not None:
            shutil.rmtree(previous, ignore_errors=True)

    def _save_pieces(self, step: int, leaves: list[np.ndarray]) -> str:
        folder = self.directory / "record"
        folder.mkdir(exist_ok=True)
        temporary = folder / f"unfinished_{step:08d}.npz"
        np.savez(temporary, *leaves, dtypes=np.array([leaf.dtype.name for leaf in leaves]))
        os.rename(temporary, folder / f"{step:08d}.npz")
        return f"{step:08d}.npz"

    def _restore_record(self, run: dict) -> Record:
        """The pieces that the save names; a stray one, of a process killed in the middle of a save, is not read."""
        record = Record()
        record.metrics, record.files = run["metrics"], run["record"]
        for name in record.files:
            with np.load(self.directory / "record" / name) as arrays:
                # A view, since NumPy's files do not know bfloat16.
                leaves = [arrays[f"arr_{i}"].view(jnp.dtype(name)) for i, name in enumerate(arrays["dtypes"])]
                record.pieces.append(leaves)
        record.num_saved = len(record.pieces)
        return record


def _cause(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _orbax() -> Any:
    """A checkpointer of this process's own: it waits for no other."""
    import orbax.checkpoint
    from orbax.checkpoint.options import MultiprocessingOptions

    own = jax.process_index()
    alone = MultiprocessingOptions(primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}")
    return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)


def _shapes(state: Any) -> dict[str, str]:
    """Shape and type of every leaf, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): f"{jnp.result_type(leaf)}{list(np.shape(leaf))}" for path, leaf in leaves}


def first_difference(saved: dict, given: dict) -> str:
    """The first entry in which two dictionaries differ, in words."""
    for name in [*saved, *given]:
        if saved.get(name) != given.get(name):
            return f"{name} was {saved.get(name, 'absent')} and is now {given.get(name, 'absent')}"
    return "no difference"
