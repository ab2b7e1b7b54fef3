"""What generators are fed has the distribution it is named after."""

import math

import jax
import numpy as np
import pytest
import scipy.stats

from bayesjax import axes
from bayesjax.models import latent_arc, latent_noise

NAMED = {"uniform": scipy.stats.uniform(-1, 2), "normal": scipy.stats.norm()}


@pytest.mark.parametrize("kind", NAMED)
def test_distribution(kind):
    """Kolmogorov-Smirnov over 4000 x 5 numbers, and no correlation between the columns of a vector.

    False alarms: 1e-4 for each law, 10 correlations at 6.3e-5 (4 standard errors). Power: the same test refuses the
    other law, and U(0, 1) for U(-1, 1); a repeated column is refused too.
    """
    noise = np.asarray(latent_noise(jax.random.key(0), 4000, 5, kind), np.float64)
    assert noise.shape == (4000, 5)
    for other, law in NAMED.items():
        assert (scipy.stats.kstest(noise.ravel(), law.cdf).pvalue > 1e-4) == (other == kind)
    assert scipy.stats.kstest((noise.ravel() + 1) / 2, NAMED[kind].cdf).pvalue < 1e-4
    correlation = np.corrcoef(noise, rowvar=False)[np.triu_indices(5, 1)]
    assert (np.abs(correlation) < 4 / np.sqrt(4000)).all()
    assert np.corrcoef(noise[:, 0], noise[:, 0])[0, 1] > 4 / np.sqrt(4000)


def test_the_default_is_uniform_and_the_key_decides():
    """The Bayesian GAN's uniform noise unless told otherwise; the same key gives the same noise, another does not."""
    first, again = latent_noise(jax.random.key(1), 3, 2), latent_noise(jax.random.key(1), 3, 2, "uniform")
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == latent_noise(jax.random.key(2), 3, 2))


@pytest.mark.parametrize("kind", NAMED)
def test_devices_have_the_vectors_of_one_device(kind):
    """Along a bound data axis the parts are those of one larger draw, and not the same on every device."""
    key = jax.random.key(3)
    parts = jax.vmap(lambda _: latent_noise(key, 3, 2, kind), axis_name=axes.DATA)(np.zeros(4))
    np.testing.assert_array_equal(parts.reshape(12, 2), latent_noise(key, 12, 2, kind))


@pytest.mark.parametrize("kind", NAMED)
def test_precision(kind):
    """Noise of JAX's own precision: float64 where that is enabled, with float64's resolution."""
    assert latent_noise(jax.random.key(0), 3, 2, kind).dtype == np.float32
    with jax.enable_x64(True):
        noise = np.asarray(latent_noise(jax.random.key(0), 3, 2, kind))
    assert noise.dtype == np.float64
    assert (noise != noise.astype(np.float32)).all()


def test_unknown_kind():
    """ValueError naming kind, what came and what there is."""
    with pytest.raises(ValueError, match="kind must be one of uniform, normal; got 'cauchy'"):
        latent_noise(jax.random.key(0), 3, 2, "cauchy")


def test_noise_along_an_arc_is_noise():
    """Its ends are two independent draws, and all along it noise has variance 1, within 5 standard errors (false alarms
    below 1e-5); halfway along a straight line it would have 1/2."""
    arcs = jax.vmap(lambda key: latent_arc(key, 5, 2))(jax.random.split(jax.random.key(0), 2000))
    error = math.sqrt(2 / 4000)  # of a mean of 4000 squares
    np.testing.assert_allclose((arcs**2).mean(axis=(0, 2)), np.ones(5), atol=5 * error)
    assert abs(float((arcs[:, 0] * arcs[:, -1]).mean())) < 5 / math.sqrt(4000)
    np.testing.assert_allclose(arcs[:, 2], (arcs[:, 0] + arcs[:, -1]) / math.sqrt(2), atol=1e-5)
    straight = (arcs[:, 0] + arcs[:, -1]) / 2
    assert float((straight**2).mean()) < 1 - 5 * error
