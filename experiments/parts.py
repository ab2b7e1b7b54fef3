"""A long computation over many items, some at a time: seen as it goes, interrupted and resumed without loss."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

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
