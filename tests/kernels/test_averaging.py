"""Tests of `averaging`: the recursion, the ramp of the decay, and an unchanged inner kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels

SHIFTS = jnp.array([1.0, -2.0, 0.5])


def loss(params, rng_key, batch):
    return jnp.sum((params - batch) ** 2)


def path(kernel, num_steps, position=SHIFTS * 3):
    """Positions `[num_steps, 3]`, and the last state."""
    step = jax.jit(kernel.step)
    state, positions = kernel.init(position, jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), num_steps):
        state, _ = step(key, state, SHIFTS)
        positions.append(state.position)
    return np.array(positions), state


def test_the_average_follows_its_recursion():
    """By hand over 40 steps, ramp and all, which a constant decay from the start is not; the kernel moves as alone."""
    alone, _ = path(kernels.optimize(loss, optax.sgd(0.1)), 40)
    positions, state = path(kernels.averaging(kernels.optimize(loss, optax.sgd(0.1)), 0.5), 40)
    np.testing.assert_array_equal(positions, alone)

    def expected(decay_at):
        average = np.asarray(SHIFTS * 3, float)
        for t, position in enumerate(alone):
            average = decay_at(t) * average + (1 - decay_at(t)) * position
        return average

    np.testing.assert_allclose(state.average, expected(lambda t: min(0.5, (1 + t) / (10 + t))), rtol=1e-5)
    slow = path(kernels.averaging(kernels.optimize(loss, optax.sgd(0.1)), 0.99), 40)[1].average
    np.testing.assert_allclose(slow, expected(lambda t: min(0.99, (1 + t) / (10 + t))), rtol=1e-5)
    assert not np.allclose(slow, expected(lambda t: 0.99), rtol=0.1)


def test_decay_0_is_the_position():
    positions, state = path(kernels.averaging(kernels.optimize(loss, optax.sgd(0.1)), 0.0), 5)
    np.testing.assert_array_equal(state.average, positions[-1])


def test_the_average_stands_where_a_game_circles():
    """x y, simultaneous gradients by turns: the positions circle 0, their average is ten times nearer."""

    def player(sign, other):
        def value(params, rng_key, batch):
            return sign * params * batch.others[other]

        return kernels.averaging(kernels.optimize(value, optax.sgd(0.1)), 0.99)

    game = kernels.alternate(x=player(1, "y"), y=player(-1, "x"))
    state = game.init({"x": jnp.array(1.0), "y": jnp.array(1.0)}, jax.random.key(0))

    @functools.partial(jax.jit, static_argnums=1)
    def run(state, num):
        return jax.lax.scan(lambda s, key: (game.step(key, s, jnp.zeros(1))[0], s.position), state,
                            jax.random.split(jax.random.key(1), num))  # fmt: skip

    state, positions = run(state, 1000)
    radius = np.hypot(positions["x"][-100:], positions["y"][-100:])
    assert radius.min() > 0.5
    assert np.hypot(state.players["x"].average, state.players["y"].average) < 0.1 * radius.max() + 0.05


def test_bad_input():
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); got 1.0"):
        kernels.averaging(kernels.optimize(loss, optax.sgd(0.1)), 1.0)
