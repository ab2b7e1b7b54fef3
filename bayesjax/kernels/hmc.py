"""Hamiltonian Monte Carlo: a fresh momentum, L leapfrog steps and a Metropolis decision.

A step draws a momentum p ~ N(0, T M), simulates H = U + K = -log p(theta) + p' M^-1 p / 2 for L steps (`leapfrog.py`),
and accepts the end of the trajectory with probability

    min(1, exp((H(old) - H(new)) / T))

The leapfrog map is reversible and preserves volume, so exp(-U / T) is stationary at any step size. The energy error is
O(eps^2), and a larger error lowers the acceptance probability. Sources: Duane et al., "Hybrid Monte Carlo", 1987; Neal,
"MCMC using Hamiltonian dynamics", 2011.

A step costs L gradients if the log density is the same function at every step, since the last gradient of a step serves
as the first of the next (`full_batch`). Otherwise the batch, the key or the other players of a game (`alternate.py`)
change the log density, and a step costs L + 1 gradients. Within a step, trajectory and decision use one key and one
batch. A position that was replaced after the last step (`state._replace(position=...)`) is detected by its fingerprint
and evaluated again. A state may hold the value and gradient of its own kernel's log density, so do not pass it to
another kernel. Start another kernel from `init(state.position, rng_key)`.

`blackjax.hmc` (1.7.1) is correct but not used here, for four reasons. It differentiates the density itself, where the
gradient must be averaged over devices. It keeps the log density and its gradient from step to step even if they are out
of date. It has neither a temperature nor auxiliary output. Its import starts JAX's backend. The tests use its
integrator as a reference (`tests/kernels/test_leapfrog.py`), and `benchmarks/samplers.py` compares its speed.

`adaptation.py` chooses the step size and the mass. Read `nuts.py` next: it also chooses L.
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
    """State of `hmc` and `nuts`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      logdensity: scalar, the log density at the position in the last step; 0 before the first step.
      gradient: the gradient of the log density at the position in the last step; 0 before the first step.
      evaluated_at: uint32 scalar, the `tree.fingerprint` of the position at which `logdensity` and `gradient` were
        evaluated. It is 0 if the log density may change from step to step; then the next step evaluates them again, as
        it does after the position was replaced.
    """

    step: Array
    position: Params
    logdensity: Array
    gradient: Params
    evaluated_at: Array


class HMCInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, the log density at the position after the step.
      acceptance_probability: min(1, exp((H(old) - H(new)) / T)).
      is_accepted: whether the end of the trajectory became the position.
      is_divergent: whether the energy error exceeded the threshold, or was not a number.
      energy: H(old), at the position before the step with its fresh momentum.
      energy_error: H(new) - H(old); the mean of exp(-energy_error / T) over stationary steps is 1.
      kinetic_temperature: `p' M^-1 p / dim` of the momentum after the decision: that of the end of the trajectory if it
        was accepted, and the fresh one otherwise. Its stationary mean is T at any step size.
      configurational_temperature: `-<theta, grad log p> / dim` at the position after the step. Its stationary mean is T
        at any step size, if the target is a density on R^dim.
      trajectory: all points of the trajectory if `keep_trajectory` is true, as a `leapfrog.Point` with leaves
        `[L + 1, ...]` and log densities `[L + 1]`; otherwise ().
      aux: the auxiliary output of the log density at the end of the trajectory.
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

    Leaves of half precision are moved, and their momenta drawn, in float32. The log density is evaluated at positions
    rounded to their type, so the distribution is exact up to the resolution of the type.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set. If it uses its
        key or a batch that changes, each step is exact for the density of its own key and batch, but the chain is exact
        for none of them. In place of the scalar it may return the terms of the sum
        (`posteriors.log_posterior(as_terms=True)`), which the decision subtracts one by one.
      step_size: eps > 0, or a schedule of the step count.
      num_integration_steps: L, at least 1; the trajectory has length eps L.
      inverse_mass_matrix: M^-1: a number; its diagonal, as a tree like the position or a vector `[dim]` in the order of
        `jax.flatten_util.ravel_pytree`; or the whole matrix `[dim, dim]`. The target's covariance is a good choice.
      temperature: T > 0, or a schedule of the step count.
      divergence_threshold: positive energy error, in units of T, above which a step is reported as divergent.
      full_batch: whether every step is given the same batch and the log density ignores its key, so that the last
        gradient of a step serves as the first of the next. None, the default, means true if the batch holds no arrays
        (the data are closed over) and the key is not used. A batch that changes in spite of true is not detected.
      keep_trajectory: whether the info holds every point of the trajectory, for plots. Each whole kick is then computed
        as two half kicks, so that steps agree with those without it only up to rounding.

    Returns:
      A kernel whose state is an `HMCState` and whose info is an `HMCInfo`.

    Raises:
      ValueError: if an argument is outside its range or `logdensity` does not take three arguments. `init` raises it if
        a leaf of the position is not a floating-point array. `step` raises it if the mass does not fit the position, or
        the log density has two axes or more. If `full_batch` is true, `step` also raises it if the kernel is a player
        of a game or the log density uses its key.
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
        to_momentum, velocity = mass(inverse_mass_matrix, state.position)
        wide = tree.widen(state.position)
        unit_momentum = to_momentum(tree.normal_like(momentum_key, wide))
        momentum = jax.tree.map(lambda p: (jnp.sqrt(temperature) * p).astype(p.dtype), unit_momentum)
        start = Point(wide, momentum, *first)
        travel = path if keep_trajectory else leapfrog
        points = travel(density, start, step_size_at(state.step), velocity, num_integration_steps)
        end = jax.tree.map(lambda leaf: leaf[-1], points) if keep_trajectory else points

        energy_error = energy_change(start, end, velocity)
        probability = jnp.minimum(1.0, jnp.exp(-energy_error / temperature))
        is_accepted = jax.random.uniform(accept_key) < probability  # False if the probability is NaN
        position, value, gradient = jax.tree.map(
            functools.partial(jnp.where, is_accepted),
            (end.position, jnp.sum(end.logdensity), end.gradient),
            (start.position, jnp.sum(start.logdensity), start.gradient),
        )
        position = tree.cast_like(position, state.position)
        kinetic = kinetic_energy(momentum, velocity)
        kinetic_after = jnp.where(is_accepted, kinetic_energy(end.momentum, velocity), kinetic)
        dim = tree.num_elements(position)
        info = HMCInfo(
            logdensity=value,
            acceptance_probability=jnp.nan_to_num(probability),
            is_accepted=is_accepted,
            is_divergent=~(energy_error / temperature <= divergence_threshold),
            energy=kinetic - jnp.sum(start.logdensity),
            energy_error=energy_error,
            kinetic_temperature=2 * kinetic_after / dim,
            configurational_temperature=-tree.dot(position, gradient) / dim,
            trajectory=points._replace(logdensity=_sums(points.logdensity)) if keep_trajectory else (),
            aux=end.aux,
        )
        return HMCState(state.step + 1, position, value, gradient, evaluated_at(position, is_fixed)), info

    return Kernel(initial_state, step)


def _sums(terms: Array) -> Array:
    """The log density of each point, `[num]`, from its terms `[num, ...]`."""
    return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))


def check_threshold(divergence_threshold: float) -> None:
    """Raises ValueError unless the threshold is a positive number; infinity reports only NaN as divergent."""
    checks.number(divergence_threshold=divergence_threshold)
    checks.satisfies("positive", lambda value: value > 0, divergence_threshold=divergence_threshold)


def initial_state(position: Params, rng_key: PRNGKey) -> HMCState:
    """Returns the state before the first step, which holds zeros where the first step will store evaluations.

    Args:
      position: theta.
      rng_key: not used.

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

    Args:
      logdensity: as in `hmc`.
      position, rng_key, batch: the arguments of the log density in this step; only their shapes are used.
      full_batch: as in `hmc`.

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
    """The fingerprint of a position whose log density and gradient the next step may use; 0 if it may not."""
    return tree.fingerprint(position) if is_fixed else jnp.zeros((), jnp.uint32)


