"""Accuracies of labelled pixels by hand, ignored labels, boundaries."""

import numpy as np

from bayesjax.evaluation import segmentation


def test_by_hand():
    """Class 0: 3 pixels, 2 right; class 1: 1 pixel, right; one pixel ignored; class 2 does not occur."""
    counts = segmentation.confusion_matrix([[0, 0, 1, 1, 2]], [[0, 0, 0, 1, 255]], 3, void=255)
    np.testing.assert_array_equal(counts, [[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    found = segmentation.accuracy(counts)
    np.testing.assert_allclose(found, [3 / 4, (2 / 3 + 1) / 2, (2 / 3 + 1 / 2) / 2])


def test_boundaries():
    found = segmentation.boundaries([[0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found, [[False, False, True], [False, True, True]])
