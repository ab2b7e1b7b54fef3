"""What the experiments share: the command line, the run folder, the results file. No base class, no registry.

    config = common.parse(PRESETS, __doc__)             # --preset picks the defaults, every field is a flag
    with common.Experiment("name", config) as run:      # the folder; bad input becomes one line
        ...  training.run(..., **run.stage("warm-up"))  # progress, metrics, checkpoints
        print(tables.render(run.finish(metrics)))       # results.json, and its table

Exit codes: 0 done; 2 bad input, in one line; 130 interrupted (resume with --resume).
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments import devices
from experiments.command_line import BOOKKEEPING, RunFlags, parse  # noqa: F401, as below
from experiments.origin import ROOT, command, commit, device_name, versions
from experiments.requirements import (  # noqa: F401, for the experiments, which import this module alone
    fail,
    not_a_command,
    require,
    require_all_positive,
    require_at_least,
    require_choice,
    require_names,
    require_positive,
)

K = TypeVar("K")
OWN_ENTRIES = (
    "config.json", "commits.txt", "devices.txt", "seconds.txt", "metrics.jsonl", "results.json",
    "figures", "parts", "checkpoints",
)  # fmt: skip
LARGEST_LOSS = 1e5
"""Losses are means per example in nats, or of that order: those of images of 64 x 64 x 3 are below 1e5."""
RESULTS = ROOT / "experiments" / "results"


class Experiment:
    """A run's folder, from its configuration to its results; bad input leaves it as one clear line.

    Nothing is written or deleted before the first stage or part: what is wrong with the flags or the data shows first.
    Of several processes all run the whole script, but the first alone has the folder and is heard; the others write to
    folders that are thrown away, and take its word for what is done already.

    Attributes:
      out: the folder: config.json, metrics.jsonl, results.json, figures/, parts/, checkpoints/.
    """

    def __init__(self, name: str, config: Any):
        self.name, self.config = name, config
        self.out = Path(config.out or f"runs/{name}-{config.preset}-{slug(config.dataset)}-seed{config.seed}")
        self.started, self.commit = time.time(), commit()
        self._shared = self.out
        self._is_open = self._is_spread = False
        self._replaces = config.overwrite and not config.resume
        self._recorded_config = {"experiment": name, **self.identity()}
        self._at_exit = contextlib.ExitStack()

    def __enter__(self) -> "Experiment":
        """Refuses a folder that holds something else than this run or nothing."""
        from bayesjax.training import processes

        if self.config.processes != 1:
            devices.join()
        if refusal := devices.missing(self.config) or processes.broadcast_from_first(self._refusal):
            fail(refusal)
        if not processes.is_first():
            self.out = Path(self._at_exit.enter_context(tempfile.TemporaryDirectory()))
            nowhere = self._at_exit.enter_context(open(os.devnull, "w"))
            self._at_exit.enter_context(contextlib.redirect_stdout(nowhere))
        return self

    def _refusal(self) -> str:
        """Why the folder cannot be this run's, in a line; empty if it can."""
        from bayesjax.training import files
        from bayesjax.training.identity import first_difference

        saved = self.out / "config.json"
        try:
            was = files.read_json(saved) if saved.exists() else None
        except OSError as error:
            return str(error)
        written = [name for name in OWN_ENTRIES if (self.out / name).exists()]
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

    def open(self) -> None:
        """Makes the folder, once, and locks it; empties it of the run that --overwrite replaces."""
        from bayesjax.training import guards, processes

        if self._is_open:
            return
        lock = guards.Lock(self.out)
        if refusal := processes.broadcast_from_first(lock.refusal):
            fail(f"--out: {refusal}")
        self._at_exit.callback(lock.release)
        processes.broadcast_from_first(self._make_folder)
        if not processes.is_first():
            self._make_folder()
            if (self._shared / "parts").exists():  # what a resumed run reads
                shutil.copytree(self._shared / "parts", self.out / "parts", dirs_exist_ok=True)
        processes.broadcast_from_first(lambda: None)  # the first goes on, and writes, when the others have read
        self._is_open = True

    def _make_folder(self) -> None:
        from bayesjax.training import files

        try:
            if self._replaces:
                for name in OWN_ENTRIES:
                    path = self.out / name
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
            for folder in ("figures", "parts"):
                (self.out / folder).mkdir(parents=True, exist_ok=True)
                files.remove_unfinished(self.out / folder)
            files.remove_unfinished(self.out)
            write_json(self.out / "config.json", self._recorded_config)
            for name, line in (("commits", self.commit), ("devices", device_name(self.config.devices))):
                files.append(self.out / f"{name}.txt", line)
        except OSError as error:
            fail(f"cannot write to --out {self.out}: {error.strerror or error}")

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        """Turns what a user can cause into one line and an exit code."""
        from bayesjax.training import files

        if self._is_open:
            with contextlib.suppress(OSError):  # a full disk has been told already, or has lost no result
                files.append(self.out / "seconds.txt", f"{time.time() - self.started:.1f}")
        self._at_exit.close()
        outcome = self._explain(error)
        if outcome is not None and self.config.processes != 1:
            devices.leave(outcome)
        if outcome is not None and outcome is not error:
            raise outcome

    def _explain(self, error: BaseException | None) -> BaseException | None:
        """Says in a line what a user can cause; the exit that it becomes, or the error itself."""
        from bayesjax import data

        if isinstance(error, KeyboardInterrupt):
            print(f"interrupted: add --resume to go on in {self._shared}", file=sys.stderr)
            return SystemExit(130)
        if isinstance(error, (ValueError, OSError, FloatingPointError, data.DataUnavailable)):
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            return SystemExit(devices.BAD_INPUT)
        return error

    def identity(self) -> dict:
        """The configuration less what does not change the result."""
        from bayesjax.training import files

        config = json.loads(files.dumps(dataclasses.asdict(self.config)))
        return {key: value for key, value in config.items() if key not in BOOKKEEPING}

    def spread(self, kernel: K) -> K:
        """The kernel on the devices that --devices, --processes, --parallel and --data-devices ask for."""
        self._is_spread = True
        return devices.spread(self.config, kernel)

    def stage(self, name: str) -> dict:
        """The arguments of `training.run` that make a stage of this experiment visible, recorded and resumable.

        On several devices a program depends on --parallel and --data-devices, which do not affect results, so that the
        configuration alone is compared on resumption.
        """
        from bayesjax import training

        one_device = self.config.devices == self.config.processes == 1
        require(self._is_spread or one_device, f"experiments.{self.name} runs on one device of one process")
        self.open()
        checkpointer = training.Checkpointer(
            self._shared / "checkpoints" / name, config=self.identity(), interval=self.config.checkpoint_interval,
            check_program=one_device,
        )  # fmt: skip
        return {
            "checkpointer": checkpointer,
            "metrics": training.MetricsFile(self.out / "metrics.jsonl", name),
            "label": name,
        }

    def cached(self, name: str, compute: Callable[[], dict]) -> dict:
        """The JSON result of a finished part, computed once: what a resumed run need not do again."""
        from bayesjax.training import files, processes

        self.open()
        path = self.out / "parts" / f"{name}.json"
        if not processes.broadcast_from_first(path.exists):
            write_json(path, compute())
        return processes.broadcast_from_first(lambda: files.read_json(path))

    def finish(self, metrics: dict[str, dict], warnings: Sequence[str] = ()) -> Path:
        """Writes results.json; with --publish, also to experiments/results/NAME-PRESET-DATASET.json.

        A stage that ends at a loss beyond LARGEST_LOSS has diverged: a warning on standard error and in the results.

        Args:
          metrics: `{name: {"value": ..., "stderr": ..., "paper": ..., "source": ...}}`; a number that is not finite is
            written as null.
          warnings: what else is wrong with the results, a line each.
        """
        warnings = [*self._large_losses(), *warnings]
        for line in warnings if self.out == self._shared else ():
            print(f"warning: {line}", file=sys.stderr)
        earlier = sum(float(line) for line in self._lines("seconds") if re.fullmatch(r"[\d.]*\d", line))
        results = {
            "experiment": self.name,
            "command": command(self.name),
            "config": self.identity(),
            "metrics": metrics,
            **({"warnings": warnings} if warnings else {}),
            "seconds": round(earlier + time.time() - self.started, 1),
            "device": ", ".join(self._lines("devices")),
            "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
            "commit": ", ".join(self._lines("commits")),
        }
        write_json(self.out / "results.json", results)
        if self.config.publish and self.out == self._shared:
            write_json(RESULTS / f"{self.name}-{self.config.preset}-{slug(self.config.dataset)}.json", results)
        return self.out / "results.json"

    def _large_losses(self) -> list[str]:
        """A line for each loss of each stage whose last value in metrics.jsonl is beyond LARGEST_LOSS."""
        from bayesjax.training import progress

        last = {(row["stage"], name): row[name] for row in progress.read(self.out / "metrics.jsonl") for name in row}
        return [
            f"{stage}: {name} ends at {value:.3g}: the run has diverged, and its results mean nothing"
            for (stage, name), value in last.items()
            if name.rpartition(".")[2] == "loss" and isinstance(value, float) and abs(value) > LARGEST_LOSS
        ]

    def _lines(self, name: str) -> list[str]:
        """What each run in this folder has appended to NAME.txt, equal lines once."""
        path = self.out / f"{name}.txt"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return lines if name == "seconds" else list(dict.fromkeys(lines))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one; a number that is not finite becomes null."""
    from bayesjax.training import files

    files.write_json(path, value)


def slug(name: str) -> str:
    """A data set's name as part of a file name."""
    return Path(name).stem if name.endswith((".npz", ".npy")) else name.replace("/", "_").replace(":", "_")


if __name__ == "__main__":
    not_a_command()
