"""Figures of images: grids, and maps of labels and of real values for segmentation.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure


def image_grid(path: str | Path, rows: np.ndarray, *, row_names: Sequence[str] = (), title: str = "") -> Path:
    """Plots a grid of images.

    Args:
      path: the PNG file to write.
      rows: `[num_rows, num_columns, height, width, channels]` in [0, 1], with one or three channels.
      row_names: labels of the rows, or empty.
      title: title of the figure.
    """
    num_rows, num_columns, height, width, channels = rows.shape
    pad = 1
    canvas = np.ones((num_rows * (height + pad) - pad, num_columns * (width + pad) - pad, channels), np.float32)
    for i in range(num_rows):
        for j in range(num_columns):
            top, left = i * (height + pad), j * (width + pad)
            canvas[top : top + height, left : left + width] = np.clip(rows[i, j], 0, 1)
    scale = 6.4 / canvas.shape[1]
    figure, axis = new_figure(7.6, canvas.shape[0] * scale + 0.5)
    axis.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray" if channels == 1 else None, vmin=0, vmax=1)
    axis.set(xticks=[], title=title)
    axis.set_yticks(
        [i * (height + pad) + height / 2 for i in range(len(row_names))], labels=list(row_names), fontsize=7
    )
    axis.title.set_fontsize(10)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
    return save_figure(figure, path)


def segmentation_maps(
    path: str | Path,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    *,
    num_classes: int,
) -> Path:
    """Plots one row for each image: the image, its maps of labels and its maps of real values.

    Args:
      path: the PNG file to write.
      images: `[num, height, width, channels]` in [0, 1].
      labels: `{title: integers [num, height, width]}`; pixels with negative labels are white.
      values: `{title: values [num, height, width]}`; each title has one colour scale for all images.
      num_classes: number of classes.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([colormaps["tab20"](k % 20) for k in range(num_classes)])
    num, height, width, channels = images.shape
    columns = 1 + len(labels) + len(values)
    figure, axes = new_figure(2.6 * columns, 2.6 * num * height / width + 0.4, nrows=num, ncols=columns, squeeze=False)
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
    return save_figure(figure, path)
