"""The No-U-Turn sampler: HMC whose trajectory grows, forwards and backwards, until it turns back on itself.

A step draws a momentum as `hmc` does, doubles the trajectory in a random direction until its two ends approach one
another (or it has 2^max_num_doublings steps, or diverges), and draws the next position from all its points with
probability exp(-H / T): the law is exact as HMC's is, and there is no number of steps to choose. The cost is up to
twice the trajectory that is of use, and differs from chain to chain: under `vmap` all wait for the longest.

The algorithm is BlackJAX's (`blackjax.nuts` 1.7.1: multinomial sampling, generalised U-turn criterion). What is added
is the contract: it gets the gradient that is averaged over devices, by way of a density that is linear in what it may
differentiate; what is kept of the density from step to step holds only while the density stays the same
(`gradient.may_change`). Sources: Hoffman & Gelman, "The No-U-Turn sampler", 2014; Betancourt, "A conceptual
introduction to Hamiltonian Monte Carlo", 2017.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, terms_and_grad
from bayesjax.kernels.hmc import HMCState, begin, check_threshold, density_is_fixed, evaluated_at, start_of
from bayesjax.kernels.leapfrog import Point
from bayesjax.kernels.mass import InverseMass, as_vector_or_matrix, check
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class NUTSInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, at the position after the step.
      acceptance_probability: mean over the points of the trajectory of min(1, exp((H(start) - H) / T)).
      is_divergent: whether the energy error exceeded the threshold on the way.
      is_turning: whether the trajectory ended because it turned.
      energy: H of the position after the step, with its momentum.
      num_integration_steps: leapfrog steps taken, and gradients.
      num_doublings: of the trajectory.
      kinetic_temperature: `p' M^-1 p / dim` of the momentum that was drawn with the position after the step, read from
        the energy: of a scalar log density it is known to the rounding of that, times 2 / dim.
      configurational_temperature: `-<theta, grad log p> / dim` there; the stationary means are as of `hmc.HMCInfo`.
      trajectory: its two ends, the earlier first, a `leapfrog.Point` with leaves `[2, ...]`, if they were asked for; or
        else (). `kernels.trajectory` from the first, `num_integration_steps` steps of the same size, visits all points.
      aux: what the log density returned beside the scalar, evaluated once more at the position after the step.
    """

    logdensity: Array
    acceptance_probability: Array
    is_divergent: Array
    is_turning: Array
    energy: Array
    num_integration_steps: Array
    num_doublings: Array
    kinetic_temperature: Array
    configurational_temperature: Array
    trajectory: Point | tuple[()]
    aux: PyTree


