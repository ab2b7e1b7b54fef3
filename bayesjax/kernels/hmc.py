"""Hamiltonian Monte Carlo: a fresh momentum, L leapfrog steps, and a decision that makes the whole step exact.

A step draws a momentum p ~ N(0, T M), follows H = U + K = -log p(theta) + p' M^-1 p / 2 for L steps (`leapfrog.py`),
and

    accepts (theta, p) with probability min(1, exp((H(old) - H(new)) / T)), or stays

The leapfrog map is reversible and keeps volume, so exp(-U / T) is stationary at any step size; its energy error is
O(eps^2), and the acceptance falls with it. Sources: Duane et al., "Hybrid Monte Carlo", 1987; Neal, "MCMC using
Hamiltonian dynamics", 2011.

What a step costs: L gradients if the log density is the same at every step, since the last gradient of a step is the
first of the next. But a batch may change, and in a game (`alternate.py`) the other players do: the log density is then
another function of the parameters, and what was kept of it is void. Whether it may change is read from its trace
(`gradient.may_change`), so there is nothing to say and nothing to get wrong: a density that uses neither its key nor
its batch (the data closed over) keeps its gradient; one that does is evaluated anew where the step begins, L + 1
gradients. `full_batch=True` promises that the batch is the same at every step. Within a step, trajectory and decision
have one key and one batch. A position that was replaced after the last step (`state._replace(position=...)`) is
recognised by its fingerprint and evaluated again. A state belongs to its kernel, whose density it holds: start another
kernel from `init(state.position, rng_key)`.

Why not `blackjax.hmc` (1.7.1)? Its numbers are right, and its steps cost L gradients. But it differentiates the density
itself, where the gradient must be the one that is averaged over devices; it keeps density and gradient from step to
step whether or not they still hold; it has neither temperature nor auxiliary output; and its import starts JAX's
backend. Its integrator is the reference in `tests/kernels/test_leapfrog.py`; `benchmarks/samplers.py` runs beside it.

Step size and mass are chosen by `adaptation.py`. Read `nuts.py` next: it chooses L.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks, tree
from bayesjax.kernels.gradient import Evaluate as EvaluateBatch
from bayesjax.kernels.gradient import as_schedule, as_temperature, terms_and_grad, uses_key
from bayesjax.kernels.leapfrog import Evaluate, Point, energy_change, kinetic_energy, leapfrog, path
from bayesjax.kernels.mass import InverseMass, check, mass
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey, PyTree, Schedule


class HMCState(NamedTuple):
    """Carried by `hmc`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      logdensity: scalar, at the position, as the last step knew it; 0 before the first.
      gradient: of the log density, likewise.
      evaluated_at: uint32 scalar, the `tree.fingerprint` of the position that the two belong to; 0 if the density may
        change from step to step, where neither is used again. A state whose position was replaced is therefore
        evaluated again.
    """

    step: Array
    position: Params
    logdensity: Array
    gradient: Params
    evaluated_at: Array


class HMCInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, at the position after the step.
      acceptance_probability: min(1, exp((H(old) - H(new)) / T)).
      is_accepted: whether the end of the trajectory became the position.
      is_divergent: whether the energy error exceeded the threshold, or was not a number.
      energy: H(old), of the position before the step and its fresh momentum.
      energy_error: H(new) - H(old); the mean of exp(-energy_error / T) over stationary steps is 1.
      kinetic_temperature: `p' M^-1 p / dim` of the momentum that the decision leaves (the end's, or the drawn one).
      configurational_temperature: `-<theta, grad log p> / dim` at the position after the step. The stationary mean of
        either is T at any step size, of this one if the target is a density on R^dim.
      trajectory: all its points, a `leapfrog.Point` with leaves `[L + 1, ...]` and their log densities `[L + 1]`, if
        they were asked for; or else ().
      aux: what the log density returned beside the scalar, at the end of the trajectory.
    """

    logdensity: Array
    acceptance_probability: Array
    is_accepted: Array
    is_divergent: Array
    energy: Array
    energy_error: Array
    kinetic_temperature: Array
    configurational_temperature: Array
    trajectory: Point | tuple[()]
    aux: PyTree


