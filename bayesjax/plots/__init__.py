"""Figures from arrays. Every function draws on a new figure, saves it as a PNG and closes it; nothing is shown.

Colours are one per series in a fixed order; bands are one standard error.
"""

from bayesjax.plots.chains import energies, paths, ranks, traces
from bayesjax.plots.images import image_grid, maps, passes
from bayesjax.plots.lines import adversaries, bands, curves, distributions, estimates
from bayesjax.plots.points import portraits, scatter_by_group, scatter_by_label

__all__ = [
    "adversaries",
    "bands",
    "curves",
    "distributions",
    "energies",
    "estimates",
    "image_grid",
    "maps",
    "passes",
    "paths",
    "portraits",
    "ranks",
    "scatter_by_group",
    "scatter_by_label",
    "traces",
]
