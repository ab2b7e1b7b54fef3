"""Tests of pruning: the number of removed weights, their signal-to-noise ratios, and their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import posteriors

MEAN = {"a": jnp.array([[0.1, -4.0], [3.0, 0.2]]), "b": jnp.array([1.0, -0.5])}
SCALE = {"a": jnp.array([[1.0, 1.0], [0.1, 0.001]]), "b": jnp.array([10.0, 1.0])}
VARIATIONAL = posteriors.MeanFieldParams(MEAN, jax.tree.map(lambda sd: jnp.log(jnp.expm1(sd)), SCALE))


def test_ratio():
    found = posteriors.signal_to_noise(VARIATIONAL)
    np.testing.assert_allclose(found["a"], [[0.1, 4], [30, 200]], rtol=1e-3)


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [(0.0, [[True] * 2] * 2 + [[True] * 2]), (0.5, [[False, True], [True] * 2, [False] * 2]), (1.0, [[False] * 2] * 3)],
)
def test_the_lowest_go_across_layers(fraction, kept):
    pruned, mask = posteriors.prune(VARIATIONAL, fraction)
    np.testing.assert_array_equal(np.concatenate([mask["a"], mask["b"][None]]), kept)
    draws = [posteriors.mean_field().sample(pruned, jax.random.key(i)) for i in range(3)]
    full = posteriors.mean_field().sample(VARIATIONAL, jax.random.key(0))
    for name in MEAN:
        for draw in draws:
            assert (np.asarray(draw[name])[~mask[name]] == 0).all()
        np.testing.assert_array_equal(draws[0][name][mask[name]], full[name][mask[name]])


def test_ties_remove_no_more_than_was_asked_for():
    same = posteriors.MeanFieldParams({"w": jnp.ones(10)}, {"w": jnp.zeros(10)})
    assert int(posteriors.prune(same, 0.35)[1]["w"].sum()) == 7


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_fraction(fraction):
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\]"):
        posteriors.prune(VARIATIONAL, fraction)
