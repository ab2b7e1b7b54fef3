"""Combinations of labels: known counts, and the divergence that sampling alone gives."""

import numpy as np
import pytest

from bayesjax import evaluation


def test_known_counts():
    """Of 8 modes: 3 have 4, 2 and 2 of 8 samples; their order is no matter."""
    labels = np.array([[0, 0, 1]] * 4 + [[1, 0, 0]] * 2 + [[1, 1, 1]] * 2)
    expected = np.log(8) + 0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)
    assert evaluation.label_coverage(labels, 2) == pytest.approx((3, 8, expected, 8))
    assert evaluation.label_coverage(labels[::-1], 2) == evaluation.label_coverage(labels, 2)
    assert evaluation.label_coverage(labels[:, 0], 2) == pytest.approx((2, 2, 0, 8))


def test_all_modes_and_one():
    """All 1000 equally often: 0 nats; one alone: ln 1000. (1, 2, 3) and (3, 2, 1) are two modes."""
    every = np.stack(np.meshgrid(*[np.arange(10)] * 3), axis=-1).reshape(-1, 3)
    assert evaluation.label_coverage(np.tile(every, (3, 1)), 10) == pytest.approx((1000, 1000, 0, 3000), abs=1e-9)
    assert evaluation.label_coverage(every[:1], 10) == pytest.approx((1, 1000, np.log(1000), 1))
    assert evaluation.label_coverage(np.array([[1, 2, 3], [3, 2, 1]]), 10).num_covered == 2


def test_divergence_of_uniform_samples():
    """(M - 1) / (2 n) nats in the mean, within 4 standard deviations of 2 n KL, which is about chi^2 of M - 1."""
    num, draws = 26_000, np.random.default_rng(0)
    values = [evaluation.label_coverage(draws.integers(0, 10, (num, 3)), 10).divergence for _ in range(4)]
    assert abs(np.mean(values) - 999 / (2 * num)) < 4 * np.sqrt(2 * 999 / 4) / (2 * num) + 1e-4  # and a term in 1 / n^2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 10]], r"labels must be integers in 0 .. 9; got 10 .. 10"),
        ([[0.0, 1.0]], "labels must be integers in 0 .. 9; got float64"),
        (np.zeros((0, 3), int), r"labels must be \[num, num_labels\] or \[num\] and not empty; got shape \(0, 3\)"),
        (np.zeros((2, 3, 10), int), r"got shape \(2, 3, 10\)"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        evaluation.label_coverage(np.asarray(labels), 10)
