"""Grids of images, passes over one image as it turns, maps of labels and numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax.plots.figure import new, save


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
    figure, axis = new(7.6, canvas.shape[0] * scale + 0.5)
    axis.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray" if channels == 1 else None, vmin=0, vmax=1)
    axis.set(xticks=[], title=title)
    axis.set_yticks(
        [i * (height + pad) + height / 2 for i in range(len(row_names))], labels=list(row_names), fontsize=7
    )
    axis.title.set_fontsize(10)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
    return save(figure, path)


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
    figure, axes = new(
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
    return save(figure, path)


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
    figure, axes = new(2.6 * columns, 2.6 * num * height / width + 0.4, nrows=num, ncols=columns, squeeze=False)
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
    return save(figure, path)
