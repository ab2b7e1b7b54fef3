"""Tests of noise: the words of Threefry, the normal law at 1e7 draws, and an enumeration of the 16-bit laws."""

import functools
import math

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from bayesjax import noise
from tests.parameters import some

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


@pytest.mark.parametrize("impl", some(["threefry2x32", "rbg"], "threefry2x32"))
@pytest.mark.parametrize("draw", [noise.uniform, noise.normal, noise.sixteen_bit_normal])
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


@pytest.mark.parametrize("draw", [noise.uniform, noise.normal, noise.sixteen_bit_normal])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_one_key_and_a_size(draw, make_key):
    """A batch of keys (a forgotten vmap) is refused, and a negative size; old keys work as new ones do."""
    with pytest.raises(ValueError, match=r"rng_key must be one key; got keys of shape \(5,\)"):
        draw(jax.random.split(make_key(0), 5), 40)
    with pytest.raises(ValueError, match="size must not be negative; got -1"):
        draw(make_key(0), -1)
    np.testing.assert_array_equal(draw(make_key(3), 40), draw(jax.random.key(3), 40))


@pytest.mark.parametrize("draw", [noise.uniform, noise.normal, noise.sixteen_bit_normal])
def test_a_key_used_twice_is_caught(draw):
    """`jax.debug_key_reuse` counts a draw as a use of the key."""
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        draw(key, 40)
        with pytest.raises(jax.errors.KeyReuseError):
            draw(key, 40)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_bernoulli_probabilities(monkeypatch, dtype):
    """Enumerated over all 2^16 values, low halves of words and high: P(1) is right to 2^-17, 0 and 1 exact.

    Computed in float16 all would be 1: 2^16 is infinite there.
    """
    halves = jnp.arange(2**16, dtype=jnp.uint32).reshape(2, 8, -1)
    words = halves | (halves << 16)
    monkeypatch.setattr(noise, "_random_words", lambda rng_key, size, per_pair: [(block, block) for block in words])
    for each in jnp.array([0.0, 2**-18, 0.1, 0.5, 0.75, 1 - 2**-18, 1.0], dtype):
        drawn = noise.bernoulli(jax.random.key(0), jnp.full(2**18, each))
        assert drawn.dtype == jnp.float32 and set(np.unique(drawn)) <= {0.0, 1.0}
        rates = np.asarray(drawn).reshape(2, -1).mean(axis=1)
        np.testing.assert_array_equal(rates, np.round(2**16 * float(each)) / 2**16)


def test_bernoulli_refuses_what_is_no_probability():
    """Integers by their type, traced or not; numbers outside [0, 1] and NaN where they can be read; booleans pass."""
    key, flags = jax.random.key(0), jnp.array([True, False])
    np.testing.assert_array_equal(noise.bernoulli(key, flags), flags)
    assert noise.bernoulli(key, 1.0) == 1
    for dtype in (jnp.uint8, jnp.int8, jnp.uint16):
        with pytest.raises(ValueError, match=rf"probability must be .* or booleans; got {dtype.__name__}"):
            jax.jit(noise.bernoulli)(key, jnp.zeros(3, dtype))
    for dtype in (jnp.float32, jnp.bfloat16):
        for bad in (-0.25, 1.5, jnp.nan):
            with pytest.raises(ValueError, match=r"probability must be in \[0, 1\]; got"):
                noise.bernoulli(key, jnp.full(20, bad, dtype))


def test_bernoulli_shape_and_key():
    """The shape is that of the probabilities, odd sizes included; the key decides."""
    probability = jnp.full((3, 5, 1), 0.5)
    first, again, other = (noise.bernoulli(jax.random.key(seed), probability) for seed in (0, 0, 1))
    assert first.shape == (3, 5, 1)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_four_normals_of_two_words():
    """r sin a and r cos a in float64, of radii x and y and of angles that are sums of both, ends of x included."""
    ends = np.arange(2**12)
    x = np.concatenate([ends, np.random.default_rng(0).integers(0, 2**32, 2**14), 2**32 - 1 - ends])
    y = np.random.default_rng(1).integers(0, 2**32, len(x))
    found = np.asarray(noise._four_normals(jnp.asarray(x, jnp.uint32), jnp.asarray(y, jnp.uint32)), np.float64)
    assert np.abs(found).max() < 6.8

    radius = np.sqrt(-2 * np.log((np.stack([x, y]) + 0.5) / 2**32))
    angle = np.stack([(a * x.astype(object) + b * y.astype(object)) % 2**32 for a, b in noise._ANGLES]).astype(np.int64)
    turns = np.pi / 2 * (((2 * angle + 1) % 2**32 + 2**31) % 2**32 / 2**31 - 1)  # within the right half of the circle
    expected = radius * np.sin(turns), radius * np.cos(turns) * np.where(angle < 2**31, 1, -1)
    # float32 rounds x itself, by 2^-25 where it is near 1 and the radius is small
    np.testing.assert_allclose(found.reshape(4, -1), np.concatenate(expected), atol=4e-4)
    np.testing.assert_allclose(found.reshape(4, -1)[:, ends], np.concatenate(expected)[:, ends], atol=3e-6)


