"""Warm-up: Stan's windows, the step size that is accepted as often as asked for, and the target's own mass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels, training
from bayesjax.kernels.adaptation import windows

SCALES = np.array([0.05, 1.0, 4.0], np.float32)
CORRELATION = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
COVARIANCE = SCALES[:, None] * CORRELATION * SCALES
NUM_WARMUP, NUM_DRAWS, NUM_CHAINS = 400, 400, 8


def density(params, rng_key, batch):
    return -0.5 * params @ jnp.asarray(np.linalg.inv(COVARIANCE)) @ params


def make(method):
    if method == "hmc":
        return functools.partial(kernels.hmc, density, num_integration_steps=8)
    return functools.partial(kernels.nuts, density, max_num_doublings=6)


@functools.cache
def run(method, is_dense, target):
    """Final state and trace of `NUM_CHAINS` chains."""
    one = kernels.adapt(
        make(method), num_steps=NUM_WARMUP, target_acceptance=target, mass="dense" if is_dense else "diagonal"
    )
    kernel = kernels.particles(one, NUM_CHAINS)
    state = kernel.init(jax.random.normal(jax.random.key(0), (NUM_CHAINS, 3)), jax.random.key(1))
    return training.run(
        jax.random.key(2), kernel, state, num_steps=NUM_WARMUP + NUM_DRAWS, num_burnin=NUM_WARMUP, chunk_size=800
    )


@pytest.mark.parametrize(("method", "is_dense", "target"), [("nuts", False, 0.8), ("hmc", True, 0.65)])
def test_acceptance_mass_and_law(method, is_dense, target):
    """After the warm-up: acceptance near the target, the covariance within 30 %, and valid draws.

    The mean of the logarithm that the step size ends with leans to small steps: 0.93 where 0.8 is asked for and 0.85 of
    0.65, as BlackJAX's own warm-up does on this target (0.93 and, where it does not fail, 0.88). Means over 8 chains.
    The dense mass has the correlation, the diagonal none. Standard deviations of 3200 draws within 15 %: with the step
    size left at 0.1 and a unit mass the largest is over 40 % too small.
    """
    state, trace = run(method, is_dense, target)
    after = trace.info.inner.acceptance_probability
    assert target - 0.05 < after.mean() < min(target + 0.25, 0.97)
    inverse = np.asarray(state.inverse_mass_matrix).mean(axis=0)
    variances = np.diagonal(inverse) if is_dense else inverse
    np.testing.assert_allclose(variances, SCALES**2, rtol=0.3)
    if is_dense:
        assert inverse[0, 1] / np.sqrt(variances[0] * variances[1]) == pytest.approx(0.9, abs=0.05)
    deviations = trace.draws.reshape(-1, 3).std(axis=0)
    np.testing.assert_allclose(deviations, SCALES, rtol=0.15)


def test_nothing_changes_after_the_warm_up():
    """Step size and mass are those of its end; in it, they moved; each chain has its own."""
    state, trace = run("nuts", False, 0.8)
    step_size = trace.info.step_size
    assert (step_size == step_size[0]).all()
    assert len(np.unique(trace.burnin_info.step_size[:, 0])) > NUM_WARMUP / 2
    assert len(np.unique(state.step_size)) == NUM_CHAINS


@pytest.mark.parametrize("num_steps", [20, 100, 150, 400, 1000])
def test_windows_are_those_of_stan(num_steps):
    """As `blackjax`'s schedule: which draws count for the mass, and where a window ends."""
    from blackjax.adaptation.staged_adaptation import build_schedule

    expected = np.asarray(build_schedule(num_steps))
    in_window, ends = windows(num_steps)
    np.testing.assert_array_equal(in_window, expected[:, 0].astype(bool))
    np.testing.assert_array_equal(ends, expected[:, 1].astype(bool))


def test_a_new_mass_starts_with_the_step_size_of_before():
    """The step after a window has the averaged step size; the next one the tenfold of dual averaging's new start."""
    _, trace = run("nuts", False, 0.8)
    sizes = trace.burnin_info.step_size
    _, ends = windows(NUM_WARMUP)
    for end in np.flatnonzero(ends):
        before = np.exp(np.log(sizes[max(end - 20, 0) : end + 1]).mean(axis=0))
        assert (np.abs(np.log(sizes[end + 1] / before)) < np.log(2)).all()


def test_a_fixed_mass_stays():
    """Only the step size moves: to what suits the mass that was given, 20 times that of a unit mass."""

    def end(inverse):
        kernel = kernels.adapt(make("hmc"), num_steps=100, mass="fixed", inverse_mass_matrix=inverse)
        state = kernel.init(jnp.zeros(3), jax.random.key(0))
        return training.run(jax.random.key(1), kernel, state, num_steps=100)[0]

    fitting, unit = end(SCALES**2), end(1.0)
    np.testing.assert_allclose(fitting.inverse_mass_matrix, SCALES**2)
    np.testing.assert_array_equal(unit.inverse_mass_matrix, 1.0)
    assert fitting.step_size > 5 * unit.step_size


@pytest.mark.parametrize(("dtype", "x64"), [("bfloat16", False), ("float16", False), ("float32", True)])
@pytest.mark.parametrize("mass", ["diagonal", "dense", "fixed"])
@pytest.mark.parametrize("method", ["hmc", "nuts"])
def test_any_floating_point_type_can_be_adapted(method, mass, dtype, x64):
    """Step size and mass are of JAX's default type, or at least float32, whatever the position's type."""
    with jax.enable_x64(x64):
        kernel = kernels.adapt(make(method), num_steps=20, mass=mass)
        before = jax.eval_shape(kernel.init, jnp.zeros(3, dtype), jax.random.key(0))
        after, _ = jax.eval_shape(kernel.step, jax.random.key(1), before, None)
    assert before == after
    assert after.position.dtype == dtype
    assert after.inverse_mass_matrix.dtype == after.step_size.dtype == (jnp.float64 if x64 else jnp.float32)


def test_an_unknown_mass_is_refused():
    with pytest.raises(ValueError, match="mass must be diagonal, dense or fixed; got full"):
        kernels.adapt(make("hmc"), num_steps=100, mass="full")
