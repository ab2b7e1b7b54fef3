"""Tests of `carrying` against truncated back-propagation through time written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels

DATA = jnp.array([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])  # three windows of two steps


def remembering(density):
    """Counts the batches that it saw, beside what the density returns: for `test_contract.py`."""

    def counting(params, rng_key, carried):
        out = density(params, rng_key, carried.batch)
        value, aux = out if isinstance(out, tuple) else (out, {})
        return value, {**aux, "carry": carried.carry + 1}

    return kernels.carrying(kernels.sghmc(counting, step_size=0.05, friction=0.2), jnp.zeros(()))


def loss(params, rng_key, carried):
    """h <- w h + x; the loss is the mean square of h over the window."""
    h, values = carried.carry, []
    for x in carried.batch:
        h = params * h + x
        values.append(h**2)
    return jnp.stack(values).mean(), {"carry": h, "last": h}


def test_values_go_on_and_gradients_do_not():
    """Three windows against the same recurrence in plain numpy, with the gradient inside a window alone."""
    kernel = kernels.carrying(kernels.optimize(loss, optax.sgd(0.1)), jnp.zeros(()))
    state = kernel.init(jnp.float32(0.5), jax.random.key(0))
    state, info = jax.lax.scan(lambda state, x: kernel.step(jax.random.key(1), state, x), state, DATA)
    w, h = 0.5, 0.0
    for window in np.asarray(DATA, float):
        slope, total = 0.0, 0.0
        for x in window:
            slope, h = h + w * slope, w * h + x
            total += 2 * h * slope / 2
        w -= 0.1 * total
    np.testing.assert_allclose(state.position, w, rtol=1e-5)
    np.testing.assert_allclose(state.carry, h, rtol=1e-5)
    assert set(info.aux) == {"last"}


def test_a_batch_in_parts_is_refused():
    """Averaged over devices, each stream's state would be that of none."""
    kernel = kernels.carrying(kernels.optimize(loss, optax.sgd(0.1)), jnp.zeros(()))
    state = kernel.init(jnp.float32(0.5), jax.random.key(0))
    with pytest.raises(ValueError, match="needs the whole batch on one device; got 3 parts"):
        jax.vmap(lambda x: kernel.step(jax.random.key(1), state, x), axis_name="data")(DATA)


def test_a_loss_that_leaves_nothing_behind_is_named():
    forgetful = kernels.optimize(lambda params, rng_key, carried: params**2, optax.sgd(0.1))
    kernel = kernels.carrying(forgetful, jnp.zeros(()))
    with pytest.raises(ValueError, match=r"aux of a carrying kernel's loss must have the key carry; it has \[\]"):
        kernel.step(jax.random.key(1), kernel.init(jnp.float32(0.5), jax.random.key(0)), DATA[0])


def test_particles_carry_each_their_own():
    kernel = kernels.particles(kernels.carrying(kernels.optimize(loss, optax.sgd(0.1)), jnp.zeros(())), 2)
    state = kernel.init(jnp.array([0.5, -0.5]), jax.random.key(0))
    state, _ = kernel.step(jax.random.key(1), state, DATA[0])
    np.testing.assert_allclose(state.carry, [2.5, 1.5])
