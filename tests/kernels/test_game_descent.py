"""Tests of `game_descent` against exact linear maps on quadratic games and exact rates on the bilinear game."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels
from tests.parameters import some

ETA, GAMMA = 0.3, 0.4
GAME = np.array([[0.5, 1.0], [-2.0, 0.7]])  # v(z) = GAME @ z
BILINEAR = np.array([[0.0, 1.0], [-1.0, 0.0]])


def losses(matrix):
    """Losses of scalars x and y whose gradients are given by the matrix."""
    return {
        "x": lambda x, key, batch: 0.5 * matrix[0, 0] * x**2 + matrix[0, 1] * x * batch.others["y"],
        "y": lambda y, key, batch: 0.5 * matrix[1, 1] * y**2 + matrix[1, 0] * y * batch.others["x"],
    }


def path(kernel, num_steps, start=(1.0, -0.5)):
    """Positions `[num_steps + 1, 2]` in float64."""
    with jax.enable_x64(True):
        position = {"x": jnp.asarray(start[0], float), "y": jnp.asarray(start[1], float)}
        state, step = kernel.init(position, jax.random.key(0)), jax.jit(kernel.step)
        found = [position]
        for key in jax.random.split(jax.random.key(1), num_steps):
            state, info = step(key, state, jnp.zeros(1))
            found.append(state.position)
    return np.array([[float(p["x"]), float(p["y"])] for p in found]), info


def expected(method, matrix, num_steps, start=(1.0, -0.5)):
    """By matrices."""
    z, before, found = np.array(start), np.array(start), [np.array(start)]
    for _ in range(num_steps):
        moved = {
            "simultaneous": z - ETA * matrix @ z,
            "extragradient": z - ETA * matrix @ (z - ETA * matrix @ z),
            "optimistic": z - ETA * (2 * matrix @ z - matrix @ before),
            "consensus": z - ETA * (matrix @ z + GAMMA * matrix.T @ matrix @ z),
        }[method]
        z, before = moved, z
        found.append(z)
    return np.array(found)


METHODS = ("simultaneous", "extragradient", "optimistic", "consensus")


@pytest.mark.parametrize("method", METHODS)
def test_the_step_is_that_of_the_matrices(method):
    """Six steps on a game of no symmetry, to rounding; every other method is elsewhere by then."""
    found, info = path(kernels.game_descent(losses(GAME), step_size=ETA, method=method, consensus=GAMMA), 6)
    np.testing.assert_allclose(found, expected(method, GAME, 6), rtol=1e-10)
    assert float(info.gradient_norm) == pytest.approx(np.linalg.norm(GAME @ found[-2]), rel=1e-10)
    for other in set(METHODS) - {method}:
        assert abs(found[-1] - expected(other, GAME, 6)[-1]).max() > 0.01


def test_the_rates_of_the_bilinear_game():
    """sqrt(1 + eta^2), 1 by turns, sqrt(1 - eta^2 + eta^4), sqrt((1 - eta gamma)^2 + eta^2): a step's, to rounding."""
    rates = {
        "simultaneous": np.sqrt(1 + ETA**2),
        "extragradient": np.sqrt(1 - ETA**2 + ETA**4),
        "consensus": np.sqrt((1 - ETA * GAMMA) ** 2 + ETA**2),
    }
    for method, rate in rates.items():
        kernel = kernels.game_descent(losses(BILINEAR), step_size=ETA, method=method, consensus=GAMMA)
        norms = np.linalg.norm(path(kernel, 5)[0], axis=1)
        np.testing.assert_allclose(norms[1:] / norms[:-1], rate, rtol=1e-10)
    assert rates["simultaneous"] > 1 > rates["extragradient"]
    optimistic, _ = path(kernels.game_descent(losses(BILINEAR), step_size=ETA, method="optimistic"), 60)
    assert np.linalg.norm(optimistic[-1]) < 0.2 * np.linalg.norm(optimistic[0])
    turns = kernels.alternate(
        **{name: kernels.optimize(loss, optax.sgd(ETA)) for name, loss in losses(BILINEAR).items()}
    )
    z = path(turns, 200)[0]
    kept = z[:, 0] ** 2 + z[:, 1] ** 2 - ETA * z[:, 0] * z[:, 1]  # the ellipse that turns stay on
    np.testing.assert_allclose(kept, kept[0], rtol=1e-9)


@pytest.mark.parametrize("method", some(METHODS, "simultaneous", "consensus"))
def test_parts_of_a_batch_move_alike(method):
    """Two halves of a batch on a `data` axis: both end where the whole would."""
    data = jnp.array([[1.0, 2.0], [-3.0, 0.5], [0.2, 0.4], [2.0, -1.0]])
    losses = {
        "x": lambda x, key, batch: jnp.mean(batch.data[:, 0] * x * batch.others["y"] + 0.1 * x**2),
        "y": lambda y, key, batch: jnp.mean(batch.data[:, 1] * y**2 - y * batch.others["x"]),
    }
    kernel = kernels.game_descent(losses, step_size=ETA, method=method, consensus=GAMMA)
    state = kernel.init({"x": jnp.array(0.7), "y": jnp.array(-0.4)}, jax.random.key(0))
    whole, _ = kernel.step(jax.random.key(1), state, data)
    parts, _ = jax.vmap(kernel.step, in_axes=(None, None, 0), axis_name="data")(
        jax.random.key(1), state, data.reshape(2, 2, 2)
    )
    for name, value in whole.position.items():
        np.testing.assert_allclose(parts.position[name], [value, value], rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="losses is empty"):
        kernels.game_descent({}, step_size=0.1)
    with pytest.raises(ValueError, match=r"method must be among .*; got 'newton'"):
        kernels.game_descent(losses(GAME), step_size=0.1, method="newton")
    with pytest.raises(ValueError, match="consensus must be non-negative and finite; got -1"):
        kernels.game_descent(losses(GAME), step_size=0.1, consensus=-1.0)
    with pytest.raises(ValueError, match=r"position must have the keys \['x', 'y'\]; got \['x'\]"):
        kernels.game_descent(losses(GAME), step_size=0.1).init({"x": jnp.zeros(())}, jax.random.key(0))
