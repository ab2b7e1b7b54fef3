"""Hamiltonian Monte Carlo: a fresh momentum, L leapfrog steps, and a decision that makes the whole step exact.

With U = -log p, kinetic energy K(p) = p' M^-1 p / 2, H = U + K and temperature T, a step draws p ~ N(0, T M) and takes

    p     <- p - eps/2 grad U(theta)       # half a kick, in which M has no part
    theta <- theta + eps M^-1 p            # L drifts, and between them
    p     <- p - eps grad U(theta)         # L - 1 whole kicks
    p     <- p - eps/2 grad U(theta)       # half a kick
    accept (theta, p) with probability min(1, exp((H(old) - H(new)) / T)), else stay

The leapfrog map is reversible and keeps volume, so exp(-U / T) is stationary at any step size; its energy error is
O(eps^2), and the acceptance falls with it. Sources: Duane et al., "Hybrid Monte Carlo", 1987; Neal, "MCMC using
Hamiltonian dynamics", 2011.

What a step costs: L gradients if the log density is the same at every step, since the last gradient of a step is the
first of the next. But a batch may change, and in a game (`alternate.py`) the other players do: the log density is then
another function of the parameters, and what was kept of it is void. Whether it may change is read from its trace
(`gradient.may_change`), so there is nothing to say and nothing to get wrong: a density that uses neither its key nor
its batch (the data closed over) keeps its gradient; one that does is evaluated anew where the step begins, L + 1
gradients. `full_batch=True` promises that the batch is the same at every step. Within a step, trajectory and decision
have one key and one batch.

Why not `blackjax.hmc` (1.7.1)? Its numbers are right, and its steps cost L gradients. But it differentiates the density
itself, where the gradient must be the one that is averaged over devices; it keeps density and gradient from step to
step whether or not they still hold; it has neither temperature nor auxiliary output; and its import starts JAX's
backend. Its integrator is the reference in `tests/kernels/test_leapfrog.py`; `benchmarks/samplers.py` runs beside it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from bayesjax import tree
from bayesjax.kernels.gradient import as_schedule, may_change, value_and_grad
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey, PyTree, Schedule


class HMCState(NamedTuple):
    """Carried by `hmc`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      logdensity: scalar, at the position, as the last step knew it; 0 before the first.
      gradient: of the log density, likewise.
    """

    step: Array
    position: Params
    logdensity: Array
    gradient: Params


class HMCInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, at the position after the step.
      acceptance_probability: min(1, exp((H(old) - H(new)) / T)).
      is_accepted: whether the end of the trajectory became the position.
      is_divergent: whether the energy error exceeded the threshold, or was not a number.
      energy: H(old), of the position before the step and its fresh momentum.
      energy_error: H(new) - H(old); the mean of exp(-energy_error / T) over stationary steps is 1.
      aux: what the log density returned beside the scalar, at the end of the trajectory.
    """

    logdensity: Array
    acceptance_probability: Array
    is_accepted: Array
    is_divergent: Array
    energy: Array
    energy_error: Array
    aux: PyTree


class Point(NamedTuple):
    """A point of a trajectory: where it is in phase space, and the log density there."""

    position: Params
    momentum: Params
    logdensity: Array
    aux: PyTree
    gradient: Params


def hmc(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    num_integration_steps: int,
    inverse_mass_matrix: float | Array | Params = 1.0,
    temperature: float = 1.0,
    divergence_threshold: float = 1000.0,
    full_batch: bool = False,
) -> Kernel:
    """Samples `exp(logdensity / temperature)` exactly, at any step size.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set. If it uses its
        key or a batch that changes, each step is exact for that of its own key and batch, and the chain for none.
      step_size: eps > 0, or a schedule of the step count.
      num_integration_steps: L, at least 1; a trajectory of the length eps L.
      inverse_mass_matrix: the diagonal of M^-1: a number, a tree like the position, or a vector `[dim]` in the order of
        `jax.flatten_util.ravel_pytree`. Best near the variances of the target.
      temperature: T > 0.
      divergence_threshold: the energy error, in units of T, from which on a step is reported as divergent.
      full_batch: promises that every step is given the same batch, so that its gradient serves the next one too.

    Returns:
      A kernel whose state is an `HMCState` and whose info is an `HMCInfo`.

    Raises:
      ValueError: if an argument is outside its range; from `step`, if the mass does not fit the position, or if the
        kernel is a player of a game and was promised one batch.
    """
    schedule = as_schedule(step_size)
    for name, value in {"inverse_mass_matrix": inverse_mass_matrix, "temperature": temperature}.items():
        _check_positive(name, value)
    if num_integration_steps < 1:
        raise ValueError(f"num_integration_steps must be at least 1; got {num_integration_steps}")
    evaluate = value_and_grad(logdensity)

    def init(position: Params, rng_key: PRNGKey) -> HMCState:
        del rng_key
        return HMCState(jnp.zeros((), jnp.int32), position, jnp.zeros(()), jax.tree.map(jnp.zeros_like, position))

    def step(rng_key: PRNGKey, state: HMCState, batch: PyTree) -> tuple[HMCState, HMCInfo]:
        density_key, momentum_key, accept_key = jax.random.split(rng_key, 3)
        if full_batch and isinstance(batch, Given):
            raise ValueError("full_batch promises one batch for all steps; got that of a game, where others move")

        def density(position: Params) -> tuple[Array, PyTree, Params]:
            value, aux, gradient = evaluate(position, jax.random.clone(density_key), batch)  # one key, knowingly
            return value.astype(jnp.result_type(float)), aux, gradient

        if may_change(logdensity, state.position, density_key, batch, full_batch=full_batch):
            first = density(state.position)
        else:
            first = _kept(density, state)
        mass = _diagonal(inverse_mass_matrix, state.position)
        noise = tree.normal_like(momentum_key, state.position, exact=True)
        momentum = jax.tree.map(lambda xi, m: (jnp.sqrt(temperature / m) * xi).astype(xi.dtype), noise, mass)
        start = Point(state.position, momentum, *first)
        end = leapfrog(density, start, schedule(state.step), mass, num_integration_steps)

        energy = hamiltonian(start, mass)
        energy_error = hamiltonian(end, mass) - energy
        probability = jnp.minimum(1.0, jnp.exp(-energy_error / temperature))
        is_accepted = jax.random.uniform(accept_key) < probability  # never, if it is not a number
        position, value, gradient = jax.tree.map(
            functools.partial(jnp.where, is_accepted),
            (end.position, end.logdensity, end.gradient),
            (start.position, start.logdensity, start.gradient),
        )
        info = HMCInfo(
            logdensity=value,
            acceptance_probability=jnp.nan_to_num(probability),
            is_accepted=is_accepted,
            is_divergent=~(energy_error / temperature <= divergence_threshold),
            energy=energy,
            energy_error=energy_error,
            aux=end.aux,
        )
        return HMCState(state.step + 1, position, value, gradient), info

    return Kernel(init, step)


