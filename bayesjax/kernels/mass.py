"""The mass matrix M of Hamiltonian dynamics, which is the covariance of the momentum p.

    p ~ N(0, M),    d theta / dt = M^-1 p,    K(p) = p' M^-1 p / 2

M is given by its inverse. If M^-1 is the covariance of the target, the dynamics are those of a target with unit
covariance. For a full matrix M^-1 = L L', the momentum is L'^-1 xi with xi ~ N(0, I). `adaptation.py` estimates M. Read
`leapfrog.py` next, which integrates with M.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from bayesjax import checks, tree
from bayesjax.types import Array, ArrayLike, Params

InverseMass = float | Array | Params
"""M^-1 as a number, a tree like the position, a vector `[dim]` or a matrix `[dim, dim]`. Vector and matrix have the
order of `jax.flatten_util.ravel_pytree`."""


class Mass(NamedTuple):
    """Functions of a mass matrix M: the momentum draw and the velocity.

    Attributes:
      momentum: maps standard normal noise, shaped like the position, to p ~ N(0, M).
      velocity: maps a momentum p to M^-1 p.
    """

    momentum: Callable[[Params], Params]
    velocity: Callable[[Params], Params]


def mass(inverse_mass_matrix: InverseMass, position: Params) -> Mass:
    """Returns the functions that draw a momentum and compute a velocity under the mass matrix M.

    Args:
      inverse_mass_matrix: M^-1, in any form of `InverseMass`.
      position: a pytree; only its structure, shapes and types are used.

    Raises:
      ValueError: if `inverse_mass_matrix` does not fit the position, a matrix is not symmetric and positive definite,
        or the values of a leaf with two axes are not positive. `check` tests all other values. Traced values are
        accepted.
    """
    if is_matrix(inverse_mass_matrix, position):
        return _dense_mass(jax.tree.leaves(inverse_mass_matrix)[0], position)
    inverse = diagonal(inverse_mass_matrix, position)
    return Mass(
        lambda noise: jax.tree.map(lambda xi, m: (xi / jnp.sqrt(m)).astype(xi.dtype), noise, inverse),
        lambda momentum: jax.tree.map(jnp.multiply, inverse, momentum),
    )


def is_matrix(inverse_mass_matrix: InverseMass, position: Params) -> bool:
    """Whether the inverse is a full matrix `[dim, dim]`.

    Args:
      inverse_mass_matrix: M^-1, in any form that `mass` accepts.
      position: the position, with dim elements.
    """
    dim = tree.num_elements(position)
    return isinstance(inverse_mass_matrix, (jax.Array, np.ndarray)) and inverse_mass_matrix.shape == (dim, dim)


def diagonal(inverse_mass_matrix: InverseMass, position: Params) -> Params:
    """The diagonal of M^-1 as a tree like the position, of numbers or arrays.

    Args:
      inverse_mass_matrix: M^-1, in any form that `mass` accepts except a full matrix.
      position: a position.

    Raises:
      ValueError: if M^-1 does not fit the position, or the values of a leaf with two axes are not positive. `check`
        tests all other values.
    """
    if (values := broadcast(inverse_mass_matrix, position)) is not None:
        if _may_be_matrix(inverse_mass_matrix):  # `check` skips this array, which belongs to a leaf with two axes
            _check_positive(inverse_mass_matrix, "inverse_mass_matrix")
        return values
    dim = tree.num_elements(position)
    if isinstance(inverse_mass_matrix, (jax.Array, np.ndarray)) and inverse_mass_matrix.shape == (dim,):
        return unravel(jnp.asarray(inverse_mass_matrix, tree.float_type(position)), position)
    raise ValueError(
        f"inverse_mass_matrix must be a number, a tree like the position, or a vector or a square matrix of its "
        f"{dim} elements; got {describe(inverse_mass_matrix)}"
    )


def broadcast(values: float | Params, position: Params) -> Params | None:
    """Returns the values as a tree like the position, or None if they do not fit it.

    Args:
      values: one number for all leaves, or a tree with a number or an array for each leaf.
      position: a position.
    """
    leaves, structure = jax.tree.flatten(values)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    if jax.tree_util.treedef_is_leaf(structure) and shapes == [()]:
        return jax.tree.map(lambda leaf: values, position)
    if structure == jax.tree.structure(position) and all(
        shape in ((), jnp.shape(leaf)) for shape, leaf in zip(shapes, jax.tree.leaves(position), strict=True)
    ):
        return values
    return None


def describe(values: Params) -> str:
    """Returns the structure and the shapes of a pytree as text for an error message."""
    return f"{jax.tree.structure(values)} with shapes {[jnp.shape(leaf) for leaf in jax.tree.leaves(values)]}"


def as_vector_or_matrix(inverse_mass_matrix: InverseMass, position: Params) -> Array:
    """M^-1 as `[dim]` or `[dim, dim]`, in the order of `ravel_pytree`.

    Args:
      inverse_mass_matrix: M^-1, in any form that `mass` accepts.
      position: the position, with dim elements.

    Raises:
      ValueError: in the cases that `mass` states.
    """
    if is_matrix(inverse_mass_matrix, position):
        _check_matrix(inverse_mass_matrix)
        return jnp.asarray(inverse_mass_matrix).astype(tree.float_type(position))
    values, dtype = diagonal(inverse_mass_matrix, position), tree.float_type(position)
    full = jax.tree.map(lambda x, m: jnp.broadcast_to(jnp.asarray(m, dtype), jnp.shape(x)), position, values)
    return ravel_pytree(full)[0]


def unravel(vector: Array, like: Params) -> Params:
    """Turns a vector into a tree with the shapes of `like`. The leaves keep the type of the vector.

    The function that `ravel_pytree` returns would cast to the types of the leaves and round the mass.

    Args:
      vector: `[dim]`, in the order of `ravel_pytree`.
      like: a tree with dim elements.
    """
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])[:-1]
    pieces = jnp.split(vector, ends)
    return structure.unflatten([piece.reshape(jnp.shape(leaf)) for piece, leaf in zip(pieces, leaves, strict=True)])


def check(inverse_mass_matrix: InverseMass, name: str = "inverse_mass_matrix") -> None:
    """Raises ValueError if a value is not positive. Traced values are accepted.

    An array of two axes is skipped, since it may be a matrix or the values of one leaf. `mass` and `diagonal` check it,
    because they receive the position.

    Args:
      inverse_mass_matrix: M^-1, in any form that `mass` accepts.
      name: name of the argument, used in the error message.
    """
    if not _may_be_matrix(inverse_mass_matrix):
        _check_positive(inverse_mass_matrix, name)


def _may_be_matrix(inverse_mass_matrix: InverseMass) -> bool:
    return isinstance(inverse_mass_matrix, (jax.Array, np.ndarray)) and inverse_mass_matrix.ndim == 2


def _check_positive(values: InverseMass, name: str) -> None:
    for leaf in jax.tree.leaves(values):
        checks.all_positive(**{name: leaf})


def _check_matrix(inverse: InverseMass) -> None:
    if isinstance(inverse, Tracer):
        return
    matrix = np.asarray(inverse, float)
    is_symmetric = np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6 * np.abs(matrix).max())
    if not is_symmetric or not (np.linalg.eigvalsh(matrix) > 0).all():
        raise ValueError("inverse_mass_matrix must be positive definite and symmetric; it is not")


def _dense_mass(inverse: ArrayLike, position: Params) -> Mass:
    dtype = tree.float_type(position)
    _check_matrix(inverse)
    if isinstance(inverse, Tracer):
        factor = jnp.linalg.cholesky(inverse.astype(dtype))
    else:  # factorise once, outside the compiled step
        factor = jnp.asarray(np.asarray(scipy.linalg.cholesky(np.asarray(inverse, float), lower=True), dtype))
    inverse = jnp.asarray(inverse).astype(dtype)

    def flat(values: Params) -> Array:
        return ravel_pytree(values)[0].astype(dtype)

    def momentum(noise: Params) -> Params:
        solved = jax.scipy.linalg.solve_triangular(factor, flat(noise), trans="T", lower=True)
        return unravel(solved, position)

    return Mass(momentum, lambda momentum: unravel(inverse @ flat(momentum), position))
