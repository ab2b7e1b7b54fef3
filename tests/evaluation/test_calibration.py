"""Calibration: values by hand, every point in a bin, and calibrated predictions seen as such."""

import itertools

import numpy as np

from bayesjax.evaluation import calibration

RANDOM = np.random.default_rng(0)


def binary(confidence):
    return np.stack([confidence, 1 - np.asarray(confidence)], axis=-1)


def test_by_hand():
    """0.8, 0.8 in one bin of ten with one right: 0.3 apart; 0.55 alone and right: 0.45 apart."""
    probabilities, labels = binary([0.8, 0.8, 0.55]), np.array([0, 1, 0])
    found = calibration.reliability(probabilities, labels, num_bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 1, 0, 2, 0, 0]
    np.testing.assert_allclose(found.accuracy[[5, 7]], [1, 0.5])
    np.testing.assert_allclose(found.confidence[[5, 7]], [0.55, 0.8])
    np.testing.assert_allclose(found.error, (2 * 0.3 + 0.45) / 3)


def test_bins_are_half_open_and_hold_every_point():
    """Confidences on edges, and saturated ones, which bins open at both ends lose."""
    probabilities = binary(np.concatenate([np.ones(300), np.full(100, 0.5), np.linspace(0.5, 1, 11)]))
    labels = np.zeros(len(probabilities), int)
    for equal_counts in (False, True):
        found = calibration.reliability(probabilities, labels, num_bins=10, equal_counts=equal_counts)
        assert found.counts.sum() == len(labels)
    assert calibration.reliability(probabilities, labels, num_bins=10).counts[4] == 101
    edges = np.linspace(0, 1, 11)
    confidence = probabilities.max(axis=1)
    strict = sum(((low < confidence) & (confidence < high)).sum() for low, high in itertools.pairwise(edges))
    assert strict < 100  # the fault


def test_equal_counts():
    probabilities, labels = binary(RANDOM.uniform(0.5, 1, 103)), RANDOM.integers(0, 2, 103)
    found = calibration.reliability(probabilities, labels, num_bins=10, equal_counts=True)
    assert set(found.counts) == {10, 11}
    assert calibration.adaptive_calibration_error(probabilities, labels) > 0


def test_calibrated_predictions_have_little_error_and_sharpened_ones_have_more():
    """Labels drawn from 20 000 predictions: the expected ECE is about 0.01 (a bin of n points is off by 0.4 / sqrt n),
    and 0.02 is more than five deviations of their average away; of sharpened predictions it is 0.1."""
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(3), size=20_000)
    labels = (probabilities.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    sharp = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    for error in (calibration.expected_calibration_error, calibration.adaptive_calibration_error):
        assert error(probabilities, labels) < 0.02
        assert error(sharp, labels) > 0.05
    assert calibration.brier_score(probabilities, labels).value < calibration.brier_score(sharp, labels).value


def test_brier_score_by_hand():
    assert calibration.brier_score(binary([1.0, 1.0]), np.array([0, 1])).value == 1
    np.testing.assert_allclose(calibration.brier_score([[0.5, 0.3, 0.2]], np.array([1])).value, 0.25 + 0.49 + 0.04)


def test_coverage():
    found = calibration.coverage([0, 1, 2, 3], [0, 0, 0, 0], [1, 1, 1, 1])
    assert found.value == 0.5
    assert found.stderr == 0.25
