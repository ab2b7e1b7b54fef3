"""Planar mixtures: normalised densities that match their draws."""

import math

import numpy as np
import pytest
import scipy.stats

from bayesjax.data.densities import PLANAR_MIXTURES, GaussianMixture

CELL = 0.06
LINE = -6 + CELL * (np.arange(200) + 0.5)
GRID = np.stack(np.meshgrid(LINE, LINE, indexing="xy"), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("name", PLANAR_MIXTURES)
def test_planar_mixtures_are_normalised_and_match_their_draws(name):
    """They integrate to 1; E log p over draws equals the integral of p log p, within 5 standard errors."""
    mixture = PLANAR_MIXTURES[name]
    log_prob = mixture.log_prob(GRID)
    assert CELL**2 * np.exp(log_prob).sum() == pytest.approx(1, abs=1e-4)
    at_draws = mixture.log_prob(mixture.sample(np.random.default_rng(0), 4000))
    expected = CELL**2 * np.sum(np.exp(log_prob) * log_prob)
    assert abs(at_draws.mean() - expected) < 5 * at_draws.std() / math.sqrt(4000)


def test_log_density_of_three_dimensions():
    """The log density equals the mean of scipy's densities of the components."""
    rng = np.random.default_rng(0)
    factor = np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3)
    mixture, x = GaussianMixture(rng.normal(size=(4, 3)), factor), rng.normal(size=(5, 3))
    components = [scipy.stats.multivariate_normal(mean, factor @ factor.T).pdf(x) for mean in mixture.means]
    np.testing.assert_allclose(mixture.log_prob(x), np.log(np.mean(components, axis=0)), rtol=1e-12)
    assert mixture.sample(rng, 6).shape == (6, 3)
