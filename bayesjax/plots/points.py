"""Points in the plane, coloured by what they are, and paths of players in it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new, save


def scatter_by_group(
    path: str | Path, panels: dict[str, np.ndarray], background: np.ndarray, *, num_background: int = 2000
) -> Path:
    """A panel for each method: the data in grey, the samples of each generator in a colour of its own.

    Args:
      path: the PNG to write.
      panels: `{title: [num_generators, num, 2]}`.
      background: the data `[num, 2]`.
      num_background: how many of them to draw.
    """
    from matplotlib import colormaps

    figure, axes = new(3.2 * len(panels), 3.4, nrows=1, ncols=len(panels), sharex=True, sharey=True, squeeze=False)
    low, high = background.min(axis=0) - 2, background.max(axis=0) + 2
    for axis, (title, groups) in zip(axes[0], panels.items(), strict=True):
        axis.scatter(*background[:num_background].T, s=3, c="0.75", linewidths=0, rasterized=True)
        for i, group in enumerate(groups):
            axis.scatter(
                *group[:200].T, s=3, color=colormaps["tab10"](i % 10), alpha=0.6, linewidths=0, rasterized=True
            )
        axis.set(title=title, xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axis.title.set_fontsize(9)
    return save(figure, path)


def scatter_by_label(path: str | Path, points: np.ndarray, labels: np.ndarray, *, title: str = "") -> Path:
    """Points in the plane, a colour for each class.

    Args:
      path: the PNG to write.
      points: `[num, 2]`.
      labels: integers `[num]`.
      title: text above.

    Raises:
      ValueError: if the shapes do not fit.
    """
    from matplotlib import colormaps

    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise ValueError(f"points must be [num, 2] and labels [num]; got {points.shape} and {labels.shape}")
    figure, axis = new(5.4, 4.6)
    for i, label in enumerate(np.unique(labels)):
        chosen = points[labels == label]
        axis.scatter(*chosen.T, s=6, color=colormaps["tab10"](i % 10), label=str(label), linewidths=0, rasterized=True)
    axis.set(title=title, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    axis.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, path)


def portraits(path: str | Path, rows: Mapping[str, Mapping[str, np.ndarray]], *, margin: float = 0.2) -> Path:
    """Paths of two players in the plane of their positions, a row for each game and a column for each way to move.

    Args:
      path: the PNG to write.
      rows: `{game: {method: positions [num, 2]}}`, the same methods in each; dark at the start, a dot where it begins,
        a cross at the origin. A row's window is that of the paths' first points, `margin` wider.
      margin: share of the window.
    """
    methods = list(next(iter(rows.values())))
    figure, axes = new(2.1 * len(methods) + 0.4, 2.1 * len(rows) + 0.3, nrows=len(rows), ncols=len(methods),
                       sharex="row", sharey="row", squeeze=False)  # fmt: skip
    for line, (game, paths) in zip(axes, rows.items(), strict=True):
        reach = (1 + margin) * max(np.abs(points[: len(points) // 2]).max() for points in paths.values())
        for axis, method in zip(line, methods, strict=True):
            points = paths[method]
            axis.plot(*points.T, color="0.8", linewidth=0.7, zorder=1)
            axis.scatter(*points.T, c=np.arange(len(points)), cmap="viridis", s=5, linewidths=0, zorder=2)
            axis.plot(*points[0], marker="o", color="C3", markersize=4)
            axis.plot(0, 0, marker="+", color="0.2", markersize=8)
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            axis.tick_params(labelsize=6)
        line[0].set_ylabel(game)
    for axis, method in zip(axes[0], methods, strict=True):
        axis.set_title(method, fontsize=9)
    return save(figure, path)
