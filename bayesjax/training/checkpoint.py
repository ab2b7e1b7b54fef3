"""Checkpoints: periodic saves of a run, from which it resumes bit for bit.

    DIR/step_00000500/   state.npz    the leaves of the kernel's state
                         run.json     step, seed, configuration, identity of the run, and its metrics so far
    DIR/record/00000500.npz           draws and infos kept since the previous save
    DIR/.lock                         lock of the process that writes in the folder (`guards.py`)

A save becomes visible by a rename, after all its files are on the disk. A process that is killed at any time therefore
leaves the last complete save intact, and Ctrl-C is delayed until after the rename. Only the newest state is kept. The
records together are the draws of the whole run. Only the same run can resume a save (`identity.py`). With several
processes, process 0 writes and all read, so they must share the folder. Their number may change between runs. Read
`files.py` next.
"""

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesjax import atomic, checks
from bayesjax.training import files, guards, identity, processes
from bayesjax.types import PRNGKey, PyTree

FORMAT = 2
NOT_FINITE = ("nan", "inf", "-inf")  # how run.json stores these values of metrics; JSON has no such numbers


class CheckpointMismatch(ValueError):
    """The checkpoint belongs to a different run; the message names the first difference."""


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message names the folder and the cause."""


class Record:
    """The draws, infos and metrics of a run so far, as a list of host arrays with one piece for each chunk."""

    def __init__(self) -> None:
        self.structure: PyTree = None  # structure of (draws, info, burnin_info); set by the first piece or by `run`
        self.pieces: list[list[np.ndarray]] = []
        self.metrics: list[dict[str, float]] = []
        self.infos_per_draw = 1  # several if a chunk has a part of the steps of a draw
        self.num_saved = 0
        self.files: list[str] = []

    def add(self, draws: PyTree, info: PyTree, burnin_info: PyTree, metrics: dict[str, float]) -> None:
        """Adds the results of a chunk: draws, their infos, infos of the burn-in, each `[num, ...]`, and its metrics."""
        leaves, self.structure = jax.tree.flatten((draws, info, burnin_info))
        self.pieces.append([np.asarray(leaf) for leaf in leaves])
        self.metrics.append(metrics)

    @property
    def length(self) -> tuple[int, int]:
        """Number of pieces and number of rows of metrics. A piece read from a save may cover many chunks."""
        return len(self.pieces), len(self.metrics)

    def truncate(self, length: tuple[int, int]) -> None:
        """Removes everything that was added after `length` was read."""
        del self.pieces[length[0] :], self.metrics[length[1] :]

    def stacked(self) -> tuple[PyTree, PyTree, PyTree]:
        """Returns draws, their infos and the infos of the burn-in, each stacked on its leading axis; None if absent."""
        if not self.pieces:
            return None, None, None
        draws, *infos = jax.tree.unflatten(self.structure, _concatenate(self.pieces))
        parts = draws, *(jax.tree.map(self._average, info) for info in infos)
        draws, info, burnin_info = (part if len(next(iter(jax.tree.leaves(part)), ())) else None for part in parts)
        return draws, info, burnin_info

    def _average(self, infos: np.ndarray) -> np.ndarray:
        """Averages the infos of each draw; those of an unfinished draw at the end are left out."""
        if self.infos_per_draw == 1:
            return infos
        num = len(infos) // self.infos_per_draw
        parts = infos[: num * self.infos_per_draw].reshape(num, self.infos_per_draw, *infos.shape[1:])
        return parts.mean(axis=1, dtype=infos.dtype)


def _concatenate(pieces: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(leaves) for leaves in zip(*pieces, strict=True)]


class Checkpointer:
    """Saves a run in a folder and resumes it from there.

    Args:
      directory: the folder; it is created when a run starts.
      config: configuration of the run, as JSON-serialisable values. A checkpoint with a different configuration is
        refused.
      resume: whether to resume from a checkpoint in the folder. If False, the folder must not contain a checkpoint.
      interval: seconds between saves; 0 saves after every chunk, and infinity only at the end.
      check_program: whether to refuse a checkpoint of a different program: a different kernel, `keep` or data, or
        different constants in them. Programs are compared only under the same version of JAX, backend and devices.
        The structures of state, draws and infos, the burn-in, the thinning and the chunk size are always compared.

    Raises:
      ValueError: if `interval` is negative or not a number.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        config: dict | None = None,
        resume: bool = True,
        interval: float = 30.0,
        check_program: bool = True,
    ):
        checks.satisfies("at least 0", lambda value: value >= 0, interval=interval)
        self.directory = Path(directory).absolute()
        self.config = json.loads(files.dumps(config or {}))
        self.resume, self.interval, self.check_program = resume, interval, check_program
        self._last_save = time.monotonic()
        self._rng_key: list[int] | None = None
        self._identity: dict | None = None
        self._is_held = False

    def due(self) -> bool:
        """Whether `interval` seconds have passed since the last save."""
        return time.monotonic() - self._last_save >= self.interval

    def latest(self) -> Path | None:
        """The folder of the newest complete save, or None."""
        return max(self._saves(), key=_step_of, default=None)

    def _saves(self) -> list[Path]:
        return [path for path in self.directory.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name)]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Prevents other processes from writing in the folder until the block ends.

        Raises:
          CheckpointError: if another process is writing in the folder; the message names the process.
        """
        if self._is_held:
            yield
            return
        lock = guards.Lock(self.directory)
        if refusal := processes.broadcast_from_first(lock.refusal):
            raise CheckpointError(refusal)
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            lock.release()

    def restore(
        self, example: Any, rng_key: PRNGKey, describe: Callable[[], dict] | None = None
    ) -> tuple[int, Any, Record]:
        """Reads the newest save.

        Args:
          example: a state with the structure, shapes and types of the saved state.
          rng_key: the key of the run, which must equal that of the checkpoint.
          describe: returns the identity of the present run (`identity.py`). It is called and compared after the states
            have been found to have the same structure.

        Returns:
          The step, the state and the record of the save, or `(0, example, Record())` if there is no save.

        Raises:
          CheckpointMismatch: if the checkpoint belongs to a different run, such as one with a different configuration,
            seed or state structure.
          CheckpointError: if the checkpoint cannot be read, or if there is one and `resume` is False.
        """
        self._rng_key = np.asarray(jax.random.key_data(rng_key)).tolist()
        name = processes.broadcast_from_first(lambda: getattr(self.latest(), "name", None))
        if name is None:
            self._identity = describe() if describe else None
            return 0, example, Record()
        saved = self.directory / name
        if not saved.exists():
            raise CheckpointError(
                f"process {jax.process_index()} does not find {saved}: all processes must share the folder"
            )
        if not self.resume:
            raise CheckpointError(f"{saved} already holds a run: resume it, or choose another folder")
        try:
            run = read_run(saved / "run.json")
            self._check_same(saved, run, {"state": identity.shapes(example)})
            self._identity = describe() if describe else None
            self._check_same(saved, run, self._identity or {})
            leaves, structure = jax.tree.flatten(example)
            restored = files.read_arrays(saved / "state.npz")
            if list(identity.shapes(restored).values()) != list(run["identity"]["state"].values()):
                raise OSError(f"cannot read {saved / 'state.npz'}: its arrays are not those that run.json lists")
            record = self.read_record(run)
        except OSError as error:
            raise CheckpointError(f"cannot read the checkpoint {saved}: {atomic.cause(error)}") from error
        placed = [processes.place_like(*pair) for pair in zip(leaves, restored, strict=True)]
        return run["step"], jax.tree.unflatten(structure, placed), record

    def _check_same(self, saved: Path, run: dict, described: dict) -> None:
        """Raises CheckpointMismatch at the first difference between the save and the described part of the run."""
        if run["config"] != self.config:
            difference = identity.first_difference(run["config"], self.config)
            raise CheckpointMismatch(f"{saved} has another configuration: {difference}")
        if run["rng_key"] != self._rng_key:
            raise CheckpointMismatch(
                f"{saved} is of another run: its rng_key is {run['rng_key']}, this one's {self._rng_key}"
            )
        given = run["identity"] | described
        if difference := identity.difference(run["identity"], given, with_program=self.check_program):
            raise CheckpointMismatch(f"{saved} {difference}")

    def save(self, step: int, state: Any, record: Record) -> None:
        """Saves the state and the record after `step` steps, unless that step is already saved. Only process 0 writes.

        With several processes the leaves of `state` must be host arrays (`processes.fetch`). Ctrl-C is delayed until
        the save is complete.

        Raises:
          CheckpointError: if the folder cannot be written; the previous save remains complete.
        """
        self._last_save = time.monotonic()
        with guards.uninterrupted(), self.writing():
            if processes.is_first() and not (self.directory / f"step_{step:08d}").exists():
                self._save(step, state, record)

    def _save(self, step: int, state: Any, record: Record) -> None:
        name, previous, names = f"step_{step:08d}", self.latest(), list(record.files)
        temporary = self.directory / f"{name}.{secrets.token_hex(4)}{atomic.UNFINISHED}"
        piece = self.directory / "record" / f"{step:08d}.npz"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._clean(names)
            temporary.mkdir()
            if len(record.pieces) > record.num_saved:
                piece.parent.mkdir(exist_ok=True)
                files.write_arrays(piece, _concatenate(record.pieces[record.num_saved :]))
                names.append(piece.name)
            files.write_arrays(temporary / "state.npz", [identity.canonical(leaf) for leaf in jax.tree.leaves(state)])
            run = {
                "format": FORMAT,
                "step": step,
                "rng_key": self._rng_key,
                "config": self.config,
                "identity": self._identity or {"state": identity.shapes(state)},
                "metrics": [{key: _exact(value) for key, value in row.items()} for row in record.metrics],
                "record": names,
            }
            files.write_json(temporary / "run.json", run)
            for folder in (temporary, piece.parent):
                atomic.sync_folder(folder)
            os.rename(temporary, self.directory / name)
            atomic.sync_folder(self.directory)
        except (OSError, ValueError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._clean(record.files)
            kept = f"the last complete save is {previous}" if previous else "there is no complete save yet"
            message = f"cannot write a checkpoint in {self.directory}: {atomic.cause(error)}; {kept}"
            raise CheckpointError(message) from error
        record.num_saved, record.files = len(record.pieces), names
        for path in self._saves():
            if _step_of(path) < step:
                shutil.rmtree(path, ignore_errors=True)

    def _clean(self, names: list[str]) -> None:
        """Deletes the files of unfinished saves of this process and of killed processes."""
        atomic.remove_unfinished(self.directory)
        atomic.remove_unfinished(self.directory / "record")
        for path in (self.directory / "record").glob("*.npz"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def read_record(self, run: dict) -> Record:
        """Reads the pieces that the save lists. Pieces of unfinished saves are ignored."""
        record = Record()
        record.metrics = [{key: _restored(value) for key, value in row.items()} for row in run["metrics"]]
        record.files = run["record"]
        record.pieces = [files.read_arrays(self.directory / "record" / name) for name in record.files]
        record.num_saved = len(record.pieces)
        if "kept" in run["identity"]:
            parts = [run["identity"][part] for part in ("kept", "info", "info")]
            types = [shape.partition("[")[0] for part in parts for shape in part.values()]
            for name, piece in zip(record.files, record.pieces, strict=True):
                if [leaf.dtype.name for leaf in piece] != types:
                    raise OSError(f"the arrays of {self.directory / 'record' / name} are not those that run.json lists")
        return record


def read_run(path: Path) -> dict:
    """Reads the run.json of a save and checks the types of its entries.

    Raises:
      OSError: if the file cannot be read or has the wrong entries; the message is one line with the name of the file.
    """
    run = files.read_json(path)
    if "format" not in run and "step" in run:
        raise OSError(f"{path} was written by an older version of bayesjax")
    types = {"step": int, "rng_key": list, "config": dict, "identity": dict, "metrics": list, "record": list}
    for name, kind in types.items():
        if not isinstance(run.get(name), kind):
            raise OSError(f"cannot read {path}: it has no {kind.__name__} {name!r}")
    structures = [value for name, value in run["identity"].items() if name in ("state", "kept", "info", "program")]
    if "state" not in run["identity"] or not all(isinstance(value, dict) for value in [*structures, *run["metrics"]]):
        raise OSError(f"cannot read {path}: its entries are not those of a save")
    for name in run["record"]:
        if not isinstance(name, str) or not re.fullmatch(r"\d{8,}\.npz", name):
            raise OSError(f"cannot read {path}: {name!r} is not the name of a record")
    return run


def _step_of(save: Path) -> int:
    return int(save.name.removeprefix("step_"))


def _exact(value: Any) -> Any:
    is_finite = not isinstance(value, (float, np.floating)) or math.isfinite(value)
    return value if is_finite else repr(float(value))


def _restored(value: Any) -> Any:
    return float(value) if value in NOT_FINITE else value
