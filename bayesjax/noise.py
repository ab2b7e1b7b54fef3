"""Random numbers at the cost of a few passes over memory, where `jax.random` would be much of a step on a CPU.

All laws are made of the words of Threefry-2x32, JAX's own generator, or of `jax.random.bits` if the key is of another
kind. `sixteen_bit_normal` is what samplers inject (`tree.normal_like`), `normal` what they do if it is to be exact,
`uniform` what generators are fed (`models.latent_noise`), `bernoulli` makes grey images binary (`data.Binarised`). All
are float32 in either of JAX's precisions.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp

from bayesjax.types import Array, PRNGKey

# Coefficients of s, s^3, ..., s^9, solved for the moments of all 2^16 values and, those met, for the least distance
# from the normal quantiles; tests/test_noise.py enumerates the values.
_QUANTILE = (2.83687246, 0.45358742, 0.59465766, -2.69241749, 3.48256243)


def uniform(rng_key: PRNGKey, size: int) -> Array:
    """Uniform float32 noise `[size]` on (-1, 1): the 2^23 odd multiples of 2^-23, so that the mean is 0 exactly."""
    blocks = _random_words(rng_key, size, 2)
    words = jnp.concatenate([word for pair in blocks for word in pair]).reshape(-1)[:size]
    odd = 2 * (words >> 9).astype(jnp.int32) + 1
    return odd.astype(jnp.float32) * jnp.float32(2**-23) - 1


def normal(rng_key: PRNGKey, size: int) -> Array:
    """Standard normal float32 noise `[size]`: the normal quantiles of 2^23 equally likely values, |z| < 5.3.

    As fine as `jax.random.normal` of float32, and symmetric.
    """
    return math.sqrt(2) * jax.lax.erf_inv(uniform(rng_key, size))


def bernoulli(rng_key: PRNGKey, probability: Array) -> Array:
    """Independent 0s and 1s, float32 in the shape of `probability`, from 16 random bits a number.

    The probability of a 1 is `probability` rounded to a multiple of 2^-16; 0 and 1 are exact.
    """
    size = math.prod(probability.shape)
    words = jnp.concatenate([word for pair in _random_words(rng_key, size, 4) for word in pair]).reshape(-1)
    halves = jnp.concatenate([words.astype(jnp.uint16), (words >> 16).astype(jnp.uint16)])[:size]
    below = halves.astype(jnp.float32) + 0.5 < 65536 * probability.reshape(-1)
    return below.astype(jnp.float32).reshape(probability.shape)


def sixteen_bit_normal(rng_key: PRNGKey, size: int) -> Array:
    """Standard normal float32 noise `[size]` from 16 random bits a number.

    Its odd moments are 0, its moments 2, 4, 6 and 8 those of N(0, 1) (1, 3, 15, 105), its distribution function is
    within 0.001 of Phi midway through each of its 188 steps, and |z| < 4.22. A weak scheme for a stochastic
    differential equation asks no more of its noise than the moments (Kloeden & Platen 1992, chapter 14).

    The sum s of three uniforms (5, 5 and 6 bits) is nearly normal already; an odd polynomial of s does the rest, with
    neither logarithm nor table. The sums go through memory as bytes, four to a word: XLA repeats a hash in every loop
    that reads it, unless it is the operand of a concatenation.
    """

    def sum_of_uniforms(half: Array) -> Array:
        return 2 * (half & 31) + 2 * ((half >> 5) & 31) + ((half >> 10) & 63)

    def four_sums(x: Array, y: Array) -> Array:
        halves = x, x >> 16, y, y >> 16
        return functools.reduce(operator.or_, (sum_of_uniforms(half) << 8 * i for i, half in enumerate(halves)))

    sums = jnp.concatenate([four_sums(x, y) for x, y in _random_words(rng_key, size, 4)]).reshape(-1)
    steps = jnp.concatenate([(sums >> shift).astype(jnp.uint8) for shift in (0, 8, 16, 24)])[:size]
    s = (steps.astype(jnp.float32) - 93.5) / 96
    return s * functools.reduce(lambda value, coefficient: value * (s * s) + coefficient, reversed(_QUANTILE))


def _random_words(rng_key: PRNGKey, size: int, per_pair: int) -> list[tuple[Array, Array]]:
    """Pairs of 32-bit words for `size` numbers, in two blocks `[8, n]`: XLA runs rows in parallel, not columns.

    Threefry with its rounds written out is one loop over the data; `jax.random.bits` loops over the rounds on a CPU,
    and goes through memory in each.

    Raises:
      ValueError: if there is more than one key, or `size` is negative.
    """
    batch_shape = jax.random.key_data(rng_key).shape[:-1]
    if batch_shape:
        raise ValueError(f"rng_key must be one key; got keys of shape {batch_shape}: use vmap")
    if size < 0:
        raise ValueError(f"size must not be negative; got {size}")
    shape = (2, 8, -(-size // (16 * per_pair)))
    if jax.random.key_impl(rng_key) != "threefry2x32":
        return list(zip(*jax.random.bits(rng_key, (2, *shape), jnp.uint32), strict=True))
    if jax.config.jax_debug_key_reuse:  # pyright: ignore[reportAttributeAccessIssue]
        jax.random.bits(rng_key)  # the checker does not count a hash of the key's data as a use of the key
    counts = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return [_threefry(jax.random.key_data(rng_key), block, jnp.zeros_like(block)) for block in counts]


@jax.jit  # traced and lowered once for all calls of one shape in a program, 200 operations each
def _threefry(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds of two counters (Salmon et al., "Parallel random numbers", 2011)."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)
    x, y = x + schedule[0], y + schedule[1]
    for group in range(5):
        for left in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << left) | (y >> (32 - left)))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