def begin(
    evaluate: EvaluateBatch, state: HMCState, rng_key: PRNGKey, batch: PyTree, *, is_fixed: bool
) -> tuple[Evaluate, tuple[Array, PyTree, Params]]:
    """Returns the density as a function of the position, and its terms, aux and gradient at the start of a step.

    Args:
      evaluate: `terms_and_grad` of the log density.
      state: the state before the step.
      rng_key: the key that the density receives.
      batch: the batch of the step.
      is_fixed: whether the log density and the gradient in the state hold for this step.
    """

    def density(position: Params) -> tuple[Array, PyTree, Params]:
        stored = tree.cast_like(position, state.position)
        terms, aux, gradient = evaluate(stored, jax.random.clone(rng_key), batch)  # one key for the whole trajectory
        return terms.astype(jnp.result_type(float)), aux, tree.widen(gradient)

    return density, _reused(density, state) if is_fixed else density(state.position)


def _reused(density: Evaluate, state: HMCState) -> tuple[Array, PyTree, Params]:
    """Terms, aux and gradient of the density at the position, from the state where possible.

    The state holds no aux, so values from the state come with an aux of zeros. The three are evaluated in the first
    step, and whenever the position differs from that which the previous step returned. A `while_loop` of at most one
    iteration skips the evaluation under `vmap` too, where `cond` would evaluate both branches. The state holds the sum
    of the terms only, so terms are computed again, without their gradient.
    """
    terms, aux, _ = jax.eval_shape(density, state.position)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
    value = state.logdensity if terms.ndim == 0 else density(state.position)[0]
    is_valid = (state.step > 0) & (state.evaluated_at == tree.fingerprint(state.position))
    _, evaluated = lax.while_loop(
        lambda carry: ~carry[0],
        lambda carry: (jnp.ones_like(carry[0]), density(state.position)),
        (is_valid, (value, blank, state.gradient)),
    )
    return evaluated
