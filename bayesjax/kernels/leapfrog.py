"""The leapfrog integrator of Hamiltonian dynamics, which is reversible and preserves volume.

With H = U + K, U = -log p and K = p' M^-1 p / 2, L steps of size eps are

    p     <- p - eps/2 grad U(theta)       half a kick
    theta <- theta + eps M^-1 p            L drifts, separated by
    p     <- p - eps grad U(theta)         L - 1 whole kicks
    p     <- p - eps/2 grad U(theta)       half a kick

The error of H is O(eps^2), however long the trajectory. After the momentum at the end is negated, the same steps lead
back to the start. The determinant of the map is 1. Source: Neal, "MCMC using Hamiltonian dynamics", 2011. Read `hmc.py`
next.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks, tree
from bayesjax.kernels.mass import InverseMass, mass
from bayesjax.types import Array, Params, PyTree

Evaluate = Callable[[Params], tuple[Array, PyTree, Params]]
"""`position -> (value, aux, gradient)` of a log density; the value is a scalar, or terms that sum to it."""


class Point(NamedTuple):
    """A point of a trajectory in phase space, with the log density at its position.

    Attributes:
      position: theta.
      momentum: p.
      logdensity: a scalar, or an array of terms that sum to it.
      aux: the auxiliary output of the log density.
      gradient: the gradient of the log density.
    """

    position: Params
    momentum: Params
    logdensity: Array
    aux: PyTree
    gradient: Params


def leapfrog(
    density: Evaluate,
    start: Point,
    step_size: float | Array,
    velocity: Callable[[Params], Params],
    num_steps: int,
) -> Point:
    """Computes the end of a trajectory of L steps with L evaluations of the density.

    Args:
      density: returns value, auxiliary output and gradient at a position.
      start: the first point, with the gradient at its position.
      step_size: eps.
      velocity: maps a momentum p to M^-1 p (`mass.Mass`).
      num_steps: L, at least 1.

    Returns:
      The last point, shaped like `start`.
    """

    def kick_and_drift(_: Array, point: tuple[Params, Params]) -> tuple[Params, Params]:
        position, momentum = point
        momentum = tree.add_scaled(momentum, density(position)[2], step_size)
        return tree.add_scaled(position, velocity(momentum), step_size), momentum

    momentum = tree.add_scaled(start.momentum, start.gradient, step_size / 2)
    # The loop carries position and momentum only, which saves the memory of a gradient.
    first = tree.add_scaled(start.position, velocity(momentum), step_size), momentum
    position, momentum = lax.fori_loop(0, num_steps - 1, kick_and_drift, first)
    value, aux, gradient = density(position)
    return Point(position, tree.add_scaled(momentum, gradient, step_size / 2), value, aux, gradient)


def path(
    density: Evaluate,
    start: Point,
    step_size: float | Array,
    velocity: Callable[[Params], Params],
    num_steps: int,
) -> Point:
    """Computes every point of the trajectory of `leapfrog`, including the start.

    Args:
      density, start, step_size, velocity, num_steps: as in `leapfrog`.

    Returns:
      A `Point` with leaves `[num_steps + 1, ...]`.
    """

    def one_step(point: Point, _: None) -> tuple[Point, Point]:
        point = leapfrog(density, point, step_size, velocity, 1)
        return point, point

    _, points = lax.scan(one_step, start, None, length=num_steps)
    return jax.tree.map(lambda first, rest: jnp.concatenate([jnp.asarray(first)[None], rest]), start, points)


def trajectory(
    logdensity: Callable[[Params], Array],
    position: Params,
    momentum: Params,
    *,
    step_size: float,
    num_integration_steps: int,
    inverse_mass_matrix: InverseMass = 1.0,
) -> Point:
    """Computes every point of a leapfrog trajectory, including the start, for plots.

    Args:
      logdensity: `position -> scalar`.
      position: theta at the start.
      momentum: p at the start, shaped like the position.
      step_size: eps.
      num_integration_steps: L, at least 1.
      inverse_mass_matrix: M^-1, in any form that `hmc` accepts.

    Returns:
      A `Point` with leaves `[L + 1, ...]`. The potential energy U of each point is minus its `logdensity`.

    Raises:
      ValueError: if `num_integration_steps` is less than 1, or the mass does not fit the position.
    """
    checks.count(num_integration_steps=num_integration_steps)
    velocity = mass(inverse_mass_matrix, position).velocity

    def evaluate(wide: Params) -> tuple[Array, PyTree, Params]:
        value, gradient = jax.value_and_grad(lambda position: checks.scalar(logdensity(position), "logdensity"))(
            tree.cast_like(wide, position)
        )
        return value, {}, tree.widen(gradient)

    start = Point(tree.widen(position), tree.widen(momentum), *evaluate(position))
    return path(evaluate, start, step_size, velocity, num_integration_steps)


def kinetic_energy(momentum: Params, velocity: Callable[[Params], Params]) -> Array:
    """The kinetic energy K = p' M^-1 p / 2, a scalar.

    Args:
      momentum: p, shaped like the position.
      velocity: `p -> M^-1 p`.
    """
    return tree.dot(velocity(momentum), momentum) / 2


def energy_change(start: Point, end: Point, velocity: Callable[[Params], Params]) -> Array:
    """The energy error H(end) - H(start), subtracted element by element and term by term before any sum is taken.

    Sums over ten thousand weights or examples can be as large as 1e5, where the resolution of float32 is 0.01. The
    changes along a trajectory are small and keep their precision.

    Args:
      start, end: points of one trajectory.
      velocity: `p -> M^-1 p`.
    """
    doubled = jax.tree.map(
        lambda p, v, p0, v0: jnp.sum(p * v - p0 * v0),
        end.momentum, velocity(end.momentum), start.momentum, velocity(start.momentum),
    )  # fmt: skip
    return tree.sum_leaves(doubled) / 2 - jnp.sum(end.logdensity - start.logdensity)
