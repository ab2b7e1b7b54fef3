"""Samples of a mixture of generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation


def constant(params, rng_key, num):
    """A generator whose samples are its parameter."""
    return jnp.full((num, 1), params)


def test_samples_alternate_between_draws():
    """Six samples of four draws take 0, 1, 2, 3, 0, 1; of more draws than samples, evenly spaced draws are used."""
    samples = evaluation.sample_mixture(constant, jnp.arange(4.0), jax.random.key(0), 6)
    np.testing.assert_array_equal(samples[:, 0], [0, 1, 2, 3, 0, 1])
    few = evaluation.sample_mixture(constant, jnp.arange(9.0), jax.random.key(0), 3)
    np.testing.assert_array_equal(few[:, 0], [0, 4, 8])


def test_each_draw_has_noise_of_its_own():
    """Two draws of the same parameters make different samples."""
    samples = evaluation.sample_mixture(
        lambda params, key, num: jax.random.normal(key, (num,)), jnp.zeros(2), jax.random.key(0), 4
    )
    assert len(np.unique(samples)) == 4


@pytest.mark.parametrize(("num_available", "num", "expected"), [(9, 3, [0, 4, 8]), (2, 5, [0, 1]), (5, 1, [0])])
def test_evenly_spaced(num_available, num, expected):
    np.testing.assert_array_equal(evaluation.evenly_spaced(num_available, num), expected)


def test_bad_numbers():
    with pytest.raises(ValueError, match="num"):
        evaluation.sample_mixture(constant, jnp.arange(4.0), jax.random.key(0), 0)
    with pytest.raises(ValueError, match="draws"):
        evaluation.sample_mixture(constant, {"a": jnp.zeros(2), "b": jnp.zeros(3)}, jax.random.key(0), 2)


def test_evaluations_are_of_the_mixture():
    """Each noise is there once, made by one chain of its game, the same at every evaluation; chains have equal shares;
    and neighbours are of one chain in one of three cases, as two draws of the mixture are, not in none (as if they
    alternated, which would make the diversity that of one chain against another) and not in most (as in blocks)."""
    num_evaluations, num_games, num_chains, num = 2, 2, 3, 300
    at = np.meshgrid(*(np.arange(n) for n in (num_evaluations, num_games, num_chains, num)), indexing="ij")
    moment, game, chain, noise = np.moveaxis(evaluation.mix_chains(np.stack(at, axis=-1)), -1, 0)
    assert moment.shape == (num_evaluations, num_games, num)
    assert (noise == np.arange(num)).all() and (chain == chain[0, 0]).all()
    assert (moment == np.arange(num_evaluations)[:, None, None]).all() and (game == np.arange(2)[:, None]).all()
    np.testing.assert_array_equal(np.bincount(chain[0, 0]), [100] * 3)
    turns, blocks = np.arange(num) % 3, np.arange(num) * 3 // num
    shares = [np.mean(order == np.roll(order, 1)) for order in (chain[0, 0], turns, blocks)]
    assert abs(shares[0] - 1 / 3) < 4 * np.sqrt(2 / 9 / num) and shares[1] == 0 and shares[2] > 0.9
    with pytest.raises(ValueError, match=r"samples must be .*\(3, 300\)"):
        evaluation.mix_chains(np.zeros((3, 300)))