def leapfrog(
    density: Callable[[Params], tuple[Array, PyTree, Params]],
    start: Point,
    step_size: float | Array,
    inverse_mass: Params,
    num_steps: int,
) -> Point:
    """The end of a trajectory of `num_steps` >= 1 leapfrog steps: as many evaluations of the density.

    Args:
      density: value, auxiliary output and gradient at a position.
      start: with the gradient at its position.
      step_size: eps.
      inverse_mass: the diagonal of M^-1, a tree like the position, of numbers or arrays.
      num_steps: L.
    """

    def kick(momentum: Params, gradient: Params, size: float | Array) -> Params:
        return jax.tree.map(lambda p, g: (p + size * g).astype(p.dtype), momentum, gradient)

    def drift(position: Params, momentum: Params) -> Params:
        return jax.tree.map(
            lambda theta, m, p: (theta + step_size * m * p).astype(theta.dtype), position, inverse_mass, momentum
        )

    def kick_and_drift(_: Array, moving: tuple[Params, Params]) -> tuple[Params, Params]:
        position, momentum = moving
        momentum = kick(momentum, density(position)[2], step_size)
        return drift(position, momentum), momentum

    momentum = kick(start.momentum, start.gradient, step_size / 2)
    moving = drift(start.position, momentum), momentum
    position, momentum = lax.fori_loop(0, num_steps - 1, kick_and_drift, moving)  # carries no more than it must
    value, aux, gradient = density(position)
    return Point(position, kick(momentum, gradient, step_size / 2), value, aux, gradient)


def hamiltonian(point: Point, inverse_mass: Params) -> Array:
    """H = -log p(theta) + p' M^-1 p / 2."""
    velocity = jax.tree.map(jnp.multiply, inverse_mass, point.momentum)
    return tree.dot(velocity, point.momentum) / 2 - point.logdensity


def _kept(density: Callable[[Params], tuple[Array, PyTree, Params]], state: HMCState) -> tuple[Array, PyTree, Params]:
    """What the state keeps of the density at its position (of aux, zeros); in the first step, its evaluation.

    A `while` of at most one turn is free when it takes none, under `vmap` too, where `cond` would evaluate every time.
    """
    _, aux, _ = jax.eval_shape(density, state.position)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
    _, known = lax.while_loop(
        lambda carry: ~carry[0],
        lambda carry: (jnp.ones_like(carry[0]), density(state.position)),
        (state.step > 0, (state.logdensity, blank, state.gradient)),
    )
    return known


def _check_positive(name: str, value: float | Array | Params) -> None:
    """Raises ValueError unless every element that can be read while tracing is positive and finite."""
    known = [np.asarray(leaf) for leaf in jax.tree.leaves(value) if not isinstance(leaf, Tracer)]
    if not all(np.all((leaf > 0) & np.isfinite(leaf)) for leaf in known):
        raise ValueError(f"{name} must be positive and finite; got {value}")


def _diagonal(inverse_mass_matrix: float | Array | Params, position: Params) -> Params:
    """The diagonal of M^-1 as a tree like the position, of numbers or arrays.

    Raises:
      ValueError: if it does not fit the position.
    """
    leaves, structure = jax.tree.flatten(inverse_mass_matrix)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    is_array = jax.tree_util.treedef_is_leaf(structure)
    if is_array and shapes == [()]:
        return jax.tree.map(lambda leaf: inverse_mass_matrix, position)
    expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(position)]
    if structure == jax.tree.structure(position) and all(
        shape in ((), of_leaf) for shape, of_leaf in zip(shapes, expected, strict=True)
    ):
        return inverse_mass_matrix
    dim = tree.num_elements(position)
    if is_array and shapes == [(dim,)]:
        flat, unravel = ravel_pytree(position)
        return unravel(jnp.asarray(inverse_mass_matrix, flat.dtype))
    raise ValueError(
        f"inverse_mass_matrix must be a number, a tree like the position or a vector of its {dim} elements; "
        f"got {structure} with shapes {shapes}"
    )
