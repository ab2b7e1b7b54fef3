"""Arithmetic on pytrees of arrays, such as the weights of a network.

Read `kernels/sghmc.py` next, which shows its use.
"""

import fnmatch
import functools
import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from bayesjax import noise
from bayesjax.types import Array, Given, PRNGKey, PyTree


def num_elements(tree: PyTree) -> int:
    """The total number of array elements over all leaves."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def sum_leaves(tree: PyTree) -> Array:
    """The elementwise sum of all leaves, which must have equal shapes, such as the terms of a log density."""
    return sum(jax.tree.leaves(tree), start=jnp.zeros(()))


def widen(tree: PyTree) -> PyTree:
    """Casts leaves of floating-point types narrower than float32 to float32, for intermediate computations."""

    def widen_leaf(leaf: Array) -> Array:
        dtype = jnp.result_type(leaf)
        is_narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
        return jnp.asarray(leaf, jnp.float32) if is_narrow else leaf

    return jax.tree.map(widen_leaf, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Casts the leaves to the types of another tree, which undoes `widen` at the end of a computation.

    Args:
      tree: a tree of arrays.
      like: a tree of the same structure, whose leaves have the types of the result.
    """
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def dot(a: PyTree, b: PyTree) -> Array:
    """The inner product over all elements of all leaves, in float32 or a wider type.

    Args:
      a, b: trees of equal structure and shapes.

    Returns:
      A scalar.
    """
    return sum_leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), widen(a), widen(b)))


def float_type(tree: PyTree) -> jnp.dtype:
    """The type of scalars that are computed from a tree: the type of its widest leaf, and at least float32."""
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def norm(tree: PyTree) -> Array:
    """The Euclidean norm over all elements of all leaves, in float32 or a wider type."""
    return jnp.sqrt(dot(tree, tree))


def add_scaled(x: PyTree, y: PyTree, size: float | Array) -> PyTree:
    """The sum x + size y, computed in float32 or wider types and returned in the types of x.

    Args:
      x, y: trees of equal structure and shapes.
      size: factor of y, a number or a scalar array.
    """
    return jax.tree.map(lambda a, b, wide: (wide + size * b).astype(a.dtype), x, widen(y), widen(x))


def value_and_aux(out: Array | tuple[Array, PyTree]) -> tuple[Array, PyTree]:
    """Turns the result of a density, a scalar or `(scalar, aux)`, into `(scalar, aux)`; `aux` is {} if missing."""
    return out if isinstance(out, tuple) else (out, {})


def all_finite(tree: PyTree) -> Array:
    """A boolean scalar that is true if all elements of all floating-point leaves are finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves] or [True]))


def fingerprint(tree: PyTree) -> Array:
    """A uint32 hash of the bits of all elements.

    Trees that differ in exactly one element have different hashes; other pairs collide with probability 2^-32. Sums of
    integers are exact in any order, so the hash is the same on every device and under `vmap`. Each word is hashed
    together with its index by the finaliser of MurmurHash3 (Appleby, 2011), which is a bijection.
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
    """Joins trees of equal shapes into one with a new leading axis, such as draws or particles.

    Args:
      trees: trees of equal structure and shapes, at least one.

    Returns:
      A tree with leaves `[len(trees), ...]`.

    Raises:
      ValueError: if there is no tree.
    """
    if not trees:
        raise ValueError("trees is empty: stack needs at least one tree")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: PyTree) -> list[PyTree]:
    """Splits a tree along its leading axis into a list of trees, which undoes `stack`.

    Args:
      tree: a pytree with leaves `[num, ...]`.

    Returns:
      `num` trees with leaves `[...]`.

    Raises:
      ValueError: if the leaves have no common leading axis.
    """
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(leading_axis(tree))]


def leading_axis(tree: PyTree, name: str = "tree") -> int:
    """The length of the leading axis, which must be the same for all leaves.

    Args:
      tree: a pytree of arrays, `[num, ...]` each.
      name: name of the tree, used only in the error message.

    Returns:
      `num`, a Python integer.

    Raises:
      ValueError: if there are no leaves, a leaf is a scalar, or the leading axes of two leaves differ in length. Or if
        the tree is what a player of a game receives, whose other players have no axis of examples.
    """
    if isinstance(tree, Given):
        raise ValueError(
            f"{name} must be the data alone; got Given(data, others) of a player of a game: use a function "
            "(params, rng_key, given) that passes given.data"
        )
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else -1 for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or -1 in lengths:
        got = ["a scalar" if n < 0 else str(n) for n in sorted(lengths)] or ["no arrays"]
        raise ValueError(f"{name} must have one leading axis of the same length in every leaf; got {', '.join(got)}")
    return lengths.pop()


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """A dictionary from paths to leaves, in the order of `jax.tree.leaves`. A path joins its keys by "/"."""
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def match_paths(paths: Iterable[str], patterns: Sequence[str], name: str) -> list[str]:
    """Returns the first pattern that each path matches.

    Args:
      paths: paths of leaves, such as the keys of `leaves_by_path`.
      patterns: patterns in the syntax of `fnmatch`, such as "Dense_0/*", "*/bias" and "*", in order of precedence.
      name: name of the patterns, used only in error messages.

    Returns:
      One pattern for each path.

    Raises:
      ValueError: if a path matches no pattern, or a pattern is the first match of no path.
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


def select(tree: PyTree, is_selected: Sequence[bool]) -> PyTree:
    """The tree with None in place of some leaves.

    Args:
      tree: a pytree.
      is_selected: whether to keep each leaf, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: if the numbers of leaves differ.
    """
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [x if keep else None for x, keep in zip(leaves, is_selected, strict=True)])


def combine(*trees: PyTree) -> PyTree:
    """Joins trees of one structure into one with the first leaf that is not None at each place; undoes `select`."""
    return jax.tree.map(
        lambda *leaves: next((leaf for leaf in leaves if leaf is not None), None), *trees, is_leaf=lambda x: x is None
    )


def normal_like(rng_key: PRNGKey, tree: PyTree, *, law: noise.NormalLaw = "normal") -> PyTree:
    """Draws independent standard normal noise with the structure, shapes and types of `tree`.

    All leaves are parts of one vector of noise, since many small draws cost more than a large one. The noise is drawn
    in float32 or wider and cast to narrower types at the end. In bfloat16, `jax.random.normal` has only 128 values,
    whose mean is -0.012.

    Args:
      rng_key: consumed.
      tree: a pytree of floating-point arrays.
      law: "normal" (`noise.normal`), or the cheaper approximation "sixteen_bit" (`noise.sixteen_bit_normal`), whose 188
        values are the same in every type. With "normal", `jax.random.normal` draws the noise of a tree that has a leaf
        wider than float32, in the type of that leaf.

    Raises:
      ValueError: if `law` is unknown, or a leaf is not a floating-point array.
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
