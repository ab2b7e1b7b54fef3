"""Tests of `optimize` with Optax optimisers, including those that need the value or evaluate the loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import axes
from bayesjax.kernels import adjust, optimize, particles
from tests.kernels.test_contract import quick_jit
from tests.parameters import some

SCALES = jnp.array([1.0, 10.0, 100.0])
START = {"x": jnp.array([1.0, -2.0, 0.5])}
SHIFTS = jnp.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])


def loss(params, rng_key, batch):
    """A quadratic with condition 100 about the mean of the batch, tilted by noise of the key."""
    tilt = 0.1 * jax.random.normal(rng_key, ())
    return jnp.mean(jnp.sum(SCALES * (params["x"] - batch) ** 2, axis=-1)) / 2 + tilt * params["x"][0]


def quiet(params, rng_key, batch):
    return jnp.mean(jnp.sum(SCALES * (params["x"] - batch) ** 2, axis=-1)) / 2


def descend(kernel, density_batch=SHIFTS, num_steps=10):
    step, state, infos = quick_jit(kernel.step), kernel.init(START, jax.random.key(0)), []
    for i in range(num_steps):
        state, info = step(jax.random.fold_in(jax.random.key(1), i), state, density_batch)
        infos.append(info)
    return state, infos


def test_lbfgs_minimises_a_quadratic():
    """Ten steps to 1e-4 of the minimum where gradient descent, at the largest stable rate, is over 0.1 away."""
    state, infos = descend(optimize(quiet, optax.lbfgs()))
    np.testing.assert_allclose(state.position["x"], SHIFTS.mean(axis=0), atol=1e-4)
    assert infos[-1].loss < infos[0].loss
    slow, _ = descend(optimize(quiet, optax.sgd(0.015)))
    assert np.abs(slow.position["x"] - SHIFTS.mean(axis=0)).max() > 0.1


class Recorded(NamedTuple):
    """Instead of an optimiser's state, what its `update` was given: values, and gradients at the position."""

    value: jax.Array
    evaluated: jax.Array
    gradient: dict
    derivative: dict


def record(updates, state, params, *, value, grad, value_fn):
    return updates, Recorded(value, value_fn(params), grad, jax.grad(value_fn)(params))


RECORDER = optax.GradientTransformationExtraArgs(
    lambda params: Recorded(jnp.zeros(()), jnp.zeros(()), params, params), record
)


@pytest.mark.parametrize("num_devices", some([1, 2], 2))
def test_a_line_search_sees_the_loss_of_the_step(num_devices):
    """The function that a search is given has the value and, for its derivative, the gradient of the step.

    That is, those of its key, its batch and all devices; no key is used twice as far as JAX's checker sees.
    """
    kernel = optimize(loss, RECORDER)
    state, parts = kernel.init(START, jax.random.key(0)), SHIFTS.reshape(num_devices, -1, 3)
    with jax.debug_key_reuse(True):
        step = jax.vmap(kernel.step, in_axes=(None, None, 0), axis_name=axes.DATA)
        found = step(jax.random.key(3), state, parts)[0].optimizer_state
    np.testing.assert_allclose(found.value, loss(START, jax.random.key(3), SHIFTS), rtol=1e-5)
    np.testing.assert_allclose(found.evaluated, found.value, rtol=1e-6)
    np.testing.assert_allclose(found.derivative["x"], found.gradient["x"], rtol=1e-5)
    assert (jnp.abs(found.gradient["x"]) > 0.1).any()


@pytest.mark.parametrize("make", [optax.lbfgs, lambda: optax.polyak_sgd(max_learning_rate=0.01)])
def test_the_value_is_that_of_all_devices(make):
    """Four parts of a batch on a `data` axis move as the whole does on one device, line search and all."""
    kernel = optimize(quiet, make())
    whole, _ = descend(kernel, num_steps=3)

    def parts(rng_key, state, batch):
        return jax.vmap(kernel.step, in_axes=(None, None, 0), axis_name=axes.DATA)(rng_key, state, batch)

    state, step = kernel.init(START, jax.random.key(0)), quick_jit(parts)
    for i in range(3):
        states, _ = step(jax.random.fold_in(jax.random.key(1), i), state, SHIFTS[:, None])
        state = jax.tree.map(lambda leaf: leaf[0], states)
        np.testing.assert_array_equal(states.position["x"], jnp.broadcast_to(state.position["x"], (4, 3)))
    np.testing.assert_allclose(state.position["x"], whole.position["x"], rtol=1e-4, atol=1e-5)


def test_a_plateau_reduces_the_learning_rate():
    """At the minimum the loss stays, and after `patience` steps the scale falls to a tenth."""
    plateau = optax.contrib.reduce_on_plateau(factor=0.1, patience=2)
    kernel = optimize(quiet, optax.chain(optax.sgd(0.0), plateau))
    state, _ = descend(kernel, num_steps=8)
    assert state.optimizer_state[1].scale < 0.11
    assert descend(kernel, num_steps=2)[0].optimizer_state[1].scale == 1


def test_particles_search_by_themselves():
    """Two chains of L-BFGS under one vmap end where each does alone."""
    starts = {"x": jnp.stack([START["x"], 3 * START["x"]])}
    both = particles(optimize(quiet, optax.lbfgs()), 2)
    state, step = both.init(starts, jax.random.key(0)), quick_jit(both.step)
    for i in range(10):
        state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, SHIFTS)
    np.testing.assert_allclose(state.position["x"], np.tile(SHIFTS.mean(axis=0), (2, 1)), atol=1e-3)


def test_an_update_of_another_shape_is_refused():
    """A learning rate with axes would broadcast a scalar parameter into an array."""
    kernel = optimize(lambda params, rng_key, batch: params["x"] ** 2, optax.sgd(jnp.array([0.1, 0.2])))
    state = kernel.init({"x": jnp.ones(())}, jax.random.key(0))
    with pytest.raises(ValueError, match=r"optimizer must keep the shapes of the position, {'x': \(\)}; got .*\(2,\)"):
        kernel.step(jax.random.key(1), state, None)


def test_adjusted_parameters_are_those_of_the_function():
    """It receives the parameters before and after the other updates of the chain; the last of two has the last word."""

    def halfway(old, new):
        return jax.tree.map(lambda a, b: 0.5 * (a + b), old, new)

    def move(*adjustments):
        kernel = optimize(quiet, optax.chain(optax.sgd(0.01), *adjustments))
        return kernel.step(jax.random.key(1), kernel.init(START, jax.random.key(0)), SHIFTS)[0].position["x"]

    new = START["x"] - 0.01 * SCALES * (START["x"] - SHIFTS.mean(axis=0))
    np.testing.assert_allclose(move(), new, rtol=1e-6)
    np.testing.assert_allclose(move(adjust(halfway)), 0.5 * (START["x"] + new), rtol=1e-6)
    np.testing.assert_allclose(move(adjust(lambda old, new: new)), new, rtol=1e-6)
    rounded = move(adjust(halfway), adjust(lambda old, new: jax.tree.map(jnp.round, new)))
    np.testing.assert_allclose(rounded, jnp.round(0.5 * (START["x"] + new)), atol=1e-6)
    np.testing.assert_allclose(move(adjust(lambda old, new: old)), START["x"])


def test_an_adjustment_needs_the_parameters():
    optimizer = optax.chain(optax.sgd(0.1), adjust(lambda old, new: new))
    with pytest.raises(
        ValueError, match="params must be passed to the update of an optimiser that adjusts them; got N"
    ):
        optimizer.update(START, optimizer.init(START))
