"""Samplers against the exact covariance of their own discretisation, with planted faults that the same check catches.

On a Gaussian target a Langevin step is linear, x <- A x + B xi, and its stationary covariance C solves the discrete
Lyapunov equation C = A C A' + B B'. So there is no tolerance to choose: empirical moments must lie within 4 Monte Carlo
standard errors, taken from independent chains, of the exact value. The maps A and B are written here in float64 from
the equations in the header of `kernels/sghmc.py`, not from its code.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

from bayesjax import tree
from bayesjax.kernels import particles, sghmc, sgld
from bayesjax.types import Kernel

PRECISIONS = np.array([0.5, 1.0, 4.0])
NUM_CHAINS = 400


class Setting(NamedTuple):
    """One run: step size eta, friction alpha, temperature T, gradient noise sd sigma, noise estimate beta."""

    eta: float
    alpha: float = 0.2
    temperature: float = 1.0
    sigma: float = 0.0
    beta: float = 0.0


SGHMC_SETTINGS = {
    "small step": Setting(0.02, 0.1),
    "large step": Setting(0.4, 0.3),
    "cold": Setting(0.1, 0.2, 0.1),
    "gradient noise": Setting(0.1, 0.2, 1.0, 1.5),
    "gradient noise, estimated": Setting(0.1, 0.2, 1.0, 1.5, 0.1 / 2 * 1.5**2),
    "cold, gradient noise, estimated": Setting(0.1, 0.3, 0.1, 0.5, 0.1 / 2 * 0.5**2),
    "gradient noise beyond the friction": Setting(0.1, 0.1, 0.1, 1.0, 0.1 / 2 * 1.0**2),
}
SGLD_SETTINGS = {
    "step 0.4": Setting(0.4),
    "step 0.2": Setting(0.2),
    "step 0.1": Setting(0.1),
    "cold": Setting(0.2, temperature=0.1),
    "gradient noise": Setting(0.2, sigma=1.5),
}


def logdensity(params, rng_key, batch):
    """N(0, 1 / precision) on each coordinate, with additive N(0, sigma^2) noise in the gradient."""
    precision, sigma = batch
    noise = jax.random.normal(rng_key, params["x"].shape)
    return -0.5 * jnp.sum(precision * params["x"] ** 2) + sigma * jnp.sum(noise * params["x"])


# The oracle, in float64.


def unit_mass(eta, alpha):
    """p = factor * v: BAOAB's h is sqrt(2 eta / (2 - alpha)); v is the drift h (1 + c) / 2 of p / c, c = 1 - alpha."""
    h, c = np.sqrt(2 * eta / (2 - alpha)), 1 - alpha
    return c / (h * (1 + c) / 2)


def sghmc_map(precision, s, position_noise=0.5, momentum_noise=None):
    """(A, Q) of (theta, v) for one coordinate; the two noise shares are arguments so that a fault can change them.

    v+ = (1 - alpha) v - eta precision theta;  theta' = theta + v+ + n / 2;  v' = v+ + (1 - alpha/2)/(1 - alpha) n.
    """
    share = (1 - s.alpha / 2) / (1 - s.alpha) if momentum_noise is None else momentum_noise
    kick = np.array([-s.eta * precision, 1 - s.alpha])
    transition = np.array([[1 + kick[0], kick[1]], kick])
    noise = np.array([position_noise, share])
    gradient_noise = s.eta * np.ones(2)
    injected = 2 * max(s.alpha * s.temperature - s.beta, 0) * s.eta
    return transition, injected * np.outer(noise, noise) + s.sigma**2 * np.outer(gradient_noise, gradient_noise)


def sghmc_moments(s, **shares):
    """Exact stationary means of theta^2 and p^2 per coordinate, and of the configurational temperature."""
    covariances = [scipy.linalg.solve_discrete_lyapunov(*sghmc_map(precision, s, **shares)) for precision in PRECISIONS]
    position = np.array([c[0, 0] for c in covariances])
    momentum = np.array([c[1, 1] for c in covariances]) * unit_mass(s.eta, s.alpha) ** 2
    return {"position": position, "momentum": momentum, "configurational": np.mean(PRECISIONS * position)}


