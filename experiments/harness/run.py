"""A run of an experiment: its folder, its checkpoints, its finished parts and its results.

    with Run("gan", config) as run:
        kernel, options = run.stage("warm-up", kernel)          # on the devices of the flags; progress and checkpoints
        state, trace = training.run(key, kernel, state, data, num_steps=100, **options)
        samples = run.part("samples", lambda: generate(...))    # a pytree, computed once and read back on --resume
        plots.curves(run.figure("loss.png"), ...)
        run.finish([row("FCD", 1.2, method="hinge")], TABLES)   # results.json, and its table on standard output

The folder holds config.json, metrics.jsonl, results.json, figures/, parts/ and checkpoints/. The exit code is 0 after
success, 2 after bad input, and 130 after an interruption (--resume continues the run). Read `report.py` next.
"""

import contextlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax import atomic, data, training
from bayesjax.training import files, guards, processes, progress
from bayesjax.training.identity import first_difference
from bayesjax.types import Kernel
from experiments.harness import launch, report
from experiments.harness.cli import BAD_INPUT, fail
from experiments.harness.provenance import RESULTS, command, commit, device_name, versions

ENTRIES = (
    "config.json", "commits.txt", "devices.txt", "seconds.txt", "metrics.jsonl", "results.json",
    "figures", "parts", "checkpoints",
)  # fmt: skip
LARGEST_LOSS = 1e5
"""Absolute loss above which a run has diverged. Losses are means per example, in nats or of that order; the loss of an
image of 64 x 64 x 3 pixels is below this bound."""


