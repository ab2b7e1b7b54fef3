"""Step-size schedules of samplers: decreasing, cyclical, or varying over a range.

    polynomial   eta_t = a (b + t)^-gamma, with 0.5 < gamma <= 1 for convergence
    cyclical     eta_t = eta_0 / 2 (cos(pi s) + 1), with s in [0, 1) the position in the cycle. The first part of each
                 cycle runs at temperature 0 and finds a mode; the rest samples around it.
    jittered     eta_t between `min_fraction` eta and eta, for HMC and NUTS on targets whose scale varies

Sources: Welling & Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011; Zhang, Li, Zhang, Chen
& Wilson, "Cyclical stochastic gradient MCMC for Bayesian deep learning", ICLR 2020; Neal, "MCMC using Hamiltonian
dynamics", 2011, section 4.2. Optax's schedules can be used as well. Read `sghmc.py` next.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesjax import checks
from bayesjax.types import Array, Schedule


class Cyclical(NamedTuple):
    """The schedules of a cyclical sampler, `sghmc(density, step_size=c.step_size, temperature=c.temperature)`.

    Attributes:
      step_size: step size as a function of the number of steps taken.
      temperature: temperature as a function of the number of steps taken; it is 0 during exploration.
      is_sampling: whether the next step is a sampling step, as a function of the number of steps taken. The draw after
        t steps is therefore a sample if `is_sampling(t - 1)` is true.
    """

    step_size: Schedule
    temperature: Schedule
    is_sampling: Schedule

    def sampling_draws(self, num_steps: int, *, num_burnin: int = 0, thinning: int = 1) -> np.ndarray:
        """Whether each draw of `training.run` with these arguments belongs to a sampling part.

            is_kept = cycle.sampling_draws(num_steps, thinning=10)
            draws = jax.tree.map(lambda leaf: leaf[is_kept], trace.draws)

        Args:
          num_steps: number of steps of the run.
          num_burnin: number of steps before the first draw.
          thinning: number of steps per draw.

        Returns:
          Booleans `[num_draws]`.
        """
        checks.count(num_steps=num_steps, thinning=thinning)
        ends = np.arange(thinning, num_steps + 1, thinning)
        return np.asarray(self.is_sampling(jnp.asarray(ends[ends > num_burnin] - 1)))


def polynomial(scale: float, offset: float = 1.0, power: float = 0.55) -> Schedule:
    """Returns the schedule eta_t = a (b + t)^-gamma of the step size after t steps.

    Args:
      scale: a > 0.
      offset: b > 0.
      power: gamma in (0, 1]; more than 1/2 for convergence.

    Raises:
      ValueError: if an argument is not positive, or `power` is greater than 1.
    """
    checks.positive(scale=scale, offset=offset, power=power)
    if power > 1:
        raise ValueError(f"power must be at most 1, so that the step sizes have an infinite sum; got {power}")
    return lambda step: scale * (offset + step) ** -power


def jittered(step_size: float | Array, min_fraction: float) -> Schedule:
    """Returns a schedule of step sizes between `min_fraction * step_size` and `step_size`, spread evenly in logarithm.

        eta_t = step_size * min_fraction^u_t,   u_t = fractional part of t times the golden ratio

    Varying step sizes avoid periodic trajectories, and let a chain leave regions where the largest step size is always
    rejected. An exact kernel stays exact, since the step size depends on the step count only.

    Args:
      step_size: the largest step size, positive.
      min_fraction: the smallest step size as a fraction of the largest, in (0, 1].

    Raises:
      ValueError: if an argument is outside its range.
    """
    checks.positive(step_size=step_size)
    checks.satisfies("in (0, 1]", lambda fraction: (fraction > 0) & (fraction <= 1), min_fraction=min_fraction)
    checks.number(min_fraction=min_fraction)
    return lambda step: step_size * min_fraction ** _golden(step)


def _golden(step: Array | int) -> Array:
    """The fractional part of step times the golden ratio, rounded down to a multiple of 2^-24, at any int32 step.

    It is computed in integers modulo 2^32, since a float32 product loses its fraction beyond a few million steps.
    """
    product = jnp.asarray(step).astype(jnp.uint32) * jnp.uint32(2654435769)  # 2^32 / the golden ratio
    return (product >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def cyclical(
    step_size: float, *, num_steps: int, num_cycles: int, exploration_fraction: float = 0.8, temperature: float = 1.0
) -> Cyclical:
    """Returns cosine cycles of the step size. Each cycle first explores at temperature 0 and then samples.

        eta_t = eta_0 / 2 (cos(pi s_t) + 1),    s_t = (t mod C) / C,    C = ceil(num_steps / num_cycles)

    Args:
      step_size: eta_0, the step size at the start of each cycle.
      num_steps: number of steps of the whole run.
      num_cycles: number of cycles, at least 1; a cycle has C steps.
      exploration_fraction: fraction of each cycle, in [0, 1), that runs at temperature 0.
      temperature: temperature of the sampling steps, positive.

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
    )  # an integer, because backends round float32 differently

    def position_in_cycle(step: Array) -> Array:
        return (step % length) / length

    def is_sampling(step: Array) -> Array:
        return step % length >= first_sampling

    return Cyclical(
        step_size=lambda step: step_size / 2 * (jnp.cos(jnp.pi * position_in_cycle(step)) + 1),
        temperature=lambda step: jnp.where(is_sampling(step), temperature, 0.0),
        is_sampling=is_sampling,
    )
