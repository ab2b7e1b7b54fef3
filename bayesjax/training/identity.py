"""The identity of a run: everything that determines its results, as JSON. A run resumes only saves of its identity.

    identity = {num_burnin, thinning, chunk_size, state, kept, info, program}

`state`, `kept` and `info` hold the shapes and types of the leaves of the state, a draw and an info, by path. `program`
covers differences that shapes and types do not show, such as a different step size. It consists of digests of `keep`,
of the data, and of the kernel's step as traced by JAX, including their constants. A trace depends on the version of
JAX, the backend and the devices, so digests are compared only if those are equal. Read `checkpoint.py` next.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from bayesjax.data.streams import Stream
from bayesjax.types import PyTree

ARGUMENTS = ("num_burnin", "thinning", "chunk_size")
STRUCTURES = {"state": "holds another state", "kept": "keeps other draws", "info": "records another info"}
PROGRAM = {"keep": "the function `keep`", "data": "the data", "kernel": "the kernel or a constant in it"}


def shapes(tree: PyTree) -> dict[str, str]:
    """Returns shape and type of every leaf as text, such as "float32[3]", by path and in the order of the leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{_dtype(leaf)}{list(np.shape(leaf))}" for path, leaf in leaves}


def abstract(tree: PyTree) -> PyTree:
    """Replaces each leaf by a `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf)), tree)


def program_digests(traced: Any, keep: Callable, data: PyTree, example: PyTree) -> dict[str, Any]:
    """Computes digests of `keep`, the data and the traced step, and describes the environment of the digests.

    Args:
      traced: the program of one draw, as returned by `jax.jit(...).trace`.
      keep: `state -> kept`.
      data: as in `training.run`.
      example: a state of the run; only shapes, types and placement of its leaves are used.

    Returns:
      The digests "keep", "data" and "kernel", and "environment", a dictionary with the version of JAX, the platform and
      the device meshes. Digests can be compared only if the environments are equal.
    """
    if isinstance(data, Stream):
        data_parts = [str(shapes(data.whole_example))]  # its batches are not known in advance
    elif callable(data):
        arrays = [] if jax.tree_util.all_leaves([data]) else jax.tree.leaves(data)
        data_parts = [*_parts(jax.make_jaxpr(data)(jnp.int32(0))), *arrays]
    else:
        data_parts = [str(shapes(data)), *jax.tree.leaves(data)]
    meshes = {str(dict(leaf.sharding.mesh.shape)) for leaf in jax.tree.leaves(example) if has_mesh(leaf)}
    return {
        "environment": {"jax": jax.__version__, "platform": jax.default_backend(), "devices": sorted(meshes)},
        "keep": _digest(_parts(jax.make_jaxpr(keep)(abstract(example)))),
        "data": _digest(data_parts),
        "kernel": _digest(_parts(traced.jaxpr)),
    }


def difference(saved: dict, given: dict, *, with_program: bool = True) -> str:
    """Describes the first difference between a saved run and the present one.

    Args:
      saved: the identity in the checkpoint.
      given: the identity of the present run.
      with_program: whether to compare the digests of the programs.

    Returns:
      The description, or an empty string if there is no difference.
    """
    for name in ARGUMENTS:
        if saved.get(name, given.get(name)) != given.get(name):
            return f"is of another run: {name} was {saved[name]} and is now {given[name]}"
    for name, words in STRUCTURES.items():
        if name in saved and list(saved[name].items()) != list(given[name].items()):
            return f"{words}: {first_difference(saved[name], given[name])}"
    was, now = saved.get("program", {}), given.get("program", {})
    if with_program and was.get("environment") == now.get("environment"):
        for name, words in PROGRAM.items():
            if was.get(name) != now.get(name):
                return (
                    f"is of another run: {words} has changed. Start in another folder; if the change does not matter, "
                    "Checkpointer(check_program=False) resumes the run"
                )
    return ""


def first_difference(saved: dict, given: dict) -> str:
    """Describes the first entry in which two dictionaries differ."""
    for name in [*saved, *given]:
        if saved.get(name) != given.get(name):
            return f"{name} was {saved.get(name, 'absent')} and is now {given.get(name, 'absent')}"
    return "the same entries in another order" if list(saved) != list(given) else "no difference"


def canonical(leaf: Any) -> Any:
    """Converts a leaf to a NumPy array with the type that JAX gives it. Keys are returned unchanged."""
    dtype = _dtype(leaf)
    return leaf if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.asarray(leaf, dtype)


def has_mesh(leaf: Any) -> bool:
    """Whether a leaf is an array on a mesh of devices."""
    return isinstance(leaf, jax.Array) and isinstance(leaf.sharding, jax.sharding.NamedSharding)


def _dtype(leaf: Any) -> Any:
    """The type that JAX gives a leaf, which is the key type for keys."""
    is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf.dtype if is_key else jnp.result_type(getattr(leaf, "dtype", leaf))


def _digest(parts: Any) -> str:
    """A digest of texts and arrays. An array that spans processes contributes only its shape and type."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if not isinstance(part, str):
            digest.update(f"{_dtype(part)}{np.shape(part)}".encode())
            if isinstance(part, jax.Array) and not part.is_fully_addressable:
                continue
            part = canonical(part)
            array = np.asarray(part if isinstance(part, np.ndarray) else jax.random.key_data(part))
            part = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def _parts(jaxpr: ClosedJaxpr) -> Iterator[Any]:
    """Yields the text of a program, without addresses of Python objects, and the arrays in it."""
    yield re.sub(r"0x[0-9a-f]+", "0x", str(jaxpr.jaxpr))
    yield from _constants(jaxpr)


def _constants(jaxpr: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    if isinstance(jaxpr, ClosedJaxpr):
        yield from jaxpr.consts
        jaxpr = jaxpr.jaxpr
    for equation in jaxpr.eqns:
        yield from (var.val for var in equation.invars if isinstance(var, Literal) and np.ndim(var.val))
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                    yield from _constants(inner)