def sgld_moments(s):
    """theta' = (1 - eta precision) theta + sqrt(2 eta T) xi + eta sigma eps."""
    noise = 2 * s.eta * s.temperature + s.eta**2 * s.sigma**2
    transition = 1 - s.eta * PRECISIONS
    position = np.array([scipy.linalg.solve_discrete_lyapunov([[a]], [[noise]])[0, 0] for a in transition])
    return {"position": position, "configurational": np.mean(PRECISIONS * position)}


@pytest.mark.parametrize("eta", [1e-4, 0.05, 0.3, 0.44])
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_sghmc_equations_have_no_step_size_bias(eta, alpha):
    """The equations' position variance is T / precision to 1e-9 at any step size, their p is BAOAB's (T - O(eta)).

    The first-order scheme (all noise before the drift), for contrast, is off by more than 1 % at eta precision >= 0.05.
    """
    s = Setting(eta, alpha, 0.7)
    np.testing.assert_allclose(sghmc_moments(s)["position"], 0.7 / PRECISIONS, rtol=1e-9)
    first_order = sghmc_moments(s, position_noise=1, momentum_noise=1)["position"] * PRECISIONS / 0.7 - 1
    assert (np.abs(first_order[PRECISIONS * eta >= 0.05]) > 0.01).all()
    # BAOAB itself, one matrix a letter, started after its first half kick, as the merged kicks are.
    h, c = np.sqrt(2 * eta / (2 - alpha)), 1 - alpha
    for precision, variance in zip(PRECISIONS, sghmc_moments(s)["momentum"], strict=True):
        kick, drift = np.array([[1, 0], [-h * precision, 1]]), np.array([[1, h / 2], [0, 1]])
        transition = drift @ np.diag([1, c]) @ drift @ kick
        noise = drift @ [0, np.sqrt(0.7 * (1 - c**2))]
        covariance = scipy.linalg.solve_discrete_lyapunov(transition, np.outer(noise, noise))
        np.testing.assert_allclose(covariance[1, 1], variance, rtol=1e-9)


def test_sgld_equation_has_the_closed_form():
    """The oracle's own check: T / (1 - eta precision / 2) / precision."""
    s = Setting(0.3, temperature=0.7)
    expected = 0.7 / (1 - s.eta * PRECISIONS / 2) / PRECISIONS
    np.testing.assert_allclose(sgld_moments(s)["position"], expected, rtol=1e-12)


# The simulation and the one check.


def stationary(settings, make_kernel, read, num_warmup=300, num_steps=1200):
    """Time means of the squares that `read(state, setting)` gives, for each setting, chain and coordinate.

    Settings are traced and vmapped: one compilation runs them all.
    """

    def one(s):
        kernel = particles(make_kernel(s), NUM_CHAINS)
        batch = (jnp.asarray(PRECISIONS, jnp.float32), s.sigma)
        init_key, start_key, run_key = jax.random.split(jax.random.key(0), 3)
        scale = jnp.sqrt(s.temperature / jnp.asarray(PRECISIONS, jnp.float32))
        start = {"x": scale * jax.random.normal(start_key, (NUM_CHAINS, len(PRECISIONS)))}

        def advance(carry, key):
            state, sums = carry
            state, _ = kernel.step(key, state, batch)
            keep = state.step[0] > num_warmup
            return (state, jax.tree.map(lambda a, x: a + jnp.where(keep, x**2, 0), sums, read(state, s))), None

        state = kernel.init(start, init_key)
        sums = jax.tree.map(jnp.zeros_like, read(state, s))
        (_, sums), _ = jax.lax.scan(advance, (state, sums), jax.random.split(run_key, num_warmup + num_steps))
        return jax.tree.map(lambda a: a / num_steps, sums)

    stacked = jax.tree.map(lambda *column: jnp.array(column, jnp.float32), *settings.values())
    means = jax.jit(jax.vmap(one))(stacked)
    return {
        name: {"configurational": (PRECISIONS * leaf["position"]).mean(axis=1), **leaf}
        for i, name in enumerate(settings)
        for leaf in [jax.tree.map(lambda x, i=i: np.asarray(x[i], np.float64), means)]
    }


