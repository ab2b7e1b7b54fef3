"""The stochastic gradient Nose-Hoover thermostat: SGHMC whose friction adapts to the noise of the gradients.

SGHMC needs an estimate of the minibatch noise (`noise_estimate`); without one, its temperature is too high. Here the
friction xi is a variable that changes until the mean kinetic energy is that of temperature T. Gradient noise then does
not change the law of theta, if it is the same in all directions and independent from step to step. The batches of an
epoch are not independent: their noise cancels over the epoch, and the temperature of theta is too low. Draw batches
with replacement (`data.Minibatches(with_replacement=True)`).

    d theta = p dt
    d p     = grad log p dt - xi p dt + sqrt(2 A T) dW
    d xi    = (p'p / dim - T) / mu dt

Here A sets the injected noise dW, mu is the thermal mass, the mass is 1, the step size is eta = h^2 and alpha = A h.
The integrator is the BADODAB splitting, whose two half kicks at one position are joined into one. With the friction of
a step a = xi h, the stochastic gradient g and n ~ N(0, I), it is

    p     <- p + h g                                                 B
    theta <- theta + h/2 p                                           A
    a     <- a + eta/2 (p'p / dim - T) / mu                          D
    p     <- exp(-a) p + sqrt(alpha T (1 - exp(-2 a)) / a) n         O
    a     <- a + eta/2 (p'p / dim - T) / mu                          D
    theta <- theta + h/2 p                                           A

and it is of second order in h. Sources: Ding et al., "Bayesian sampling using stochastic gradient thermostats", NIPS
2014; Leimkuhler & Shang, "Adaptive thermostats for noisy gradient systems", 2016 (BADODAB). Read `schedules.py` next
for step sizes that decrease.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, value_and_grad
from bayesjax.noise import NormalLaw, normal_law
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class SGNHTState(NamedTuple):
    """State of `sgnht`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: theta.
      momentum: p, shaped like the position, with unit mass.
      friction: a, scalar, in the units of SGHMC's alpha. A change of the step size leaves it as it is.
    """

    step: Array
    position: Params
    momentum: Params
    friction: Array


class SGNHTInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      logdensity: scalar, the minibatch estimate of the log density at the position before the step.
      gradient_norm: Euclidean norm of the stochastic gradient at the position before the step.
      friction: a after the step, in the units of SGHMC's alpha. Its mean is the argument `friction` plus `eta / (2 T)`
        times the variance of one coordinate of the stochastic gradient.
      kinetic_temperature: `<p, p> / dim` after the step.
      configurational_temperature: `-<theta, g> / dim` before the step; its stationary mean tends to T as eta -> 0.
      temperature: T of the step.
      aux: the auxiliary output of the log density.
    """

    logdensity: Array
    gradient_norm: Array
    friction: Array
    kinetic_temperature: Array
    configurational_temperature: Array
    temperature: Array
    aux: PyTree


def sgnht(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    friction: float = 0.1,
    temperature: float | Schedule = 1.0,
    thermal_mass: float = 1.0,
    noise: NormalLaw = "normal",
) -> Kernel:
    """Samples `exp(logdensity / temperature)` by Langevin steps whose friction adapts to the gradients' noise.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set, or its
        unbiased minibatch estimate (`posteriors.log_posterior`).
      step_size: eta = h^2, or a schedule of the step count. The learning rate of the mean loss is
        `step_size * num_data`, as for `sghmc`.
      friction: alpha = A h > 0. It sets the size of the injected noise and the initial friction.
      temperature: T > 0, or a schedule; at T = 0 the thermostat would have no kinetic energy to measure.
      thermal_mass: mu > 0. The larger it is, the more slowly the friction follows the kinetic energy.
      noise: the law of the injected noise. "sixteen_bit" takes about three quarters of the time of "normal" to draw. It
        has 188 values, none beyond 4.22, and the moments 1 to 8 of N(0, 1). Averages over a chain are as accurate as
        with "normal" at ordinary step sizes, but the noise of one step has a different distribution.

    Returns:
      A kernel whose state is an `SGNHTState` and whose info is an `SGNHTInfo`.

    Raises:
      ValueError: if a number is not positive, `noise` is unknown, or `logdensity` does not take three arguments. `init`
        raises it if a leaf of the position is not a floating-point array. `step` raises it if the log density is not a
        scalar.
    """
    normal_law(noise)
    step_size_at, temperature_at = as_schedule(step_size), as_temperature(temperature)
    checks.positive(friction=friction, thermal_mass=thermal_mass)
    evaluate = value_and_grad(logdensity)

    def init(position: Params, rng_key: PRNGKey) -> SGNHTState:
        """Starts with the momentum drawn from its stationary law, N(0, T I)."""
        position = checks.floating(position, "position")
        scale = jnp.sqrt(temperature_at(jnp.zeros((), jnp.int32)))
        momentum = jax.tree.map(lambda xi: (scale * xi).astype(xi.dtype), tree.normal_like(rng_key, position))
        return SGNHTState(
            jnp.zeros((), jnp.int32), position, momentum, jnp.asarray(friction, tree.float_type(position))
        )

    def step(rng_key: PRNGKey, state: SGNHTState, batch: PyTree) -> tuple[SGNHTState, SGNHTInfo]:
        density_key, noise_key = jax.random.split(rng_key)
        value, aux, gradient = evaluate(state.position, density_key, batch)
        before = tree.widen(state)  # half precision is for storage only
        eta = jnp.asarray(step_size_at(state.step), tree.float_type(state.position))
        target = temperature_at(state.step)
        h, dim = jnp.sqrt(eta), tree.num_elements(state.position)

        def thermostat(a: Array, momentum: Params) -> Array:
            excess = tree.dot(momentum, momentum) / dim - target
            return (a + eta / 2 * excess / thermal_mass).astype(a.dtype)

        momentum = tree.add_scaled(before.momentum, gradient, h)
        position = tree.add_scaled(before.position, momentum, h / 2)
        a = thermostat(state.friction, momentum)
        decay, sd = jnp.exp(-a), jnp.sqrt(friction * target * _refreshed_fraction(a))
        xi = tree.normal_like(noise_key, momentum, law=noise)
        momentum = jax.tree.map(lambda p, n: (decay * p + sd * n).astype(p.dtype), momentum, xi)
        a = thermostat(a, momentum)
        position = tree.add_scaled(position, momentum, h / 2)
        info = SGNHTInfo(
            logdensity=value,
            gradient_norm=tree.norm(gradient),
            friction=a,
            kinetic_temperature=tree.dot(momentum, momentum) / dim,
            configurational_temperature=-tree.dot(state.position, gradient) / dim,
            temperature=jnp.asarray(target),
            aux=aux,
        )
        return tree.cast_like(SGNHTState(state.step + 1, position, momentum, a), state), info

    return Kernel(init, step)


def _refreshed_fraction(a: Array) -> Array:
    """(1 - exp(-2 a)) / a, also where the friction a is 0 or negative."""
    is_small = jnp.abs(a) < 1e-4
    safe = jnp.where(is_small, 1.0, a)
    return jnp.where(is_small, 2 - 2 * a, -jnp.expm1(-2 * safe) / safe)
