"""LeNet four ways: what is measured of probabilities, and the images of another set."""

import numpy as np
import pytest

from experiments import bayesian_cnn
from experiments.shared.classification import Images

pytestmark = pytest.mark.usefixtures("compile_once")


def test_outside_images_are_separated_by_their_uncertainty():
    """Certain and right inside, undecided outside: no error, no risk, and an AUROC of 1."""
    inside = np.tile(np.array([[0.99, 0.01], [0.02, 0.98], [0.97, 0.03]]), (4, 1, 1))
    outside = np.stack([np.tile([p, 1 - p], (5, 1)) for p in (0.9, 0.1, 0.8, 0.2)])
    found = bayesian_cnn.evaluate(inside, outside, np.array([0, 1, 0]), "dropout")
    values = {(row["measure"], row.get("score")): row["value"] for row in found["rows"]}
    assert values["error %", None] == values["mean selective risk %", None] == 0
    for score in ("entropy", "mutual information"):
        assert values["AUROC of outside images", score] == 1
    assert values["NLL", None] == pytest.approx(-np.log([0.99, 0.98, 0.97]).mean())
    single = bayesian_cnn.evaluate(inside[:1], outside[:1], np.array([0, 1, 0]), "point")
    assert [row.get("score") for row in single["rows"]] == [None, None, None, None, "entropy", None]


def test_permuted_images_keep_their_pixels():
    """The default outside images are the test images with one permutation of all pixels."""
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    found = bayesian_cnn.load_outside(bayesian_cnn.Config(), Images(x, np.zeros(3, int)))
    assert found.shape == x.shape and not np.array_equal(found, x)
    flat, moved = x.reshape(3, 20, 2), found.reshape(3, 20, 2)
    order = [int(np.flatnonzero((flat == pixel[:, None]).all(axis=(0, 2)))[0]) for pixel in np.moveaxis(moved, 1, 0)]
    assert sorted(order) == list(range(20))
