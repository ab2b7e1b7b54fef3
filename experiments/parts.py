"""What a resumed run finds again: a long computation over many items, done some at a time; trained parameters."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bayesjax import tree
from bayesjax.training import files
from bayesjax.training.progress import Progress
from experiments import common


def in_parts(
    run: common.Experiment, name: str, compute: Callable[[int, int], dict[str, Any]], num: int, size: int
) -> dict[str, np.ndarray]:
    """Arrays over `num` items, computed `size` items at a time; a resumed run goes on with the first part not done.

    Args:
      run: keeps the parts.
      name: of the parts, and of the progress bar.
      compute: `(start, stop) -> {name: [stop - start, ...]}`.
      num: of items.
      size: of a part; the last may be smaller.
    """

    def part(start: int, stop: int) -> dict[str, list]:
        return {key: np.asarray(values, float).tolist() for key, values in compute(start, stop).items()}

    bar, parts = Progress(name, num, 0), []
    for start in range(0, num, size):
        stop = min(start + size, num)
        parts.append(run.cached(f"{name}-{start}", functools.partial(part, start, stop)))
        bar.update(stop, {key: float(np.mean(values)) for key, values in parts[-1].items()})
    bar.close()
    return {key: np.concatenate([np.asarray(values[key], float) for values in parts]) for key in parts[0]}


def save_arrays(run: common.Experiment, name: str, /, **arrays: Any) -> None:
    """Keeps arrays in `parts/NAME.npz`, which is whole or absent."""
    with files.replacing(run.out / "parts" / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_arrays(run: common.Experiment, name: str) -> dict[str, np.ndarray]:
    """Undoes `save_arrays`.

    Raises:
      OSError: in one line with the name of the file, if it is missing or damaged.
    """
    return files.read_npz(run.out / "parts" / f"{name}.npz")


def save(run: common.Experiment, name: str, params: Any) -> None:
    """Keeps a model's parameters, nested dicts of arrays, in `parts/`."""
    save_arrays(run, name, **{path: np.asarray(leaf) for path, leaf in tree.leaves_by_path(params).items()})


def load(run: common.Experiment, name: str) -> Any:
    """Undoes `save`."""
    params: dict = {}
    for path, leaf in load_arrays(run, name).items():
        *parents, last = path.split("/")
        functools.reduce(lambda node, key: node.setdefault(key, {}), parents, params)[last] = leaf
    return params


if __name__ == "__main__":
    common.not_a_command()
