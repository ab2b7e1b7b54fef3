"""Tests of the schedules of step sizes and temperatures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels, tree
from tests.kernels.test_sampler_properties import BATCH, START, distance, equal, quartic
from tests.parameters import some


def test_polynomial():
    """a (b + t)^-gamma."""
    schedule = kernels.polynomial(0.1, 10.0, 0.55)
    np.testing.assert_allclose(schedule(jnp.arange(3)), 0.1 * (10 + np.arange(3)) ** -0.55, rtol=1e-6)


def test_jittered():
    """Any stretch of steps has sizes all over the range, evenly in the logarithm; shares out of it are refused."""
    sizes = np.asarray(kernels.jittered(0.1, 0.02)(jnp.arange(1000)))
    assert sizes.min() >= 0.1 * 0.02 and sizes.max() <= 0.1 * (1 + 1e-6)
    for stretch in sizes.reshape(10, 100):
        shares = np.sort(np.log(stretch / 0.1) / np.log(0.02))
        np.testing.assert_allclose(shares, (np.arange(100) + 0.5) / 100, atol=0.02)
    np.testing.assert_allclose(kernels.jittered(0.1, 1.0)(jnp.arange(5)), 0.1, rtol=1e-6)
    for start in (10**6, 2 * 10**7, 2**31 - 1001):  # where a product in float32 has no fraction left
        later = np.asarray(kernels.jittered(0.1, 0.02)(start + jnp.arange(1000)), np.float64)
        shares = np.sort(np.log(later / 0.1) / np.log(0.02))
        np.testing.assert_allclose(shares, (np.arange(1000) + 0.5) / 1000, atol=0.002)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"min_fraction must be in \(0, 1\]; got"):
            kernels.jittered(0.1, share)


def test_cyclical():
    """Zhang et al.'s equation 1, whose k counts from 1, over 3 cycles of 4 steps; half of each is sampling."""
    cycle = kernels.cyclical(0.2, num_steps=10, num_cycles=3, exploration_fraction=0.5, temperature=0.3)
    k = np.arange(1, 13)
    expected = 0.2 / 2 * (np.cos(np.pi * ((k - 1) % 4) / 4) + 1)
    np.testing.assert_allclose(cycle.step_size(jnp.arange(12)), expected, rtol=1e-5)
    np.testing.assert_array_equal(cycle.is_sampling(np.arange(12)), [False, False, True, True] * 3)
    np.testing.assert_array_equal(cycle.sampling_draws(12), [False, False, True, True] * 3)
    np.testing.assert_array_equal(cycle.sampling_draws(13, thinning=3), [True, False, False, True])  # steps 3 6 9 12
    np.testing.assert_array_equal(cycle.sampling_draws(12, num_burnin=3, thinning=2), [True, False, True, False, True])
    np.testing.assert_allclose(cycle.temperature(jnp.arange(4)), [0, 0, 0.3, 0.3])
    assert cycle.step_size(0) == pytest.approx(0.2)


def test_a_cycle_is_not_a_schedule():
    """The message names the field to pass."""
    cycle, number = kernels.cyclical(0.2, num_steps=10, num_cycles=3), {"step_size": 0.1}
    for name in ("step_size", "temperature"):
        words = f"^{name} must be a number or a schedule; got all schedules of a cycle: pass cycle.{name}$"
        with pytest.raises(ValueError, match=words):
            kernels.sghmc(quartic, **(number | {name: cycle}))


@pytest.mark.parametrize("length", [50, 100])
def test_a_cycle_samples_from_one_step_on_everywhere(length):
    """0.8 of 100 is 80 in numpy and compiled; in float32 80 / 100 < 0.8."""
    cycle = kernels.cyclical(0.2, num_steps=2 * length, num_cycles=2)
    steps = np.arange(2 * length)
    expected = steps % length >= 4 * length // 5
    np.testing.assert_array_equal(cycle.is_sampling(steps), expected)
    np.testing.assert_array_equal(jax.jit(cycle.temperature)(jnp.asarray(steps)) > 0, expected)


