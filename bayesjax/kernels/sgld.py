"""Stochastic gradient Langevin dynamics: gradient ascent on a log density with injected noise.

    theta <- theta + eta * grad log p(theta) + sqrt(2 eta T) xi,     xi ~ N(0, I)

A preconditioner gives each weight its own step size (`preconditioning.py`). On N(0, 1) with exact gradients the
stationary variance is T / (1 - eta/2), so the bias is of first order in the step size. Source: Welling & Teh, "Bayesian
learning via stochastic gradient Langevin dynamics", ICML 2011 (who write eta/2 for our eta). BlackJAX's `sgld` has the
same update, but neither a state nor diagnostics. Read `sghmc.py` next: it adds a momentum.

A step of leaves in half precision is computed in float32 and rounded once. At temperature 0, an update far smaller than
the distance between neighbouring numbers (2^-8 of a weight in bfloat16) is lost. At other temperatures the injected
noise randomises the rounding, and means are correct as long as the noise is not smaller than that distance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, as_temperature, value_and_grad
from bayesjax.kernels.preconditioning import Preconditioner, fixed_preconditioner, step_sizes
from bayesjax.noise import NormalLaw, normal_law
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree, Schedule


class SGLDState(NamedTuple):
    """State of `sgld`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: the parameters.
      preconditioner: the state of the preconditioner.
    """

    step: Array
    position: Params
    preconditioner: PyTree


class SGLDInfo(NamedTuple):
    """Diagnostics of one step, taken at the position before it.

    Attributes:
      logdensity: scalar, the minibatch estimate of the log density.
      gradient_norm: Euclidean norm of the gradient.
      configurational_temperature: `-<theta, grad log p> / dim`; its stationary mean tends to T as eta -> 0, if the
        target is a density on R^dim.
      temperature: T of the step.
      aux: the auxiliary output of the log density.
    """

    logdensity: Array
    gradient_norm: Array
    configurational_temperature: Array
    temperature: Array
    aux: PyTree


def sgld(
    logdensity: Density,
    *,
    step_size: float | Schedule,
    temperature: float | Schedule = 1.0,
    preconditioner: Preconditioner | None = None,
    noise: NormalLaw = "normal",
) -> Kernel:
    """Samples `exp(logdensity / temperature)` by Langevin steps without a Metropolis correction.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`; a sum over the whole data set, or its
        unbiased minibatch estimate (`posteriors.log_posterior`).
      step_size: eta > 0, or a schedule of the step count. The learning rate of the mean loss is
        `step_size * num_data`.
      temperature: T >= 0, or a schedule; T = 0 is gradient ascent.
      preconditioner: gives G (`kernels.preconditioning`), which multiplies eta for each weight; None means G = 1.
      noise: the law of the injected noise. "sixteen_bit" takes about three quarters of the time of "normal" to draw. It
        has 188 values, none beyond 4.22, and the moments 1 to 8 of N(0, 1). Averages over a chain are as accurate as
        with "normal" at ordinary step sizes, but the noise of one step has a different distribution.

    Returns:
      A kernel whose state is an `SGLDState` and whose info is an `SGLDInfo`.

    Raises:
      ValueError: if `step_size` is not positive, `temperature` is negative, `noise` is unknown, or `logdensity` does
        not take three arguments. `init` raises it if a leaf of the position is not a floating-point array. `step`
        raises it if the log density is not a scalar.
    """
    normal_law(noise)
    step_size_at, temperature_at = as_schedule(step_size), as_temperature(temperature, is_zero_allowed=True)
    preconditioner = preconditioner or fixed_preconditioner(1.0)
    evaluate = value_and_grad(logdensity)

    def init(position: Params, rng_key: PRNGKey) -> SGLDState:
        del rng_key
        position = checks.floating(position, "position")
        return SGLDState(jnp.zeros((), jnp.int32), position, preconditioner.init(position))

    def step(rng_key: PRNGKey, state: SGLDState, batch: PyTree) -> tuple[SGLDState, SGLDInfo]:
        density_key, noise_key = jax.random.split(rng_key)
        value, aux, gradient = evaluate(state.position, density_key, batch)
        gradient = tree.widen(gradient)  # the step is computed in float32 and rounded once
        preconditioner_state = preconditioner.update(state.preconditioner, gradient)
        diagonal = preconditioner.diagonal(preconditioner_state)
        sizes = step_sizes(step_size_at(state.step), diagonal, state.position)
        current_temperature = temperature_at(state.step)

        def move(theta: Array, g: Array, xi: Array, eta: Array) -> Array:
            return (theta + eta * g + jnp.sqrt(2 * eta * current_temperature) * xi).astype(theta.dtype)

        xi = tree.normal_like(noise_key, gradient, law=noise)
        position = jax.tree.map(move, state.position, gradient, xi, sizes)
        dim = tree.num_elements(state.position)
        info = SGLDInfo(
            logdensity=value,
            gradient_norm=tree.norm(gradient),
            configurational_temperature=-tree.dot(state.position, gradient) / dim,
            temperature=jnp.asarray(current_temperature),
            aux=aux,
        )
        return SGLDState(state.step + 1, position, preconditioner_state), info

    return Kernel(init, step)
