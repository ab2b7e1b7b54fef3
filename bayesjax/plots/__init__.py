"""Figures from arrays. Every function draws a new figure, writes it to a PNG file and returns the path.

Nothing is shown on a screen and no global state of matplotlib is used. Each series has one colour, in a fixed order.
Bands around a curve are one standard error. `new_figure` and `save_figure` are the building blocks for other figures.
"""

from bayesjax.plots.chains import energies, paths, ranks, traces
from bayesjax.plots.figure import new_figure, save_figure
from bayesjax.plots.games import densities_and_maps, phase_portraits
from bayesjax.plots.images import image_grid, segmentation_maps
from bayesjax.plots.lines import bands, curves, distributions, estimates
from bayesjax.plots.panels import curve_grid
from bayesjax.plots.points import passes, scatter_by_group, scatter_by_label
from bayesjax.plots.predictions import predictive_band, reliability

__all__ = [
    "bands",
    "curve_grid",
    "curves",
    "densities_and_maps",
    "distributions",
    "energies",
    "estimates",
    "image_grid",
    "new_figure",
    "passes",
    "paths",
    "phase_portraits",
    "predictive_band",
    "ranks",
    "reliability",
    "save_figure",
    "scatter_by_group",
    "scatter_by_label",
    "segmentation_maps",
    "traces",
]
