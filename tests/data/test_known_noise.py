"""Problems with known noise: draws agree with the mean, the noise and the class probabilities."""

import numpy as np
import pytest
import scipy.stats

from bayesjax.data import known_noise


def test_regression_residuals_are_standard_normal():
    """(y - mean) / scale passes a Kolmogorov-Smirnov test; the scale rises from about 0.1 to about 0.4."""
    points = known_noise.sample_regression(np.random.default_rng(0), 10_000)
    x = points.x[:, 0]
    residuals = (points.y - known_noise.regression_mean(x)) / known_noise.noise_scale(x)
    assert scipy.stats.kstest(residuals, scipy.stats.norm.cdf).pvalue > 1e-3
    np.testing.assert_allclose(known_noise.noise_scale(np.array([-9.0, 0.0, 9.0])), [0.1, 0.25, 0.4])
    assert known_noise.regression_mean(np.pi / 6) == pytest.approx(1 + np.pi / 12)
    assert np.abs(x).max() < known_noise.LIMIT < 1.01 * np.abs(x).max()


def test_classes_are_drawn_with_their_probability():
    """The mean of the drawn classes equals the mean probability, within 5 standard errors."""
    points = known_noise.sample_classification(np.random.default_rng(0), 10_000)
    probability = known_noise.class_probability(points.x)
    error = np.sqrt((probability * (1 - probability)).sum()) / len(points.y)
    assert abs(points.y.mean() - probability.mean()) < 5 * error
    np.testing.assert_allclose(known_noise.class_probability(np.array([[-1.0, np.sqrt(2)]])), [0.5])