def hmc(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    num_integration_steps: int,
    inverse_mass_matrix: InverseMass = 1.0,
    temperature: float | Schedule = 1.0,
    divergence_threshold: float = 1000.0,
    full_batch: bool | None = None,
    keep_trajectory: bool = False,
) -> Kernel:
    """Samples `exp(logdensity / temperature)` exactly, at any step size.

    Leaves of half precision are moved, and their momenta drawn, in float32; the density is that of positions rounded to
    their type, before the decision, so that the law is exact to the resolution of the type.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set. If it uses its
        key or a batch that changes, each step is exact for that of its own key and batch, and the chain for none. In
        place of the scalar it may return the terms of that sum (`posteriors.log_posterior(as_terms=True)`): the
        decision subtracts them one by one.
      step_size: eps > 0, or a schedule of the step count.
      num_integration_steps: L, at least 1; a trajectory of the length eps L.
      inverse_mass_matrix: M^-1: a number; its diagonal, as a tree like the position or a vector `[dim]` in the order of
        `jax.flatten_util.ravel_pytree`; or all of it, `[dim, dim]`. Best near the target's covariance.
      temperature: T > 0, or a schedule of the step count.
      divergence_threshold: the energy error > 0, in units of T, from which on a step is reported as divergent.
      full_batch: whether every step is given the same batch and the log density ignores its key, so that the last
        gradient of a step serves as the first of the next. None, the default, is true where the batch holds no arrays
        (the data are closed over) and the key is not used. A promise that is broken for the batch is not detected.
      keep_trajectory: whether the info holds every point of the trajectory, to look at. A whole kick is then two
        halves: the step is the same up to rounding, which a rough density makes another chain in a few steps.

    Returns:
      A kernel whose state is an `HMCState` and whose info is an `HMCInfo`.

    Raises:
      ValueError: if an argument is outside its range; from `step`, if the mass does not fit the position, or if the
        kernel is a player of a game and was promised one batch.
    """
    step_size_at, temperature_at = as_schedule(step_size), as_temperature(temperature)
    check(inverse_mass_matrix)
    check_threshold(divergence_threshold)
    checks.count(num_integration_steps=num_integration_steps)
    if keep_trajectory and not isinstance(num_integration_steps, int):
        raise ValueError(
            f"num_integration_steps must be a Python int if keep_trajectory is true; got {num_integration_steps!r}"
        )
    evaluate = terms_and_grad(logdensity)

    def step(rng_key: PRNGKey, state: HMCState, batch: PyTree) -> tuple[HMCState, HMCInfo]:
        density_key, momentum_key, accept_key = jax.random.split(rng_key, 3)
        is_fixed = density_is_fixed(logdensity, state.position, density_key, batch, full_batch=full_batch)
        density, first = begin(evaluate, state, density_key, batch, is_fixed=is_fixed)
        temperature = temperature_at(state.step)
        momentum_of, velocity = mass(inverse_mass_matrix, state.position)
        wide = tree.widen(state.position)
        drawn = momentum_of(tree.normal_like(momentum_key, wide))
        momentum = jax.tree.map(lambda p: (jnp.sqrt(temperature) * p).astype(p.dtype), drawn)
        start = Point(wide, momentum, *first)
        travel = path if keep_trajectory else leapfrog
        points = travel(density, start, step_size_at(state.step), velocity, num_integration_steps)
        end = jax.tree.map(lambda leaf: leaf[-1], points) if keep_trajectory else points

        energy_error = energy_change(start, end, velocity)
        probability = jnp.minimum(1.0, jnp.exp(-energy_error / temperature))
        is_accepted = jax.random.uniform(accept_key) < probability  # never, if it is not a number
        position, value, gradient = jax.tree.map(
            functools.partial(jnp.where, is_accepted),
            (end.position, jnp.sum(end.logdensity), end.gradient),
            (start.position, jnp.sum(start.logdensity), start.gradient),
        )
        position = tree.cast_like(position, state.position)
        kinetic = kinetic_energy(momentum, velocity)
        left = jnp.where(is_accepted, kinetic_energy(end.momentum, velocity), kinetic)
        dim = tree.num_elements(position)
        info = HMCInfo(
            logdensity=value,
            acceptance_probability=jnp.nan_to_num(probability),
            is_accepted=is_accepted,
            is_divergent=~(energy_error / temperature <= divergence_threshold),
            energy=kinetic - jnp.sum(start.logdensity),
            energy_error=energy_error,
            kinetic_temperature=2 * left / dim,
            configurational_temperature=-tree.dot(position, gradient) / dim,
            trajectory=points._replace(logdensity=_sums(points.logdensity)) if keep_trajectory else (),
            aux=end.aux,
        )
        return HMCState(state.step + 1, position, value, gradient, evaluated_at(position, is_fixed)), info

    return Kernel(start_of, step)