def read_sghmc(state, s):
    """theta and the unit-mass momentum, from the stored momentum v / eta."""
    h = jnp.sqrt(2 * s.eta / (2 - s.alpha))
    return {"position": state.position["x"], "momentum": h * (1 - s.alpha) * state.momentum["x"]}


def assert_within_four_standard_errors(chain_means, exact):
    """Every mean over independent chains lies within 4 standard errors of its exact value."""
    for name, value in exact.items():
        estimate = chain_means[name].mean(axis=0)
        standard_error = chain_means[name].std(axis=0, ddof=1) / np.sqrt(len(chain_means[name]))
        z = (estimate - value) / standard_error
        assert np.isfinite(z).all(), f"{name}: {estimate} is not finite"
        assert (np.abs(z) < 4).all(), f"{name}: {estimate}, exact {value}, off by {z} standard errors"


@functools.cache
def run_sghmc():
    return stationary(
        SGHMC_SETTINGS,
        lambda s: sghmc(
            logdensity, step_size=s.eta, friction=s.alpha, temperature=s.temperature, noise_estimate=s.beta
        ),
        read_sghmc,
    )


@functools.cache
def run_sgld():
    return stationary(
        SGLD_SETTINGS,
        lambda s: sgld(logdensity, step_size=s.eta, temperature=s.temperature),
        lambda state, s: {"position": state.position["x"]},
    )


@pytest.mark.parametrize("name", SGHMC_SETTINGS)
def test_sghmc_has_the_exact_covariance(name):
    """Position, kinetic and configurational second moments within 4 standard errors of the exact ones.

    False alarms: 7 comparisons a setting at 6.3e-5, 0.3 % over the 7 settings. The standard errors are 0.3 to 1 %, and
    the faults below are caught by the same function.
    """
    s = SGHMC_SETTINGS[name]
    assert_within_four_standard_errors(run_sghmc()[name], sghmc_moments(s))
    if s.sigma == 0:
        assert_within_four_standard_errors(run_sghmc()[name], {"position": s.temperature / PRECISIONS})


def test_noise_estimate_matters():
    """Power for gradient noise: each of the runs with and without the estimate fails the other's exact covariance."""
    given, ignored = "gradient noise, estimated", "gradient noise"
    for name, other in ((given, ignored), (ignored, given)):
        with pytest.raises(AssertionError, match="standard errors"):
            assert_within_four_standard_errors(run_sghmc()[name], sghmc_moments(SGHMC_SETTINGS[other]))


def test_noise_estimate_restores_the_temperature():
    """With beta = eta sigma^2 / 2 the exact configurational temperature is T within 5 %; without, over 1.3 T."""
    estimated = sghmc_moments(SGHMC_SETTINGS["gradient noise, estimated"])
    naive = sghmc_moments(SGHMC_SETTINGS["gradient noise"])
    assert estimated["configurational"] == pytest.approx(1, abs=0.05)
    assert naive["configurational"] > 1.3


@pytest.mark.parametrize("name", SGLD_SETTINGS)
def test_sgld_has_the_exact_variance(name):
    """Variances within 4 standard errors of the exact ones.

    False alarms: 4 comparisons a setting at 6.3e-5, 0.13 % over the 5 settings. Power: T / precision, the target's own
    variance, is refused at every step here.
    """
    s, means = SGLD_SETTINGS[name], run_sgld()[name]
    assert_within_four_standard_errors(means, sgld_moments(s))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_four_standard_errors(means, {"position": s.temperature / PRECISIONS})


def test_sgld_bias_is_of_first_order():
    """Halving the step divides the bias by 2 (1 - x/2) / (1 - x), x = eta precision / 2: order 1, not 0 or 2.

    False alarms: 6 comparisons at 6.3e-5, 0.04 %. Power: ratios 1 (order 0) and 4 (order 2) are over 4 standard errors
    away for the stiffest coordinate.
    """
    runs = run_sgld()
    for coarse, fine in (("step 0.4", "step 0.2"), ("step 0.2", "step 0.1")):
        bias, error = [], []
        for name in (coarse, fine):
            position = runs[name]["position"]
            bias.append(position.mean(axis=0) - 1 / PRECISIONS)
            error.append(position.std(axis=0, ddof=1) / np.sqrt(len(position)))
        ratio = bias[0] / bias[1]
        standard_error = np.hypot(error[0], ratio * error[1]) / bias[1]
        x = SGLD_SETTINGS[coarse].eta * PRECISIONS / 2
        assert (np.abs(ratio - 2 * (1 - x / 2) / (1 - x)) < 4 * standard_error).all()
        if coarse == "step 0.2":  # x small enough for the ratio to be near 2
            assert abs(ratio[-1] - 1) > 4 * standard_error[-1]
            assert abs(ratio[-1] - 4) > 4 * standard_error[-1]