def test_every_two_of_four_normals_are_of_independent_words():
    """Enumerated with words of 8 bits: two radii, or a radius and an angle, take all values together equally often.

    Two angles do but for their lowest bit, which float32 rounds away.
    """
    x, y = (np.arange(2**16) // 2**8).astype(np.uint8), np.arange(2**16).astype(np.uint8)
    first, second = (np.uint8(a % 2**8) * x + np.uint8(b % 2**8) * y for a, b in noise._ANGLES)
    for u, v in ((x, y), (x, first), (y, first), (x, second), (y, second)):
        assert len(np.unique(np.stack([u, v]), axis=1).T) == 2**16
    assert len(np.unique(np.stack([first >> 1, second >> 1]), axis=1).T) == 2**14


@pytest.mark.parametrize("words", [[0, 1, 0x7F800001, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFF800001, 0xFFFFFFFF]])
def test_words_go_through_memory_unchanged(words):
    """Bit for bit, those too that are subnormal numbers or NaNs as floats."""
    blocks = [tuple(jnp.asarray([words[i:] + words[:i]], jnp.uint32) for i in (j, j + 1)) for j in (0, 2)]
    for found, expected in zip(jax.jit(noise._words_in_memory)(blocks), zip(*blocks, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(expected))


def test_normal_expectations_that_its_tails_decide():
    """E exp(4 z) and E exp(z^2 / 4), integrated over all radii, within 0.2 %; the 16-bit law is 30 % off.

    Over the angle these are e^8 = E I_0(4 r) and sqrt(2). The radii of the 2^12 smallest words one by one, then of the
    middles of intervals of words that double from 1.
    """
    edges = np.unique(np.concatenate([np.arange(2**12), 2 ** np.linspace(12, 32, 20001)]).astype(np.int64))
    middle, share = ((edges[1:] + edges[:-1]) // 2).astype(np.uint32), np.diff(edges) / 2**32
    radius = np.asarray(noise._radius(jnp.asarray(middle)), np.float64)
    assert np.sum(share * scipy.special.i0(4 * radius)) == pytest.approx(np.exp(8), rel=2e-3)
    of_square = np.exp(radius**2 / 8) * scipy.special.i0(radius**2 / 8)
    assert np.sum(share * of_square) == pytest.approx(np.sqrt(2), rel=2e-3)


def p_values(z):
    """p-values of Kolmogorov-Smirnov and Anderson-Darling tests of N(0, 1), `[2]`, for at least 1000 values.

    The second from Marsaglia & Marsaglia, "Evaluating the Anderson-Darling distribution", 2004.
    """
    z, num = np.sort(np.asarray(z, np.float64)), len(z)
    ranks = np.arange(1, num + 1)
    below, above = scipy.special.log_ndtr(z), scipy.special.log_ndtr(-z)
    phi = np.exp(below)
    distance = max(np.max(ranks / num - phi), np.max(phi - (ranks - 1) / num))
    a = -num - np.sum((2 * ranks - 1) * (below + above[::-1])) / num
    if a < 2:
        factors = 2.00012, 0.247105, -0.0649821, 0.0347962, -0.0116720, 0.00168691
        darling = 1 - np.exp(-1.2337141 / a) / np.sqrt(a) * np.polynomial.Polynomial(factors)(a)
    else:
        factors = 1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146
        darling = -np.expm1(-np.exp(np.polynomial.Polynomial(factors)(a)))
    return scipy.stats.kstwo.sf(distance, num), darling


def test_normal_distribution():
    """A million values against Phi, two tests at a false-alarm rate of 1e-4 each; the 16-bit law fails both."""
    draw = functools.partial(jax.jit, static_argnums=(0, 2))(lambda law, rng_key, size: law(rng_key, size))
    assert min(p_values(draw(noise.normal, jax.random.key(0), 10**6))) > 1e-4
    assert max(p_values(draw(noise.sixteen_bit_normal, jax.random.key(0), 10**6))) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_normal_distribution_at_ten_million(seed):
    """Ten million values, p > 1e-3 of either test. False alarms: 1 % over the five seeds."""
    draw = jax.jit(noise.normal, static_argnums=1)
    assert min(p_values(draw(jax.random.key(seed), 10**7))) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("law", [noise.normal, noise.sixteen_bit_normal])
def test_tails_and_joint_moments_at_a_hundred_million(law):
    """P(|z| > 3.5, 4, 4.5), P(|z| < 0.05), E z, E z^2 and the moments of any two of four: within 4 standard errors.

    False alarms: 24 comparisons at 6.3e-5, 0.15 %. Power: the 16-bit law fails in all probabilities but one
    (P(|z| > 4), 3.6 standard errors).
    """
    size, num = 2**22, 25

    @jax.jit
    def sums(rng_key):
        z = law(rng_key, size)
        counts = [jnp.sum(jnp.abs(z) > at) for at in (3.5, 4.0, 4.5)] + [jnp.sum(jnp.abs(z) < 0.05)]
        parts = z.reshape(4, -1)
        pairs = [(parts[i], parts[j]) for i in range(4) for j in range(i)]
        means = [jnp.mean(z), jnp.mean(z**2 - 1) / math.sqrt(2)]  # each of standard deviation size^-1/2
        means += [jnp.mean(a * b) / 2 for a, b in pairs]
        means += [jnp.mean((a**2 - 1) * (b**2 - 1)) / 4 for a, b in pairs]
        means += [jnp.mean((a**2 - 1) * b) / math.sqrt(8) for a, b in pairs]
        return jnp.stack(counts), jnp.stack(means)

    drawn = [sums(jax.random.fold_in(jax.random.key(1), i)) for i in range(num)]
    counts, means = (np.sum(np.asarray(each, np.float64), axis=0) for each in zip(*drawn, strict=True))
    probability = np.array(
        [2 * scipy.stats.norm.sf(at) for at in (3.5, 4.0, 4.5)] + [2 * scipy.stats.norm.cdf(0.05) - 1]
    )
    of_counts = (counts - size * num * probability) / np.sqrt(size * num * probability * (1 - probability))
    if law is noise.sixteen_bit_normal:
        assert (np.abs(of_counts) > 4).sum() == 3
        return
    assert (np.abs(of_counts) < 4).all(), of_counts
    assert (np.abs(means) * np.sqrt(size / num) < 4).all(), means
