"""Figures of games between two players: paths in the plane of their positions, and a GAN in one dimension.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure


def phase_portraits(path: str | Path, rows: Mapping[str, Mapping[str, np.ndarray]], *, margin: float = 0.2) -> Path:
    """Plots paths in the plane of the two players' positions, one row for each game and one column for each method.

    A path is dark at its start, which is marked by a dot. A cross marks the origin.

    Args:
      path: the PNG file to write.
      rows: `{game: {method: positions [num, 2]}}`, with the same methods in every game.
      margin: width added to the range of the first half of the paths of a game, as a fraction of that range.
    """
    methods = list(next(iter(rows.values())))
    grid = {"nrows": len(rows), "ncols": len(methods), "sharex": "row", "sharey": "row", "squeeze": False}
    figure, axes = new_figure(2.1 * len(methods) + 0.4, 2.1 * len(rows) + 0.3, **grid)
    for line, (game, paths) in zip(axes, rows.items(), strict=True):
        limit = (1 + margin) * max(np.abs(points[: len(points) // 2]).max() for points in paths.values())
        for axis, method in zip(line, methods, strict=True):
            points = paths[method]
            axis.plot(*points.T, color="0.8", linewidth=0.7, zorder=1)
            axis.scatter(*points.T, c=np.arange(len(points)), cmap="viridis", s=5, linewidths=0, zorder=2)
            axis.plot(*points[0], marker="o", color="C3", markersize=4)
            axis.plot(0, 0, marker="+", color="0.2", markersize=8)
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            axis.tick_params(labelsize=6)
        line[0].set_ylabel(game)
    for axis, method in zip(axes[0], methods, strict=True):
        axis.set_title(method, fontsize=9)
    return save_figure(figure, path)


def densities_and_maps(
    path: str | Path,
    x: np.ndarray,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Path:
    """Plots a GAN in one dimension, one panel for each stage: densities, discriminators and the generator's map.

    Args:
      path: the PNG file to write.
      x: points of the data space, `[num]`, ascending.
      panels: `{title: {name: values [num]}}`; discriminators have names that begin with D and are dashed.
      maps: `{title: (noise [n], generated points [n])}` with the titles of `panels`, drawn below the densities as lines
        from each noise z to its generated point x.
    """
    grid = {"ncols": len(panels), "sharex": True, "sharey": "row", "gridspec_kw": {"height_ratios": (4, 1)}}
    figure, axes = new_figure(3.1 * len(panels), 3.6, nrows=2, squeeze=False, **grid)
    for column, (title, lines) in zip(axes.T, panels.items(), strict=True):
        for name, values in lines.items():
            column[0].plot(x, values, label=name, linestyle="--" if name.startswith("D") else "-", linewidth=1.3)
        noise, made = maps[title]
        for start, end in zip(noise, made, strict=True):
            column[1].plot([end, start], [1, 0], color="0.4", linewidth=0.6)
        column[0].set(title=title)
        column[0].grid(alpha=0.3)
        column[1].set(xlim=(x[0], x[-1]), ylim=(0, 1))
        column[1].set_yticks([0, 1], labels=["z", "x"])
    axes[0, 0].legend(fontsize=8)
    return save_figure(figure, path)
