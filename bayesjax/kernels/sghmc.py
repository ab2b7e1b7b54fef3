"""Stochastic gradient Hamiltonian Monte Carlo: SGD with momentum, plus the noise that makes it a sampler.

With step size eta, friction alpha, temperature T, an estimate beta of what the minibatch noise already contributes,
n ~ N(0, 2 (alpha T - beta) eta I) and g the stochastic gradient of the log density, one step is

    v     <- (1 - alpha) v + eta g          # kick, with friction: heavy-ball momentum
    theta <- theta + v + n / 2              # drift
    v     <- v + (1 - alpha/2)/(1 - alpha) n

where the friction factor on n is paid at the next kick. Chen, Fox & Guestrin ("Stochastic gradient Hamiltonian Monte
Carlo", ICML 2014, eq. 15) and Saatci & Wilson ("Bayesian GAN", NIPS 2017, algorithm 1) add all of n to v before the
drift: a first-order scheme with the same eta, alpha and n. Splitting n as above is exactly the BAOAB integrator of
Leimkuhler & Matthews (2013) for underdamped Langevin dynamics (time step h = sqrt(2 eta / (2 - alpha)), its two half
kicks at one position joined into one, so a step costs one gradient): the same price, but the stationary variance of a
Gaussian target is exact at any stable step size, where the first-order scheme is off by O(eta). Stable means
eta < 2 (2 - alpha) / (largest curvature of -log p).

T = 0 is SGD with momentum, learning rate eta and momentum 1 - alpha, bit for bit `optax.sgd(eta, 1 - alpha)` in float32
and float64. Leaves of half precision are treated as in `sgld.py`.

Why not `blackjax.sghmc` (1.7.1)? It redraws the momentum at every call and takes explicit Euler steps with the old
gradient; its stationary variance on N(0, 1) tends to L/(L - 1) for L inner steps however small the step, and it ignores
the temperature. `tests/kernels/test_planted_faults.py` plants that fault and shows that it is caught.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, value_and_grad
from bayesjax.kernels.preconditioning import Preconditioner, none, step_sizes
from bayesjax.noise import NormalLaw, normal_law
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class SGHMCState(NamedTuple):
    """Carried by `sghmc`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      momentum: v / (eta G), shaped like `position`: the decayed sum of gradients that an optimiser calls its momentum,
        plus the noise so far; the friction of the next step is still to be paid.
      step_size: the last positive eta; when a schedule changes eta, or a preconditioner G, the momentum is rescaled so
        that the kinetic energy is kept.
      preconditioner: what the preconditioner carries.
    """

    step: Array
    position: Params
    momentum: Params
    step_size: Array
    preconditioner: PyTree


class SGHMCInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, the minibatch estimate at the position before the step.
      gradient_norm: Euclidean norm of the stochastic gradient there.
      kinetic_temperature: `<p, p> / dim` of the unit-mass momentum p after the step; its mean tends to T as eta -> 0.
      configurational_temperature: `-<theta, g> / dim` before the step; its stationary mean is T (for a Gaussian target
        at any step size) if the target is a density on R^dim.
      aux: what the log density returned beside the scalar.
    """

    logdensity: Array
    gradient_norm: Array
    kinetic_temperature: Array
    configurational_temperature: Array
    aux: PyTree