def _sums(terms: Array) -> Array:
    """The log density of each point, `[num]`, from its terms `[num, ...]`."""
    return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))


def check_threshold(divergence_threshold: float) -> None:
    """Raises ValueError unless it is a positive number; infinity reports only errors that are not numbers."""
    checks.number(divergence_threshold=divergence_threshold)
    checks.satisfies("positive", lambda value: value > 0, divergence_threshold=divergence_threshold)


def start_of(position: Params, rng_key: PRNGKey) -> HMCState:
    """The state before the first step, which evaluates the density; the key is not used.

    Raises:
      ValueError: if a leaf is not a floating-point array.
    """
    del rng_key
    position = checks.floating(position, "position")
    zero = jnp.zeros((), jnp.int32)
    return HMCState(
        zero, position, jnp.zeros(()), jax.tree.map(jnp.zeros_like, tree.widen(position)), zero.astype(jnp.uint32)
    )


def density_is_fixed(
    logdensity: Density, position: Params, rng_key: PRNGKey, batch: PyTree, *, full_batch: bool | None
) -> bool:
    """Whether the log density is the same function of the position at every step.

    Raises:
      ValueError: if `full_batch` is true, and the kernel is a player of a game or the log density uses its key.
    """
    if full_batch and isinstance(batch, Given):
        raise ValueError("full_batch promises one batch for all steps; got that of a game, whose other players move")
    has_one_batch = not jax.tree.leaves(batch) if full_batch is None else full_batch
    if not has_one_batch:
        return False
    is_fixed = not uses_key(logdensity, position, rng_key, batch)
    if full_batch and not is_fixed:
        raise ValueError("full_batch promises one log density for all steps; this one depends on its rng_key")
    return is_fixed


def evaluated_at(position: Params, is_fixed: bool) -> Array:
    """The fingerprint of the position that the kept log density and gradient belong to; 0 if neither is kept."""
    return tree.fingerprint(position) if is_fixed else jnp.zeros((), jnp.uint32)


def begin(
    evaluate: EvaluateBatch, state: HMCState, rng_key: PRNGKey, batch: PyTree, *, is_fixed: bool
) -> tuple[Evaluate, tuple[Array, PyTree, Params]]:
    """The density of the key and batch of a step, and its terms, aux and gradient at the position.

    Args:
      evaluate: the log density's `terms_and_grad`.
      state: where the step starts.
      rng_key: the key of the density.
      batch: the batch of the step.
      is_fixed: whether the log density and the gradient in the state hold for this step.
    """

    def density(position: Params) -> tuple[Array, PyTree, Params]:
        stored = tree.cast_like(position, state.position)
        terms, aux, gradient = evaluate(stored, jax.random.clone(rng_key), batch)  # one key, knowingly
        return terms.astype(jnp.result_type(float)), aux, tree.widen(gradient)

    return density, _kept(density, state) if is_fixed else density(state.position)


def _kept(density: Evaluate, state: HMCState) -> tuple[Array, PyTree, Params]:
    """Terms, aux and gradient of the density at the position: those of the state (with zeros for aux), or evaluated.

    They are evaluated in the first step, and whenever the position is not the one that the previous step returned.

    A `while` of at most one turn is free when it takes none, under `vmap` too, where `cond` would evaluate every time.
    Of a sum, the state keeps no terms: they are computed again, without their gradient.
    """
    terms, aux, _ = jax.eval_shape(density, state.position)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
    kept = state.logdensity if terms.ndim == 0 else density(state.position)[0]
    is_known = (state.step > 0) & (state.evaluated_at == tree.fingerprint(state.position))
    _, known = lax.while_loop(
        lambda carry: ~carry[0],
        lambda carry: (jnp.ones_like(carry[0]), density(state.position)),
        (is_known, (kept, blank, state.gradient)),
    )
    return known