def nuts(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    inverse_mass_matrix: InverseMass = 1.0,
    temperature: float | Schedule = 1.0,
    max_num_doublings: int = 10,
    divergence_threshold: float = 1000.0,
    full_batch: bool | None = None,
    keep_trajectory: bool = False,
) -> Kernel:
    """Samples `exp(logdensity / temperature)` exactly, at any step size.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set. If it uses its
        key or a batch that changes, each step is exact for that of its own key and batch, and the chain for none. In
        place of the scalar it may return the terms of that sum, as to `hmc`: they are subtracted one by one.
      step_size: eps > 0, or a schedule of the step count.
      inverse_mass_matrix: M^-1, as of `hmc`.
      temperature: T > 0, or a schedule of the step count.
      max_num_doublings: a trajectory has at most 2 to this power steps; at least 1.
      divergence_threshold: the energy error > 0, in units of T, from which on a step is divergent.
      full_batch: whether every step is given the same batch and the log density ignores its key, so that the last
        gradient of a step serves as the first of the next. None, the default, is true where the batch holds no arrays
        (the data are closed over) and the key is not used. A promise that is broken for the batch is not detected.
      keep_trajectory: whether the info holds the ends of the trajectory, to look at.

    Returns:
      A kernel whose state is an `HMCState` and whose info is a `NUTSInfo`.

    Raises:
      ValueError: if an argument is outside its range; from `step`, if the mass does not fit the position, or if the
        kernel is a player of a game and was promised one batch.
    """
    step_size_at, temperature_at = as_schedule(step_size), as_temperature(temperature)
    check(inverse_mass_matrix)
    check_threshold(divergence_threshold)
    checks.count(max_num_doublings=max_num_doublings)
    evaluate = terms_and_grad(logdensity)

    def step(rng_key: PRNGKey, state: HMCState, batch: PyTree) -> tuple[HMCState, NUTSInfo]:
        from blackjax.mcmc import hmc as blackjax_hmc
        from blackjax.mcmc import nuts as blackjax_nuts

        temperature = temperature_at(state.step)
        density_key, step_key = jax.random.split(rng_key)
        is_fixed = density_is_fixed(logdensity, state.position, density_key, batch, full_batch=full_batch)
        density, (terms, _, gradient) = begin(evaluate, state, density_key, batch, is_fixed=is_fixed)
        dtype = jnp.result_type(float)  # BlackJAX computes in this type, because its branches must agree in their types

        def widen(values: Params) -> Params:
            return jax.tree.map(lambda leaf: leaf.astype(dtype), values)

        # Only differences count, and those of terms are taken before they are added up: of 60 000 the sum is known to
        # 0.01 in float32. A scalar stays as it is: difference and level, added up again, are rounded as the start is.
        origin = jnp.where(jnp.isfinite(terms), terms, 0.0) if terms.ndim else jnp.zeros_like(terms)

        def tempered(position: Params) -> Array:
            """The log density over T, with our gradient for its derivative: the value plus a term that is 0."""
            terms, _, gradient = density(jax.lax.stop_gradient(position))
            moved = jax.tree.map(lambda x: x - jax.lax.stop_gradient(x), position)
            return (jnp.sum(terms - origin) + tree.dot(jax.lax.stop_gradient(widen(gradient)), moved)) / temperature

        scaled = jax.tree.map(lambda g: g / temperature, widen(gradient))
        here: Any = jnp.sum(terms - origin) / temperature
        start: Any = blackjax_hmc.HMCState(widen(state.position), here, scaled)  # pyright: ignore
        build: Any = blackjax_nuts.build_kernel  # whose annotations are narrower than what it takes
        kernel = build(divergence_threshold=divergence_threshold)
        inverse = as_vector_or_matrix(inverse_mass_matrix, state.position).astype(dtype)
        # U / T with momenta N(0, M) runs sqrt(T) times as fast
        eps = jnp.asarray(step_size_at(state.step) * jnp.sqrt(temperature), dtype)
        end, info = kernel(step_key, start, tempered, eps, inverse, max_num_doublings)
        relative, level = end.logdensity * temperature, jnp.sum(origin)
        position = tree.cast_like(end.position, state.position)
        gradient = tree.cast_like(jax.tree.map(lambda g: g * temperature, end.logdensity_grad), state.gradient)
        dim = tree.num_elements(position)
        ends = info.trajectory_leftmost_state, info.trajectory_rightmost_state
        return HMCState(
            state.step + 1, position, relative + level, gradient, evaluated_at(position, is_fixed)
        ), NUTSInfo(
            logdensity=relative + level,
            acceptance_probability=info.acceptance_rate,
            is_divergent=info.is_divergent,
            is_turning=info.is_turning,
            energy=info.energy * temperature - level,
            num_integration_steps=jnp.asarray(info.num_integration_steps),
            num_doublings=jnp.asarray(info.num_trajectory_expansions),
            kinetic_temperature=2 * (info.energy * temperature + relative) / dim,
            configurational_temperature=-tree.dot(position, gradient) / dim,
            trajectory=_points(ends, temperature, level) if keep_trajectory else (),
            aux=density(position)[1],
        )

    return Kernel(start_of, step)


def _points(ends: tuple[Any, Any], temperature: float | Array, level: Array) -> Point:
    """BlackJAX's states, of U / T with momenta N(0, M), as points of U with momenta N(0, T M)."""

    def point(end: Any) -> Point:
        momentum = jax.tree.map(lambda p: p * jnp.sqrt(temperature), end.momentum)
        gradient = jax.tree.map(lambda g: g * temperature, end.logdensity_grad)
        return Point(end.position, momentum, end.logdensity * temperature + level, {}, gradient)

    return jax.tree.map(lambda *pair: jnp.stack(pair), *map(point, ends))
