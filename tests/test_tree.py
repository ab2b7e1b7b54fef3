"""Pytree arithmetic, and the 16-bit normal noise enumerated value by value."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import tree

NORMAL_MOMENTS = (0, 1, 0, 3, 0, 15, 0, 105)


@pytest.fixture(scope="module")
def sixteen_bit_values():
    """All 2^16 values of `_sixteen_bit_normal`, once from each half of either word of a pair, `[4, 2^16]`."""
    halves = jnp.arange(2**16, dtype=jnp.uint32).reshape(2, 8, -1)
    words = halves | (halves << 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_random_words", lambda rng_key, num: [(block, block) for block in words])
        values = tree._sixteen_bit_normal(jax.random.key(0), 2**18)
    assert values.dtype == jnp.float32
    return np.asarray(values, np.float64).reshape(4, -1)


def assert_normal_moments(values):
    """Moments 1 to 8 are those of N(0, 1), 1e-5 relative (odd ones: 1e-5 of the next even one)."""
    for order, expected in enumerate(NORMAL_MOMENTS, 1):
        scale = max(expected, NORMAL_MOMENTS[min(order, 7)])
        moment = np.mean(values**order)
        assert abs(moment - expected) <= 1e-5 * scale, f"moment {order}: {moment}, expected {expected}"


def cdf_distance(values):
    """Largest distance of the distribution function from Phi, midway through each of its steps."""
    atoms, counts = np.unique(values, return_counts=True)
    midway = (np.cumsum(counts) - counts / 2) / values.size
    return np.abs(midway - scipy.stats.norm.cdf(atoms)).max()


def test_sixteen_bit_normal_has_normal_moments(sixteen_bit_values):
    """Enumerated: moments 1 to 8 of the noise are 0, 1, 0, 3, 0, 15, 0, 105; every half of a word gives the same."""
    assert_normal_moments(sixteen_bit_values[0])
    np.testing.assert_array_equal(sixteen_bit_values, np.tile(sixteen_bit_values[0], (4, 1)))


def test_sixteen_bit_normal_distribution(sixteen_bit_values):
    """Enumerated: within 0.001 of Phi midway through each of 188 steps, symmetric, none beyond 4.22."""
    values = sixteen_bit_values[0]
    assert cdf_distance(values) < 1e-3
    assert len(np.unique(values)) == 188
    assert np.abs(values).max() < 4.22
    np.testing.assert_array_equal(np.sort(values), np.sort(-values))


def test_moment_check_catches_a_plain_sum_of_uniforms():
    """Power: the sum of three uniforms at variance 1, without the polynomial, fails on moments and distribution."""
    half = np.arange(2**16)
    s = (2 * (half & 31) + 2 * ((half >> 5) & 31) + ((half >> 10) & 63) - 93.5) / 96
    plain = s / s.std()
    with pytest.raises(AssertionError, match="moment 4"):
        assert_normal_moments(plain)
    assert cdf_distance(plain) > 1e-3


def test_the_same_key_gives_the_same_noise_and_another_does_not():
    """Noise is a function of key and shape; all leaves of float32 and float64 have the shape and type asked for."""
    like = {"a": jnp.zeros((2, 3)), "b": [jnp.zeros(5), jnp.zeros(())]}
    first, again, other = (tree.normal_like(jax.random.key(seed), like) for seed in (1, 1, 2))
    assert jax.tree.all(
        jax.tree.map(lambda x, y, z: jnp.array_equal(x, y) and not jnp.any(x == z), first, again, other)
    )
    assert jax.tree.all(jax.tree.map(lambda x, z: x.shape == z.shape and x.dtype == z.dtype, first, like))


def assert_identity_covariance(noise, num_errors=4):
    """Every entry of the sample covariance of `noise` `[num, dim]` is within `num_errors` standard errors of I's."""
    num, dim = noise.shape
    covariance = noise.T @ noise / num
    standard_error = np.sqrt((1 + np.eye(dim)) / num)
    assert (np.abs(covariance - np.eye(dim)) < num_errors * standard_error).all(), covariance


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_noise_is_independent_across_elements_leaves_and_keys(impl):
    """Means and all covariances of 7 elements in 3 leaves (an odd number) over 20000 keys, within 4 standard errors.

    False alarms: 35 comparisons at 6.3e-5, 0.2 %. Power: two leaves that share their noise fail.
    """
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(()), "c": jnp.zeros(2)}
    keys = jax.random.split(jax.random.key(3, impl=impl), 20000)
    noise = jax.jit(jax.vmap(lambda key: tree.normal_like(key, like)))(keys)
    flat = np.concatenate([np.asarray(leaf, np.float64).reshape(20000, -1) for leaf in jax.tree.leaves(noise)], axis=1)
    assert_identity_covariance(flat)
    assert (np.abs(flat.mean(axis=0)) < 4 / np.sqrt(20000)).all()
    assert_identity_covariance(np.stack([flat[:-1, 0], flat[1:, 0]], axis=1))  # keys next to each other
    with pytest.raises(AssertionError):
        assert_identity_covariance(np.concatenate([flat, flat[:, :1]], axis=1))


