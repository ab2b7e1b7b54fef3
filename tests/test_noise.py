"""The words are Threefry's; the normal noise is enumerated value by value; the uniform noise is exact at its ends."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import noise

NORMAL_MOMENTS = (0, 1, 0, 3, 0, 15, 0, 105)


@pytest.fixture(scope="module")
def sixteen_bit_values():
    """All 2^16 values of `sixteen_bit_normal`, once from each half of either word of a pair, `[4, 2^16]`."""
    halves = jnp.arange(2**16, dtype=jnp.uint32).reshape(2, 8, -1)
    words = halves | (halves << 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_random_words", lambda rng_key, size, per_pair: [(block, block) for block in words])
        values = noise.sixteen_bit_normal(jax.random.key(0), 2**18)
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


@pytest.mark.parametrize("num", [0, 1, 16, 1001])
def test_the_words_are_those_of_threefry(num):
    """Bit for bit those of JAX's Threefry-2x32 for the counters (0, 0), (1, 0), ..., alone and under vmap."""
    keys = jax.random.split(jax.random.key(7), 3)
    blocks = jax.vmap(lambda key: noise._random_words(key, num, 1))(keys)
    for i, key in enumerate(keys):
        words = np.concatenate([np.stack([x[i].ravel(), y[i].ravel()]) for x, y in blocks], axis=1)
        counts = jnp.arange(words.shape[1], dtype=jnp.uint32)
        expected = jax.extend.random.threefry_2x32(
            jax.random.key_data(key), jnp.concatenate([counts, jnp.zeros_like(counts)])
        )
        np.testing.assert_array_equal(words.ravel(), expected)
        assert num <= words.shape[1] < num + 16


def test_uniform_noise_stays_inside_its_ends():
    """Enumerated at the ends and the middle of a word: odd multiples of 2^-23 in (-1, 1), mirror images."""
    words = jnp.array([0, 511, 512, 2**31 - 1, 2**31, 2**32 - 512, 2**32 - 1, 2**32 - 1], jnp.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_random_words", lambda rng_key, size, per_pair: [(words, words[::-1])])
        values = noise.uniform(jax.random.key(0), 16)
    expected = np.array([1 - 2**23, 1 - 2**23, 3 - 2**23, -1, 1, 2**23 - 1, 2**23 - 1, 2**23 - 1]) / 2**23
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, [*expected, *expected[::-1]])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("draw", [noise.uniform, noise.sixteen_bit_normal])
@pytest.mark.parametrize("size", [0, 15, 100])
def test_any_size_and_generator(impl, draw, size):
    """The size asked for, numbers that differ within a draw and between keys, the same again from the same key.

    False alarms: two draws of 15 sixteen-bit numbers agree with probability 1e-30.
    """
    keys = jax.random.split(jax.random.key(8, impl=impl))
    first, again, other = draw(keys[0], size), draw(keys[0], size), draw(keys[1], size)
    assert first.shape == (size,)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) > size // 2 or size == 0
    assert size == 0 or not np.array_equal(first, other)


@pytest.mark.parametrize("draw", [noise.uniform, noise.sixteen_bit_normal])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_one_key_and_a_size(draw, make_key):
    """A batch of keys (a forgotten vmap) is refused, and a negative size; old keys work as new ones do."""
    with pytest.raises(ValueError, match=r"rng_key must be one key; got keys of shape \(5,\)"):
        draw(jax.random.split(make_key(0), 5), 40)
    with pytest.raises(ValueError, match="size must not be negative; got -1"):
        draw(make_key(0), -1)
    np.testing.assert_array_equal(draw(make_key(3), 40), draw(jax.random.key(3), 40))


@pytest.mark.parametrize("draw", [noise.uniform, noise.sixteen_bit_normal])
def test_a_key_used_twice_is_caught(draw):
    """`jax.debug_key_reuse` counts a draw as a use of the key."""
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        draw(key, 40)
        with pytest.raises(jax.errors.KeyReuseError):
            draw(key, 40)


def test_bernoulli_probabilities(monkeypatch):
    """Enumerated over all 2^16 values, low halves of words and high: P(1) is right to 2^-17, 0 and 1 exact."""
    probability = jnp.array([0.0, 2**-18, 0.1, 0.5, 0.75, 1 - 2**-18, 1.0])
    halves = jnp.arange(2**16, dtype=jnp.uint32).reshape(2, 8, -1)
    words = halves | (halves << 16)
    monkeypatch.setattr(noise, "_random_words", lambda rng_key, size, per_pair: [(block, block) for block in words])
    for each in probability:
        drawn = noise.bernoulli(jax.random.key(0), jnp.full(2**18, each))
        assert drawn.dtype == jnp.float32 and set(np.unique(drawn)) <= {0.0, 1.0}
        rates = np.asarray(drawn).reshape(2, -1).mean(axis=1)
        np.testing.assert_array_equal(rates, np.round(2**16 * float(each)) / 2**16)


def test_bernoulli_shape_and_key():
    """The shape is that of the probabilities, odd sizes included; the key decides."""
    probability = jnp.full((3, 5, 1), 0.5)
    first, again, other = (noise.bernoulli(jax.random.key(seed), probability) for seed in (0, 0, 1))
    assert first.shape == (3, 5, 1)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_normal_is_the_quantiles_of_the_uniform():
    """In float64 the quantiles of the same uniform values; nothing beyond 5.3, where the outermost of them lies."""
    rng_key = jax.random.key(3)
    found = np.asarray(noise.normal(rng_key, 10_001), np.float64)
    exact = scipy.stats.norm.ppf((np.asarray(noise.uniform(rng_key, 10_001), np.float64) + 1) / 2)
    np.testing.assert_allclose(found, exact, atol=2e-6, rtol=2e-5)  # what erf_inv rounds in its tails
    outermost = np.sqrt(2) * jax.lax.erf_inv(jnp.float32(1 - 2**-23))
    assert 5.2 < outermost < 5.3
    assert noise.normal(rng_key, 3).dtype == jnp.float32


def test_normal_distribution():
    """10^6 values against Phi: Kolmogorov-Smirnov at a false-alarm rate of 1e-4; the 16-bit noise fails."""

    def p_value(law):
        return scipy.stats.kstest(np.asarray(law(jax.random.key(0), 10**6), np.float64), "norm").pvalue

    assert p_value(noise.normal) > 1e-4
    assert p_value(noise.sixteen_bit_normal) < 1e-4
