"""Step-size bias on a target where no sampler is exact: ten coordinates of exp(-x^2 / 4) / cosh(x)^2 (make test-slow).

E[x^2] is known from quadrature. With h the step in time (eta = h^2 (2 - alpha) / 2, alpha = 1 - exp(-h)), the scheme of
`sghmc` and `sgnht` has almost no bias at h = 0.8; SGHMC as first printed, with all noise before the drift, is far off,
and SGLD's, at eta = h^2 / 2, falls with eta.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from bayesjax import kernels
from bayesjax.types import Kernel

DIM, NUM_CHAINS, BURNIN, TIME = 10, 6000, 30, 400
pytestmark = pytest.mark.slow


def logdensity(params, rng_key, batch):
    del rng_key, batch
    return jnp.sum(-0.25 * params**2 - 2 * (jnp.logaddexp(2 * params, 0.0) - params))


def langevin(method, h):
    """Langevin dynamics with unit friction."""
    alpha = 1 - np.exp(-h)
    return method(logdensity, step_size=h**2 * (2 - alpha) / 2, friction=alpha)


def sgld(h):
    return kernels.sgld(logdensity, step_size=h**2 / 2)


class Moving(NamedTuple):
    position: jax.Array
    velocity: jax.Array


def as_printed(h):
    """v' = (1 - alpha) v + eta g + N(0, 2 alpha eta), theta' = theta + v'."""

    def step(rng_key, state, batch):
        noise = jnp.sqrt(2 * h**3) * jax.random.normal(rng_key, (DIM,))
        velocity = (1 - h) * state.velocity + h**2 * jax.grad(logdensity)(state.position, None, None) + noise
        return state._replace(position=state.position + velocity, velocity=velocity), None

    return Kernel(lambda position, rng_key: Moving(position, jnp.zeros(DIM)), step)


@functools.cache
def bias(make, h):
    """The relative bias of E[x^2], and its standard error over chains."""
    kernel, num_burnin, num_steps = make(h), int(BURNIN / h), int(TIME / h)

    def chain(rng_key):
        start_key, init_key, run_key = jax.random.split(rng_key, 3)

        def advance(carry, step):
            state, total = carry
            state, _ = kernel.step(jax.random.fold_in(run_key, step), state, None)
            return (state, total + jnp.where(step >= num_burnin, jnp.mean(state.position**2), 0.0)), None

        state = kernel.init(jax.random.normal(start_key, (DIM,)), init_key)
        (_, total), _ = jax.lax.scan(advance, (state, 0.0), jnp.arange(num_burnin + num_steps))
        return total / num_steps

    means = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(3), NUM_CHAINS)), np.float64)
    weight = lambda x: np.exp(-0.25 * x**2) / np.cosh(x) ** 2  # noqa: E731
    exact = integrate.quad(lambda x: x**2 * weight(x), -9, 9)[0] / integrate.quad(weight, -9, 9)[0]
    return means.mean() / exact - 1, means.std(ddof=1) / np.sqrt(NUM_CHAINS) / exact


@pytest.mark.parametrize("method", [kernels.sghmc, kernels.sgnht])
def test_a_step_of_eight_tenths_has_almost_no_bias(method):
    """Below 0.5 %, ten standard errors."""
    value, stderr = bias(functools.partial(langevin, method), 0.8)
    assert stderr < 5e-4
    assert abs(value) < 0.005


def test_the_first_order_scheme_is_far_off():
    """Power: at half of that step it is still off by more than 5 %."""
    value, stderr = bias(as_printed, 0.4)
    assert value > 0.05 + 4 * stderr


def test_the_bias_of_sgld_falls_with_its_step():
    """A quarter of eta, a quarter of the bias: between 3 and 5, ten standard errors away from a second-order 16."""
    (coarse, _), (fine, stderr) = bias(sgld, 0.5), bias(sgld, 0.25)
    assert 3 < coarse / fine < 5
    assert fine > 20 * stderr
