"""Tests of SGNHT: the temperature under gradient noise, and a friction that measures the noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_oracle import PRECISIONS, Setting, assert_within_four_standard_errors, logdensity, stationary

from bayesjax import data
from bayesjax.kernels import particles, sghmc, sgnht
from tests.parameters import some

SETTINGS = {
    "exact gradients": Setting(0.01, 0.1),
    "gradient noise": Setting(0.01, 0.1, 1.0, 4.0),
    "cold, gradient noise": Setting(0.01, 0.1, 0.1, 1.0),
}
STEPS = {"num_warmup": 600, "num_steps": 4000}


@functools.cache
def run():
    def make(s):
        return sgnht(logdensity, step_size=s.eta, friction=s.alpha, temperature=s.temperature)

    def read(state, s):
        return {"position": state.position["x"], "shifted friction": 1 + state.friction[:, None]}

    return stationary(SETTINGS, make, read, **STEPS)


@pytest.mark.parametrize("name", some(SETTINGS, "gradient noise"))
def test_the_temperature_is_that_of_the_target(name):
    """Variances T / precision within 4 standard errors plus 1 % for the step, without being told of the noise.

    False alarms: 3 comparisons at 6.3e-5 a setting. Power: SGHMC with the same step and friction, which is not told
    either, is over 50 % too hot (next test).
    """
    exact = SETTINGS[name].temperature / PRECISIONS
    position = run()[name]["position"]
    bias = np.clip(position.mean(axis=0) / exact - 1, -0.01, 0.01)
    assert_within_four_standard_errors({"position": position}, {"position": exact * (1 + bias)})


def test_sghmc_is_hot_where_the_thermostat_is_not():
    """Gradient noise of deviation 4 at eta 0.01: (alpha T + eta sigma^2 / 2) / alpha is 1.8 T, which SGHMC shows."""
    runs = stationary(
        {"gradient noise": SETTINGS["gradient noise"]},
        lambda s: sghmc(logdensity, step_size=s.eta, friction=s.alpha),
        lambda state, s: {"position": state.position["x"]},
        num_warmup=600, num_steps=1000,
    )  # fmt: skip
    hot = (runs["gradient noise"]["position"] * PRECISIONS).mean()
    assert hot == pytest.approx(1.8, rel=0.1)


def test_the_friction_finds_the_noise():
    """Its mean is alpha + eta sigma^2 / (2 T): 0.1, 0.18 and 0.15, within 0.01.

    Read as the root of the mean of (1 + friction)^2 less 1, which half of its variance, eta T / (dim mu), adds 0.002
    to. The standard error over 400 chains is 0.001, and no gradient noise would be 0.05 to 0.08 off.
    """
    for name, s in SETTINGS.items():
        expected = s.alpha + s.eta * s.sigma**2 / 2 / s.temperature
        found = np.sqrt(run()[name]["shifted friction"].mean()) - 1
        assert found == pytest.approx(expected, abs=0.01)


def test_the_friction_follows_the_kinetic_energy():
    """a + eta/2 (K - T) / mu, with K = <p, p> / dim, once before and once after the noise of a step."""
    eta, temperature, thermal_mass = 0.04, 0.5, 3.0
    kernel = sgnht(
        lambda x, rng_key, batch: -0.5 * jnp.sum(x**2),
        step_size=eta, temperature=temperature, thermal_mass=thermal_mass,
    )  # fmt: skip
    state = kernel.init(jnp.linspace(-2, 2, 7), jax.random.key(0))
    moved, info = kernel.step(jax.random.key(1), state, None)
    before = jnp.mean((state.momentum - np.sqrt(eta) * state.position) ** 2)
    driven = (before - temperature + info.kinetic_temperature - temperature) / thermal_mass
    np.testing.assert_allclose(moved.friction, state.friction + eta / 2 * driven, rtol=1e-5)


def test_a_step_size_may_fall_to_zero():
    """On N(0, I) in 2000 dimensions with a falling step size, to 0: kinetic temperature and variance stay near 1."""

    def density(params, rng_key, batch):
        return -0.5 * jnp.sum(params**2)

    kernel = sgnht(density, step_size=lambda t: 0.05 * jnp.maximum(0.0, 1 - t / 2000))
    state = kernel.init(jax.random.normal(jax.random.key(0), (2000,)), jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 2050)
    state, info = jax.jit(lambda s: jax.lax.scan(lambda s, key: kernel.step(key, s, None), s, keys))(state)
    assert jnp.var(state.position) == pytest.approx(1, abs=0.13)  # 4 standard errors
    assert info.kinetic_temperature[-50:].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_batches_have_to_be_independent():
    """Means of N(theta, 10^2) data from batches of 5 of 100: the posterior's variance within 4 standard errors, and 3 %
    for the step, if batches are drawn with replacement (false alarms 6.3e-5).

    Power: an epoch's batches, whose noise adds up to nothing, leave less than 85 % of it.
    """
    values = 10 * jax.random.normal(jax.random.key(0), (100, 8))

    def density(params, rng_key, batch):
        return -0.5 * 100 / 5 * jnp.sum(((batch - params) / 10) ** 2)  # a posterior of N(mean, 1)

    kernel = particles(sgnht(density, step_size=0.01, friction=0.1), 200)
    state = kernel.init(jnp.broadcast_to(values.mean(axis=0), (200, 8)), jax.random.key(1))

    @jax.jit
    def variance(batches):
        def advance(carry, step):
            state, total = carry
            state, _ = kernel.step(jax.random.fold_in(jax.random.key(3), step), state, batches(step))
            squares = jnp.square(state.position - values.mean(axis=0))
            # Dimensions are independent; chains share batches.
            return (state, total + jnp.where(step >= 500, squares.mean(axis=0), 0.0)), None

        return jax.lax.scan(advance, (state, jnp.zeros(8)), jnp.arange(4500))[0][1] / 4000

    drawn, shuffled = (
        np.asarray(variance(data.Minibatches(jax.random.key(2), values, 5, with_replacement=each)))
        for each in (True, False)
    )
    stderr = drawn.std(ddof=1) / np.sqrt(len(drawn))
    assert abs(drawn.mean() - 1) < 4 * stderr + 0.03
    assert stderr < 0.03
    assert shuffled.mean() < 0.85
