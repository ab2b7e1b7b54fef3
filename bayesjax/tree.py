"""Arithmetic on pytrees of arrays: what a sampler does to one vector, done to a whole network.

Read `kernels/sghmc.py` next to see these at work.
"""

import fnmatch
import functools
import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from bayesjax import noise
from bayesjax.types import Array, PRNGKey, PyTree


def num_elements(tree: PyTree) -> int:
    """Total number of array elements over all leaves."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def sum_leaves(tree: PyTree) -> Array:
    """The sum of leaves of one shape, such as what each leaf of another tree adds to a density."""
    return sum(jax.tree.leaves(tree), start=jnp.zeros(()))


def widen(tree: PyTree) -> PyTree:
    """The tree with leaves of float16, bfloat16 and narrower types in float32: the types to compute and to sum in."""

    def leaf_of(leaf: Array) -> Array:
        dtype = jnp.result_type(leaf)
        is_narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
        return jnp.asarray(leaf, jnp.float32) if is_narrow else leaf

    return jax.tree.map(leaf_of, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree in the types of another of its structure: undoes `widen` at the end of a computation."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def dot(a: PyTree, b: PyTree) -> Array:
    """Inner product, the sum over all elements of all leaves, computed and returned in float32 or a wider type."""
    return sum_leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), widen(a), widen(b)))


def float_type(tree: PyTree) -> jnp.dtype:
    """The type in which scalars of a tree are computed: that of its widest leaf, and at least float32."""
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def norm(tree: PyTree) -> Array:
    """Euclidean norm over all elements of all leaves."""
    return jnp.sqrt(dot(tree, tree))


def add_scaled(x: PyTree, y: PyTree, size: float | Array) -> PyTree:
    """The sum x + size y, computed in float32 or wider types and returned in the types of x."""
    return jax.tree.map(lambda a, b, wide: (wide + size * b).astype(a.dtype), x, widen(y), widen(x))


def value_and_aux(out: Array | tuple[Array, PyTree]) -> tuple[Array, PyTree]:
    """Both of a density's two return forms as a pair; `aux` is an empty dict if there is none."""
    return out if isinstance(out, tuple) else (out, {})


def all_finite(tree: PyTree) -> Array:
    """True where no element of any floating-point leaf is NaN or infinite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves] or [True]))


def fingerprint(tree: PyTree) -> Array:
    """A uint32 hash of the bits of all elements: trees that differ in one element always differ in it.

    Other trees have the same hash by chance, with probability 2^-32. Sums of integers are exact in any order, so it is
    the same on every device and under `vmap`. Each word is hashed with its place by the finaliser of MurmurHash3
    (Appleby, 2011), a bijection of words.
    """
    total, start = jnp.zeros((), jnp.uint32), 0
    for leaf in jax.tree.leaves(tree):
        leaf = jnp.asarray(leaf)
        unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)  # float64 gives two words
        words = jax.lax.bitcast_convert_type(leaf, unsigned).reshape(-1).astype(jnp.uint32)
        places = jax.lax.iota(jnp.uint32, words.size) + jnp.uint32(start)
        mixed = words ^ (places * jnp.uint32(0x9E3779B9))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
        total += jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
        start += words.size
    return total


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


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves by their paths, the keys on the way joined by "/", in the order of `jax.tree.leaves`."""
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def match_paths(paths: Iterable[str], patterns: Sequence[str], name: str) -> list[str]:
    """For each path, the first pattern that it matches, as `fnmatch` has it: "Dense_0/*", "*/bias", "*".

    Args:
      paths: of leaves, such as the keys of `leaves_by_path`.
      patterns: in the order in which they are tried.
      name: what to call them in the error.

    Raises:
      ValueError: if a path matches no pattern, or a pattern is the first of no path.
    """
    paths, chosen = list(paths), []
    for path in paths:
        matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(path, pattern)]
        if not matching:
            raise ValueError(f"{name} must cover every leaf; none of {', '.join(patterns)} matches {path}")
        chosen.append(matching[0])
    if unused := [pattern for pattern in patterns if pattern not in chosen]:
        raise ValueError(f"{name} must each be the first to match a leaf; {unused[0]} is not, of {', '.join(paths)}")
    return chosen


def normal_like(rng_key: PRNGKey, tree: PyTree, *, law: noise.NormalLaw = "normal") -> PyTree:
    """Independent standard normal noise in the shape of `tree`, with the types of its leaves.

    All leaves come out of one draw, since many small draws cost more than a large one. It is of float32, and cast to
    narrower types at the end: `jax.random.normal` has 128 values in bfloat16, and a mean of -0.012.

    Args:
      rng_key: consumed.
      tree: a pytree of floating-point arrays.
      law: "normal", or the cheaper "sixteen_bit" (`noise.sixteen_bit_normal`), whose values are the same 188 in every
        type. With "normal", a tree with a leaf wider than float32 gets noise of `jax.random.normal` in that type.

    Raises:
      ValueError: if there is no such law, or a leaf is of integers.
    """
    draw, leaves, structure = noise.normal_law(law), *jax.tree.flatten(tree)
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(f"tree must have floating-point leaves; got {jnp.result_type(leaf)}")
    dtype = float_type(leaves)
    if dtype == jnp.float32 or law != "normal":
        flat = draw(rng_key, num_elements(leaves))
    else:
        flat = jax.random.normal(rng_key, (num_elements(leaves),), dtype)
    pieces, start = [], 0
    for leaf in leaves:
        size = math.prod(jnp.shape(leaf))
        pieces.append(flat[start : start + size].reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf)))
        start += size
    return jax.tree.unflatten(structure, pieces)