class Run:
    """Context manager of one run and its folder; bad input ends the run with one line on standard error.

    Nothing is written or deleted before the first stage, part or figure, so that errors in flags and data are found
    first. All processes execute the whole script. Only process 0 writes to the run folder and prints; the others use a
    temporary folder, and skip the parts that process 0 has finished.

    Args:
      name: name of the experiment.
      config: flags of the experiment.
      one_device: whether the experiment supports only one device of one process.

    Attributes:
      config: the flags.
      out: the run folder.
    """

    def __init__(self, name: str, config: Any, *, one_device: bool = False):
        self.name, self.config = name, config
        self.out = Path(config.out or f"runs/{name}-{config.preset}-{_slug(config.dataset)}-seed{config.seed}")
        self._one_device, self._started, self._commit = one_device, time.time(), commit()
        self._shared, self._is_open, self._at_exit = self.out, False, contextlib.ExitStack()
        self._replaces = config.overwrite and not config.resume
        self._identity = json.loads(files.dumps(config.identity()))
        self._recorded_config = {"experiment": name, **self._identity}

    def __enter__(self) -> "Run":
        """Connects the processes, and rejects a folder that holds a different run."""
        if self._one_device and not self.config.devices == self.config.processes == 1:
            fail(f"experiments.{self.name} runs on one device of one process")
        if self.config.processes != 1:
            launch.join()
        if refusal := launch.missing(self.config) or processes.broadcast_from_first(self._refusal):
            fail(refusal)
        if not processes.is_first():
            self.out = Path(self._at_exit.enter_context(tempfile.TemporaryDirectory()))
            nowhere = self._at_exit.enter_context(open(os.devnull, "w"))
            self._at_exit.enter_context(contextlib.redirect_stdout(nowhere))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        """Converts errors that a user can cause to one line and an exit code."""
        if self._is_open:
            with contextlib.suppress(OSError):  # an error here loses no result, and must not hide an earlier one
                atomic.append(self.out / "seconds.txt", f"{time.time() - self._started:.1f}")
        self._at_exit.close()
        outcome = error
        if isinstance(error, KeyboardInterrupt):
            print(f"interrupted: add --resume to go on in {self._shared}", file=sys.stderr)
            outcome = SystemExit(130)
        elif isinstance(error, ValueError | OSError | FloatingPointError | data.DataUnavailable):
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            outcome = SystemExit(BAD_INPUT)
        if outcome is not None and self.config.processes != 1:
            launch.leave(outcome)
        if outcome is not None and outcome is not error:
            raise outcome

    # ---- methods for experiments

    def stage(self, name: str, kernel: Kernel) -> tuple[Kernel, dict[str, Any]]:
        """Returns a kernel spread over the devices of the flags, and the options with which `training.run` runs it.

        The options set the progress bar, the metrics file and the checkpoints. On several devices the compiled program
        depends on --parallel and --data-devices, which do not affect results. Only the configuration is then compared
        on resumption.

        Args:
          name: name of the stage's checkpoints, metrics and progress bar; unique within the run.
          kernel: the kernel on one device.

        Raises:
          ValueError: if the particles or the batch cannot be divided over the devices.
        """
        kernel = launch.spread(self.config, kernel)
        self._open()
        checkpointer = training.Checkpointer(
            self._shared / "checkpoints" / name, config=self._identity, interval=self.config.checkpoint_interval,
            check_program=self.config.devices == self.config.processes == 1,
        )  # fmt: skip
        metrics = training.MetricsFile(self.out / "metrics.jsonl", name)
        return kernel, {"checkpointer": checkpointer, "metrics": metrics, "label": name}

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """Returns the value of `compute()`, computed once; a resumed run reads it from `parts/NAME.npz`.

        Args:
          name: name of the part; unique within the run.
          compute: returns nested dicts (with strings as keys), NamedTuples, lists and tuples of arrays, numbers,
            strings and None.

        Returns:
          The value as it is read back: arrays as NumPy arrays, NamedTuples as dicts, tuples as lists.
        """
        self._open()
        path = self.out / "parts" / f"{name}.npz"
        if not processes.broadcast_from_first(path.exists):
            _write_pytree(path, compute())
        return _read_pytree(path)

    def part_in_chunks(
        self, name: str, compute: Callable[[int, int], dict[str, Any]], num: int, chunk_size: int
    ) -> dict[str, np.ndarray]:
        """Returns arrays over `num` items, computed in chunks; a resumed run continues with the first missing chunk.

        Args:
          name: name of the part, and of its progress bar.
          compute: `(start, stop) -> {name: array [stop - start, ...]}`, the values of items start to stop - 1.
          num: number of items.
          chunk_size: number of items in a chunk; the last may have fewer.
        """
        bar, chunks = progress.Progress(name, num, 0), []
        for start in range(0, num, chunk_size):
            stop = min(start + chunk_size, num)
            chunks.append(self.part(f"{name}-{start}", lambda start=start, stop=stop: compute(start, stop)))
            bar.update(stop, {key: float(np.mean(values)) for key, values in chunks[-1].items()})
        bar.close()
        return {key: np.concatenate([np.asarray(chunk[key]) for chunk in chunks]) for key in chunks[0]}

    def figure(self, name: str) -> Path:
        """The path of a figure in the run folder."""
        self._open()
        return self.out / "figures" / name

    def finish(self, rows: Sequence[dict], tables: Sequence[report.Table], warnings: Sequence[str] = ()) -> None:
        """Writes results.json and prints its tables; with --publish, also writes experiments/results/.

        If the last loss of a stage exceeds LARGEST_LOSS, standard error and results.json have a warning.

        Args:
          rows: rows of the results file, made by `row`.
          tables: specifications of the printed tables.
          warnings: further remarks on the validity of the results, one line each.
        """
        self._open()
        warnings = [*self._large_losses(), *warnings]
        earlier = sum(float(line) for line in self._lines("seconds") if re.fullmatch(r"[\d.]*\d", line))
        results = {
            "experiment": self.name,
            "command": command(self.name),
            "config": self._identity,
            "rows": list(rows),
            **({"warnings": warnings} if warnings else {}),
            "seconds": round(earlier + time.time() - self._started, 1),
            "device": ", ".join(dict.fromkeys(self._lines("devices"))),
            "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
            "commit": ", ".join(dict.fromkeys(self._lines("commits"))),
        }
        files.write_json(self.out / "results.json", results)
        if self.out != self._shared:
            return
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
        if self.config.publish:
            name = f"{self.name}-{self.config.preset}-{_slug(self.config.dataset)}.json"
            files.write_json(RESULTS / name, results)
        print(report.render(tables, [files.read_json(self.out / "results.json")]))
        print(f"results in {self.out / 'results.json'}, figures in {self.out / 'figures'}")

    # ---- the folder

    def _refusal(self) -> str:
        """Error message if the folder cannot hold this run; otherwise empty."""
        saved = self.out / "config.json"
        try:
            was = files.read_json(saved) if saved.exists() else None
        except OSError as error:
            return str(error)
        written = [name for name in ENTRIES if (self.out / name).exists()]
        if self._replaces:
            if was is not None and was.get("experiment") != self.name:
                return f"--overwrite: {saved} is not of experiments.{self.name}: choose another --out"
        elif was is None and written:
            return f"{self.out} holds {written[0]} without a config.json: choose another --out, or --overwrite it"
        elif was is not None and not self.config.resume:
            return f"{self.out} already holds a run: add --resume to go on, --overwrite to replace it, or an --out"
        elif was is not None and was != self._recorded_config:
            difference = first_difference(was, self._recorded_config)
            return f"--resume: {self.out} holds a run of another configuration: {difference}"
        return ""

    def _open(self) -> None:
        """Creates and locks the folder, once; deletes the run that --overwrite replaces."""
        if self._is_open:
            return
        lock = guards.Lock(self.out)
        if refusal := processes.broadcast_from_first(lock.refusal):
            fail(f"--out: {refusal}")
        self._at_exit.callback(lock.release)
        processes.broadcast_from_first(self._make_folder)
        if not processes.is_first():
            self._make_folder()
            if (self._shared / "parts").exists():  # the parts that a resumed run reads
                shutil.copytree(self._shared / "parts", self.out / "parts", dirs_exist_ok=True)
        processes.broadcast_from_first(lambda: None)  # process 0 waits until the others have copied
        self._is_open = True

    def _make_folder(self) -> None:
        try:
            for name in ENTRIES if self._replaces else ():
                path = self.out / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            for folder in ("figures", "parts"):
                (self.out / folder).mkdir(parents=True, exist_ok=True)
                atomic.remove_unfinished(self.out / folder)
            atomic.remove_unfinished(self.out)
            files.write_json(self.out / "config.json", self._recorded_config)
            for name, line in (("commits", self._commit), ("devices", device_name(self.config.devices))):
                atomic.append(self.out / f"{name}.txt", line)
        except OSError as error:
            fail(f"cannot write to --out {self.out}: {error.strerror or error}")

    def _large_losses(self) -> list[str]:
        """One line for each loss of each stage whose last value exceeds LARGEST_LOSS."""
        last = {
            (line["stage"], name): line[name] for line in progress.read(self.out / "metrics.jsonl") for name in line
        }
        return [
            f"{stage}: {name} ends at {value:.3g}: the run has diverged, and its results mean nothing"
            for (stage, name), value in last.items()
            if name.rpartition(".")[2] == "loss" and isinstance(value, float) and abs(value) > LARGEST_LOSS
        ]

    def _lines(self, name: str) -> list[str]:
        """The lines that every start of this run has appended to NAME.txt."""
        path = self.out / f"{name}.txt"
        return path.read_text(errors="replace").splitlines() if path.exists() else []


