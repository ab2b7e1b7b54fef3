"""Figures of Markov chains: paths in the plane, traces, rank histograms and energies.

Read `figure.py` next, which creates and saves every figure.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesjax.plots.figure import new_figure, save_figure


def paths(
    path: str | Path,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    logdensity: np.ndarray,
    extent: tuple[float, float, float, float],
    num_columns: int = 3,
) -> Path:
    """Plots paths in the plane over the contours of a density, one panel for each title. Dots mark the starts.

    Args:
      path: the PNG file to write.
      panels: `{title: {name: points [num, 2]}}`, one path for each name.
      logdensity: the log density on a grid over `extent`, `[height, width]`, with the lowest row first.
      extent: left, right, bottom and top limits.
      num_columns: number of panels per row.
    """
    num_rows = -(-len(panels) // num_columns)
    columns = min(num_columns, len(panels))
    figure, axes = new_figure(3.4 * columns, 3.4 * num_rows, nrows=num_rows, ncols=columns, squeeze=False)
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
    return save_figure(figure, path)


def traces(path: str | Path, quantities: Mapping[str, np.ndarray]) -> Path:
    """Plots the draws of each chain in order, one row for each quantity, and beside them a histogram for each chain.

    Args:
      path: the PNG file to write.
      quantities: `{name: draws [num_chains, num_draws]}`.

    Raises:
      ValueError: if draws are not `[num_chains, num_draws]`.
    """
    figure, axes = new_figure(
        9.0, 1.9 * len(quantities) + 0.3, nrows=len(quantities), ncols=2, squeeze=False,
        gridspec_kw={"width_ratios": (3, 1)},
    )  # fmt: skip
    for (left, right), (name, chains) in zip(axes, _checked(quantities), strict=True):
        low, high = np.quantile(chains, [0.001, 0.999])
        edges = np.linspace(low, high, 41)
        for i, chain in enumerate(chains):
            left.plot(chain, linewidth=0.5, alpha=0.7, color=f"C{i % 10}")
            right.hist(chain, edges, density=True, histtype="step", orientation="horizontal", color=f"C{i % 10}")
        left.set(ylabel=name, xlim=(0, chains.shape[1]))
        right.set(xticks=[], ylim=left.get_ylim())
    axes[-1][0].set(xlabel="draw")
    axes[0][1].set(title="density")
    axes[0][0].set(title="one colour per chain")
    return save_figure(figure, path)


def ranks(path: str | Path, quantities: Mapping[str, np.ndarray], *, num_bins: int = 20) -> Path:
    """Plots histograms of the ranks of each chain's draws among the draws of all chains.

    The histograms are flat if the chains agree. For independent draws, each bin of a flat histogram lies in the grey
    band with probability 0.95.

    Source: Vehtari et al., "Rank-normalization, folding, and localization", 2021, section 5.

    Args:
      path: the PNG file to write.
      quantities: `{name: draws [num_chains, num_draws]}`.
      num_bins: number of bins of each histogram.

    Raises:
      ValueError: if draws are not `[num_chains, num_draws]`.
    """
    from scipy import stats

    checked = _checked(quantities)
    num_chains = max(len(chains) for _, chains in checked)
    figure, axes = new_figure(
        1.9 * num_chains + 0.6, 1.6 * len(quantities) + 0.5, nrows=len(quantities), ncols=num_chains, squeeze=False,
        sharex=True, sharey="row",
    )  # fmt: skip
    for row, (name, chains) in zip(axes, checked, strict=True):
        order = (stats.rankdata(chains).reshape(chains.shape) - 0.5) / chains.size
        low, high = stats.binom(chains.shape[1], 1 / num_bins).interval(0.95)
        for i, (axis, chain) in enumerate(zip(row, order, strict=False)):
            axis.axhspan(low, high, color="0.85", linewidth=0)
            axis.hist(chain, np.linspace(0, 1, num_bins + 1), color=f"C{i % 10}", alpha=0.8)
            axis.set(yticks=[], xlim=(0, 1))
        row[0].set(ylabel=name)
        for axis in row[len(chains) :]:
            axis.set_visible(False)
    for i, axis in enumerate(axes[0]):
        axis.set_title(f"chain {i}", fontsize=9)
    for axis in axes[-1]:
        axis.set(xlabel="rank")
    return save_figure(figure, path)


def energies(path: str | Path, energy: np.ndarray, *, title: str = "") -> Path:
    """Plots the distribution of the change of the energy in one step beside the marginal distribution of the energy.

    If the distribution of the change is much narrower, E-BFMI (`evaluation.e_bfmi`) is small and the chains explore the
    tails slowly.

    Source: Betancourt, "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo", 2016.

    Args:
      path: the PNG file to write.
      energy: the Hamiltonian at each step, `[num_chains, num_draws]`.
      title: title of the figure.

    Raises:
      ValueError: if the energy is not `[num_chains, num_draws]`.
    """
    ((_, energy),) = _checked({"energy": energy})
    centred = energy - energy.mean(axis=1, keepdims=True)
    moves = np.diff(energy, axis=1)
    limit = np.quantile(np.abs(np.concatenate([centred.ravel(), moves.ravel()])), 0.999)
    figure, axis = new_figure(5.4, 3.6)
    for name, values in (("energy minus its mean", centred), ("change of the energy in one step", moves)):
        axis.hist(values.ravel(), np.linspace(-limit, limit, 81), density=True, histtype="step", label=name)
    axis.set(xlabel="energy", ylabel="density", title=title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return save_figure(figure, path)


def _checked(quantities: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    arrays = [(name, np.asarray(chains, float)) for name, chains in quantities.items()]
    for name, chains in arrays:
        if chains.ndim != 2 or chains.shape[1] < 2:
            raise ValueError(f"{name} must be [num_chains, num_draws >= 2]; got shape {chains.shape}")
    return arrays
