"""Stochastic gradient Hamiltonian Monte Carlo: SGD with momentum and injected noise that makes it a sampler.

The continuous dynamics are underdamped Langevin dynamics with momentum p of unit mass. With step size eta, friction
alpha, temperature T, time step h = sqrt(2 eta / (2 - alpha)), stochastic gradient g of the log density, an estimate
beta of the noise that g already contributes, and xi ~ N(0, I), one step is

    p     <- p + h g                                                            kick
    theta <- theta + h/2 p                                                      half a drift
    p     <- (1 - alpha) p + sqrt((2 - alpha) (alpha T - beta)) xi              refresh: friction and noise
    theta <- theta + h/2 p                                                      half a drift

This is the BAOAB splitting of Leimkuhler & Matthews ("Rational construction of stochastic numerical methods for
molecular sampling", 2013). Two half kicks meet at one position and are joined, so a step costs one gradient. The
stationary variance of a Gaussian target is exact at any stable step size, eta < 2 (2 - alpha) / (largest curvature of
-log p). Chen, Fox & Guestrin ("Stochastic gradient Hamiltonian Monte Carlo", ICML 2014, eq. 15) and Saatci & Wilson
("Bayesian GAN", NIPS 2017, algorithm 1) use the same eta and alpha in a first-order scheme whose variance is off by
O(eta) at the same cost.

With v = h (1 - alpha/2) p in place of p, a step at T = 0 is v <- (1 - alpha) v + eta g, theta <- theta + v. That is SGD
with learning rate eta and momentum 1 - alpha, up to rounding. Leaves of half precision are treated as in `sgld.py`.

`blackjax.sghmc` (1.7.1) is not used because it redraws the momentum at every call, takes explicit Euler steps with the
old gradient and ignores the temperature. Its stationary variance on N(0, 1) tends to L/(L - 1) for L inner steps,
however small the step. `tests/kernels/test_planted_faults.py` shows that the tests detect this fault. Read `sgnht.py`
next: its friction adapts to the noise of the gradients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, value_and_grad
from bayesjax.kernels.preconditioning import Preconditioner, fixed_preconditioner, step_sizes
from bayesjax.noise import NormalLaw, normal_law
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class SGHMCState(NamedTuple):
    """State of `sghmc`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      momentum: p, shaped like `position`, with unit mass: its stationary law is N(0, T I) as eta -> 0. Changes of the
        step size or of the preconditioner leave it as it is.
      preconditioner: the state of the preconditioner.
    """

    step: Array
    position: Params
    momentum: Params
    preconditioner: PyTree


class SGHMCInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, the minibatch estimate at the position before the step.
      gradient_norm: Euclidean norm of the stochastic gradient at the position before the step.
      kinetic_temperature: `<p, p> / dim` after the step; its mean tends to T as eta -> 0.
      configurational_temperature: `-<theta, g> / dim` before the step; its stationary mean is T (for a Gaussian target
        at any step size) if the target is a density on R^dim.
      temperature: T of the step.
      aux: the auxiliary output of the log density.
    """

    logdensity: Array
    gradient_norm: Array
    kinetic_temperature: Array
    configurational_temperature: Array
    temperature: Array
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
      step_size: eta > 0, or a schedule of the step count, which may be 0 at some steps. The learning rate of the mean
        loss is `step_size * num_data`.
      friction: alpha in (0, 1); the momentum of the equivalent SGD is 1 - alpha.
      temperature: T >= 0, or a schedule; T = 0 is SGD with momentum.
      noise_estimate: beta >= 0, Chen et al.'s `B-hat` in the units of alpha: `eta / 2` times the variance of one
        coordinate of the minibatch gradient. The injected noise is reduced by it, to no less than zero. It is one
        number for all weights and steps, also with a preconditioner or a schedule.
      preconditioner: gives G, the inverse of a diagonal mass matrix (`kernels.preconditioning`); None means G = 1.
      noise: the law of the injected noise. "sixteen_bit" takes about three quarters of the time of "normal" to draw. It
        has 188 values, none beyond 4.22, and the moments 1 to 8 of N(0, 1). Averages over a chain are as accurate as
        with "normal" at ordinary step sizes, but the noise of one step has a different distribution.

    Returns:
      A kernel whose state is an `SGHMCState` and whose info is an `SGHMCInfo`.

    Raises:
      ValueError: if an argument is outside its range or `logdensity` does not take three arguments. `init` raises it if
        a leaf of the position is not a floating-point array. `step` raises it if the log density is not a scalar.
    """
    step_size_at, temperature_at = as_schedule(step_size), as_temperature(temperature, is_zero_allowed=True)
    normal_law(noise)
    checks.non_negative(noise_estimate=noise_estimate)
    checks.satisfies("strictly between 0 and 1", lambda alpha: (alpha > 0) & (alpha < 1), friction=friction)
    checks.number(friction=friction)
    preconditioner = preconditioner or fixed_preconditioner(1.0)
    evaluate = value_and_grad(logdensity)
    is_noiseless = isinstance(temperature, (int, float)) and temperature == 0

    def init(position: Params, rng_key: PRNGKey) -> SGHMCState:
        """Draws the momentum from N(0, T I)."""
        position = checks.floating(position, "position")
        count = jnp.zeros((), jnp.int32)
        momentum = jax.tree.map(jnp.zeros_like, position)
        if not is_noiseless:
            scale = jnp.sqrt(temperature_at(count))
            momentum = tree.add_scaled(momentum, tree.normal_like(rng_key, tree.widen(position)), scale)
        return SGHMCState(count, position, momentum, preconditioner.init(position))

    def step(rng_key: PRNGKey, state: SGHMCState, batch: PyTree) -> tuple[SGHMCState, SGHMCInfo]:
        density_key, noise_key = jax.random.split(rng_key)
        value, aux, gradient = evaluate(state.position, density_key, batch)
        before, gradient = tree.widen(state), tree.widen(gradient)  # half precision is for storage only
        preconditioner_state = preconditioner.update(state.preconditioner, gradient)
        eta = jnp.asarray(step_size_at(state.step), tree.float_type(state.position))
        sizes = step_sizes(eta, preconditioner.diagonal(preconditioner_state), state.position)
        target = temperature_at(state.step)
        h = jax.tree.map(lambda size: jnp.sqrt(2 * size / (2 - friction)), sizes)
        half_h = jax.tree.map(lambda h: h / 2, h)

        momentum = _add_product(before.momentum, h, gradient)
        position = _add_product(before.position, half_h, momentum)
        momentum = jax.tree.map(lambda p: (1 - friction) * p, momentum)
        if not is_noiseless:
            variance = (2 - friction) * jnp.maximum(friction * target - noise_estimate, 0.0)
            xi = tree.normal_like(noise_key, momentum, law=noise)
            momentum = tree.add_scaled(momentum, xi, jnp.sqrt(variance))
        position = _add_product(position, half_h, momentum)

        dim = tree.num_elements(position)
        info = SGHMCInfo(
            logdensity=value,
            gradient_norm=tree.norm(gradient),
            kinetic_temperature=tree.dot(momentum, momentum) / dim,
            configurational_temperature=-tree.dot(state.position, gradient) / dim,
            temperature=jnp.asarray(target),
            aux=aux,
        )
        position, momentum = tree.cast_like((position, momentum), (state.position, state.momentum))
        return SGHMCState(state.step + 1, position, momentum, preconditioner_state), info

    return Kernel(init, step)


def _add_product(x: Params, h: Params, y: Params) -> Params:
    """Adds h y to x, leaf by leaf, in the types of x."""
    return jax.tree.map(lambda x, h, y: (x + h * y).astype(x.dtype), x, h, y)