def read_run(folder: str | Path, config_class: Callable) -> tuple[Any, dict[str, Any]]:
    """Reads the flags of a run and its finished parts, `{name: value}`; the folder is left as it is.

    Raises:
      ValueError: if the flags are not exactly those of `config_class`, the `Config` of the experiment.
      OSError: if the folder has no config.json, or a file is damaged.
    """
    flags = files.read_json(Path(folder) / "config.json")
    experiment = flags.pop("experiment", "?")
    if differing := sorted(flags.keys() ^ config_class().identity().keys()):
        raise ValueError(f"{folder} holds a run of experiments.{experiment} with other flags: {', '.join(differing)}")
    config = config_class(**{name: tuple(x) if isinstance(x, list) else x for name, x in flags.items()})
    return config, {path.stem: _read_pytree(path) for path in sorted(Path(folder, "parts").glob("*.npz"))}


def row(
    measure: str, value: Any, stderr: float | None = None, *, method: str | None = None, n: int | None = None,
    paper: float | str | None = None, source: str | None = None, **keys: Any,
) -> dict[str, Any]:  # fmt: skip
    """A row of a results file: one measured number, and the keys that identify it.

    Args:
      measure: the measured quantity with its unit, for example "error %".
      value: the number, or an estimate with the attributes `value` and `stderr`.
      stderr: standard error of the value; omitted if it is not finite.
      method: the method that was measured.
      n: number of independent repetitions, examples or draws behind the standard error.
      paper: the published number.
      source: the source of the published number.
      **keys: further keys, such as `loss`, `kernel` or `labels`, and `values`, the numbers of single repetitions.
    """
    if hasattr(value, "stderr"):
        value, stderr = value.value, value.stderr
    known = {"method": method, "measure": measure, **keys}
    entry = {"value": _plain(value), "stderr": _plain(stderr), "n": n, "paper": paper, "source": source}
    entry = {name: each for name, each in entry.items() if name == "value" or each is not None}
    return {name: _plain(each) for name, each in known.items() if each is not None} | entry


def _plain(value: Any) -> Any:
    """Converts a value to JSON's types; a number that is not finite becomes None."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) or hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _slug(name: str) -> str:
    """Converts the name of a data set to a part of a file name."""
    return Path(name).stem if name.endswith((".npz", ".npy")) else name.replace("/", "_").replace(":", "_")


def _write_pytree(path: Path, value: Any) -> None:
    """Writes nested containers of arrays, numbers and strings to one .npz file."""
    arrays: list[np.ndarray] = []

    def plain(node: Any) -> Any:
        if hasattr(node, "_asdict"):
            node = node._asdict()
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                raise TypeError(f"the keys of a part must be strings; got {list(node)}")
            return {"dict": {key: plain(each) for key, each in node.items()}}
        if isinstance(node, list | tuple):
            return {"list": [plain(each) for each in node]}
        if isinstance(node, str | bool | int | float | None):
            return {"value": node}
        arrays.append(np.asarray(node))
        return {"array": len(arrays) - 1}

    structure = json.dumps(plain(value)).encode()
    files.write_arrays(path, [np.frombuffer(structure, np.uint8), *arrays])


def _read_pytree(path: Path) -> Any:
    """Reads what `_write_pytree` has written."""
    structure, *arrays = files.read_arrays(path)

    def restored(node: dict) -> Any:
        ((kind, content),) = node.items()
        if kind == "dict":
            return {key: restored(each) for key, each in content.items()}
        if kind == "list":
            return [restored(each) for each in content]
        return arrays[content] if kind == "array" else content

    return restored(json.loads(structure.tobytes()))
