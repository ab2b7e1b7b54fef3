"""Figures from arrays. Every function draws on a new figure, saves it as a PNG and closes it; nothing is shown.

Colours are one per series in a fixed order; bands are one standard error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def _figure(width: float, height: float, **grid: Any) -> tuple[Any, Any]:
    """A figure that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


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
    figure, axis = _figure(6.4, 4.0)
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
    return _save(figure, path)


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
    figure, axes = _figure(4.4 * len(panels) + 0.2, 3.6, nrows=1, ncols=len(panels), sharey=True, squeeze=False)
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
    return _save(figure, path)


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
    figure, axes = _figure(9.0, 3.6, nrows=1, ncols=2)
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
    return _save(figure, path)


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

    figure, axes = _figure(3.2 * len(panels), 3.4, nrows=1, ncols=len(panels), sharex=True, sharey=True, squeeze=False)
    low, high = background.min(axis=0) - 2, background.max(axis=0) + 2
    for axis, (title, groups) in zip(axes[0], panels.items(), strict=True):
        axis.scatter(*background[:num_background].T, s=3, c="0.75", linewidths=0, rasterized=True)
        for i, group in enumerate(groups):
            axis.scatter(
                *group[:200].T, s=3, color=colormaps["tab10"](i % 10), alpha=0.6, linewidths=0, rasterized=True
            )
        axis.set(title=title, xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axis.title.set_fontsize(9)
    return _save(figure, path)


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
    figure, axis = _figure(5.4, 4.6)
    for i, label in enumerate(np.unique(labels)):
        chosen = points[labels == label]
        axis.scatter(*chosen.T, s=6, color=colormaps["tab10"](i % 10), label=str(label), linewidths=0, rasterized=True)
    axis.set(title=title, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    axis.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return _save(figure, path)


def image_grid(path: str | Path, rows: np.ndarray, *, row_names: Sequence[str] = (), title: str = "") -> Path:
    """A row of images for each generator.

    Args:
      path: the PNG to write.
      rows: `[num_rows, num_columns, height, width, channels]` in [0, 1].
      row_names: one for each row.
      title: text above.
    """
    num_rows, num_columns, height, width, channels = rows.shape
    pad = 1
    canvas = np.ones((num_rows * (height + pad) - pad, num_columns * (width + pad) - pad, channels), np.float32)
    for i in range(num_rows):
        for j in range(num_columns):
            top, left = i * (height + pad), j * (width + pad)
            canvas[top : top + height, left : left + width] = np.clip(rows[i, j], 0, 1)
    scale = 6.4 / canvas.shape[1]
    figure, axis = _figure(7.6, canvas.shape[0] * scale + 0.5)
    axis.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray" if channels == 1 else None, vmin=0, vmax=1)
    axis.set(xticks=[], title=title)
    axis.set_yticks(
        [i * (height + pad) + height / 2 for i in range(len(row_names))], labels=list(row_names), fontsize=7
    )
    axis.title.set_fontsize(10)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
    return _save(figure, path)


def passes(
    path: str | Path,
    angles: np.ndarray,
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_names: Sequence[Any],
) -> Path:
    """Several passes over one image at each angle, a colour for each class, above the images themselves.

    Args:
      path: the PNG to write.
      angles: `[num]`.
      images: `[num, height, width]` in [0, 1].
      panels: `{title: values [num_passes, num, num_classes]}`.
      class_names: one for each of the last axis.
    """
    figure, axes = _figure(
        4.6 * len(panels) + 0.4, 4.2, nrows=2, ncols=len(panels), squeeze=False, gridspec_kw={"height_ratios": (7, 1)}
    )
    strip = np.concatenate(list(images), axis=1)
    step = angles[1] - angles[0]
    jitter = np.linspace(-0.25, 0.25, len(class_names)) * step
    for (top, bottom), (title, values) in zip(axes.T, panels.items(), strict=True):
        for i, name in enumerate(class_names):
            x = np.broadcast_to(angles + jitter[i], values.shape[:2])
            top.scatter(x, values[..., i], s=40, marker="_", alpha=0.15, linewidths=0.8, color=f"C{i}")
            top.plot(angles, values[..., i].mean(axis=0), color=f"C{i}", label=str(name))
        limits = (angles[0] - step / 2, angles[-1] + step / 2)
        top.set(title=title, xlim=limits)
        top.grid(alpha=0.3)
        top.legend(fontsize=8, title="class")
        bottom.imshow(1 - strip, cmap="gray", vmin=0, vmax=1, extent=(*limits, 0, step), aspect="auto")
        bottom.set(xlabel="degrees", yticks=[], xlim=limits)
    return _save(figure, path)


def maps(
    path: str | Path,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    *,
    num_classes: int,
) -> Path:
    """A row for each image: the image, maps of labels, maps of numbers (bright is much).

    Args:
      path: the PNG to write.
      images: `[num, height, width, channels]` in [0, 1].
      labels: `{title: integers [num, height, width]}`; negative ones stay white.
      values: `{title: numbers [num, height, width]}`, each on one scale for all images.
      num_classes: labels that there are.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([colormaps["tab20"](k % 20) for k in range(num_classes)])
    num, height, width, channels = images.shape
    columns = 1 + len(labels) + len(values)
    figure, axes = _figure(2.6 * columns, 2.6 * num * height / width + 0.4, nrows=num, ncols=columns, squeeze=False)
    for i, row in enumerate(axes):
        row[0].imshow(images[i, ..., 0] if channels == 1 else images[i], cmap="gray", vmin=0, vmax=1)
        for axis, each in zip(row[1:], labels.values(), strict=False):
            shown = np.ma.masked_less(each[i], 0)
            axis.imshow(shown, cmap=colours, vmin=-0.5, vmax=num_classes - 0.5, interpolation="nearest")
        for axis, each in zip(row[1 + len(labels) :], values.values(), strict=True):
            axis.imshow(each[i], cmap="magma", vmin=0, vmax=np.quantile(each, 0.995))
        for axis in row:
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], ("image", *labels, *values), strict=True):
        axis.set_title(title, fontsize=9)
    return _save(figure, path)


def paths(
    path: str | Path,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    logdensity: np.ndarray,
    extent: tuple[float, float, float, float],
    num_columns: int = 3,
) -> Path:
    """Paths in the plane over the contours of a density, a panel each; a dot where a path starts.

    Args:
      path: the PNG to write.
      panels: `{title: {name: points [num, 2]}}`.
      logdensity: `[height, width]`, on a grid over the extent, the first row lowest.
      extent: left, right, bottom, top.
      num_columns: panels side by side.
    """
    num_rows = -(-len(panels) // num_columns)
    columns = min(num_columns, len(panels))
    figure, axes = _figure(3.4 * columns, 3.4 * num_rows, nrows=num_rows, ncols=columns, squeeze=False)
    x, y = (
        np.linspace(*ends, size) for ends, size in zip((extent[:2], extent[2:]), logdensity.shape[::-1], strict=True)
    )
    levels = logdensity.max() - np.array([8.0, 4.5, 2.0, 0.5])
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        axis.contour(x, y, logdensity, levels=levels, colors="0.75", linewidths=0.8)
        for name, points in lines.items():
            (line,) = axis.plot(points[:, 0], points[:, 1], marker=".", markersize=3, linewidth=1, label=name)
            axis.plot(*points[0], marker="o", color=line.get_color())
        axis.set(title=title, xlim=extent[:2], ylim=extent[2:])
        if len(lines) > 1:
            axis.legend(fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return _save(figure, path)