@pytest.mark.parametrize("num", [0, 1, 16, 1001])
def test_the_words_are_those_of_threefry(num):
    """Bit for bit those of JAX's Threefry-2x32 for the counters (0, 0), (1, 0), ..., alone and under vmap."""
    keys = jax.random.split(jax.random.key(7), 3)
    blocks = jax.vmap(lambda key: tree._random_words(key, num))(keys)
    for i, key in enumerate(keys):
        words = np.concatenate([np.stack([x[i].ravel(), y[i].ravel()]) for x, y in blocks], axis=1)
        counts = jnp.arange(words.shape[1], dtype=jnp.uint32)
        expected = jax.extend.random.threefry_2x32(
            jax.random.key_data(key), jnp.concatenate([counts, jnp.zeros_like(counts)])
        )
        np.testing.assert_array_equal(words.ravel(), expected)
        assert num <= words.shape[1] < num + 16


def test_long_noise_is_independent_along_its_length():
    """One draw of 2^17: the four halves of its words, the two blocks of a half, and neighbours, uncorrelated.

    False alarms: 16 comparisons at 6.3e-5 (4 standard errors), 0.1 %. Power: the same half used twice fails.
    """
    noise = np.asarray(tree.normal_like(jax.random.key(4), jnp.zeros(2**17)), np.float64)
    halves = noise.reshape(4, 2**15)
    assert_identity_covariance(halves.T)
    assert_identity_covariance(halves[0].reshape(2, -1).T)
    assert_identity_covariance(np.stack([noise[:-1], noise[1:]], axis=1))
    with pytest.raises(AssertionError):
        assert_identity_covariance(np.stack([halves[0], halves[0]], axis=1))


def test_double_precision_noise_is_not_of_sixteen_bits():
    """float64 leaves get float64 normals (2000 different ones; 16 bits have 188 values); a mix keeps its types."""
    with jax.enable_x64(True):
        noise = tree.normal_like(jax.random.key(5), {"a": jnp.zeros(2000), "b": jnp.zeros(3, jnp.float32)})
        assert noise["a"].dtype == jnp.float64
        assert noise["b"].dtype == jnp.float32
    assert len(np.unique(noise["a"])) == 2000
    assert len(np.unique(tree.normal_like(jax.random.key(5), jnp.zeros(2000)))) <= 188


@pytest.mark.parametrize("size", [0, 1, 2, 3, 17])
def test_any_size(size):
    """Odd sizes, one and none: the right shape, all finite; two elements of one leaf are not copies."""
    noise = tree.normal_like(jax.random.key(6), jnp.zeros(size))
    assert noise.shape == (size,)
    assert jnp.isfinite(noise).all()
    assert len(np.unique(noise)) > size // 2 or size == 0


def test_arithmetic():
    """num_elements, dot and norm are those of the concatenated vector."""
    a = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "y": jnp.array(5.0)}
    b = {"x": jnp.array([[2.0, 0.0], [1.0, -1.0]]), "y": jnp.array(3.0)}
    assert tree.num_elements(a) == 5
    assert tree.dot(a, b) == 2 + 3 - 4 + 15
    assert tree.norm(a) == pytest.approx(55**0.5)
    assert tree.num_elements({}) == 0
    assert tree.dot({}, {}) == 0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite(bad):
    """One bad element anywhere is seen; integers, booleans and empty trees are finite."""
    good = {"x": jnp.ones((2, 2)), "n": jnp.arange(3), "b": jnp.array(True)}
    assert tree.all_finite(good)
    assert tree.all_finite({})
    assert not tree.all_finite({**good, "x": good["x"].at[1, 0].set(bad)})


def test_stack_and_unstack_are_inverse():
    """stack adds a leading axis in order, unstack takes it off."""
    trees = [{"a": jnp.full(2, float(i)), "b": (jnp.array(float(-i)),)} for i in range(3)]
    stacked = tree.stack(trees)
    assert stacked["a"].shape == (3, 2)
    assert stacked["b"][0].tolist() == [0, -1, -2]
    assert tree.leading_axis(stacked) == 3
    for restored, original in zip(tree.unstack(stacked), trees, strict=True):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, restored, original))


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ({"a": jnp.zeros((2, 3)), "b": jnp.zeros(3)}, "2, 3"),
        ({"a": jnp.zeros(2), "b": jnp.zeros(())}, "(2, a scalar|a scalar, 2)"),
        ({}, "no arrays"),
    ],
)
def test_leading_axis_errors_say_what_was_found(bad, found):
    """A tree without one common leading axis is refused by name, with the lengths found."""
    with pytest.raises(ValueError, match=f"draws must have one leading axis.*{found}"):
        tree.leading_axis(bad, "draws")


def test_stacking_nothing_is_an_error():
    """An empty list has no structure to stack."""
    with pytest.raises(ValueError, match="trees is empty"):
        tree.stack([])
