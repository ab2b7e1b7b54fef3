"""Curves with error bands, predictive bands over one input, estimates with errors, and distributions.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure


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
    """Plots the mean of each series over repeats, with a band of one standard error.

    Args:
      path: the PNG file to write.
      series: `{name: (x [num], y [num_repeats, num])}`.
      xlabel, ylabel, title: labels of the axes and title of the figure.
      log_x, log_y: whether the axis is logarithmic.
    """
    figure, axis = new_figure(6.4, 4.0)
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
    return save_figure(figure, path)


def bands(
    path: str | Path,
    x: np.ndarray,
    panels: Mapping[str, np.ndarray],
    points: tuple[np.ndarray, np.ndarray],
    *,
    truth: np.ndarray | None = None,
    num_columns: int | None = None,
) -> Path:
    """Plots medians and bands of predictive distributions over one input, with the data, one panel for each title.

    Args:
      path: the PNG file to write.
      x: inputs, `[num]`, ascending.
      panels: `{title: quantiles [num_levels, num]}`, with an odd number of levels, symmetric around the median.
      points: inputs and targets of the data, `[num_data]` each, drawn as dots in every panel.
      truth: the true function at `x`, `[num]`, drawn as a dashed line; None omits it.
      num_columns: number of panels per row; None places all panels in one row.
    """
    columns = min(num_columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    width, height = (4.4 * columns + 0.2, 3.6) if rows == 1 else (3.2 * columns + 0.2, 2.5 * rows + 0.2)
    figure, axes = new_figure(width, height, nrows=rows, ncols=columns, sharex=True, sharey=True, squeeze=False)
    shown = np.concatenate([points[1], *(quantiles[len(quantiles) // 2] for quantiles in panels.values())])
    margin = 0.35 * np.ptp(shown)
    for axis, (title, quantiles) in zip(axes.flat, panels.items(), strict=False):
        for i in range(len(quantiles) // 2):
            axis.fill_between(x, quantiles[i], quantiles[-1 - i], color="C0", alpha=0.25, linewidth=0)
        axis.scatter(*points, s=5, color="0.25", linewidths=0, alpha=0.6, zorder=3)
        axis.plot(x, quantiles[len(quantiles) // 2], color="C3", linewidth=1.2)
        if truth is not None:
            axis.plot(x, truth, color="0.2", linestyle="--", linewidth=0.8)
        axis.set(title=title, ylim=(shown.min() - margin, shown.max() + margin), xlim=(x[0], x[-1]))
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set(xlabel="x")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return save_figure(figure, path)


def estimates(
    path: str | Path, panels: Mapping[str, Mapping[str, Mapping[str, float]]], *, log_x: Collection[str] = ()
) -> Path:
    """Plots estimates with their standard errors, one row for each name and one panel for each measure.

    Args:
      path: the PNG file to write.
      panels: `{measure: {name: {"value": ..., "stderr": ...}}}`; "stderr" is optional. The first measure determines the
        names; other measures may omit some of them.
      log_x: measures with a logarithmic axis.
    """
    from matplotlib import ticker

    names = list(next(iter(panels.values())))
    ncols = min(3, len(panels))
    nrows = -(-len(panels) // ncols)
    size = 3.2 * ncols + 0.8, nrows * (0.28 * len(names) + 0.9)
    figure, axes = new_figure(*size, nrows=nrows, ncols=ncols, sharey=True, squeeze=False)
    for axis, (measure, entries) in zip(axes.flat, panels.items(), strict=False):
        for i, name in enumerate(names):
            if name in entries:
                value, error = entries[name]["value"], entries[name].get("stderr", 0.0)
                axis.errorbar(value, i, xerr=error, marker="o", markersize=4, color="C0")
        axis.set(xlabel=measure)
        if measure in log_x:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
            axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    axes[0, 0].set_yticks(range(len(names)), labels=names)
    axes[0, 0].invert_yaxis()
    return save_figure(figure, path)


def distributions(
    path: str | Path, series: Mapping[str, np.ndarray], *, xlabel: str, title: str = "", log_y: bool = False
) -> Path:
    """Plots normalised histograms, and beside them the empirical distribution functions of the same values.

    Args:
      path: the PNG file to write.
      series: `{name: values [num]}`; values that are not finite are omitted.
      xlabel, title: label of the horizontal axes and title of the figure.
      log_y: whether the axis of the density is logarithmic.
    """
    figure, axes = new_figure(9.0, 3.6, nrows=1, ncols=2)
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
    return save_figure(figure, path)
