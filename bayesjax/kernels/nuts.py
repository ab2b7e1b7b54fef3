"""The No-U-Turn sampler: HMC whose trajectory grows, forwards and backwards, until it turns back on itself.

A step draws a momentum as `hmc` does and doubles the trajectory in a random direction. It stops when the two ends
approach one another, after 2^max_num_doublings steps, or when the energy diverges. The next position is drawn from all
points with

    P(theta_i, p_i) proportional to exp(-H(theta_i, p_i) / T)

The stationary distribution is exact, as for HMC, and there is no number of steps to choose. The cost is up to twice the
useful length of the trajectory and differs from chain to chain. Under `vmap` every chain waits for the longest.

The algorithm is BlackJAX's (`blackjax.nuts` 1.7.1: multinomial sampling, generalised U-turn criterion). This file adds
gradients that are averaged over devices, a temperature, and log densities that change from step to step (`full_batch`).
Sources: Hoffman & Gelman, "The No-U-Turn sampler", 2014; Betancourt, "A conceptual introduction to Hamiltonian Monte
Carlo", 2017. Read `adaptation.py` next.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, terms_and_grad
from bayesjax.kernels.hmc import HMCState, begin, check_threshold, density_is_fixed, evaluated_at, initial_state
from bayesjax.kernels.leapfrog import Point
from bayesjax.kernels.mass import InverseMass, as_vector_or_matrix, check
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class NUTSInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, the log density at the position after the step.
      acceptance_probability: mean over the points of the trajectory of min(1, exp((H(start) - H) / T)).
      is_divergent: whether the energy error exceeded the threshold at a point of the trajectory.
      is_turning: whether the trajectory ended because it made a U-turn.
      energy: H of the position after the step, with its momentum.
      num_integration_steps: number of leapfrog steps taken, and of gradients.
      num_doublings: number of times the trajectory was doubled.
      kinetic_temperature: `p' M^-1 p / dim` of the momentum that belongs to the position after the step. It is computed
        from the energy, so its rounding error is 2 / dim times that of the log density.
      configurational_temperature: `-<theta, grad log p> / dim` at the position after the step. Both temperatures have
        the stationary means described in `hmc.HMCInfo`.
      trajectory: the two ends of the trajectory if `keep_trajectory` is true, the earlier first, as a `leapfrog.Point`
        with leaves `[2, ...]`; otherwise (). `kernels.trajectory` computes the points between them.
      aux: the auxiliary output of the log density, evaluated once more at the position after the step.
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
        key or a batch that changes, each step is exact for the density of its own key and batch, but the chain is exact
        for none of them. It may return the terms of the sum, as for `hmc`, which are then subtracted one by one.
      step_size: eps > 0, or a schedule of the step count.
      inverse_mass_matrix: M^-1, in any form that `hmc` accepts.
      temperature: T > 0, or a schedule of the step count.
      max_num_doublings: at least 1; a trajectory has at most 2^max_num_doublings steps.
      divergence_threshold: positive energy error, in units of T, above which a step is reported as divergent.
      full_batch: whether every step is given the same batch and the log density ignores its key, so that the last
        gradient of a step serves as the first of the next. None, the default, means true if the batch holds no arrays
        (the data are closed over) and the key is not used. A batch that changes in spite of true is not detected.
      keep_trajectory: whether the info holds the ends of the trajectory, for plots.

    Returns:
      A kernel whose state is an `HMCState` and whose info is a `NUTSInfo`.

    Raises:
      ValueError: if an argument is outside its range or `logdensity` does not take three arguments. `init` raises it if
        a leaf of the position is not a floating-point array. `step` raises it if the mass does not fit the position, or
        the log density has two axes or more. If `full_batch` is true, `step` also raises it if the kernel is a player
        of a game or the log density uses its key.
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
        dtype = jnp.result_type(float)  # BlackJAX needs one type in all of its branches

        def widen(values: Params) -> Params:
            return jax.tree.map(lambda leaf: leaf.astype(dtype), values)

        # Only differences of the log density matter. The terms at the start are subtracted before the sum is taken,
        # because float32 resolves a sum of 60 000 terms to 0.01 only. A scalar log density is used as it is.
        origin = jnp.where(jnp.isfinite(terms), terms, 0.0) if terms.ndim else jnp.zeros_like(terms)

        def tempered(position: Params) -> Array:
            """The log density divided by T. A term of value 0 makes its derivative the mean gradient over devices."""
            terms, _, gradient = density(jax.lax.stop_gradient(position))
            zero = jax.tree.map(lambda x: x - jax.lax.stop_gradient(x), position)
            return (jnp.sum(terms - origin) + tree.dot(jax.lax.stop_gradient(widen(gradient)), zero)) / temperature

        scaled = jax.tree.map(lambda g: g / temperature, widen(gradient))
        here: Any = jnp.sum(terms - origin) / temperature
        start: Any = blackjax_hmc.HMCState(widen(state.position), here, scaled)  # pyright: ignore
        build: Any = blackjax_nuts.build_kernel  # its annotations are narrower than the arguments that it accepts
        kernel = build(divergence_threshold=divergence_threshold)
        inverse = as_vector_or_matrix(inverse_mass_matrix, state.position).astype(dtype)
        # BlackJAX simulates U / T with momenta N(0, M), in which time runs sqrt(T) times as fast.
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

    return Kernel(initial_state, step)


def _points(ends: tuple[Any, Any], temperature: float | Array, level: Array) -> Point:
    """Turns BlackJAX's states, for U / T and momenta N(0, M), into points for U and momenta N(0, T M)."""

    def point(end: Any) -> Point:
        momentum = jax.tree.map(lambda p: p * jnp.sqrt(temperature), end.momentum)
        gradient = jax.tree.map(lambda g: g * temperature, end.logdensity_grad)
        return Point(end.position, momentum, end.logdensity * temperature + level, {}, gradient)

    return jax.tree.map(lambda *pair: jnp.stack(pair), *map(point, ends))
