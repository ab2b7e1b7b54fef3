"""Samples of the models of a finished run, or their predictions for the images of a file.

    python -m experiments.gan --out runs/gan
    python -m experiments.sample runs/gan --num 64 --figure samples.png
    python -m experiments.sample runs/gan --num 5000 --arrays samples.npz
    python -m experiments.sample runs/bbb --inputs images.npz --arrays predictions.npz

The run folder is only read. An experiment takes part by one or both of these functions, whose arrays have one row for
each sample or input; images lie in [0, 1]:

    sample_run(config, parts, rng_key, num) -> {model: array [num, ...]}
    predict_run(config, parts, inputs) -> {model and quantity: array [num, ...]}

`predict_run` raises ValueError for images of a shape that its networks do not take.
`config` and `parts` are those of `harness.read_run`. Inputs are the array `x` of an .npz file, or its only array, as
`[num, height, width, channels]` in [0, 1].
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesjax import atomic, data, plots
from bayesjax.data import files as npz
from bayesjax.training import files
from experiments.harness import read_run
from experiments.harness.cli import fail

NUM_COLUMNS = 16  # images in a row of the figure


def load_inputs(path: str) -> np.ndarray:
    """The array `x` of an .npz file, or its only array.

    Raises:
      ValueError: if the file cannot be read or has several arrays and none is called x, or the images have a wrong
        shape.
      OSError: if the file cannot be opened.
    """
    arrays = npz.read_npz(path)
    if "x" not in arrays and len(arrays) != 1:
        raise ValueError(f"--inputs {path} must have an array x; it has {', '.join(arrays) or 'none'}")
    inputs = np.asarray(arrays["x"] if "x" in arrays else next(iter(arrays.values())), np.float32)
    if inputs.ndim != 4 or not inputs.size:
        raise ValueError(f"--inputs {path} must have images [num, height, width, channels]; got {inputs.shape}")
    if not 0 <= inputs.min() <= inputs.max() <= 1:
        raise ValueError(
            f"--inputs {path} must have pixels in [0, 1]; got values from {inputs.min():g} to {inputs.max():g}"
        )
    return inputs


def evaluate(folder: Path, num: int, inputs: str, seed: int) -> dict[str, np.ndarray]:
    """The samples of a run, or its predictions if `inputs` names a file.

    Raises:
      ValueError: if the experiment of the run has no such function, or the run has not finished a model.
      OSError: if a file cannot be read.
    """
    name = files.read_json(folder / "config.json")["experiment"]
    experiment = importlib.import_module(f"experiments.{name}")
    function = getattr(experiment, "predict_run" if inputs else "sample_run", None)
    if function is None:
        raise ValueError(f"experiments.{name} has no {'predictions' if inputs else 'samples'} to show")
    config, parts = read_run(folder, experiment.Config)
    arguments = (load_inputs(inputs),) if inputs else (jax.random.key(seed), num)
    try:
        return function(config, parts, *arguments)
    except KeyError as error:
        raise ValueError(
            f"the run in {folder} has not finished its part {error}: add --resume to its command"
        ) from None


def draw(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Plots the images or the points of each model.

    Raises:
      ValueError: if the arrays are neither images nor points of a plane.
    """
    first = next(iter(arrays.values()))
    if first.ndim == 2 and first.shape[1] == 2:
        points = {name: np.asarray(array)[None] for name, array in arrays.items()}
        plots.scatter_by_group(path, points, np.concatenate(list(arrays.values())))
        return
    if first.ndim != 4 or first.shape[-1] not in (1, 3):
        raise ValueError(f"--figure shows images or points of a plane; these arrays have the shape {first.shape}")
    columns, rows, names = min(NUM_COLUMNS, len(first)), [], []
    for name, images in arrays.items():
        num_rows = len(images) // columns
        rows.append(images[: num_rows * columns].reshape(num_rows, columns, *images.shape[1:]))
        names += [name, *[""] * (num_rows - 1)]
    plots.image_grid(path, np.concatenate(rows), row_names=names if len(arrays) > 1 else ())


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and writes the figure and the file of arrays."""
    parser = argparse.ArgumentParser(
        "python -m experiments.sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--num", type=int, default=64, help="number of samples of each model")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the samples")
    parser.add_argument("--inputs", default="", help=".npz file of images, for predictions instead of samples")
    parser.add_argument("--figure", default="", help="PNG file of the samples")
    parser.add_argument("--arrays", default="", help=".npz file with one array for each model")
    flags = parser.parse_args(arguments)
    try:
        if not flags.figure and not flags.arrays:
            raise ValueError("give --figure, --arrays or both, the files to write")
        if flags.num < 1:
            raise ValueError(f"--num must be at least 1; got {flags.num}")
        made: dict[str, Any] = evaluate(flags.run, flags.num, flags.inputs, flags.seed)
        arrays = {name: np.asarray(array) for name, array in made.items()}
        if flags.figure:
            draw(flags.figure, arrays)
        if flags.arrays:
            with atomic.replacing(Path(flags.arrays)) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        print("\n".join(f"{name}: {array.shape}" for name, array in arrays.items()))
    except (ValueError, OSError, data.DataUnavailable) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
