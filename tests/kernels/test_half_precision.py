"""Tests of samplers with bfloat16 and float16 leaves: stationary laws and running means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels, posteriors, tree
from tests.parameters import some

NUM = 16_000
DTYPES = {"bfloat16": jnp.bfloat16, "float16": jnp.float16, "float32": jnp.float32}


def log_normal(w, rng_key, batch):
    """N(0, 1) for every element; summed in float32."""
    del rng_key, batch
    return posteriors.gaussian()(w)


ETA = 0.02
KERNELS = {  # with the variance of their stationary laws
    "sgld": (kernels.sgld(log_normal, step_size=ETA), 250, 1 / (1 - ETA / 2)),
    "sghmc": (kernels.sghmc(log_normal, step_size=ETA, friction=0.5), 250, 1.0),
    "sgnht": (kernels.sgnht(log_normal, step_size=ETA, friction=0.5), 250, 1.0),
    "hmc": (kernels.hmc(log_normal, step_size=0.1, num_integration_steps=3), 120, 1.0),
}


def run(kernel, num_steps):
    """The end of a chain that starts in the stationary law, and its infos."""
    draws = np.random.default_rng(0).normal(size=(len(DTYPES), NUM))
    start = {name: jnp.asarray(values, DTYPES[name]) for name, values in zip(DTYPES, draws, strict=True)}

    @jax.jit
    def chain(rng_key):
        state = kernel.init(start, rng_key)
        step = lambda state, key: kernel.step(key, state, None)  # noqa: E731
        return jax.lax.scan(step, state, jax.random.split(rng_key, num_steps))

    return chain(jax.random.key(1))


def deviations(position, variance):
    """Errors of the mean and the variance of each leaf, in standard errors, `[leaves, 2]` in the order of DTYPES."""
    leaves = [np.asarray(position[name], np.float64) for name in DTYPES]
    means = [leaf.mean() / np.sqrt(variance / NUM) for leaf in leaves]
    spreads = [(leaf.var() / variance - 1) / np.sqrt(2 / NUM) for leaf in leaves]
    return np.abs(np.stack([means, spreads], axis=1))


@pytest.mark.parametrize("name", KERNELS)
def test_half_precision_leaves_have_the_law_of_float32(name):
    """Mean and variance of 16 000 coordinates of each type after 120 to 250 steps are within 4 standard errors.

    False alarms: 6 comparisons at 6.3e-5, 0.04 % for each kernel. The types of the state are those of the position.
    """
    kernel, num_steps, variance = KERNELS[name]
    state, info = run(kernel, num_steps)
    assert {key: leaf.dtype for key, leaf in state.position.items()} == DTYPES
    assert (deviations(state.position, variance) < 4).all()
    assert info.logdensity.dtype == jnp.float32
    if name == "hmc":
        assert info.is_accepted.mean() > 0.6
        assert state.logdensity == pytest.approx(float(posteriors.gaussian()(state.position)), abs=0.02)


@pytest.mark.parametrize("name", some(KERNELS, "sghmc"))
def test_noise_drawn_in_bfloat16_is_caught(name, monkeypatch):
    """Power: the noise of `jax.random.normal` in bfloat16 has a mean of -0.012, which moves the mean of that leaf."""

    def drawn_narrow(rng_key, like, **law):
        keys = dict(zip(like, jax.random.split(rng_key, len(like)), strict=True))
        return {key: jax.random.normal(keys[key], (NUM,), DTYPES[key]).astype(like[key].dtype) for key in like}

    monkeypatch.setattr(tree, "normal_like", drawn_narrow)
    kernel, num_steps, variance = KERNELS[name]
    found = deviations(run(kernel, num_steps)[0].position, variance)
    assert found[0, 0] > 6
    assert (found[2] < 4).all()


def test_hmc_moves_by_steps_below_the_resolution():
    """A hundred steps of 0.001 from 1: the end is that of a float32 chain of the same key, rounded once.

    Positions in bfloat16 would not move along the way, since half the distance of two of its numbers is 0.004 there.
    """
    kernel = kernels.hmc(log_normal, step_size=0.001, num_integration_steps=100)

    @jax.jit
    def end(position):
        return kernel.step(jax.random.key(2), kernel.init(position, jax.random.key(0)), None)[0].position

    narrow, wide = (np.asarray(end(jnp.ones(100, dtype)), np.float32) for dtype in (jnp.bfloat16, jnp.float32))
    assert np.std(wide) > 0.05
    np.testing.assert_allclose(narrow, wide, rtol=2**-8)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_running_means_are_kept_in_float32(dtype):
    """Moving averages that gain a thousandth a step: of positions (`averaging`) and of squared gradients (`rmsprop`).

    A bfloat16 average would stop 2^-8 of its size short of where it goes.
    """
    kernel = kernels.averaging(kernels.sgld(log_normal, step_size=0.5, temperature=0.0))
    state = kernel.init(jnp.zeros(1, dtype), jax.random.key(0))._replace(
        average=jnp.full(1, 1.0, jnp.float32), step=jnp.int32(10**6)
    )
    for _ in range(3):
        state, _ = kernel.step(jax.random.key(0), state, None)
    assert kernel.init(jnp.zeros(1, dtype), jax.random.key(0)).average.dtype == jnp.float32
    np.testing.assert_allclose(state.average, 0.999**3, rtol=1e-6)

    preconditioner = kernels.rmsprop_preconditioner(1000, num_adaptation=10, decay=0.999)
    known = preconditioner.init(jnp.zeros(1, dtype))
    for _ in range(3):
        known = preconditioner.update(known, jnp.ones(1, dtype))
    np.testing.assert_allclose(known.mean_square, (1 - 0.999**3) * 1e-6, rtol=1e-4)
