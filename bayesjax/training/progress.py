"""The progress bar of a run, and its file of metrics with one line per chunk.

Read `run.py` next, which updates both.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from bayesjax import atomic
from bayesjax.training import files, processes
from bayesjax.types import PyTree


class Progress:
    """A tqdm progress bar on standard error with the rate, the remaining time and a few metrics.

    With several processes only process 0 shows it.

    Args:
      label: name of the bar; None shows no bar.
      num_steps: number of steps of the whole run.
      done: number of steps already taken.
    """

    def __init__(self, label: str | None, num_steps: int, done: int):
        from tqdm import tqdm

        interval = 0.1 if sys.stderr.isatty() else 10.0  # in a log file, one line every ten seconds
        is_silent = label is None or not processes.is_first()
        self._bar = tqdm(
            total=num_steps, initial=done, desc=label, disable=is_silent, mininterval=interval, dynamic_ncols=True
        )

    def update(self, done: int, numbers: dict[str, float]) -> None:
        """Moves the bar to `done` steps and shows the last four metrics of `numbers`, without `step`."""
        shown = [f"{name.split('.')[-1]} {value:.4g}" for name, value in numbers.items() if name != "step"][-4:]
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        self._bar.close()


class MetricsFile:
    """A JSON-lines file of metrics, with one object per chunk: `{"stage": "sample", "step": 100, "loss": 0.31, ...}`.

    Args:
      path: the file; it is created together with its folder.
      stage: name of the run in its lines, so that the stages of an experiment can share a file.
    """

    def __init__(self, path: str | Path, stage: str = "run"):
        self.path, self.stage = Path(path), stage
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def rewrite(self, rows: list[dict[str, float]]) -> None:
        """Replaces the lines of this stage by `rows`, which is an empty list for a new run."""
        kept = [files.dumps(line) for line in read(self.path) if line["stage"] != self.stage]
        with atomic.replacing(self.path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept + [self._line(row) for row in rows]))

    def write(self, row: dict[str, float]) -> None:
        """Appends a line. Numbers that are not finite are written as null."""
        atomic.append(self.path, self._line(row))

    def _line(self, row: dict[str, float]) -> str:
        return files.dumps({"stage": self.stage, **row})


def read(path: str | Path) -> list[dict]:
    """Reads the lines of a metrics file. Lines that are not JSON, such as a truncated last line, are skipped."""
    path, lines = Path(path), []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "stage" in value:
            lines.append(value)
    return lines


def scalars(info: PyTree) -> dict[str, float]:
    """Returns the mean of each leaf of an info by path, such as `{"players.generator.logdensity": -1.2}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(info)
    return {jax.tree_util.keystr(path, simple=True, separator="."): float(np.mean(leaf)) for path, leaf in leaves}
