"""The mass matrix M of Hamiltonian dynamics: what a momentum is drawn with, and how fast it moves a position.

    p ~ N(0, M),    d theta / dt = M^-1 p,    K(p) = p' M^-1 p / 2

Given by its inverse, which is best near the covariance of the target: a chain then sees a target whose deviations are
all 1. Of a matrix, M^-1 = L L', the momentum is L'^-1 xi. `leapfrog.py` moves by it, `adaptation.py` estimates it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from bayesjax import tree
from bayesjax.types import Array, Params

InverseMass = float | Array | Params
"""A number, a tree like the position, a vector `[dim]` or a matrix `[dim, dim]` in the order of
`jax.flatten_util.ravel_pytree`."""


class Mass(NamedTuple):
    """What the algorithms need of M.

    Attributes:
      momentum: standard normal noise like the position, to p ~ N(0, M).
      velocity: of a momentum, M^-1 p.
    """

    momentum: Callable[[Params], Params]
    velocity: Callable[[Params], Params]


def mass(inverse_mass_matrix: InverseMass, position: Params) -> Mass:
    """M of positions like this one.

    Raises:
      ValueError: if the inverse does not fit the position, or is known and not positive.
    """
    if is_matrix(inverse_mass_matrix, position):
        return _of_matrix(jnp.asarray(inverse_mass_matrix), position)
    inverse = diagonal(inverse_mass_matrix, position)
    return Mass(
        lambda noise: jax.tree.map(lambda xi, m: (xi / jnp.sqrt(m)).astype(xi.dtype), noise, inverse),
        lambda momentum: jax.tree.map(jnp.multiply, inverse, momentum),
    )


def is_matrix(inverse_mass_matrix: InverseMass, position: Params) -> bool:
    """Whether this is all of M^-1, `[dim, dim]`."""
    dim = tree.num_elements(position)
    return isinstance(inverse_mass_matrix, (jax.Array, np.ndarray)) and inverse_mass_matrix.shape == (dim, dim)


def diagonal(inverse_mass_matrix: InverseMass, position: Params) -> Params:
    """The diagonal of M^-1 as a tree like the position, of numbers or arrays.

    Raises:
      ValueError: if it does not fit the position.
    """
    leaves, structure = jax.tree.flatten(inverse_mass_matrix)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    is_array, dim = jax.tree_util.treedef_is_leaf(structure), tree.num_elements(position)
    if is_array and shapes == [()]:
        return jax.tree.map(lambda leaf: inverse_mass_matrix, position)
    if structure == jax.tree.structure(position) and all(
        shape in ((), jnp.shape(leaf)) for shape, leaf in zip(shapes, jax.tree.leaves(position), strict=True)
    ):
        return inverse_mass_matrix
    if is_array and shapes == [(dim,)]:
        flat, unravel = ravel_pytree(position)
        return unravel(jnp.asarray(inverse_mass_matrix, flat.dtype))
    raise ValueError(
        f"inverse_mass_matrix must be a number, a tree like the position, or a vector or a square matrix of its "
        f"{dim} elements; got {structure} with shapes {shapes}"
    )


def as_vector_or_matrix(inverse_mass_matrix: InverseMass, position: Params) -> Array:
    """M^-1 as `[dim]` or `[dim, dim]`, in the order of `ravel_pytree`."""
    if is_matrix(inverse_mass_matrix, position):
        return jnp.asarray(inverse_mass_matrix)
    full = jax.tree.map(
        lambda x, m: jnp.broadcast_to(m, jnp.shape(x)), position, diagonal(inverse_mass_matrix, position)
    )
    return ravel_pytree(full)[0]


def check(inverse_mass_matrix: InverseMass) -> None:
    """Raises ValueError unless what can be read while tracing is positive: numbers, or a matrix's spectrum."""
    for leaf in jax.tree.leaves(inverse_mass_matrix):
        if isinstance(leaf, Tracer):
            continue
        known = np.asarray(leaf)
        if known.ndim == 2 and known.shape[0] == known.shape[1] and leaf is inverse_mass_matrix:
            is_fine = np.allclose(known, known.T, rtol=1e-4, atol=0) and (np.linalg.eigvalsh(known) > 0).all()
        else:
            is_fine = np.all((known > 0) & np.isfinite(known))
        if not is_fine:
            raise ValueError(f"inverse_mass_matrix must be positive and finite; got {inverse_mass_matrix}")


def _of_matrix(inverse: Array, position: Params) -> Mass:
    flat, unravel = ravel_pytree(position)
    inverse = inverse.astype(flat.dtype)
    if isinstance(inverse, Tracer):
        factor = jnp.linalg.cholesky(inverse)
    else:  # once, and not in every step
        factor = jnp.asarray(scipy.linalg.cholesky(np.asarray(inverse), lower=True))

    def momentum(noise: Params) -> Params:
        return unravel(jax.scipy.linalg.solve_triangular(factor, ravel_pytree(noise)[0], trans="T", lower=True))

    return Mass(momentum, lambda momentum: unravel(inverse @ ravel_pytree(momentum)[0]))
