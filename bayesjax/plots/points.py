"""Scatter plots in the plane, coloured by generator or class, and stochastic forward passes over rotated images.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure


def scatter_by_group(
    path: str | Path,
    panels: dict[str, np.ndarray],
    background: np.ndarray,
    *,
    num_background: int = 2000,
    title: str = "",
) -> Path:
    """Plots the data in grey and the samples of each generator in its own colour, one panel for each title.

    Args:
      path: the PNG file to write.
      panels: `{title: samples [num_generators, num, 2]}`; at most 200 of each generator are drawn.
      background: the data, `[num, 2]`.
      num_background: maximum number of data points to draw.
      title: title of the figure.
    """
    from matplotlib import colormaps

    figure, axes = new_figure(
        3.2 * len(panels), 3.4, nrows=1, ncols=len(panels), sharex=True, sharey=True, squeeze=False
    )
    low, high = background.min(axis=0) - 2, background.max(axis=0) + 2
    for axis, (name, groups) in zip(axes[0], panels.items(), strict=True):
        axis.scatter(*background[:num_background].T, s=3, c="0.75", linewidths=0, rasterized=True)
        for i, group in enumerate(groups):
            axis.scatter(
                *group[:200].T, s=3, color=colormaps["tab10"](i % 10), alpha=0.6, linewidths=0, rasterized=True
            )
        axis.set(title=name, xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axis.title.set_fontsize(9)
    if title:
        figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def scatter_by_label(path: str | Path, points: np.ndarray, labels: np.ndarray, *, title: str = "") -> Path:
    """Plots points in the plane with one colour for each class.

    Args:
      path: the PNG file to write.
      points: `[num, 2]`.
      labels: class labels, integers `[num]`.
      title: title of the figure.

    Raises:
      ValueError: if the shapes of `points` and `labels` do not match.
    """
    from matplotlib import colormaps

    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise ValueError(f"points must be [num, 2] and labels [num]; got {points.shape} and {labels.shape}")
    figure, axis = new_figure(5.4, 4.6)
    for i, label in enumerate(np.unique(labels)):
        chosen = points[labels == label]
        axis.scatter(*chosen.T, s=6, color=colormaps["tab10"](i % 10), label=str(label), linewidths=0, rasterized=True)
    axis.set(title=title, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    axis.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return save_figure(figure, path)


def passes(
    path: str | Path,
    angles: np.ndarray,
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    classes: Sequence[int] | np.ndarray,
) -> Path:
    """Plots outputs of stochastic forward passes against the angle of a rotated image, with the images below.

    Each pass is a short line, and a curve joins the means over passes. The classes have different colours. Source: Gal
    & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, figure 4.

    Args:
      path: the PNG file to write.
      angles: evenly spaced angles in degrees, `[num_angles]`.
      images: the rotated images, `[num_angles, height, width]` in [0, 1].
      panels: `{title: outputs [num_passes, num_angles, num_classes]}`.
      classes: the labels of the classes, `[num_classes]`.
    """
    figure, axes = new_figure(
        4.6 * len(panels) + 0.4, 4.2, nrows=2, ncols=len(panels), squeeze=False, gridspec_kw={"height_ratios": (7, 1)}
    )
    step = angles[1] - angles[0]
    jitter = np.linspace(-0.25, 0.25, len(classes)) * step
    limits = angles[0] - step / 2, angles[-1] + step / 2
    for (top, bottom), (title, values) in zip(axes.T, panels.items(), strict=True):
        for i, name in enumerate(classes):
            x = np.broadcast_to(angles + jitter[i], values.shape[:2])
            top.scatter(x, values[..., i], s=40, marker="_", alpha=0.15, linewidths=0.8, color=f"C{i}")
            top.plot(angles, values[..., i].mean(axis=0), color=f"C{i}", label=str(name))
        top.set(title=title, xlim=limits)
        top.grid(alpha=0.3)
        top.legend(fontsize=8, title="class")
        strip = 1 - np.concatenate(list(images), axis=1)
        bottom.imshow(strip, cmap="gray", vmin=0, vmax=1, extent=(*limits, 0, step), aspect="auto")
        bottom.set(xlabel="degrees", yticks=[], xlim=limits)
    return save_figure(figure, path)
