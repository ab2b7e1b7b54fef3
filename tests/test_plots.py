"""Figures: PNG files of the data given, with no window, no pyplot and no state left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from bayesjax import evaluation, plots

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)


def pixels(path):
    """The picture, opened again: a real PNG of a sensible size with more than one colour."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
    assert min(array.shape[:2]) > 50 and len(colours(array)) > 5
    return array


def colours(picture):
    """The different colours of a picture, `[num, 3]`: of whole numbers, which numpy sorts far sooner than triples."""
    found = np.unique(picture.astype(int) @ (65536, 256, 1))
    return np.stack([found // 65536, found // 256 % 256, found % 256], axis=1)


@pytest.mark.parametrize("log_y", [False, True])
def test_curves(tmp_path, log_y):
    """One repeat or several; the folder is made; other data give another picture, the same data the same."""
    x = np.arange(1, 6)
    series = {"one": (x, np.exp(-x / 2)[None]), "three": (list(x), 1 + 0.2 * RNG.random((3, 5)))}
    path = plots.curves(tmp_path / "new" / "a.png", series, xlabel="steps", ylabel="JS", title="t", log_y=log_y)
    assert path == tmp_path / "new" / "a.png"
    first = pixels(path)
    assert first.shape[:2] == (480, 768)
    again = plots.curves(str(tmp_path / "b.png"), series, xlabel="steps", ylabel="JS", title="t", log_y=log_y)
    np.testing.assert_array_equal(pixels(again), first)
    other = plots.curves(
        tmp_path / "c.png", {"one": series["one"]}, xlabel="steps", ylabel="JS", title="t", log_y=log_y
    )
    assert (pixels(other) != first).any()


def test_the_band_of_curves_is_one_standard_error(tmp_path, monkeypatch):
    """mean -+ sd / sqrt(repeats), with the unbiased deviation; none where there is one repeat."""
    bands, y = [], np.array([[0.0, 1.0], [1.0, 5.0], [2.0, 3.0]])
    monkeypatch.setattr(Axes, "fill_between", lambda axis, x, low, high, **style: bands.append((low, high)))
    series = {"three": ([1, 2], y), "one": ([1, 2], y[:1])}
    plots.curves(tmp_path / "a.png", series, xlabel="steps", ylabel="JS")
    np.testing.assert_allclose(bands, [(y.mean(axis=0) - [1, 2] / np.sqrt(3), y.mean(axis=0) + [1, 2] / np.sqrt(3))])


def test_distribution_functions_end_at_one(tmp_path, monkeypatch):
    """Each over its own numbers, of which one in 2000 may lie beyond the axis."""
    curves = []
    monkeypatch.setattr(Axes, "plot", lambda axis, x, y, **style: curves.append(y))
    plots.distributions(tmp_path / "a.png", {"few": RNG.normal(size=10), "many": RNG.normal(size=4000)}, xlabel="w")
    assert len(curves) == 2 and all(y[-1] > 0.89 for y in curves)


def test_scatter_by_group(tmp_path):
    """A panel per method, wider with more of them; twelve groups are no problem for ten colours."""
    background = RNG.normal(size=(300, 2))
    panels = {"ml": RNG.normal(size=(1, 50, 2)), "bayes": RNG.normal(size=(12, 50, 2))}
    two = pixels(plots.scatter_by_group(tmp_path / "two.png", panels, background))
    one = pixels(plots.scatter_by_group(tmp_path / "one.png", {"ml": panels["ml"]}, background, num_background=10))
    assert two.shape[0] == one.shape[0] and two.shape[1] == 2 * one.shape[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid(tmp_path, channels):
    """Black and white squares come out black and white, and in colour where there are three channels."""
    rows = np.zeros((2, 3, 8, 8, channels), np.float32)
    rows[0, :, :, :, 0] = 1.0
    rows[1, 0] = 7.0  # out of range: clipped, not wrapped
    picture = pixels(plots.image_grid(tmp_path / "grid.png", rows, row_names=["a", "b"], title="rows"))
    found = {tuple(colour) for colour in colours(picture)}
    assert (0, 0, 0) in found and (255, 255, 255) in found
    assert ((255, 0, 0) in found) == (channels == 3)


def test_no_global_state():
    """All three functions together never import pyplot: its figures pile up, its backend wants a display."""
    script = """
import sys, tempfile, numpy as np
from bayesjax import plots
folder = tempfile.mkdtemp()
plots.curves(folder + "/a.png", {"a": ([1, 2], np.ones((1, 2)))}, xlabel="x", ylabel="y")
plots.scatter_by_group(folder + "/b.png", {"a": np.zeros((1, 3, 2))}, np.zeros((3, 2)))
plots.image_grid(folder + "/c.png", np.zeros((1, 1, 4, 4, 1)))
assert "matplotlib" in sys.modules
print("matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_bands_and_distributions(tmp_path):
    """A panel for each; wider bands colour more of the picture, and other numbers give another histogram."""
    x = np.linspace(-1, 1, 50)
    levels = np.array([-2.0, -1, 0, 1, 2])[:, None]
    points = RNG.normal(size=20), RNG.normal(size=20)

    def shaded(width):
        quantiles = np.sin(x) + width * levels
        picture = pixels(plots.bands(tmp_path / f"{width}.png", x, {"a": quantiles}, points, truth=np.sin(x)))
        return (np.ptp(picture.astype(int), axis=-1) > 20).mean()

    assert shaded(0.5) > 1.5 * shaded(0.1)
    quantiles = np.sin(x) + 0.2 * levels
    lower = quantiles - 0.3 * (levels == -2)  # the lowest quantile bounds the outer band
    pictures = [pixels(plots.bands(tmp_path / "edge.png", x, {"a": each}, points)) for each in (quantiles, lower)]
    assert (pictures[0] != pictures[1]).any()
    values = {"narrow": RNG.normal(size=500), "wide": np.append(3 * RNG.normal(size=500), np.inf)}
    both = pixels(plots.distributions(tmp_path / "both.png", values, xlabel="w", log_y=True))
    one = pixels(plots.distributions(tmp_path / "one.png", {"narrow": values["narrow"]}, xlabel="w", log_y=True))
    assert both.shape == one.shape and (both != one).any()


def test_reliability(tmp_path):
    """Another calibration gives another curve; a bin without predictions is left out."""
    probabilities = np.stack([np.linspace(0.5, 0.99, 200), 1 - np.linspace(0.5, 0.99, 200)], axis=1)
    labels = (RNG.random(200) > probabilities[:, 0]).astype(int)
    diagrams = [evaluation.calibration.reliability(probabilities, each) for each in (labels, np.zeros(200, int))]
    pictures = [pixels(plots.reliability(tmp_path / f"{i}.png", {"a": each})) for i, each in enumerate(diagrams)]
    assert (pictures[0] != pictures[1]).any()
    with pytest.raises(ValueError, match="diagrams is empty"):
        plots.reliability(tmp_path / "none.png", {})


def test_predictive_band(tmp_path, monkeypatch):
    """The bands are the central intervals of the draws, symmetric around the median."""
    x, given = np.linspace(0, 1, 20), {}
    draws = RNG.normal(size=(4000, 1)) * np.linspace(1, 2, 20)
    monkeypatch.setattr(plots.predictions, "bands", lambda path, x, panels, points, truth: given.update(panels) or path)
    plots.predictive_band(tmp_path / "a.png", x, {"draws": draws}, (x, x), levels=(0.5, 0.9))
    expected = np.array([-1.645, -0.674, 0, 0.674, 1.645])[:, None] * np.linspace(1, 2, 20)
    np.testing.assert_allclose(given["draws"], expected, atol=0.15)
    with pytest.raises(ValueError, match=r"predictions must be \[num_draws, 20\], as x; a has shape \(20, 3\)"):
        plots.predictive_band(tmp_path / "a.png", x, {"a": np.zeros((20, 3))}, (x, x))
    with pytest.raises(ValueError, match=r"levels must be probabilities in \(0, 1\); got \(90,\)"):
        plots.predictive_band(tmp_path / "a.png", x, {"a": draws}, (x, x), levels=(90,))


def test_paths(tmp_path):
    """A panel for each title, as many columns as asked for, and a legend only where there is more than one path."""
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2, 10, 2)), axis=1)
    panels = {"one": {"a": walk[0]}, "two": {"a": walk[0], "b": walk[1]}, "three": {"b": walk[1]}}
    density = -0.5 * (np.linspace(-3, 3, 20)[:, None] ** 2 + np.linspace(-3, 3, 30) ** 2)  # 20 high, 30 wide
    path = plots.paths(tmp_path / "paths.png", panels, logdensity=density, extent=(-3, 3, -3, 3), num_columns=2)
    assert path.stat().st_size > 10_000


def test_chains(tmp_path):
    """A chain that stays apart shows in its trace and its ranks; energies that hardly move, in theirs."""
    random = np.random.default_rng(0)
    agree = random.normal(size=(4, 300))
    apart = agree + np.array([0, 0, 0, 3.0])[:, None]
    for plot in (plots.traces, plots.ranks):
        same, other = (
            pixels(plot(tmp_path / f"{i}.png", {"mu": each, "tau": agree})) for i, each in enumerate((agree, apart))
        )
        assert same.shape == other.shape
        assert (same != other).any(axis=-1).mean() > 0.01
    shifted = plots.energies(tmp_path / "shifted.png", agree + np.arange(4.0)[:, None])
    np.testing.assert_array_equal(pixels(shifted), pixels(plots.energies(tmp_path / "level.png", agree)))
    slow = np.cumsum(0.05 * random.normal(size=(4, 300)), axis=1)
    assert (pixels(plots.energies(tmp_path / "a.png", agree)) != pixels(plots.energies(tmp_path / "b.png", slow))).any()


@pytest.mark.parametrize("plot", [plots.traces, plots.ranks, lambda path, wrong: plots.energies(path, wrong["mu"])])
def test_draws_of_one_chain_are_refused(tmp_path, plot):
    with pytest.raises(ValueError, match=r"must be \[num_chains, num_draws >= 2\]; got shape \(300,\)"):
        plot(tmp_path / "x.png", {"mu": np.zeros(300)})


def test_estimates(tmp_path):
    """Three panels in a row, the fourth in a second one; a name that a panel lacks is left out of it."""
    error = {"a": {"value": 2.0, "stderr": 0.5}, "b": {"value": 3.0}}
    three = pixels(plots.estimates(tmp_path / "three.png", {"x": error, "y": error, "z": error}))
    lacking = {"x": error, "y": error, "z": error, "ess": {"b": {"value": 10.0}}}
    four = pixels(plots.estimates(tmp_path / "four.png", lacking, log_x=("ess",)))
    assert four.shape == (2 * three.shape[0], *three.shape[1:])
    whole = pixels(plots.estimates(tmp_path / "whole.png", {**lacking, "ess": error}, log_x=("ess",)))
    assert (whole != four).any()


def test_segmentation_maps(tmp_path):
    """A picture with unlabelled pixels has more white in it."""
    labels = np.zeros((2, 8, 12), int)
    colour, blank = (
        pixels(
            plots.segmentation_maps(
                tmp_path / f"{name}.png", RNG.random((2, 8, 12, 3)), {"labels": each},
                {"entropy": RNG.random((2, 8, 12))}, num_classes=3,
            )
        )
        for name, each in (("colour", labels), ("blank", labels - 1))
    )  # fmt: skip
    white = lambda picture: (picture == 255).all(axis=-1).mean()  # noqa: E731
    assert white(blank) > white(colour) + 0.1


def test_passes(tmp_path):
    """Two panels are about twice as wide as one."""
    angles, images = np.linspace(0, 90, 4), RNG.random((4, 8, 8))
    values = RNG.random((5, 4, 2))
    one = pixels(plots.passes(tmp_path / "one.png", angles, images, {"a": values}, [3, 7]))
    two = pixels(plots.passes(tmp_path / "two.png", angles, images, {"a": values, "b": values}, [3, 7]))
    assert 1.8 < two.shape[1] / one.shape[1] < 2


def test_portraits(tmp_path):
    """A row for each game, a column for each method; a path that runs off does not shrink the window of the others."""
    turns = np.linspace(0, 12, 60)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    rows = {"one": {"a": circle, "b": 0.5 * circle}, "two": {"a": 3 * circle, "b": circle}}
    first = pixels(plots.phase_portraits(tmp_path / "a.png", rows))
    escaping = circle * np.where(np.arange(60) < 40, 1, 50)[:, None]
    second = pixels(
        plots.phase_portraits(tmp_path / "b.png", {"one": {"a": escaping, "b": 0.5 * circle}, "two": rows["two"]})
    )
    assert first.shape == second.shape
    right = first.shape[1] // 2 + 30
    np.testing.assert_array_equal(first[:, right:], second[:, right:])
    assert (first != second).any()


def test_a_grid_of_curves(tmp_path, monkeypatch):
    """A name has one colour in all panels; errors are drawn where given; only logarithmic rows are shaded."""
    drawn, shades, errorbar = [], [], Axes.errorbar

    def record(axis, x, y, *errors, color, **style):
        drawn.append((style["label"], color, *errors))
        return errorbar(axis, x, y, *errors, color=color, **style)

    monkeypatch.setattr(Axes, "errorbar", record)
    monkeypatch.setattr(Axes, "axhspan", lambda axis, low, high, **style: shades.append(high))
    x, y, top, bottom = [0.1, 0.2, 0.4], np.array([1.0, 2.0, 5.0]), ("h", "TV"), ("logit", "density")
    rows = {
        top: {"one": {"a": (x, y, y / 10)}, "two": {"a": (x, 2 * y, y / 10), "b": (x, y, y / 10)}},
        bottom: {"one": {"b": (x, y)}, "two": {"c": (x, y)}},
    }
    pixels(plots.curve_grid(tmp_path / "a.png", rows, log=[top], shaded={"one": 0.5, "two": 0.7}))
    assert [each[:2] for each in drawn] == [("a", "C0"), ("a", "C0"), ("b", "C1"), ("b", "C1"), ("c", "C2")]
    assert [len(each) for each in drawn] == [3, 3, 3, 2, 2] and shades == [0.5, 0.7]
    pixels(plots.curve_grid(tmp_path / "b.png", rows, log=[top]))
    assert shades == [0.5, 0.7]


def test_game_in_one_dimension(tmp_path):
    """A panel for each moment; where noise is sent is drawn too: another map, another picture."""
    x = np.linspace(-3, 3, 50)
    lines = {"data": np.exp(-(x**2)), "generator": np.exp(-((x - 1) ** 2)), "D": 1 / (1 + np.exp(x))}
    noise = np.linspace(-1, 1, 5)
    panels = {"start": lines, "end": lines}
    first = pixels(
        plots.densities_and_maps(tmp_path / "a.png", x, panels, {"start": (noise, noise), "end": (noise, noise)})
    )
    moved = plots.densities_and_maps(
        tmp_path / "b.png", x, panels, {"start": (noise, noise), "end": (noise, noise + 1)}
    )
    assert (pixels(moved) != first).any()
