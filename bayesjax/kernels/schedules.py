"""Step sizes that fall, or that come and go, for samplers whose bias does not vanish at a fixed one; or of all sizes.

    polynomial   eta_t = a (b + t)^-gamma, with 0.5 < gamma <= 1 for convergence
    cyclical     eta_t = eta_0 / 2 (cos(pi s) + 1), s in [0, 1) the place in the cycle; the first part of each cycle at
                 temperature 0 finds a mode, the rest samples it
    jittered     between a share of eta and all of it, for HMC and NUTS: no one size fits everywhere

Sources: Welling & Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011; Zhang, Li, Zhang, Chen
& Wilson, "Cyclical stochastic gradient MCMC for Bayesian deep learning", ICLR 2020; Neal, "MCMC using Hamiltonian
dynamics", 2011, section 4.2. Optax has many more that fit.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, Schedule


class Cyclical(NamedTuple):
    """What a cyclical sampler needs: `sghmc(density, step_size=cycle.step_size, temperature=cycle.temperature)`.

    Attributes:
      step_size: by the number of steps taken.
      temperature: likewise; 0 while it explores, 1 (or what was asked for) while it samples.
      is_sampling: of step counts, whether draws are to be kept; a draw after t steps is of the count t - 1.
    """

    step_size: Schedule
    temperature: Schedule
    is_sampling: Schedule


def polynomial(scale: float, offset: float = 1.0, power: float = 0.55) -> Schedule:
    """A step size `scale * (offset + t)^-power`.

    Raises:
      ValueError: if an argument is not positive, or the power beyond 1.
    """
    checks.positive(scale=scale, offset=offset, power=power)
    if power > 1:
        raise ValueError(f"power must be at most 1, or the chain stops on its way; got {power}")
    return lambda step: scale * (offset + step) ** -power


def jittered(step_size: float | Array, min_fraction: float) -> Schedule:
    """Step sizes from `min_fraction * step_size` to all of it, evenly spread in the logarithm by the golden ratio.

    Trajectories of one length may be periodic, and one step size may be too long where a chain stands: there it is
    stuck, until a shorter one leads out. An exact kernel stays exact, since the size depends on the step count alone.

    Raises:
      ValueError: if the step size is not positive, or the share not in (0, 1].
    """
    checks.positive(step_size=step_size)
    checks.satisfies("in (0, 1]", lambda share: (share > 0) & (share <= 1), min_fraction=min_fraction)
    checks.number(min_fraction=min_fraction)
    return lambda step: step_size * min_fraction ** _golden(step)


def _golden(step: Array | int) -> Array:
    """The fractional part of step times the golden ratio, less than 2^-24 too small at any int32 step.

    Computed in integers modulo 2^32, since a product in float32 has no fraction left beyond a few million steps.
    """
    turned = jnp.asarray(step).astype(jnp.uint32) * jnp.uint32(2654435769)  # 2^32 / the golden ratio
    return (turned >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def cyclical(
    step_size: float, *, num_steps: int, num_cycles: int, exploration_fraction: float = 0.8, temperature: float = 1.0
) -> Cyclical:
    """Cosine cycles of the step size, each of which first explores and then samples.

    Args:
      step_size: eta_0, at the start of each cycle.
      num_steps: of the whole run.
      num_cycles: M; a cycle has ceil(num_steps / M) steps.
      exploration_fraction: share of each cycle, in [0, 1), that runs at temperature 0.
      temperature: of the rest.

    Raises:
      ValueError: if an argument is outside its range.
    """
    checks.positive(step_size=step_size, temperature=temperature)
    if not 1 <= num_cycles <= num_steps:
        raise ValueError(f"num_cycles must lie between 1 and num_steps, {num_steps}; got {num_cycles}")
    if not 0 <= exploration_fraction < 1:
        raise ValueError(f"exploration_fraction must lie in [0, 1); got {exploration_fraction}")
    length = -(-num_steps // num_cycles)

    first_sampling = math.ceil(
        exploration_fraction * length - 1e-9
    )  # an integer: float32 would round it, each backend its way

    def place(step: Array) -> Array:
        return (step % length) / length

    def is_sampling(step: Array) -> Array:
        return step % length >= first_sampling

    return Cyclical(
        step_size=lambda step: step_size / 2 * (jnp.cos(jnp.pi * place(step)) + 1),
        temperature=lambda step: jnp.where(is_sampling(step), temperature, 0.0),
        is_sampling=is_sampling,
    )
