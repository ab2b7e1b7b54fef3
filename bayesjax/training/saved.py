"""Reading a run back from its checkpoints without the program that made it.

    saved = training.load("runs/gan-mnist")      the newest save: step, configuration, metrics, state, draws
    saved.params["generator"]                    parameters as nested dicts of NumPy arrays, for `module.apply`

A save names its leaves by their paths, so a state is read as nested dicts: the fields of a NamedTuple and the entries
of a sequence become entries of dicts. To continue a run instead, give its program a `Checkpointer` for the same folder.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from bayesjax import atomic
from bayesjax.training import files
from bayesjax.training.checkpoint import Checkpointer, CheckpointError, Record, read_run
from bayesjax.types import PyTree

_KEY = re.compile(
    r"\.(?P<field>[^.\[\]]+)|\[(?P<name>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\]|\[(?P<index>[^'\"\]]+)\]"
)


@dataclass(frozen=True)
class SavedRun:
    """A run as its newest save has it.

    Attributes:
      folder: the folder of the checkpoints.
      step: number of steps taken.
      config: the configuration that the program gave to its `Checkpointer`.
      metrics: the metrics of each chunk of steps.
      state: the kernel's state, as nested dicts of arrays.
      draws: the kept draws, as nested dicts of arrays `[num_draws, ...]`, or one such array; None if there are none.
      info: diagnostics of the draws, as nested dicts of arrays `[num_draws, ...]`; None if there are no draws.
    """

    folder: Path
    step: int
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    state: PyTree
    draws: PyTree
    info: PyTree

    @property
    def params(self) -> PyTree:
        """The kernel's position after the last step; of a game, one for each player.

        Raises:
          ValueError: if the state is of a kernel of your own without a field "position".
        """
        return _position(self.state, self.folder)

    @property
    def average(self) -> PyTree:
        """The moving average of the parameters (`kernels.averaging`); of a game, one for each player that has one, and
        of `kernels.by_path` one for each such part.

        Raises:
          ValueError: if no kernel keeps an average.
        """
        found = _average(self.state)
        if found is None:
            raise ValueError(f"the run in {self.folder} keeps no average; its state has {_names(self.state)}")
        return found


def load(folder: str | Path, stage: str | None = None) -> SavedRun:
    """Reads the newest save of a run.

    Args:
      folder: the folder of a `Checkpointer`, or the run folder of an experiment.
      stage: which of the stages of an experiment to read; needed if it has several.

    Returns:
      The run, with NumPy arrays. Nothing is placed on a device.

    Raises:
      CheckpointError: if there is no save, if the experiment has several stages and `stage` names none of them, or if
        the save cannot be read.
    """
    directory = _stage_folder(Path(folder), stage)
    checkpointer = Checkpointer(directory)
    save = checkpointer.latest()
    if save is None:
        raise CheckpointError(f"{directory} holds no complete save")
    try:
        run = read_run(save / "run.json")
        leaves = files.read_arrays(save / "state.npz")
        paths = list(run["identity"]["state"])
        if len(paths) != len(leaves):
            raise OSError(f"{save / 'state.npz'} has {len(leaves)} arrays; run.json lists {len(paths)}")
        record = checkpointer.read_record(run)
        draws, info = _draws(record, run["identity"])
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {save}: {atomic.cause(error)}") from error
    return SavedRun(directory, run["step"], run["config"], record.metrics, _nested(paths, leaves), draws, info)


def _stage_folder(folder: Path, stage: str | None) -> Path:
    """The folder of the checkpoints of a stage."""
    if not (folder / "checkpoints").is_dir():
        if stage is not None:
            raise CheckpointError(f"stage {stage!r} needs the run folder of an experiment; {folder} is none")
        return folder
    stages = sorted(path.name for path in (folder / "checkpoints").iterdir() if path.is_dir())
    if stage is None and len(stages) == 1:
        stage = stages[0]
    if stage not in stages:
        raise CheckpointError(f"stage must be one of {', '.join(stages) or '(none is saved)'} in {folder}; got {stage}")
    return folder / "checkpoints" / stage


def _draws(record: Record, identity: dict) -> tuple[PyTree, PyTree]:
    """Draws and their infos, as nested dicts; None if there are none."""
    if "kept" not in identity:
        return None, None
    kept, info = list(identity["kept"]), list(identity["info"])
    record.structure = jax.tree.structure(([0] * len(kept), [0] * len(info), [0] * len(info)))
    record.infos_per_draw = identity["thinning"] // identity.get("info_steps", identity["thinning"])
    draws, infos, _ = record.stacked()
    return (None if draws is None else _nested(kept, draws)), (None if infos is None else _nested(info, infos))


def _nested(paths: list[str], leaves: list[Any]) -> PyTree:
    """Nested dicts from paths such as ".inner.position['Dense_0']['kernel']"; a single leaf has an empty path."""
    nested: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        keys = [
            match["field"] or (ast.literal_eval(match["name"]) if match["name"] else match["index"])
            for match in _KEY.finditer(path)
        ]
        if not keys:
            return leaf
        inner = nested
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = leaf
    return nested


def _position(state: PyTree, folder: Path) -> PyTree:
    """The position of a state: its own, that of the kernel that it wraps, or those of its players or parts."""
    if not isinstance(state, dict):
        raise ValueError(f"the state of the run in {folder} has no position; it has {_names(state)}")
    if "position" in state:
        return state["position"]
    if "inner" in state:
        return _position(state["inner"], folder)
    if "players" in state:
        return {name: _position(player, folder) for name, player in state["players"].items()}
    if "parts" in state:
        return functools.reduce(
            _merged, [_position(part, folder) for part in state["parts"].values()], state.get("fixed", {})
        )
    raise ValueError(f"the state of the run in {folder} has no position; it has {_names(state)}")


def _average(state: PyTree) -> PyTree:
    """The average of a state: its own, that of the kernel that it wraps, or those of its players or parts; or None."""
    if not isinstance(state, dict):
        return None
    if "average" in state:
        return state["average"]
    if "inner" in state:
        return _average(state["inner"])
    averages = {name: _average(each) for name, each in {**state.get("players", {}), **state.get("parts", {})}.items()}
    return {name: each for name, each in averages.items() if each is not None} or None


def _merged(first: Any, second: Any) -> Any:
    """The union of two nested dicts with different leaves."""
    if not isinstance(second, dict):
        return second
    both = {name: _merged(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **both}


def _names(state: PyTree) -> str:
    return ", ".join(state) if isinstance(state, dict) else "one array"
