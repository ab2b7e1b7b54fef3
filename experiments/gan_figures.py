"""The figures of `gan.py`: samples, how they came to be, from one noise to another, collapse and oscillation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesjax import plots
from bayesjax.data import files

NUM_COLUMNS = 12  # images in a row


def draw(out: Path, train: np.ndarray, results: Mapping[str, dict]) -> None:
    """Samples of every loss; each loss along its training; of images, the way from one noise to another.

    Args:
      out: the run's folder, with `parts/samples-LOSS.npz` of every loss; figures go to `figures` in it.
      train: the data, `[num, ...]`.
      results: `{loss: its part of the results}`.
    """
    figures, shape = out / "figures", train.shape[1:]
    pictures = {name: files.read_npz(out / "parts" / f"samples-{name}.npz") for name in results}
    if len(shape) == 3:
        rows = {
            "samples": [each["samples"][0, :NUM_COLUMNS] for each in pictures.values()],
            "interpolation": [each["interpolation"] for each in pictures.values()],
        }
        for what, images in rows.items():
            plots.image_grid(figures / f"{what}.png", (np.stack(images) + 1) / 2, row_names=list(results))
        for name, each in pictures.items():
            steps = [f"step {step}" for step in each["steps"]]
            plots.image_grid(figures / f"training-{name}.png", (each["training"] + 1) / 2, row_names=steps)
    elif shape == (2,):
        samples = {name: each["samples"] for name, each in pictures.items()}
        plots.scatter_by_group(figures / "samples.png", samples, train)
        for name, each in pictures.items():
            panels = {f"step {step}": seen for step, seen in zip(each["steps"], each["training"], strict=True)}
            plots.scatter_by_group(figures / f"training-{name}.png", panels, train)
    for what, label in (("diversity", "distance of fakes / of data"), ("swing", "movement of the mean / noise")):
        curves = {
            name: (np.array(result["steps"])[what == "swing" :], np.array([game[what] for game in result["games"]]))
            for name, result in results.items()
        }
        plots.curves(figures / f"{what}.png", curves, xlabel="steps", ylabel=label, log_y=what == "swing")


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("gan")
