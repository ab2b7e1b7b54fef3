"""Adaptation of the step size and the mass matrix of HMC and NUTS during a warm-up.

The warm-up has Stan's three phases. The first and the last adapt only the step size. The middle phase consists of
windows, each twice as long as the one before, and the mass is estimated from the draws of each. The step size follows
Nesterov's dual averaging of the acceptance probability a_t towards its target delta,

    log eps_t = mu - sqrt(t) / gamma * E_t,    E_t = (1 - w_t) E_{t-1} + w_t (delta - a_t),    w_t = 1 / (t + 10)

with mu = log(10 eps_0), the initial step size eps_0 and gamma = 0.05. It restarts whenever the mass changes. M^-1 is
the variance (or covariance) of the window's draws, shrunk slightly towards 1e-3. After `num_steps` steps, step size and
mass are constant, so that later draws are valid. Inside `particles`, each chain adapts separately.

HMC with an adapted mass needs step sizes that vary. With that mass, the period is nearly the same in every direction,
and trajectories of one constant length can return near their start in all directions. Jittered step sizes avoid this:

    def make(step_size, inverse_mass_matrix):
        return kernels.hmc(
            logdensity, step_size=kernels.jittered(step_size, 0.5), inverse_mass_matrix=inverse_mass_matrix,
            num_integration_steps=8,
        )

    kernel = kernels.adapt(make, num_steps=400, target_acceptance=0.65)

For example, the target is ten independent normals with standard deviations from 0.1 to 3. The smallest effective sample
size of four chains of 1000 draws of this kernel is about 2200, and about 50 with a constant step size
(`tests/kernels/test_adaptation.py`). NUTS adapts its trajectory lengths and needs no jitter.

Sources: Hoffman & Gelman, "The No-U-Turn sampler", 2014, section 3.2; Stan reference manual, "HMC algorithm
parameters". Read `mass.py` next.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayesjax import checks
from bayesjax.kernels.mass import InverseMass, as_vector_or_matrix, check
from bayesjax.types import Array, Kernel, Params, PRNGKey, PyTree

GAMMA, DELAY, FORGETTING = 0.05, 10, 0.75  # Hoffman & Gelman's gamma, t_0 and kappa


class AdaptState(NamedTuple):
    """State of `adapt`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      inner: the state of the adapted kernel.
      step_size: eps, the step size of the next step.
      inverse_mass_matrix: M^-1 of the next step, `[dim]`, or `[dim, dim]` if dense.
      averaging: the state of the dual averaging.
      window: moments of the draws since the last change of the mass.
    """

    step: Array
    inner: Any
    step_size: Array
    inverse_mass_matrix: Array
    averaging: "Averaging"
    window: "Window"

    @property
    def position(self) -> Params:
        """The position of the adapted kernel."""
        return self.inner.position


class Averaging(NamedTuple):
    """State of the dual averaging of the step size.

    Attributes:
      num: number of acceptance probabilities since the last restart.
      centre: mu, the logarithm of ten times the step size at the last restart.
      error: E, the running mean of delta - a.
      log_average: running mean of log eps, from which the final step size is computed.
    """

    num: Array
    centre: Array
    error: Array
    log_average: Array


class Window(NamedTuple):
    """Welford's running moments of the positions in a window.

    Attributes:
      num: number of positions.
      mean: mean position, `[dim]`.
      deviations: sums of squared deviations from the mean, `[dim]`, or of their products, `[dim, dim]`.
    """

    num: Array
    mean: Array
    deviations: Array


class AdaptInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      inner: the info of the adapted kernel.
      step_size: the step size of this step.
    """

    inner: Any
    step_size: Array


