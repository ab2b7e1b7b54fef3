"""Tests of states and infos: gradients after a replaced position, temperatures, divergences, invalid starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_oracle import PRECISIONS

from bayesjax import tree
from bayesjax.kernels import adapt, hmc, nuts, particles, sghmc, sgld, sgnht
from tests.kernels.test_hmc import gaussian, quick_jit


@pytest.mark.parametrize(("method", "num_chains"), [(hmc, None), (hmc, 4), (nuts, None)])
def test_a_replaced_position_is_evaluated_anew(method, num_chains):
    """`state._replace(position=...)` gives the draw of a fresh state at that position, to the last bit.

    Only one of four chains is replaced; a step from its own position evaluates nothing twice (above).
    """
    arguments = {"num_integration_steps": 2} if method is hmc else {"max_num_doublings": 2}
    kernel, position = method(gaussian, step_size=0.3, **arguments), {"x": jnp.array([1.0, -0.5, 0.3])}
    moved = {"x": jnp.array([-3.0, 2.0, 1.0])}
    if num_chains:
        kernel, position = particles(kernel, num_chains), tree.stack([position] * num_chains)
        moved = {"x": position["x"].at[2].set(moved["x"])}
    step = quick_jit(kernel.step)
    state, _ = step(jax.random.key(1), kernel.init(position, jax.random.key(0)), None)
    replaced, _ = step(jax.random.key(2), state._replace(position=moved), None)
    fresh, _ = step(jax.random.key(2), kernel.init(moved, jax.random.key(0)), None)
    for name in ("position", "logdensity", "gradient"):
        jax.tree.map(np.testing.assert_array_equal, getattr(replaced, name), getattr(fresh, name))


# ---- starts outside the target


def of_batch(params, rng_key, batch):
    """The same number everywhere."""
    return batch + 0 * jnp.sum(params["x"])


KERNELS = {
    "hmc": functools.partial(hmc, num_integration_steps=2),
    "nuts": functools.partial(nuts, max_num_doublings=2),
}


@pytest.mark.parametrize("is_adapted", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_a_start_without_a_density_is_divergent(name, is_adapted):
    """Where the log density is not finite the step is reported as divergent and never as accepted, in a warm-up too."""
    if is_adapted:
        kernel = adapt(functools.partial(KERNELS[name], of_batch), num_steps=20)
    else:
        kernel = KERNELS[name](of_batch, step_size=0.1)
    start, step = kernel.init({"x": jnp.ones(2)}, jax.random.key(0)), quick_jit(kernel.step)
    for value in (-np.inf, np.nan, np.inf):
        state, info = step(jax.random.key(1), start, jnp.float32(value))
        state, info = step(jax.random.key(2), state, jnp.float32(value))
        inner = info.inner if is_adapted else info
        assert inner.is_divergent
        assert inner.acceptance_probability == 0
        assert not jnp.isfinite(inner.logdensity)
        np.testing.assert_array_equal(state.position["x"], 1.0)
    state, info = step(jax.random.key(1), start, jnp.float32(0.0))
    assert not (info.inner if is_adapted else info).is_divergent


# ---- infos


@pytest.mark.parametrize("name", ["sgld", "sghmc", "sgnht", "hmc", "nuts"])
def test_the_configurational_temperature_is_of_the_position_that_it_names(name):
    """-<theta, grad log p> / dim, before the step of Langevin samplers and after that of HMC and NUTS."""
    method = {**KERNELS, "sgld": sgld, "sghmc": sghmc, "sgnht": sgnht}[name]
    kernel = method(gaussian, step_size=0.3, temperature=0.5)
    before = kernel.init({"x": jnp.array([1.0, -0.5, 0.3])}, jax.random.key(0))
    after, info = quick_jit(kernel.step)(jax.random.key(1), before, None)
    of_before, of_after = (np.mean(PRECISIONS * np.square(state.position["x"])) for state in (before, after))
    right, wrong = (of_after, of_before) if name in KERNELS else (of_before, of_after)
    np.testing.assert_allclose(info.configurational_temperature, right, rtol=1e-5)
    assert abs(info.configurational_temperature - wrong) > 1e-2


def test_a_divergence_is_measured_in_units_of_the_temperature():
    """At T = 0.1 a step is divergent from the threshold energy error / T on, and not from the error itself."""
    position = {"x": jnp.zeros(3)}

    def info(threshold):
        kernel = hmc(gaussian, step_size=0.9, num_integration_steps=3, temperature=0.1, divergence_threshold=threshold)
        return quick_jit(kernel.step)(jax.random.key(2), kernel.init(position, jax.random.key(0)), None)[1]

    error = float(info(np.inf).energy_error)
    assert error > 0.01
    assert info(0.99 * error / 0.1).is_divergent
    assert not info(1.01 * error / 0.1).is_divergent


@pytest.mark.parametrize("temperature", [0.25, 4.0])
@pytest.mark.parametrize("method", [sghmc, sgnht])
def test_the_first_momentum_has_the_temperature(method, temperature):
    """`<p, p> / dim` of 10000 momenta drawn by init is T within 4 standard errors of 1.4 %.

    False alarms: 6.3e-5 each.
    """
    kernel = method(gaussian, step_size=0.01, friction=0.1, temperature=temperature)
    momentum = kernel.init({"x": jnp.zeros(10000)}, jax.random.key(3)).momentum["x"]
    assert abs(np.mean(momentum**2) / temperature - 1) < 4 * np.sqrt(2 / 10000)
