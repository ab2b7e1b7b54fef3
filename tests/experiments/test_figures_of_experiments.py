"""Figures that one experiment draws: PNG files of the data given."""

import numpy as np
from PIL import Image

from experiments import adversarial_games, gan_theory, mc_dropout

RNG = np.random.default_rng(0)


def pixels(path):
    """Reads the picture back; it must be a PNG of a sensible size with more than five colours."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        array = np.asarray(image.convert("RGB"))
    assert min(array.shape[:2]) > 50 and len(np.unique(array.astype(int) @ (65536, 256, 1))) > 5
    return array


def test_passes(tmp_path):
    """Two panels are about twice as wide as one."""
    angles, images = np.linspace(0, 90, 4), RNG.random((4, 8, 8))
    values = RNG.random((5, 4, 2))
    one = pixels(mc_dropout.plot_passes(tmp_path / "one.png", angles, images, {"a": values}, [3, 7]))
    two = pixels(mc_dropout.plot_passes(tmp_path / "two.png", angles, images, {"a": values, "b": values}, [3, 7]))
    assert 1.8 < two.shape[1] / one.shape[1] < 2


def test_portraits(tmp_path):
    """A row for each game, a column for each method; a path that runs off does not shrink the window of the others."""
    turns = np.linspace(0, 12, 60)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    rows = {"one": {"a": circle, "b": 0.5 * circle}, "two": {"a": 3 * circle, "b": circle}}
    first = pixels(adversarial_games.plot_portraits(tmp_path / "a.png", rows))
    escaping = circle * np.where(np.arange(60) < 40, 1, 50)[:, None]
    second = pixels(
        adversarial_games.plot_portraits(
            tmp_path / "b.png", {"one": {"a": escaping, "b": 0.5 * circle}, "two": rows["two"]}
        )
    )
    assert first.shape == second.shape
    right = first.shape[1] // 2 + 30
    np.testing.assert_array_equal(first[:, right:], second[:, right:])
    assert (first != second).any()


def test_game_in_one_dimension(tmp_path):
    """A panel for each moment; where noise is sent is drawn too: another map, another picture."""
    x = np.linspace(-3, 3, 50)
    lines = {"data": np.exp(-(x**2)), "generator": np.exp(-((x - 1) ** 2)), "D": 1 / (1 + np.exp(x))}
    noise = np.linspace(-1, 1, 5)
    panels = {"start": lines, "end": lines}
    first = pixels(
        gan_theory.plot_game(tmp_path / "a.png", x, panels, {"start": (noise, noise), "end": (noise, noise)})
    )
    moved = gan_theory.plot_game(tmp_path / "b.png", x, panels, {"start": (noise, noise), "end": (noise, noise + 1)})
    assert (pixels(moved) != first).any()
