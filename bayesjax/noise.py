"""Fast random numbers for training on CPUs, where noise from `jax.random` can dominate the time of a step.

Each distribution costs a few passes over memory. All use the random words of Threefry-2x32, JAX's default generator, or
`jax.random.bits` for keys of other implementations.

    normal               the default normal noise of the library (`tree.normal_like`)
    sixteen_bit_normal   a cheaper approximation, which the SG-MCMC kernels offer by name
    uniform              the latent noise of generators (`models.latent_noise`)
    bernoulli            the binarisation of grey images (`data.Binarised`)

All results are float32, whether or not JAX's 64-bit mode is on. Read `tree.py` next.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, PRNGKey

NormalLaw = Literal["normal", "sixteen_bit"]
"""The name of a distribution of normal noise, drawn by `normal` or by `sixteen_bit_normal`."""

# Coefficients of minimax polynomials, constant first. _LOG gives ln(1 + t) / t with error 2e-7 for 1 + t in
# [1/sqrt(2), sqrt(2)]. _SINE and _COSINE, in powers of t^2 for t in [-1, 1], give sin(pi t / 2) / t with error 1e-8 and
# cos(pi t / 2) with error 5e-8.
_LOG = (0.99999992, -0.50000344, 0.33335608, -0.2497156, 0.19884236, -0.17212428, 0.16338144, -0.10378708)
_SINE = (1.57079632, -0.645963761, 0.0796899272, -0.00467415799, 0.00015167875)
_COSINE = (0.999999954, -1.23369822, 0.253650747, -0.0208106309, 0.000858192137)
# Odd coefficients A, B and C, D of the words x and y in the two angles of `normal`. They are the best of 400 random
# choices in the spectral test (Knuth, "The art of computer programming", 3.3.4) of the points (x, y, first angle,
# second angle), with nu_4 = 65000, and of any three of their coordinates, with nu_3 >= 2.2e6.
_ANGLES = ((0x07D11B6B, 0xDA0DBC79), (0xE63EA3D7, 0xDE518343))

# Coefficients of s, s^3, ..., s^9 in `sixteen_bit_normal`. They give the 2^16 equally likely results the moments of
# N(0, 1) and, subject to that, the smallest distance from the normal quantiles. tests/test_noise.py enumerates them.
_QUANTILE = (2.83687246, 0.45358742, 0.59465766, -2.69241749, 3.48256243)


def uniform(rng_key: PRNGKey, size: int) -> Array:
    """Draws uniform float32 noise `[size]` on (-1, 1).

    The possible values are the 2^23 odd multiples of 2^-23, so the expectation is exactly 0.

    Args:
      rng_key: consumed.
      size: number of values.
    """
    words = jnp.concatenate(_words_in_memory(_random_words(rng_key, size, 2))).reshape(-1)[:size]
    odd = 2 * (words >> 9).astype(jnp.int32) + 1
    return odd.astype(jnp.float32) * jnp.float32(2**-23) - 1


@functools.partial(jax.jit, static_argnums=1)  # traced once for all calls of one size
def normal(rng_key: PRNGKey, size: int) -> Array:
    """Draws standard normal float32 noise `[size]` with |z| < 6.8, from 16 random bits for each number.

        z = (r sin a, r cos a),    r = sqrt(-2 ln u),    u uniform in (0, 1), a in (-pi, pi)

    Two independent words x and y of 32 bits give four numbers. The two radii use u = x / 2^32 and u = y / 2^32. The two
    angles are A x + B y and C x + D y mod 2^32, with odd coefficients. A radius and its angle are then independent and
    uniform over 2^32 values each, so z has the law N(0, I) up to float32's resolution. The four numbers of two words
    form a lattice rule of 2^64 points for the normal law in four dimensions. Source: Box & Muller, "A note on the
    generation of random normal deviates", 1958.

    Args:
      rng_key: consumed.
      size: number of values.
    """
    return _four_normals(*_words_in_memory(_random_words(rng_key, size, 4))).reshape(-1)[:size]


def bernoulli(rng_key: PRNGKey, probability: Array) -> Array:
    """Draws independent Bernoulli variables from 16 random bits each.

    The probability of a 1 is `probability` rounded to a multiple of 2^-16; 0 and 1 are exact.

    Args:
      rng_key: consumed.
      probability: probabilities in [0, 1], of any floating-point type, or booleans.

    Returns:
      Zeros and ones in float32, of the shape of `probability`.

    Raises:
      ValueError: if `probability` holds integers, or has NaN or values outside [0, 1].
    """
    checks.probability(probability=probability)
    probability = jnp.asarray(probability)
    size = math.prod(probability.shape)
    words = jnp.concatenate([word for pair in _random_words(rng_key, size, 4) for word in pair]).reshape(-1)
    halves = jnp.concatenate([words.astype(jnp.uint16), (words >> 16).astype(jnp.uint16)])[:size]
    below = halves.astype(jnp.float32) + 0.5 < 65536 * probability.reshape(-1).astype(jnp.float32)
    return below.astype(jnp.float32).reshape(probability.shape)


def sixteen_bit_normal(rng_key: PRNGKey, size: int) -> Array:
    """Draws approximately standard normal float32 noise `[size]` from 16 random bits for each number.

    The noise has 188 possible values, all with |z| < 4.22. Its odd moments are 0, and its moments 2, 4, 6 and 8 are
    those of N(0, 1): 1, 3, 15 and 105. The distribution function is within 0.001 of that of N(0, 1) at the middle of
    each of its 188 steps. Weak schemes for stochastic differential equations require only these moments (Kloeden &
    Platen, "Numerical solution of stochastic differential equations", 1992, chapter 14).

    The sum s of three uniforms (5, 5 and 6 bits) is nearly normal, and an odd polynomial of s corrects the rest without
    logarithms or tables. Four sums are stored in each word of memory, as bytes. They are the operands of a
    concatenation, because XLA would otherwise repeat the hash in every loop that reads it.

    Args:
      rng_key: consumed.
      size: number of values.
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


