"""Arithmetic on pytrees of arrays: what a sampler does to one vector, done to a whole network.

Read `kernels/sghmc.py` next to see these at work.
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from bayesjax.types import Array, PRNGKey, PyTree


def num_elements(tree: PyTree) -> int:
    """Total number of array elements over all leaves."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def dot(a: PyTree, b: PyTree) -> Array:
    """Inner product, the sum over all elements of all leaves."""
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)), start=jnp.zeros(()))


def norm(tree: PyTree) -> Array:
    """Euclidean norm over all elements of all leaves."""
    return jnp.sqrt(dot(tree, tree))


def all_finite(tree: PyTree) -> Array:
    """True where no element of any floating-point leaf is NaN or infinite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves] or [True]))


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Joins equal-shaped trees into one with a new leading axis: draws, particles, seeds."""
    if not trees:
        raise ValueError("trees is empty: stack needs at least one tree")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: PyTree) -> list[PyTree]:
    """Undoes `stack`."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(leading_axis(tree))]


def leading_axis(tree: PyTree, name: str = "tree") -> int:
    """The common length of the leading axis of every leaf.

    Args:
      tree: a pytree of arrays, `[num, ...]` each.
      name: what to call it in the error.

    Raises:
      ValueError: if a leaf is a scalar or two leaves disagree.
    """
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else -1 for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or -1 in lengths:
        found = ["a scalar" if n < 0 else str(n) for n in sorted(lengths)] or ["no arrays"]
        raise ValueError(
            f"{name} must have one leading axis of the same length in every leaf; found {', '.join(found)}"
        )
    return lengths.pop()


def normal_like(rng_key: PRNGKey, tree: PyTree) -> PyTree:
    """Independent standard normal noise in the shape of `tree`.

    All leaves come out of one draw, since many small draws cost more than a large one. float32 noise, which can be half
    the cost of a sampler's step, takes 16 random bits a number (`_sixteen_bit_normal`): its odd moments are 0, its
    moments 2, 4, 6 and 8 are those of N(0, 1) (1, 3, 15, 105), its distribution function is within 0.001 of Phi midway
    through each of its 188 steps, and |z| < 4.22. A weak scheme for a stochastic differential equation asks no more of
    its noise than the moments (Kloeden & Platen 1992, chapter 14). Other types are drawn by `jax.random.normal`.
    """
    leaves, structure = jax.tree.flatten(tree)
    if all(jnp.result_type(leaf) == jnp.float32 for leaf in leaves):
        flat = _sixteen_bit_normal(rng_key, num_elements(leaves))
    else:
        flat = jax.random.normal(rng_key, (num_elements(leaves),), jnp.result_type(*leaves))
    noise, start = [], 0
    for leaf in leaves:
        size = math.prod(jnp.shape(leaf))
        noise.append(flat[start : start + size].reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf)))
        start += size
    return jax.tree.unflatten(structure, noise)


# Coefficients of s, s^3, ..., s^9, solved for the moments of all 2^16 values and, those met, for the least distance
# from the normal quantiles; tests/test_tree.py enumerates the values.
_QUANTILE = (2.83687246, 0.45358742, 0.59465766, -2.69241749, 3.48256243)


def _sixteen_bit_normal(rng_key: PRNGKey, size: int) -> Array:
    """Standard normal noise `[size]` from half a 32-bit word each.

    The sum s of three uniforms (5, 5 and 6 bits) is nearly normal already; an odd polynomial of s does the rest, with
    neither logarithm nor table. The sums go through memory as bytes, four to a word: XLA repeats a hash in every loop
    that reads it, unless it is the operand of a concatenation.
    """

    def sum_of_uniforms(half: Array) -> Array:
        return 2 * (half & 31) + 2 * ((half >> 5) & 31) + ((half >> 10) & 63)

    def four_sums(x: Array, y: Array) -> Array:
        halves = x, x >> 16, y, y >> 16
        return functools.reduce(operator.or_, (sum_of_uniforms(half) << 8 * i for i, half in enumerate(halves)))

    words = _random_words(rng_key, -(-size // 4))
    sums = jnp.concatenate([four_sums(x, y) for x, y in words]).reshape(-1)
    steps = jnp.concatenate([(sums >> shift).astype(jnp.uint8) for shift in (0, 8, 16, 24)])[:size]
    s = (steps.astype(jnp.float32) - 93.5) / 96
    return s * functools.reduce(lambda value, coefficient: value * (s * s) + coefficient, reversed(_QUANTILE))


def _random_words(rng_key: PRNGKey, num: int) -> list[tuple[Array, Array]]:
    """At least `num` pairs of 32-bit words, in two blocks `[8, n]` (XLA runs rows in parallel, not columns).

    Threefry with its rounds written out is one loop over the data; `jax.random.bits` loops over the rounds on a CPU,
    and goes through memory in each.
    """
    shape = (2, 8, -(-num // 16))
    if jax.random.key_impl(rng_key) != "threefry2x32":
        return list(zip(*jax.random.bits(rng_key, (2, *shape), jnp.uint32), strict=True))
    if jax.config.jax_debug_key_reuse:  # pyright: ignore[reportAttributeAccessIssue]
        jax.random.bits(rng_key)  # the checker does not count a hash of the key's data as a use of the key
    counts = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return [_threefry(jax.random.key_data(rng_key), block, jnp.zeros_like(block)) for block in counts]


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