# Planted faults.


class Fault(NamedTuple):
    """`Setting`'s fields and how the step departs from the right one, all traced: one compilation plants all faults."""

    eta: float
    alpha: float
    temperature: float
    sigma: float = 0.0
    beta: float = 0.0
    gradient_factor: float = 1.0
    noise_factor: float = 1.0
    injected_temperature: float = 1.0
    position_share: float = 0.5
    extra_momentum_share: float = 0.0


class PlantedState(NamedTuple):
    step: jax.Array
    position: dict
    momentum: dict


def planted_sghmc(f):
    """SGHMC written out from its equations, right if every factor is 1 and the shares are the equations'."""

    def init(position, rng_key):
        del rng_key
        return PlantedState(jnp.zeros((), jnp.int32), position, jax.tree.map(jnp.zeros_like, position))

    def step(rng_key, state, batch):
        density_key, noise_key = jax.random.split(rng_key)
        gradient = f.gradient_factor * jax.grad(logdensity)(state.position, density_key, batch)["x"]
        sd = f.noise_factor * jnp.sqrt(2 * f.alpha * f.injected_temperature * f.eta)
        noise = sd * jax.random.normal(noise_key, gradient.shape)
        velocity = (1 - f.alpha) * f.eta * state.momentum["x"] + f.eta * gradient
        position = state.position["x"] + velocity + f.position_share * noise
        share = (1 - f.alpha / 2) / (1 - f.alpha) + f.extra_momentum_share
        return PlantedState(state.step + 1, {"x": position}, {"x": (velocity + share * noise) / f.eta}), jax.tree.map(
            jnp.zeros_like, state.step
        )

    return Kernel(init, step)


BASE = {"eta": 0.1, "alpha": 0.2, "temperature": 1.0}
COLD = {"eta": 0.1, "alpha": 0.2, "temperature": 0.1}
FAULTS = {
    "none": Fault(**BASE),
    "none, cold": Fault(**COLD, injected_temperature=0.1),
    "noise sqrt(alpha eta)": Fault(**BASE, noise_factor=0.5**0.5),
    "noise sqrt(2 alpha eta) without 1 - alpha / 2": Fault(**BASE, extra_momentum_share=1 - 0.9 / 0.8),
    "gradient ignored": Fault(**BASE, gradient_factor=0.0),
    "gradient doubled": Fault(**BASE, gradient_factor=2.0),
    "temperature ignored": Fault(**COLD, injected_temperature=1.0),
    "variance for temperature": Fault(**COLD, injected_temperature=0.01),
    "all noise before the drift": Fault(**BASE, position_share=1.0, extra_momentum_share=1 - 0.9 / 0.8),
}


@functools.cache
def run_faults():
    return stationary(FAULTS, planted_sghmc, read_sghmc)


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    """The check passes the equations written out with ordinary normals, and refuses each fault in them."""
    f = FAULTS[name]
    exact = sghmc_moments(Setting(f.eta, f.alpha, f.temperature))
    if name.startswith("none"):
        assert_within_four_standard_errors(run_faults()[name], exact)
    else:
        with pytest.raises(AssertionError, match="position"):
            assert_within_four_standard_errors(run_faults()[name], exact)