def normal_law(name: NormalLaw) -> Callable[[PRNGKey, int], Array]:
    """Returns the function `(rng_key, size) -> noise [size]` that draws normal noise.

    Args:
      name: "normal" for `normal`, or "sixteen_bit" for `sixteen_bit_normal`.

    Raises:
      ValueError: if the name is unknown.
    """
    laws = {"normal": normal, "sixteen_bit": sixteen_bit_normal}
    if name not in laws:
        raise ValueError(f"noise must be one of {', '.join(laws)}; got {name!r}")
    return laws[name]


def _four_normals(x: Array, y: Array) -> Array:
    """Four normal numbers for each pair of words `[n, ...]`, as `[4 n, ...]`: r sin a of x and y, then r cos a."""
    radius = jnp.concatenate([_radius(x), _radius(y)])
    angle = jnp.concatenate([jnp.uint32(factor_x) * x + jnp.uint32(factor_y) * y for factor_x, factor_y in _ANGLES])
    sine, cosine = _sine_and_cosine(angle)
    return jnp.concatenate([radius * sine, radius * cosine])


def _radius(word: Array) -> Array:
    """sqrt(-2 ln u) for u = (word + 1/2) / 2^32, from the exponent and mantissa of u, with relative error 3e-7."""
    bits = jax.lax.bitcast_convert_type(word.astype(jnp.float32) + 0.5, jnp.int32)
    exponent = (bits - 0x3F3504F3) >> 23  # chosen so that the mantissa is in [1/sqrt(2), sqrt(2)]
    t = jax.lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - 1
    doubled_log = jnp.float32(2 * math.log(2)) * (32 - exponent).astype(jnp.float32) - 2 * t * _polynomial(_LOG, t)
    return jnp.sqrt(doubled_log)


def _sine_and_cosine(angle: Array) -> tuple[Array, Array]:
    """Sine and cosine of an angle in units of 2 pi / 2^32, up to a fixed permutation of the angles.

    The lower 31 bits, as an odd number, give an angle t pi / 2 in the half circle where the cosine is positive. The
    top bit is the sign of the cosine.
    """
    t = jax.lax.bitcast_convert_type((angle << 1) | 1, jnp.int32).astype(jnp.float32) * jnp.float32(2**-31)
    cosine = jax.lax.bitcast_convert_type(_polynomial(_COSINE, t * t), jnp.uint32) ^ (angle & jnp.uint32(2**31))
    return t * _polynomial(_SINE, t * t), jax.lax.bitcast_convert_type(cosine, jnp.float32)


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """sum_i coefficients[i] x^i in float32."""
    first, *rest = (jnp.float32(coefficient) for coefficient in reversed(coefficients))
    return functools.reduce(lambda value, coefficient: value * x + coefficient, rest, first)


def _words_in_memory(blocks: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The first and the second words of all blocks, `[16, n]` each, written to memory once.

    XLA repeats a hash in every loop that reads it, unless it is the operand of a concatenation. On a CPU it repeats the
    hash for each operand. There the two words of a hash form one operand, as the parts of a complex number. No
    arithmetic is done with complex numbers, so the bits do not change.
    """

    def as_complex(*words: Array) -> tuple[Array, Array]:
        parts = [jax.lax.bitcast_convert_type(word, jnp.float32) for word in words]
        both = jnp.concatenate([jax.lax.complex(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)])
        first, second = (jax.lax.bitcast_convert_type(part, jnp.uint32) for part in (both.real, both.imag))
        return first, second

    def unchanged(*words: Array) -> tuple[Array, Array]:
        return jnp.concatenate(words[::2]), jnp.concatenate(words[1::2])

    return jax.lax.platform_dependent(*(w for pair in blocks for w in pair), cpu=as_complex, default=unchanged)


def _random_words(rng_key: PRNGKey, size: int, per_pair: int) -> list[tuple[Array, Array]]:
    """Pairs of random 32-bit words for `size` numbers, in two blocks `[8, n]`, whose rows XLA computes in parallel.

    Threefry with its rounds written out is one loop over the data. On a CPU, `jax.random.bits` loops over the rounds
    instead and passes over memory in each.

    Args:
      rng_key: one key.
      size: number of values to generate.
      per_pair: number of values that each pair of words gives.

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


@jax.jit  # its 200 operations are traced and lowered once for all calls of one shape in a program
def _threefry(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds, of the counters x and y (Salmon et al., "Parallel random numbers", 2011)."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)
    x, y = x + schedule[0], y + schedule[1]
    for group in range(5):
        for left in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << left) | (y >> (32 - left)))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
