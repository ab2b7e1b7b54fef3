"""Exact properties of samplers: limits, scaling, initial states, schedules, and single steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gaussian_oracle import PRECISIONS, Setting, assert_within_four_standard_errors, sghmc_map, unit_mass

from bayesjax import tree
from bayesjax.kernels import sghmc, sgld


def quartic(params, rng_key, batch):
    """A log density that is neither quadratic nor separable."""
    del rng_key
    x = params["a"]
    return (
        -jnp.sum(jnp.log(jnp.cosh(x - batch))) - 0.25 * jnp.sum(x**4) - jnp.tanh(params["b"] * x[0]) - params["b"] ** 2
    )


START = {"a": jnp.array([0.7, -1.3, 0.2]), "b": jnp.array(0.4)}
BATCH = jnp.array([0.1, 0.5, -2.0])


def descend(optimizer, wrap, num_steps=20, start=START, batch=BATCH):
    """The trajectory of an Optax optimiser on -quartic."""
    evaluate = wrap(jax.grad(lambda params: -quartic(params, None, batch)))
    update = wrap(optimizer.update)
    params, state, trajectory = start, optimizer.init(start), []
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


def distance(a, b):
    """|a - b| / |b|."""
    return tree.norm(jax.tree.map(jnp.subtract, a, b)) / tree.norm(b)


@pytest.mark.parametrize(
    ("dtype", "x64", "tolerance"),
    [("float32", False, 1e-6), pytest.param("float32", True, 1e-6, marks=pytest.mark.slow), ("float64", True, 1e-14)],
)
def test_zero_temperature_is_sgd_with_momentum(dtype, x64, tolerance):
    """Un-jitted, 20 steps at T = 0 are `optax.sgd(eta, momentum=1 - alpha)` up to rounding; Nesterov's are not.

    This holds where JAX's default is float64 too. A step size rounded to float32 would be off by 1e-8.
    """
    with jax.enable_x64(x64):
        start, batch = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float), dtype), (START, BATCH))
        kernel = sghmc(quartic, step_size=0.05, friction=0.1, temperature=0.0)
        trajectory = sample(kernel, lambda f: f, start=start, batch=batch)
        assert trajectory["a"].dtype == dtype
        sgd, nesterov = (
            descend(optax.sgd(0.05, momentum=0.9, nesterov=nesterov), lambda f: f, start=start, batch=batch)
            for nesterov in (False, True)
        )
        assert distance(trajectory, sgd) < tolerance
        assert distance(trajectory, nesterov) > 1e-3


def test_zero_temperature_is_sgd_with_momentum_under_jit():
    """Jitted, where XLA may fuse differently: 1e-6 relative; momentum 0.89 for 0.9 is over 1e-3 away."""
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


@pytest.mark.parametrize(("eta", "alpha", "temperature"), [(0.1, 0.2, 1.0), (0.01, 0.5, 0.1), (0.3, 0.05, 1.0)])
def test_sghmc_starts_with_the_stationary_momentum(eta, alpha, temperature):
    """The kinetic temperature of 100000 fresh momenta is T within 4 standard errors.

    False alarms: 6.3e-5 each. Power: a momentum that has already paid (or never pays) the friction is refused.
    """
    kernel = sghmc(gaussian, step_size=eta, friction=alpha, temperature=temperature)
    momentum = np.asarray(kernel.init(jnp.zeros(100000), jax.random.key(7)).momentum, np.float64)
    squares = {"momentum": momentum**2}
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
    p = np.asarray(after.momentum, np.float64)
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
    factor = unit_mass(s.eta, s.alpha)
    cold, warm = (sghmc(gaussian, step_size=s.eta, friction=s.alpha, temperature=t) for t in (0.0, 1.0))
    state = cold.init(jnp.array([1.0, 0.0]), jax.random.key(0))._replace(momentum=jnp.array([0.0, factor]))
    moved, _ = cold.step(jax.random.key(1), state, precision)
    np.testing.assert_allclose(np.stack([moved.position, moved.momentum / factor]), transition, rtol=1e-5)
    noisy, _ = warm.step(jax.random.key(1), state, precision)
    in_position, in_momentum = noisy.position - moved.position, (noisy.momentum - moved.momentum) / factor
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

    Power: the optimiser's velocity h (1 - alpha/2) p, carried over as it is, would gain a factor of 100 at the jump.
    """
    alpha = 0.1
    kernel = sghmc(gaussian, step_size=schedule, friction=alpha, temperature=0.0)
    state = kernel.init(jnp.zeros(2), jax.random.key(0))._replace(momentum=jnp.array([3.0, -4.0]))
    kinetic, momenta = [], []
    for i in range(4):
        state, info = kernel.step(jax.random.key(i), state, 0.0)
        kinetic.append(float(info.kinetic_temperature))
        momenta.append(np.asarray(state.momentum))
    np.testing.assert_allclose(np.divide(kinetic[1:], kinetic[:-1]), (1 - alpha) ** 2, rtol=1e-5)
    np.testing.assert_allclose(momenta[2], (1 - alpha) * momenta[1], rtol=1e-5)
    velocity_kept = kinetic[1] * (1 - alpha) ** 2 * 0.2 / 0.002
    assert kinetic[2] < velocity_kept / 50
