"""Figures of predictions: reliability diagrams of classifiers, and bands of regressions from posterior draws.

Read `evaluation/calibration.py` next, which computes the diagrams.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure
from bayesjax.plots.lines import bands

if TYPE_CHECKING:  # `evaluation` takes seconds to import
    from bayesjax.evaluation.calibration import Reliability


def reliability(path: str | Path, diagrams: "Mapping[str, Reliability]", *, title: str = "") -> Path:
    """Plots accuracy against confidence in bins, with the fraction of predictions in each bin below.

    A calibrated classifier is on the dashed diagonal. Points below it are overconfident. The legend has the expected
    calibration error.

    Args:
      path: the PNG file to write.
      diagrams: `{name: evaluation.calibration.reliability(probabilities, labels)}`.
      title: title of the figure.

    Raises:
      ValueError: if there is no diagram.
    """
    if not diagrams:
        raise ValueError("diagrams is empty: reliability needs at least one")
    figure, (upper, lower) = new_figure(4.6, 5.0, nrows=2, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    upper.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=0.8)
    for name, diagram in diagrams.items():
        used = diagram.counts > 0
        confidence, accuracy = diagram.confidence[used], diagram.accuracy[used]
        label = f"{name}, ECE {diagram.error:.3f}"
        (line,) = upper.plot(confidence, accuracy, marker="o", markersize=3.5, label=label)
        lower.plot(
            confidence, diagram.counts[used] / diagram.counts.sum(), marker="o", markersize=3, color=line.get_color()
        )
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
    lower.set(xlabel="confidence", ylabel="fraction", yscale="log")
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
    upper.legend(fontsize=8)
    return save_figure(figure, path)


def predictive_band(
    path: str | Path,
    x: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    points: tuple[np.ndarray, np.ndarray],
    *,
    levels: tuple[float, ...] = (0.5, 0.9),
    truth: np.ndarray | None = None,
) -> Path:
    """Plots the median and central intervals of predictions over one input, with the data.

    Args:
      path: the PNG file to write.
      x: inputs, `[num]`, ascending.
      predictions: `{title: draws [num_draws, num]}`: function values, or draws of targets for intervals of new data.
      points: inputs and targets of the data, `[num_data]` each.
      levels: probabilities of the intervals, in (0, 1).
      truth: the true function at `x`, `[num]`; None omits it.

    Raises:
      ValueError: if draws are not `[num_draws, num]`, or a level is not in (0, 1).
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be probabilities in (0, 1); got {levels}")
    quantiles = np.sort([0.5, *(0.5 + sign * level / 2 for level in levels for sign in (-1, 1))])
    panels = {}
    for title, draws in predictions.items():
        if np.ndim(draws) != 2 or np.shape(draws)[1] != len(x):
            raise ValueError(f"predictions must be [num_draws, {len(x)}], as x; {title} has shape {np.shape(draws)}")
        panels[title] = np.quantile(draws, quantiles, axis=0)
    return bands(path, x, panels, points, truth=truth)
