"""Tests of `adapt`: Stan's windows, the target acceptance probability, and the mass matrix of the target."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels, training
from bayesjax.evaluation import diagnostics
from bayesjax.kernels.adaptation import windows
from bayesjax.types import Kernel

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_hmc_mixes_with_jittered_step_sizes(compile_fully):
    """The least effective sample size of ten means, of 4000 draws: about 2200 jittered, and about 50 at one length.

    The figures of `adaptation.py`. An adapted mass gives all ten directions one period.
    """
    scales = jnp.asarray(np.geomspace(0.1, 3, 10), jnp.float32)

    def normals(params, rng_key, batch):
        return -0.5 * jnp.sum((params / scales) ** 2)

    def least(size_of):
        def make(step_size, inverse_mass_matrix):
            return kernels.hmc(
                normals, step_size=size_of(step_size), inverse_mass_matrix=inverse_mass_matrix, num_integration_steps=8
            )

        kernel = kernels.particles(kernels.adapt(make, num_steps=400, target_acceptance=0.65), 4)
        state = kernel.init(jax.random.normal(jax.random.key(0), (4, 10)), jax.random.key(1))
        _, trace = training.run(jax.random.key(2), kernel, state, num_steps=1400, num_burnin=400, chunk_size=1400)
        return diagnostics.effective_sample_size(diagnostics.chains_first(trace.draws)).min()

    assert least(lambda step_size: kernels.jittered(step_size, 0.5)) > 1500
    assert least(lambda step_size: step_size) < 200


@pytest.mark.parametrize("num_steps", [20, 100, 150, 400, 1000])
def test_windows_are_those_of_stan(num_steps):
    """As `blackjax`'s schedule: which draws count for the mass, and where a window ends."""
    from blackjax.adaptation.staged_adaptation import build_schedule

    expected = np.asarray(build_schedule(num_steps))
    in_window, ends = windows(num_steps)
    np.testing.assert_array_equal(in_window, expected[:, 0].astype(bool))
    np.testing.assert_array_equal(ends, expected[:, 1].astype(bool))


class Played(NamedTuple):
    """State and info of a kernel that draws a position and an acceptance probability from its key and step size."""

    position: jax.Array
    acceptance_probability: jax.Array


def play(step_size, inverse_mass_matrix):
    """Positions with a correlation, ten times as wide from step 100 on; the batch is the step."""

    def step(rng_key, state, batch):
        position = (
            jnp.where(batch < 100, 1.0, 10.0) * jnp.array([[1.0, 0.0], [0.8, 0.6]]) @ jax.random.normal(rng_key, 2)
        )
        played = Played(position, (0.8 + 0.2 * jnp.tanh(position[0])) / (1 + step_size))
        return played, played

    return Kernel(lambda position, rng_key: Played(position, jnp.zeros(())), step)


@pytest.mark.parametrize("mass", ["diagonal", "dense"])
def test_the_warm_up_is_that_of_its_equations(mass):
    """Step sizes and masses of 250 steps, and of 10 after them, are those written out in NumPy, within 1e-3.

    Hoffman & Gelman's dual averaging, restarted at the end of each of two windows; its average as the last step size;
    Stan's covariance of the draws of one window alone, with n - 1.
    """
    num_steps, target = 250, 0.7
    kernel = kernels.adapt(play, num_steps=num_steps, target_acceptance=target, mass=mass)
    keys = jax.random.split(jax.random.key(1), num_steps + 10)

    def advance(state, keyed):
        state, info = kernel.step(keyed[0], state, keyed[1])
        return state, (state, info.inner)

    start = kernel.init(jnp.zeros(2), jax.random.key(0))
    _, (states, played) = jax.jit(lambda s: jax.lax.scan(advance, s, (keys, jnp.arange(len(keys)))))(start)

    draws, accepted = np.asarray(played.position, float), np.asarray(played.acceptance_probability, float)
    sizes, masses, size, inverse = [], [], 0.1, np.eye(2)
    centre, num, error, average = np.log(10 * size), 0, 0.0, 0.0
    for t in range(num_steps):
        num += 1
        error += (target - accepted[t] - error) / (num + 10)
        log_size = centre - np.sqrt(num) / 0.05 * error
        average += num**-0.75 * (log_size - average)
        size = np.exp(log_size)
        if t in (99, 199):  # windows of 25 and 100 steps after the first 75
            window = draws[75:100] if t == 99 else draws[100:200]
            n = len(window)
            inverse = (n * np.cov(window.T, ddof=1) + 5 * 1e-3 * np.eye(2)) / (n + 5)
            size = np.exp(average)
            centre, num, error = np.log(10 * size), 0, 0.0
        sizes.append(size)
        masses.append(inverse if mass == "dense" else np.diagonal(inverse))
    sizes, masses = [*sizes[:-1], *[np.exp(average)] * 11], [*masses, *masses[-1:] * 10]
    np.testing.assert_allclose(states.step_size, sizes, rtol=1e-3)
    np.testing.assert_allclose(states.inverse_mass_matrix, masses, rtol=1e-3)


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
    with pytest.raises(ValueError, match="mass must be 'diagonal', 'dense' or 'fixed'; got 'full'"):
        kernels.adapt(make("hmc"), num_steps=100, mass="full")
