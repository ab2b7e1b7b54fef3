"""A grid of panels with curves and error bars: one row for each measure, and one column for each problem.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure

Curve = tuple[Sequence[float] | np.ndarray, ...]
"""x `[num]`, y `[num]` and, optionally, standard errors of y `[num]`, which are drawn as error bars with markers."""


def curve_grid(
    path: str | Path,
    rows: Mapping[tuple[str, str], Mapping[str, Mapping[str, Curve]]],
    *,
    log: Collection[tuple[str, str]] = (),
    shaded: Mapping[str, float] | None = None,
    shade_name: str = "",
) -> Path:
    """Plots curves in a grid of panels. A name has one colour in all panels, and each row has a legend.

    The first curve of a panel is wide if it has no error bars, so that it stays visible below equal curves.

    Args:
      path: the PNG file to write.
      rows: `{(xlabel, ylabel): {title: {name: (x, y) or (x, y, stderr)}}}`, with the same titles in every row.
      log: rows whose axes are both logarithmic.
      shaded: `{title: height}`; the panels of the rows in `log` are shaded below this height. None shades nothing.
      shade_name: name of the shaded region in the legends.
    """
    from matplotlib import ticker

    titles = list(next(iter(rows.values())))
    names = list(dict.fromkeys(name for panels in rows.values() for curves in panels.values() for name in curves))
    grid = {"nrows": len(rows), "ncols": len(titles), "sharex": "row", "sharey": "row", "squeeze": False}
    figure, axes = new_figure(3.3 * len(titles), 2.6 * len(rows), **grid)
    for line, (labels, panels) in zip(axes, rows.items(), strict=True):
        for axis, title in zip(line, titles, strict=True):
            for i, (name, (x, y, *stderr)) in enumerate(panels[title].items()):
                style = {"fmt": "o-", "markersize": 3.5, "capsize": 2} if stderr else {"fmt": "-"}
                wide = {"linewidth": 5, "alpha": 0.4} if i == 0 and not stderr else {"linewidth": 1.3}
                axis.errorbar(x, y, *stderr, **style, **wide, color=f"C{names.index(name)}", label=name)
            if labels in log:
                axis.set(xscale="log", yscale="log")
                axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
                axis.xaxis.set_minor_formatter(ticker.NullFormatter())
                axis.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
            axis.set(xlabel=labels[0])
            axis.grid(alpha=0.3)
        line[0].set(ylabel=labels[1])
        if labels in log:
            low, high = line[0].get_ylim()
            for axis, title in zip(line, titles, strict=True):
                if shaded and title in shaded:
                    region = {"color": "0.85", "linewidth": 0, "zorder": 0, "label": shade_name or None}
                    axis.axhspan(min(low, shaded[title] / 3), shaded[title], **region)
                axis.set_ylim(min([low, *(height / 2 for height in (shaded or {}).values())]), high)
        handles = {
            name: handle for axis in line for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        line[-1].legend(handles.values(), handles.keys(), fontsize=7)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    return save_figure(figure, path)
