"""Collapse and oscillation detectors: what they say of generators that are well, collapsed, or going round."""

import numpy as np
import pytest

from bayesjax.evaluation import health

RANDOM = np.random.default_rng(0)


def test_diversity_of_equal_and_of_collapsed_samples():
    """Equal laws: 1 within 5 %, over 6 standard errors of 4000 pairs. Shrunk to a tenth: 0.1. One sample for all: 0."""
    real, fake = RANDOM.normal(size=(2, 4000, 3))
    assert health.diversity(real, fake) == pytest.approx(1, abs=0.05)
    assert health.diversity(real, 0.1 * fake + 7) == pytest.approx(0.1, abs=0.005)
    assert health.diversity(real, np.ones((5, 3))) == 0
    one_mode = np.where(np.arange(4000)[:, None] < 2000, 5, -5) + 0.1 * real  # two modes, in order
    assert health.diversity(RANDOM.permutation(one_mode), one_mode[:2000]) < 0.1


def test_swing_is_one_of_a_generator_that_stands_still():
    """400 checks: the mean square has expectation 2 / 2 = 1 and standard error 0.08. A walk of one deviation at each
    check, which must be caught, swings by sqrt(50 / 2) = 5, of 50 samples."""
    still = RANDOM.normal(size=(400, 50, 1))
    assert np.mean(health.mean_drift(still) ** 2) == pytest.approx(1, abs=0.4)
    round_and_round = still + (np.arange(400) % 2)[:, None, None]
    assert np.mean(health.mean_drift(round_and_round)) == pytest.approx(5, abs=0.5)
    assert np.mean(health.mean_drift(RANDOM.normal(size=(400, 5000, 1))) ** 2) == pytest.approx(1, abs=0.4)
    frozen = np.zeros((3, 4, 2))
    assert (health.mean_drift(frozen) == 0).all()
    frozen[1] = 1
    assert np.isinf(health.mean_drift(frozen)).all()
    assert np.isnan(health.mean_drift(np.full((3, 4, 2), np.nan))).all()  # and does not stand still


def test_swing_has_the_noise_of_both_checks():
    """|m_1 - m_0| over the root of the sum of both means' variances, also where one check is collapsed."""
    wide, other = np.array([[-3.0], [0.0], [3.0]]), np.full((3, 1), 2.0)
    for samples in (np.stack([wide, other]), np.stack([other, wide])):
        np.testing.assert_allclose(health.mean_drift(samples), [2 / np.sqrt(9 / 3)])


def test_what_does_not_fit():
    with pytest.raises(
        ValueError, match=r"real and fake must be \[num >= 2, dim\] of one dim; got \(4, 2\) and \(4, 3"
    ):
        health.diversity(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="must not all be equal"):
        health.diversity(np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"samples must be \[num_evaluations >= 2, num >= 2, dim\]; got \(1, 4, 2\)"):
        health.mean_drift(np.zeros((1, 4, 2)))