def blackjax_like(num_inner_steps, s, scale=1.0):
    """blackjax 1.7.1's sghmc: momentum redrawn at temperature 1, then explicit Euler, gradient at the old theta."""

    def init(position, rng_key):
        del rng_key
        return PlantedState(jnp.zeros((), jnp.int32), position, position)

    def step(rng_key, state, batch):
        momentum_key, *keys = jax.random.split(rng_key, 1 + num_inner_steps)
        position = state.position["x"]
        momentum = jax.random.normal(momentum_key, position.shape)
        for key in keys:
            density_key, noise_key = jax.random.split(key)
            gradient = scale * jax.grad(logdensity)({"x": position}, density_key, batch)["x"]
            sd = jnp.sqrt(2 * s.eta * s.alpha * s.temperature)
            noise = sd * jax.random.normal(noise_key, position.shape)
            position, momentum = (
                position + s.eta * momentum,
                (1 - s.alpha * s.eta) * momentum + s.eta * gradient + noise,
            )
        return PlantedState(state.step + 1, {"x": position}, {"x": momentum}), jnp.zeros(())

    return Kernel(init, step)


def blackjax_like_variance(num_inner_steps, precision, s):
    """Its exact stationary variance: (theta, p) <- E (theta, p) + noise, L times, from a fresh p ~ N(0, 1)."""
    euler = np.array([[1, s.eta], [-s.eta * precision, 1 - s.alpha * s.eta]])
    covariance = np.diag([0.0, 1.0])
    for _ in range(num_inner_steps):
        covariance = euler @ covariance @ euler.T + np.diag([0, 2 * s.eta * s.alpha * s.temperature])
    carried = np.linalg.matrix_power(euler, num_inner_steps)[0, 0]
    return covariance[0, 0] / (1 - carried**2)


def test_resampled_momentum_with_explicit_euler_is_caught():
    """blackjax 1.7.1's sghmc with 10 inner steps, eps 0.1, alpha 0.01 is refused at T = 1 and at T = 0.1.

    It is that fault which is caught: its own exact variance, 1.154 on N(0, 1), and 1.148 at T = 0.1 where 0.1 is wanted
    (simulated by others too), is found within 4 standard errors (false alarms: 6 comparisons at 6.3e-5, 0.04 %).
    """
    settings = {"warm": Setting(0.1, 0.01), "cold": Setting(0.1, 0.01, 0.1)}
    runs = stationary(
        settings, lambda s: blackjax_like(10, s), lambda state, s: {"position": state.position["x"]}, 50, 250
    )
    for (name, s), reported in zip(settings.items(), (1.154, 1.148), strict=True):
        with pytest.raises(AssertionError, match="position"):
            assert_within_four_standard_errors(runs[name], {"position": s.temperature / PRECISIONS})
        own = np.array([blackjax_like_variance(10, precision, s) for precision in PRECISIONS])
        assert own[1] == pytest.approx(reported, abs=1e-3)
        assert_within_four_standard_errors(runs[name], {"position": own})


# Deterministic properties.


def quartic(params, rng_key, batch):
    """A log density that is neither quadratic nor separable."""
    del rng_key
    x = params["a"]
    return (
        -jnp.sum(jnp.log(jnp.cosh(x - batch))) - 0.25 * jnp.sum(x**4) - jnp.tanh(params["b"] * x[0]) - params["b"] ** 2
    )


START = {"a": jnp.array([0.7, -1.3, 0.2]), "b": jnp.array(0.4)}
BATCH = jnp.array([0.1, 0.5, -2.0])


def descend(optimizer, wrap, num_steps=20):
    """The trajectory of an Optax optimiser on -quartic."""
    evaluate = wrap(jax.grad(lambda params: -quartic(params, None, BATCH)))
    update = wrap(optimizer.update)
    params, state, trajectory = START, optimizer.init(START), []
    for _ in range(num_steps):
        updates, state = update(evaluate(params), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(params)
    return tree.stack(trajectory)


def sample(kernel, wrap, num_steps=20, start=START, batch=BATCH):
    """The trajectory of a kernel on `quartic`."""
    step, state, trajectory = wrap(kernel.step), kernel.init(start, jax.random.key(0)), []
    for i in range(num_steps):
        state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, batch)
        trajectory.append(state.position)
    return tree.stack(trajectory)


def equal(a, b):
    return jax.tree.all(jax.tree.map(jnp.array_equal, a, b))