def sghmc(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    friction: float = 0.1,
    temperature: float | Schedule = 1.0,
    noise_estimate: float = 0.0,
    preconditioner: Preconditioner | None = None,
    noise: NormalLaw = "normal",
) -> Kernel:
    """Samples `exp(logdensity / temperature)` by underdamped Langevin steps without a Metropolis correction.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set, or its
        unbiased minibatch estimate (`posteriors.log_posterior`).
      step_size: eta > 0, or a schedule of the step count that starts above 0. Learning rate of the mean loss =
        `step_size * num_data`.
      friction: alpha in (0, 1); the momentum of the equivalent SGD is 1 - alpha.
      temperature: T >= 0, or a schedule; T = 0 is SGD with momentum.
      noise_estimate: beta >= 0, Chen et al.'s `B-hat` in the units of alpha: `eta / 2` times the variance of one
        coordinate of the minibatch gradient. The noise that the minibatch brings is taken off the noise injected; if
        it alone exceeds alpha T, none is injected. With a preconditioner, one number for all weights; with a schedule
        it is that of all steps, though eta is not.
      preconditioner: G, of `kernels.preconditioning`, the inverse of a diagonal mass matrix; None is 1.
      noise: the law of the injected noise. "sixteen_bit" takes about three quarters of the time of "normal" to draw. It
        has 188 values, none beyond 4.22, and the moments 1 to 8 of N(0, 1). Averages over a chain are then as right as
        with "normal" at ordinary step sizes, but the noise of one step has another law.

    Returns:
      A kernel whose state is an `SGHMCState` and whose info is an `SGHMCInfo`.

    Raises:
      ValueError: if an argument is outside its range.
    """
    schedule, temperature_of = as_schedule(step_size), as_temperature(temperature)
    normal_law(noise)
    checks.non_negative(noise_estimate=noise_estimate)
    checks.satisfies("strictly between 0 and 1", lambda alpha: (alpha > 0) & (alpha < 1), friction=friction)
    checks.number(friction=friction)
    first = schedule(jnp.zeros((), jnp.int32))
    if not isinstance(first, Tracer) and not first > 0:
        raise ValueError(f"step_size must start above 0; got {first} at step 0")
    preconditioner = preconditioner or none()
    evaluate = value_and_grad(logdensity)

    def init(position: Params, rng_key: PRNGKey) -> SGHMCState:
        """Starts with the momentum drawn from its stationary law, N(0, T I) at unit mass."""
        position = checks.floating(position, "position")
        start, known = jnp.zeros((), jnp.int32), preconditioner.init(position)
        eta = jnp.asarray(schedule(start), tree.float_type(position))
        if _is_zero(temperature):
            momentum = jax.tree.map(jnp.zeros_like, position)
        else:

            def drawn(xi: Array, size: Array) -> Array:
                return (jnp.sqrt(temperature_of(start) / _kinetic_scale(size, friction)) * xi).astype(xi.dtype)

            sizes = step_sizes(eta, preconditioner.diagonal(known), position)
            xi = tree.normal_like(rng_key, tree.widen(position))
            momentum = tree.cast_like(jax.tree.map(drawn, xi, sizes), position)
        return SGHMCState(start, position, momentum, eta, known)

    def step(rng_key: PRNGKey, state: SGHMCState, batch: PyTree) -> tuple[SGHMCState, SGHMCInfo]:
        density_key, noise_key = jax.random.split(rng_key)
        value, aux, gradient = evaluate(state.position, density_key, batch)
        gradient = tree.widen(gradient)  # and all below: half precision is for what the state holds
        eta = jnp.asarray(schedule(state.step), tree.float_type(state.position))
        positive = jnp.where(eta > 0, eta, state.step_size)  # a schedule that ends at 0 stops, and divides by nothing
        known = preconditioner.update(state.preconditioner, gradient)

        def sizes(eta: Array, known: PyTree) -> Params:
            return step_sizes(eta, preconditioner.diagonal(known), state.position)

        before, divisors = sizes(state.step_size, state.preconditioner), sizes(positive, known)
        steps = sizes(eta, known)

        def kick(m: Array, grad: Array, old: Array, new: Array) -> Array:
            return (grad + (1 - friction) * (jnp.sqrt(old / new) * m)).astype(m.dtype)

        momentum = jax.tree.map(kick, tree.widen(state.momentum), gradient, before, divisors)
        if _is_zero(temperature):
            position = jax.tree.map(
                lambda theta, m, size: (theta + size * m).astype(theta.dtype), state.position, momentum, steps
            )
        else:
            strength = 2 * jnp.maximum(friction * temperature_of(state.step) - noise_estimate, 0.0)
            share = (1 - friction / 2) / (1 - friction)

            def injected(xi: Array, size: Array) -> Array:
                return (jnp.sqrt(strength * size) * xi).astype(xi.dtype)

            def keep(m: Array, n: Array, divisor: Array) -> Array:
                return (m + share / divisor * n).astype(m.dtype)

            def drift(theta: Array, m: Array, n: Array, size: Array, divisor: Array) -> Array:
                excess = size * (share / divisor) - 0.5  # of n in the momentum, over what the drift takes: one pass
                return (theta + size * m - excess * n).astype(theta.dtype)

            injection = jax.tree.map(injected, tree.normal_like(noise_key, momentum, law=noise), steps)
            momentum = jax.tree.map(keep, momentum, injection, divisors)
            position = jax.tree.map(drift, state.position, momentum, injection, steps, divisors)

        def kinetic(m: Array, size: Array) -> Array:
            return jnp.sum(_kinetic_scale(size, friction) * jnp.square(m))

        dim = tree.num_elements(position)
        info = SGHMCInfo(
            logdensity=value,
            gradient_norm=tree.norm(gradient),
            kinetic_temperature=tree.sum_leaves(jax.tree.map(kinetic, momentum, steps)) / dim,
            configurational_temperature=-tree.dot(state.position, gradient) / dim,
            aux=aux,
        )
        momentum = tree.cast_like(momentum, state.momentum)
        return SGHMCState(state.step + 1, position, momentum, positive, known), info

    return Kernel(init, step)


def _kinetic_scale(eta: Array, friction: float) -> Array:
    """(h (1 - alpha))^2: squared factor from the stored momentum to the unit-mass momentum, friction paid."""
    return (1 - friction) ** 2 * 2 * eta / (2 - friction)


def _is_zero(temperature: float | Array | Schedule) -> bool:
    """Whether the temperature is known to be 0 while tracing, so that no noise need be made."""
    return isinstance(temperature, (int, float)) and temperature == 0