def test_sghmc_may_start_with_a_step_size_of_zero():
    """A linear warm-up: the first step does not move, and the second is that of its own step size."""
    warm_up, constant = (
        kernels.sghmc(quartic, step_size=step_size) for step_size in (lambda step: 0.1 * step, lambda step: 0.1)
    )
    state = warm_up.init(START, jax.random.key(0))
    first, _ = warm_up.step(jax.random.key(1), state, BATCH)
    assert equal(first.position, state.position) and tree.all_finite(first)
    second, _ = warm_up.step(jax.random.key(2), first, BATCH)
    expected, _ = constant.step(jax.random.key(2), first, BATCH)
    assert not equal(second.position, first.position)
    assert equal(second, expected)


def test_sghmc_stops_at_a_step_size_of_zero_and_goes_on():
    """On N(0, I) in 2000 dimensions: nothing moves while the step size is 0, and the momentum stays finite.

    From the first positive step size on it moves again, and 60 steps later the kinetic temperature is 1 within 4
    standard errors: 0.13 at 2000 dimensions.
    """

    def density(params, rng_key, batch):
        return -0.5 * jnp.sum(params**2)

    kernel = kernels.sghmc(density, step_size=lambda t: jnp.where((t >= 10) & (t < 40), 0.0, 0.05), friction=0.1)
    state = kernel.init(jax.random.normal(jax.random.key(0), (2000,)), jax.random.key(1))

    def advance(state, key):
        state, info = kernel.step(key, state, None)
        return state, (state.position, info.kinetic_temperature)

    keys = jax.random.split(jax.random.key(2), 100)
    _, (positions, temperatures) = jax.jit(lambda s: jax.lax.scan(advance, s, keys))(state)
    assert jnp.isfinite(positions).all() and jnp.isfinite(temperatures).all()
    assert (positions[10:40] == positions[9]).all()
    assert (positions[40] != positions[39]).all() and (positions[9] != positions[8]).all()
    assert temperatures[-1] == pytest.approx(1, abs=0.13)


@pytest.mark.parametrize("method", [kernels.sgld, kernels.sghmc])
def test_exploration_draws_no_noise(method):
    """While the temperature is 0, another key gives the same positions; from the first sampling step on it does not.

    SGHMC starts with a momentum of the temperature there, which is 0 too.
    """
    cycle = kernels.cyclical(0.02, num_steps=8, num_cycles=1, exploration_fraction=0.5)
    kernel = method(quartic, step_size=cycle.step_size, temperature=cycle.temperature)

    @jax.jit
    def positions(rng_key):
        state = kernel.init(START, rng_key)
        keys = jax.random.split(rng_key, 8)
        return jax.lax.scan(lambda state, key: (kernel.step(key, state, BATCH)[0],) * 2, state, keys)[1].position["a"]

    a, b = positions(jax.random.key(0)), positions(jax.random.key(1))
    np.testing.assert_array_equal(a[:4], b[:4])
    assert (a[4:] != b[4:]).any(axis=1).all()


METHODS = {
    "sgld": kernels.sgld,
    "sghmc": kernels.sghmc,
    "sgnht": kernels.sgnht,
    "hmc": functools.partial(kernels.hmc, num_integration_steps=3),
    "nuts": functools.partial(kernels.nuts, max_num_doublings=2),
}


@pytest.mark.parametrize("name", some(METHODS, "sgld", "sghmc", "hmc"))
def test_temperature_may_be_a_schedule_of_the_step(name):
    """Each step is that of a kernel at the temperature of its step count, and not at that of another step."""
    make = functools.partial(METHODS[name], quartic, step_size=0.05)
    scheduled, warm, cold = (
        make(temperature=temperature) for temperature in (lambda t: jnp.where(t < 1, 1.0, 0.25), 1.0, 0.25)
    )
    state = scheduled.init(START, jax.random.key(0))
    assert equal(state, warm.init(START, jax.random.key(0)))
    for i, (right, wrong) in enumerate([(warm, cold), (cold, warm)]):
        key = jax.random.key(i + 1)
        moved, expected, other = (kernel.step(key, state, BATCH)[0] for kernel in (scheduled, right, wrong))
        assert distance(moved.position, expected.position) < 1e-6
        assert distance(moved.position, other.position) > 1e-4
        state = moved


@pytest.mark.parametrize("name", ["sgnht", "hmc", "nuts"])
def test_a_temperature_of_zero_is_refused_where_it_is_undefined(name):
    with pytest.raises(ValueError, match="temperature must be positive and finite; got 0"):
        METHODS[name](quartic, step_size=0.05, temperature=0)