def test_zero_temperature_is_sgd_with_momentum_bit_for_bit():
    """Un-jitted, 20 steps at T = 0 are `optax.sgd(eta, momentum=1 - alpha)` to the last bit; Nesterov's are not."""
    trajectory = sample(sghmc(quartic, step_size=0.05, friction=0.1, temperature=0.0), lambda f: f)
    assert equal(trajectory, descend(optax.sgd(0.05, momentum=0.9), lambda f: f))
    assert not equal(trajectory, descend(optax.sgd(0.05, momentum=0.9, nesterov=True), lambda f: f))


def test_zero_temperature_is_sgd_with_momentum_under_jit():
    """Jitted, where XLA may fuse differently: 1e-6 relative; momentum 0.89 for 0.9 is over 1e-3 away."""

    def distance(a, b):
        return tree.norm(jax.tree.map(jnp.subtract, a, b)) / tree.norm(b)

    trajectory = sample(sghmc(quartic, step_size=0.05, friction=0.1, temperature=0.0), jax.jit)
    assert distance(trajectory, descend(optax.sgd(0.05, momentum=0.9), jax.jit)) < 1e-6
    assert distance(trajectory, descend(optax.sgd(0.05, momentum=0.89), jax.jit)) > 1e-3


def gaussian(params, rng_key, batch):
    """N(0, 1 / batch) without gradient noise."""
    del rng_key
    return -0.5 * jnp.sum(batch * params**2)


@pytest.mark.parametrize("method", [sghmc, sgld])
def test_draws_scale_with_the_root_of_the_temperature(method):
    """On a Gaussian from theta = 0, draws at T = 0.1 are sqrt(0.1) times those at T = 1: var(T) / T is constant.

    And the draws do depend on the gradient: another precision gives other draws from the same key.
    """

    @jax.jit
    def draws(temperature, precision):
        kernel = method(gaussian, step_size=0.1, temperature=temperature)
        state = kernel.init(jnp.zeros(3), jax.random.key(0))

        def advance(state, key):
            state, _ = kernel.step(key, state, precision)
            return state, state.position

        return jax.lax.scan(advance, state, jax.random.split(jax.random.key(1), 30))[1]

    precision = jnp.asarray(PRECISIONS, jnp.float32)
    warm, cold = draws(1.0, precision), draws(0.1, precision)
    np.testing.assert_allclose(cold, np.sqrt(0.1) * warm, rtol=1e-3, atol=1e-5)
    assert not np.allclose(cold, 0.1 * warm, rtol=1e-3, atol=1e-5)
    assert (jnp.abs(draws(1.0, 2 * precision) - warm)[2:] > 1e-4).all()


def test_gradient_sensitivity_catches_the_single_inner_step():
    """Power: blackjax's scheme with one inner step gives the same draws for gradient x 1 and x 1e6."""
    s, start = Setting(0.1), {"x": jnp.zeros(3)}
    batch = (jnp.asarray(PRECISIONS, jnp.float32), 0.0)
    one, million = (sample(blackjax_like(1, s, scale), jax.jit, 5, start, batch) for scale in (1.0, 1e6))
    assert equal(one, million)


@pytest.mark.parametrize(("eta", "alpha", "temperature"), [(0.1, 0.2, 1.0), (0.01, 0.5, 0.1), (0.3, 0.05, 1.0)])
def test_sghmc_starts_with_the_stationary_momentum(eta, alpha, temperature):
    """The kinetic temperature of 100000 fresh momenta is T within 4 standard errors.

    False alarms: 6.3e-5 each. Power: a momentum that has already paid (or never pays) the friction is refused.
    """
    kernel = sghmc(gaussian, step_size=eta, friction=alpha, temperature=temperature)
    momentum = np.asarray(kernel.init(jnp.zeros(100000), jax.random.key(7)).momentum, np.float64)
    squares = {"momentum": (eta * unit_mass(eta, alpha) * momentum) ** 2}
    assert_within_four_standard_errors(squares, {"momentum": temperature})
    with pytest.raises(AssertionError, match="momentum"):
        assert_within_four_standard_errors(
            {"momentum": squares["momentum"] * (1 - alpha) ** 2}, {"momentum": temperature}
        )


