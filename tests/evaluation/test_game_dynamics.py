"""Spectral radii of steps of games against steps of the kernels and against eigenvalues known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels
from bayesjax.evaluation.game_dynamics import METHODS, convergence_factor, game_jacobian

ETA, GAMMA = 0.2, 0.4
GAME = np.array([[0.2, 0.1, 1.5], [0.1, 1.5, -0.5], [-1.6, 0.7, 0.2]])  # x has two parameters, y has one
LOSSES = {
    "x": lambda x, key, given: 0.5 * x @ GAME[:2, :2] @ x + x @ GAME[:2, 2] * given.others["y"],
    "y": lambda y, key, given: 0.5 * GAME[2, 2] * y**2 + y * (GAME[2, :2] @ given.others["x"]),
}


def test_jacobian_of_a_quadratic_game():
    """The Jacobian is the matrix of the gradients, everywhere."""
    for position in ({"x": jnp.zeros(2), "y": jnp.zeros(())}, {"y": jnp.ones(()), "x": jnp.array([1.0, -2.0])}):
        np.testing.assert_allclose(game_jacobian(LOSSES, position, jax.random.key(0)), GAME, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_factor_is_the_rate_of_the_kernel(method):
    """Late steps of the kernel shrink the distance by the factor, and no other method has this factor."""
    if method == "alternating":
        kernel = kernels.alternate(**{name: kernels.optimize(loss, optax.sgd(ETA)) for name, loss in LOSSES.items()})
    else:
        kernel = kernels.game_descent(LOSSES, step_size=ETA, method=method, consensus=GAMMA)
    num_steps = 200

    def step(state, rng_key):
        state, _ = kernel.step(rng_key, state, jnp.zeros(1))
        return state, jnp.sum(state.position["x"] ** 2) + state.position["y"] ** 2

    with jax.enable_x64(True):
        state = kernel.init({"x": jnp.array([1.0, -0.5]), "y": jnp.array(0.7)}, jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), num_steps)
        squares = np.asarray(jax.jit(lambda state: jax.lax.scan(step, state, keys)[1])(state))
    slope = np.polyfit(np.arange(num_steps // 2), 0.5 * np.log(squares[num_steps // 2 :]), 1)[0]
    factors = {name: convergence_factor(GAME, name, ETA, consensus=GAMMA, num_params=(2, 1)) for name in METHODS}
    assert np.exp(slope) == pytest.approx(factors[method], abs=1e-3)  # the slope of a spiral
    assert all(abs(factors[name] - factors[method]) > 2e-3 for name in METHODS if name != method)


def test_factors_of_the_bilinear_game():
    """The eigenvalues of min_x max_y x y are known by hand."""
    game = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert convergence_factor(game, "simultaneous", ETA) == pytest.approx(np.sqrt(1 + ETA**2))
    assert convergence_factor(game, "alternating", ETA) == pytest.approx(1)
    assert convergence_factor(game, "extragradient", ETA) == pytest.approx(np.sqrt(1 - ETA**2 + ETA**4))
    expected = np.hypot(1 - ETA * GAMMA, ETA)
    assert convergence_factor(game, "consensus", ETA, consensus=GAMMA) == pytest.approx(expected)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"method must be among simultaneous, .*; got 'newton'"):
        convergence_factor(GAME, "newton", ETA)
    with pytest.raises(ValueError, match=r"num_params must add up to 3, .*; got \(2, 2\)"):
        convergence_factor(GAME, "alternating", ETA, num_params=(2, 2))
