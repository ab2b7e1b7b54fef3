"""The permutation test has the level it claims, and power."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import divergences, evaluation


def p_values(shift, num, is_repeated=False):
    """Tests `num` pairs of samples of 12 and 15 points; the second is shifted, or repeats points of the first."""
    keys = jax.random.split(jax.random.key(0), (3, num))
    x, y = (
        jax.vmap(lambda key, n=n: jax.random.normal(key, (n, 2)))(k) for k, n in zip(keys[:2], (12, 15), strict=True)
    )
    x = jnp.tile(x[:, :6], (1, 2, 1)) if is_repeated else x
    test = jax.jit(jax.vmap(lambda k, x, y: evaluation.mmd_test(k, x, y, num_permutations=99)))
    return np.asarray(test(keys[2], x, y + shift).p_value)


@pytest.mark.slow
def test_the_level_is_nominal():
    """1000 pairs of one law: p <= alpha for a share alpha within 4 standard errors, at four alphas (false alarms:
    5e-4). Samples that are not independent, each point of one twice, are refused by the same bound."""

    def is_nominal(p, alpha):
        return abs((p <= alpha).mean() - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / 1000)

    p = p_values(0.0, 1000)
    assert all(is_nominal(p, alpha) for alpha in (0.01, 0.05, 0.2, 0.5))
    assert p.min() >= 0.01 and p.max() <= 1
    assert not is_nominal(p_values(0.0, 1000, is_repeated=True), 0.05)


def test_the_power():
    """A shift by 1.5 standard deviations of each coordinate is found at 5 % nearly always, and one by 0.1 hardly."""
    assert (p_values(1.5, 200) <= 0.05).mean() > 0.9
    assert (p_values(0.1, 200) <= 0.05).mean() < 0.2


def test_statistic_and_ties():
    """The statistic is `mmd_squared`; of two equal pairs of points every relabeling ties or beats it: p = 1."""
    x, y = np.random.default_rng(0).normal(size=(2, 9, 3))
    kernel = divergences.gaussian_kernel([0.7])
    test = jax.jit(lambda x, y: evaluation.mmd_test(jax.random.key(0), x, y, kernel))
    found = test(x, y)
    expected = jax.jit(functools.partial(divergences.mmd_squared, kernel=kernel, is_unbiased=True))(x, y)
    assert float(found.statistic) == pytest.approx(float(expected), abs=1e-6)
    assert float(test(x, x).p_value) == 1
    assert float(evaluation.median_distance(jnp.asarray([[0.0], [1.0], [3.0]]))) == pytest.approx(2)


def test_equal_points_and_nan():
    """Constant samples and NaN give p = 1, and binary samples of one distribution keep the level.

    The statistic equals `mmd_squared` even if one sample has 750 times as many points as the other."""
    key, same = jax.random.key(0), jnp.zeros((5, 2))
    test = jax.jit(functools.partial(evaluation.mmd_test, num_permutations=99))
    assert float(test(key, same, same).p_value) == 1
    assert float(test(key, same, same + jnp.nan).p_value) == 1
    rare = (jax.random.uniform(jax.random.key(1), (300, 2, 12, 1)) < 0.1).astype(float)
    keys = jax.random.split(key, 300)
    test = jax.jit(jax.vmap(lambda key, x: evaluation.mmd_test(key, x[0], x[1], num_permutations=19)))
    p = np.asarray(test(keys, rare).p_value)
    assert (p <= 0.2).mean() < 0.2 + 4 * np.sqrt(0.2 * 0.8 / 300)
    many, few = jax.random.normal(key, (1500, 1)), jnp.array([[0.0], [0.1]])
    kernel = divergences.gaussian_kernel([1.0])
    found = jax.jit(lambda x, y: evaluation.mmd_test(key, x, y, kernel, num_permutations=1))(many, few).statistic
    expected = jax.jit(functools.partial(divergences.mmd_squared, kernel=kernel, is_unbiased=True))(many, few)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_bad_input():
    with pytest.raises(ValueError, match="at least two rows and num_permutations be at least 1; got 1, 5, 999"):
        evaluation.mmd_test(jax.random.key(0), jnp.ones((1, 2)), jnp.ones((5, 2)))