def test_info_reports_both_temperatures():
    """kinetic_temperature is <p, p> / dim after the step; configurational_temperature -<theta, g> / dim before it."""
    kernel = sghmc(gaussian, step_size=0.1, friction=0.2)
    before = kernel.init(jnp.array([1.0, -2.0, 0.5]), jax.random.key(0))
    after, info = kernel.step(jax.random.key(1), before, jnp.asarray(PRECISIONS, jnp.float32))
    p = 0.1 * unit_mass(0.1, 0.2) * np.asarray(after.momentum, np.float64)
    assert info.kinetic_temperature == pytest.approx(p @ p / 3, rel=1e-5)
    assert info.configurational_temperature == pytest.approx((0.5 * 1 + 1 * 4 + 4 * 0.25) / 3, rel=1e-6)
    assert info.gradient_norm == pytest.approx(np.sqrt(0.5**2 + 2**2 + 2**2), rel=1e-6)
    assert info.logdensity == pytest.approx(-0.5 * (0.5 * 1 + 1 * 4 + 4 * 0.25), rel=1e-6)


def test_one_step_is_the_linear_map_of_the_equations():
    """Without statistics: a step at T = 0 is A of the oracle, and the noise of a step at T = 1 is in its proportion.

    1e-5 relative; the first-order shares (1, 1) are refused.
    """
    s, precision = Setting(0.3, 0.25), 1.7
    transition, _ = sghmc_map(precision, s)
    cold, warm = (sghmc(gaussian, step_size=s.eta, friction=s.alpha, temperature=t) for t in (0.0, 1.0))
    state = cold.init(jnp.array([1.0, 0.0]), jax.random.key(0))._replace(momentum=jnp.array([0.0, 1 / s.eta]))
    moved, _ = cold.step(jax.random.key(1), state, precision)
    np.testing.assert_allclose(np.stack([moved.position, s.eta * moved.momentum]), transition, rtol=1e-5)
    noisy, _ = warm.step(jax.random.key(1), state, precision)
    in_position, in_momentum = noisy.position - moved.position, s.eta * (noisy.momentum - moved.momentum)
    share = (1 - s.alpha / 2) / (1 - s.alpha)
    np.testing.assert_allclose(in_momentum / in_position, share / 0.5, rtol=1e-5)
    assert not np.allclose(in_momentum / in_position, 1, rtol=1e-2)


def schedule(step):
    """Jumps down a hundredfold at step 2."""
    return jnp.where(step < 2, 0.2, 0.002)


def test_step_size_may_be_a_schedule_of_the_step():
    """Each step uses the schedule at the number of steps taken before it: sgld at T = 0 is gradient ascent by hand."""
    kernel = sgld(gaussian, step_size=schedule, temperature=0.0)
    state, expected = kernel.init(jnp.array(1.0), jax.random.key(0)), 1.0
    for i in range(4):
        state, _ = kernel.step(jax.random.key(i), state, 1.0)
        expected *= 1 - (0.2 if i < 2 else 0.002)
        assert state.position == pytest.approx(expected, rel=1e-6)
        assert state.step == i + 1


def test_a_jump_of_the_step_size_keeps_the_kinetic_energy():
    """On a flat density at T = 0 the kinetic temperature decays by (1 - alpha)^2 a step, jump of eta or not.

    Power: the same momentum carried over without rescaling would lose a factor of 100 at the jump.
    """
    alpha = 0.1
    kernel = sghmc(gaussian, step_size=schedule, friction=alpha, temperature=0.0)
    state = kernel.init(jnp.zeros(2), jax.random.key(0))._replace(momentum=jnp.array([3.0, -4.0]))
    kinetic, momenta, step_sizes = [], [], []
    for i in range(4):
        state, info = kernel.step(jax.random.key(i), state, 0.0)
        kinetic.append(float(info.kinetic_temperature))
        momenta.append(np.asarray(state.momentum))
        step_sizes.append(float(state.step_size))
    np.testing.assert_allclose(step_sizes, [0.2, 0.2, 0.002, 0.002], rtol=1e-6)
    np.testing.assert_allclose(np.divide(kinetic[1:], kinetic[:-1]), (1 - alpha) ** 2, rtol=1e-5)
    np.testing.assert_allclose(momenta[2], (1 - alpha) * 10 * momenta[1], rtol=1e-5)
    unrescaled = kinetic[1] * (1 - alpha) ** 2 * 0.002 / 0.2
    assert kinetic[2] > 50 * unrescaled
