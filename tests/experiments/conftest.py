"""Fixtures that the tests of the experiments share."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A small data set for the synthetic experiment, 60 vectors of dimension 6."""
    x = np.random.default_rng(1).normal(size=(60, 6))
    path = tmp_path_factory.mktemp("data") / "vectors.npz"
    np.savez(path, x_train=x, y_train=np.zeros(60, int), x_test=x[:2], y_test=np.zeros(2, int))
    return path
