"""Tests of NUTS: BlackJAX's draws, the exact target, gradients averaged over devices, no stale gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_oracle import PRECISIONS, Setting, assert_within_four_standard_errors, stationary

from bayesjax import axes, tree
from bayesjax.kernels import alternate, nuts, particles, trajectory
from tests.kernels.test_full_batch import Counter, conditional
from tests.kernels.test_hmc import BATCH, gaussian, gaussian_of_batch

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
START = {"x": jnp.array([1.0, -0.5, 0.3])}
SETTINGS = {"small step": Setting(0.2), "large step": Setting(0.6), "cold": Setting(0.1, temperature=0.1)}


def make(s):
    return nuts(gaussian, step_size=s.eta, temperature=s.temperature, max_num_doublings=4)


@pytest.mark.slow
def test_the_target_is_exact_at_any_step_size(compile_fully):
    """Second moments are T / precision within 4 standard errors. False alarms: 12 comparisons at 6.3e-5.

    Power: the variance of temperature 1.1 T is refused.
    """
    runs = stationary(SETTINGS, make, lambda state, s: {"position": state.position["x"]}, 50, 400)
    for name, s in SETTINGS.items():
        exact = {"position": s.temperature / PRECISIONS, "configurational": s.temperature}
        assert_within_four_standard_errors(runs[name], exact)
        with pytest.raises(AssertionError, match="standard errors"):
            assert_within_four_standard_errors(runs[name], {"position": 1.1 * s.temperature / PRECISIONS})


def test_the_draws_are_those_of_blackjax():
    """Ten steps with the keys that ours passes on, a dense mass, end where `blackjax.nuts` does, to 1e-5."""
    import blackjax

    inverse = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]], np.float32)
    kernel = nuts(gaussian, step_size=0.3, inverse_mass_matrix=inverse)
    theirs = blackjax.nuts(lambda position: gaussian(position, None, None), 0.3, inverse)
    state, other = kernel.init(START, jax.random.key(0)), theirs.init(START)
    step, their_step = quick_jit(kernel.step), quick_jit(theirs.step)
    for i in range(10):
        key = jax.random.fold_in(jax.random.key(1), i)
        state, info = step(key, state, BATCH)
        other, their_info = their_step(jax.random.split(key)[1], other)
        np.testing.assert_allclose(state.position["x"], other.position["x"], rtol=1e-4, atol=1e-5)
        assert info.num_integration_steps == their_info.num_integration_steps


@pytest.mark.parametrize(("density", "batch", "extra"), [(gaussian, None, 0), (gaussian_of_batch, BATCH, 1)])
def test_a_step_costs_its_leapfrog_steps(density, batch, extra):
    """A gradient for each, and one more where the batch may change; the first step has one more in any case."""
    counter = Counter(density)
    kernel = nuts(counter, step_size=0.3)
    state, step = kernel.init(START, jax.random.key(0)), quick_jit(kernel.step)
    for i in range(3):
        counter.count = 0
        state, info = jax.block_until_ready(step(jax.random.fold_in(jax.random.key(1), i), state, batch))
        jax.effects_barrier()
        # and one for aux, of which nothing is left when there is none but the callback that counts here
        assert counter.count == info.num_integration_steps + (1 if i == 0 else extra) + 1


@pytest.mark.slow
def test_the_gradient_is_that_of_all_devices():
    """Two devices with half of the data each take the steps of one with all of it."""
    data = jnp.array([0.3, -1.0, 2.0, 0.5])

    def density(params, rng_key, batch):
        return -0.5 * params**2 - 4 * jnp.mean((params - batch) ** 2)

    kernel = nuts(density, step_size=0.3)
    state = kernel.init(jnp.float32(1.0), jax.random.key(0))
    whole, _ = kernel.step(jax.random.key(1), state, data)
    parts, _ = jax.vmap(kernel.step, in_axes=(None, None, 0), axis_name=axes.DATA)(
        jax.random.key(1), state, data.reshape(2, 2)
    )
    np.testing.assert_allclose(parts.position, jnp.full(2, whole.position), rtol=1e-5)
    assert abs(whole.position - 1.0) > 1e-3


@pytest.mark.slow
def test_a_step_size_is_that_of_hmc_at_any_temperature():
    """Started from draws that are sqrt(T) times as large, a step has the same length and acceptance at every T."""

    def one_step(temperature):
        kernel = nuts(gaussian, step_size=0.5, temperature=temperature)
        state = kernel.init({"x": jnp.sqrt(temperature) * START["x"]}, jax.random.key(0))
        return quick_jit(kernel.step)(jax.random.key(1), state, BATCH)

    (warm, warm_info), (cold, cold_info) = one_step(1.0), one_step(0.01)
    np.testing.assert_allclose(cold.position["x"], 0.1 * warm.position["x"], rtol=1e-4)
    assert cold_info.num_integration_steps == warm_info.num_integration_steps
    assert warm_info.acceptance_probability < 0.999


def test_the_trajectory_runs_between_its_ends():
    """`kernels.trajectory` from the earlier end, as many steps, passes the start and the draw and ends at the later."""
    kernel = nuts(gaussian, step_size=0.3, temperature=0.5, keep_trajectory=True)
    state, step = kernel.init(START, jax.random.key(0)), quick_jit(kernel.step)
    for i in range(3):
        moved, info = step(jax.random.fold_in(jax.random.key(1), i), state, BATCH)
        first, last = (jax.tree.map(lambda leaf, end=end: leaf[end], info.trajectory) for end in (0, 1))
        points = trajectory(
            lambda position: gaussian(position, None, None), first.position, first.momentum,
            step_size=0.3, num_integration_steps=int(info.num_integration_steps),
        )  # fmt: skip
        np.testing.assert_allclose(points.position["x"][-1], last.position["x"], atol=1e-4)
        np.testing.assert_allclose(points.momentum["x"][-1], last.momentum["x"], atol=1e-4)
        np.testing.assert_allclose(last.logdensity, gaussian(last.position, None, None), rtol=1e-4)
        for passed in (state.position, moved.position):
            assert jnp.abs(points.position["x"] - passed["x"]).max(axis=1).min() < 1e-4
        kinetic = info.energy + info.logdensity
        at_draw = jnp.abs(points.position["x"] - moved.position["x"]).max(axis=1).argmin()
        np.testing.assert_allclose(kinetic, 0.5 * jnp.sum(points.momentum["x"][at_draw] ** 2), rtol=1e-3)
        np.testing.assert_allclose(info.kinetic_temperature, 2 * kinetic / 3, rtol=1e-4)
        state = moved


def test_a_start_with_an_infinite_term_is_left():
    """As HMC and a scalar density do: once a point is found where all terms are finite, it is taken."""

    def terms(params, rng_key, batch):
        return jnp.stack([-0.5 * params**2, jnp.where(params < 0, -jnp.inf, 0.0)])

    kernel = nuts(terms, step_size=0.5)
    state, step = kernel.init(jnp.array(-1.0), jax.random.key(0)), quick_jit(kernel.step)
    for i in range(30):
        state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, None)
    assert state.position > 0
    np.testing.assert_allclose(state.logdensity, -0.5 * state.position**2, rtol=1e-5)


@pytest.mark.slow
def test_it_plays_games():
    """Two players sample their joint normal: the correlation of -0.8 within 4 standard errors of 500 chains."""
    player = nuts(conditional, step_size=1.0, max_num_doublings=2)
    kernel = particles(alternate(a=player, b=player), 500)
    state = kernel.init({"a": jnp.zeros(500), "b": jnp.zeros(500)}, jax.random.key(0))

    def sweep(state, key):
        state, _ = kernel.step(key, state, None)
        return state, state.position["a"] * state.position["b"]

    _, products = quick_jit(lambda state: jax.lax.scan(sweep, state, jax.random.split(jax.random.key(1), 120)))(state)
    of_chains = np.asarray(products[30:].mean(axis=0), float)
    exact = np.linalg.inv([[1, 0.8], [0.8, 1]])[0, 1]
    assert_within_four_standard_errors({"a b": of_chains[:, None]}, {"a b": exact})


def test_a_divergence_is_reported():
    """A step far beyond stability: divergent, and the state stays finite."""
    kernel = nuts(gaussian, step_size=1e4)
    state, info = quick_jit(kernel.step)(jax.random.key(1), kernel.init(START, jax.random.key(0)), BATCH)
    assert info.is_divergent
    assert tree.all_finite(state)
