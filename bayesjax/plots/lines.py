"""Curves with their errors, bands over one input, distributions of numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new, save


def curves(
    path: str | Path,
    series: Mapping[str, tuple[Sequence[float] | np.ndarray, np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> Path:
    """Lines with a band of one standard error over repeats.

    Args:
      path: the PNG to write.
      series: `{name: (x [num], y [num_repeats, num])}`.
      xlabel, ylabel, title: texts.
      log_x, log_y: whether an axis is logarithmic.
    """
    figure, axis = new(6.4, 4.0)
    for name, (x, y) in series.items():
        y = np.atleast_2d(y)
        mean = y.mean(axis=0)
        (line,) = axis.plot(x, mean, label=name, marker="o", markersize=3)
        if len(y) > 1:
            stderr = y.std(axis=0, ddof=1) / np.sqrt(len(y))
            axis.fill_between(x, mean - stderr, mean + stderr, color=line.get_color(), alpha=0.2, linewidth=0)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log_x:
        axis.set_xscale("log")
    if log_y:
        axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return save(figure, path)


def bands(
    path: str | Path,
    x: np.ndarray,
    panels: Mapping[str, np.ndarray],
    points: tuple[np.ndarray, np.ndarray],
    *,
    truth: np.ndarray | None = None,
) -> Path:
    """Medians and bands of predictive distributions over one input, over the data, a panel each.

    Args:
      path: the PNG to write.
      x: `[num]`, ascending.
      panels: `{title: quantiles [odd number of levels, num]}`, symmetric around the median.
      points: the data, x and y.
      truth: `[num]`, drawn as a dashed line.
    """
    figure, axes = new(4.4 * len(panels) + 0.2, 3.6, nrows=1, ncols=len(panels), sharey=True, squeeze=False)
    near = np.concatenate([points[1], *(quantiles[len(quantiles) // 2] for quantiles in panels.values())])
    margin = 0.35 * np.ptp(near)
    for axis, (title, quantiles) in zip(axes[0], panels.items(), strict=True):
        for i in range(len(quantiles) // 2):
            axis.fill_between(x, quantiles[i], quantiles[-1 - i], color="C0", alpha=0.25, linewidth=0)
        axis.scatter(*points, s=5, color="0.25", linewidths=0, alpha=0.6, zorder=3)
        axis.plot(x, quantiles[len(quantiles) // 2], color="C3", linewidth=1.2)
        if truth is not None:
            axis.plot(x, truth, color="0.2", linestyle="--", linewidth=0.8)
        axis.set(title=title, xlabel="x", ylim=(near.min() - margin, near.max() + margin), xlim=(x[0], x[-1]))
        axis.grid(alpha=0.3)
    return save(figure, path)


def distributions(
    path: str | Path, series: Mapping[str, np.ndarray], *, xlabel: str, title: str = "", log_y: bool = False
) -> Path:
    """Histograms, normalised to densities, and beside them the distribution functions of the same numbers.

    Args:
      path: the PNG to write.
      series: `{name: values [num]}`; what is not finite is left out.
      xlabel, title: texts.
      log_y: whether the density is on a logarithmic axis.
    """
    figure, axes = new(9.0, 3.6, nrows=1, ncols=2)
    values = {name: np.sort(each[np.isfinite(each)]) for name, each in series.items()}
    joined = np.concatenate(list(values.values()))
    edges = np.linspace(np.quantile(joined, 0.0005), np.quantile(joined, 0.9995), 121)
    for name, each in values.items():
        axes[0].hist(each, edges, density=True, histtype="step", label=name)
        axes[1].plot(edges, np.searchsorted(each, edges, side="right") / len(each), label=name)
    axes[0].set(xlabel=xlabel, ylabel="density", title=title, yscale="log" if log_y else "linear")
    axes[1].set(xlabel=xlabel, ylabel="cumulative", ylim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return save(figure, path)