def adapt(
    make: Callable[..., Kernel],
    *,
    num_steps: int,
    step_size: float = 0.1,
    target_acceptance: float = 0.8,
    mass: Literal["diagonal", "dense", "fixed"] = "diagonal",
    inverse_mass_matrix: InverseMass = 1.0,
) -> Kernel:
    """Adapts the step size and mass of a kernel in its first `num_steps` steps and keeps them constant afterwards.

    Args:
      make: `(step_size=, inverse_mass_matrix=) -> Kernel`. The info of the kernel must have `acceptance_probability`.
        Examples are `functools.partial(kernels.nuts, logdensity)`, and `make` in the text of this module. Do not use
        `hmc` with a constant step size, whose trajectories may be periodic.
      num_steps: length of the warm-up, at least 20; below 150 its phases are scaled down. Discard the draws of the
        warm-up (`training.run(num_burnin=num_steps)`).
      step_size: initial step size eps_0, positive.
      target_acceptance: delta, in (0, 1). 0.65 suits HMC and 0.8 suits NUTS; use a larger value if steps diverge.
      mass: "diagonal" and "dense" adapt a diagonal and a full matrix M^-1. "fixed" adapts the step size only, which is
        better for the thousands of weights of a network; their prior variances are a good M^-1.
      inverse_mass_matrix: initial M^-1, in any form that `hmc` accepts.

    Returns:
      A kernel whose state is an `AdaptState` and whose info is an `AdaptInfo`.

    Raises:
      ValueError: if an argument is outside its range. `init` raises it if a leaf of the position is not a
        floating-point array, or `mass` is "diagonal" and `inverse_mass_matrix` is a matrix. `step` raises it if the
        kernel's info has no `acceptance_probability`.
    """
    if num_steps < 20:
        raise ValueError(f"num_steps must be at least 20; got {num_steps}")
    checks.satisfies("in (0, 1)", lambda target: (target > 0) & (target < 1), target_acceptance=target_acceptance)
    checks.positive(step_size=step_size)
    checks.number(target_acceptance=target_acceptance)
    check(inverse_mass_matrix)
    if mass not in ("diagonal", "dense", "fixed"):
        raise ValueError(f"mass must be 'diagonal', 'dense' or 'fixed'; got {mass!r}")
    in_window, ends_window = (jnp.asarray(flags) for flags in windows(num_steps))
    if mass == "fixed":  # the whole warm-up is one phase that adapts the step size
        in_window, ends_window = jnp.zeros_like(in_window), jnp.zeros_like(ends_window)

    def init(position: Params, rng_key: PRNGKey) -> AdaptState:
        position = checks.floating(position, "position")
        inverse = as_vector_or_matrix(inverse_mass_matrix, position).astype(jnp.result_type(float))
        if mass == "diagonal" and inverse.ndim == 2:
            raise ValueError("inverse_mass_matrix must be a diagonal if mass is 'diagonal'; got a matrix")
        if mass == "dense" and inverse.ndim == 1:
            inverse = jnp.diag(inverse)
        start = jnp.asarray(step_size, jnp.result_type(float))
        inner = make(step_size=start, inverse_mass_matrix=inverse).init(position, rng_key)
        return AdaptState(
            jnp.zeros((), jnp.int32), inner, start, inverse, _restarted_averaging(start), _empty_window(inverse)
        )

    def step(rng_key: PRNGKey, state: AdaptState, batch: PyTree) -> tuple[AdaptState, AdaptInfo]:
        kernel = make(step_size=state.step_size, inverse_mass_matrix=state.inverse_mass_matrix)
        inner, info = kernel.step(rng_key, state.inner, batch)
        if not hasattr(info, "acceptance_probability"):
            fields = ", ".join(getattr(info, "_fields", ())) or type(info).__name__
            raise ValueError(f"make must give a kernel whose info has acceptance_probability; got {fields}")
        place = jnp.minimum(state.step, num_steps - 1)
        is_adapted = state.step >= num_steps
        averaging = _updated_averaging(state.averaging, target_acceptance - info.acceptance_probability)
        window = _updated_window(state.window, ravel_pytree(inner.position)[0], ~is_adapted & in_window[place])

        is_end = ~is_adapted & ends_window[place]
        inverse = jnp.where(is_end, _shrunk_covariance(window), state.inverse_mass_matrix)
        averaged, is_last = jnp.exp(averaging.log_average), state.step == num_steps - 1
        adapting = jnp.where(is_last | is_end, averaged, jnp.exp(_log_step_size(averaging)))
        averaging = _select(is_end, _restarted_averaging(averaged), averaging)
        new = AdaptState(
            step=state.step + 1,
            inner=inner,
            step_size=jnp.where(is_adapted, state.step_size, adapting),
            inverse_mass_matrix=inverse,
            averaging=_select(is_adapted, state.averaging, averaging),
            window=_select(is_end, _empty_window(inverse), window),
        )
        return new, AdaptInfo(info, state.step_size)

    return Kernel(init, step)


def windows(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each step of the warm-up whether its draw is in a window, and whether it is the last of its window.

    The first 75 and last 50 steps adapt the step size only (15 % and 10 % of a warm-up below 150 steps). The
    windows between them have 25, 50, 100, ... steps; the last window also takes the remainder.

    Args:
      num_steps: number of steps of the warm-up.

    Returns:
      Two boolean arrays, each `[num_steps]`.
    """
    start, last, first = (75, 50, 25) if num_steps >= 150 else (int(0.15 * num_steps), int(0.1 * num_steps), 0)
    end = num_steps - last
    in_window, ends_window = np.zeros(num_steps, bool), np.zeros(num_steps, bool)
    in_window[start:end] = True
    size, place = first or end - start, start
    while place < end:
        if place + size + 2 * size > end:  # the next window would not be complete
            size = end - place
        place += size
        ends_window[place - 1] = True
        size *= 2
    return in_window, ends_window


def _restarted_averaging(step_size: Array) -> Averaging:
    zero = jnp.zeros_like(step_size)
    return Averaging(zero, jnp.log(10 * step_size), zero, zero)


def _updated_averaging(averaging: Averaging, error: Array) -> Averaging:
    num = averaging.num + 1
    share = 1 / (num + DELAY)
    mean = (1 - share) * averaging.error + share * error
    updated = Averaging(num, averaging.centre, mean, averaging.log_average)
    weight = num**-FORGETTING
    return updated._replace(log_average=weight * _log_step_size(updated) + (1 - weight) * averaging.log_average)


def _log_step_size(averaging: Averaging) -> Array:
    return averaging.centre - jnp.sqrt(averaging.num) / GAMMA * averaging.error


def _empty_window(inverse: Array) -> Window:
    return Window(jnp.zeros((), inverse.dtype), jnp.zeros(len(inverse), inverse.dtype), jnp.zeros_like(inverse))


def _updated_window(window: Window, flat: Array, is_counted: Array) -> Window:
    num = window.num + 1
    before = flat - window.mean
    mean = window.mean + before / num
    after = flat - mean
    products = jnp.outer(after, before) if window.deviations.ndim == 2 else after * before
    return _select(is_counted, Window(num, mean, window.deviations + products), window)


def _shrunk_covariance(window: Window) -> Array:
    """The covariance of the window, shrunk towards 1e-3 with the weight of five draws, as in Stan."""
    num = window.num
    covariance = window.deviations / jnp.maximum(num - 1, 1)
    small = 1e-3 * (jnp.eye(len(window.mean)) if covariance.ndim == 2 else 1.0)
    return (num * covariance + 5 * small) / (num + 5)


def _select(condition: Array, chosen: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
