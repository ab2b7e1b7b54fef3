"""Tests of the mass matrix: its forms, its momenta and invalid matrices. test_hmc.py tests the error messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from bayesjax.kernels.mass import mass
from tests.kernels.test_contract import quick_jit
from tests.kernels.test_hmc import one_step


def test_the_mass_may_be_a_number_a_tree_a_vector_or_a_matrix():
    """All forms of one diagonal give one step; another diagonal another."""
    forms = 0.5, {"x": 0.5}, {"x": np.full(3, 0.5)}, np.full(3, 0.5), np.diag([0.5, 0.5, 0.5])
    positions = [one_step(inverse_mass_matrix=form)[1].position["x"] for form in forms]
    for position in positions[1:]:
        np.testing.assert_allclose(position, positions[0], rtol=1e-6)
    assert not np.allclose(positions[0], one_step(inverse_mass_matrix=1.0)[1].position["x"], rtol=1e-2)


def test_a_dense_mass_draws_its_momentum():
    """The covariance of 20 000 momenta is M within 4 standard errors, and diagonal for a vector."""
    inverse = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]], np.float32)
    noise = jax.random.normal(jax.random.key(0), (20_000, 3))
    for form in (inverse, jnp.asarray(inverse), np.diagonal(inverse).copy()):
        drawn = mass(form, jnp.zeros(3))
        momenta = np.asarray(jax.vmap(drawn.momentum)(noise), float)
        expected = np.linalg.inv(inverse) if np.ndim(form) == 2 else np.diag(1 / np.diagonal(inverse))
        spread = np.sqrt(expected**2 + np.outer(np.diagonal(expected), np.diagonal(expected))) / np.sqrt(20_000)
        assert (np.abs(np.cov(momenta.T) - expected) < 4 * spread).all()
        velocity = jax.vmap(drawn.velocity)(momenta)
        np.testing.assert_allclose(velocity, momenta @ np.linalg.inv(expected), rtol=1e-3, atol=1e-3)


def standard_normal(position, rng_key, batch):
    return -0.5 * jnp.sum(position**2)


def step_of(method, position, inverse):
    """One step from a position that is an array."""
    kernel = method(standard_normal, step_size=0.1, inverse_mass_matrix=inverse)
    return kernel.step(jax.random.key(1), kernel.init(position, jax.random.key(0)), None)[0].position


def hmc(*arguments, **keywords):
    return kernels.hmc(*arguments, num_integration_steps=2, **keywords)


def test_a_known_mass_is_checked_under_jit():
    """An array of JAX from outside is closed over: read, and not traced."""
    inverse, negative = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, -2.0, 3.0])
    found = quick_jit(lambda position: step_of(hmc, position, inverse))(jnp.ones(3))
    np.testing.assert_allclose(found, step_of(hmc, jnp.ones(3), np.asarray(inverse)), rtol=1e-5)
    with pytest.raises(ValueError, match="inverse_mass_matrix must be positive and finite"):
        quick_jit(lambda position: step_of(hmc, position, negative))(jnp.ones(3))


@pytest.mark.parametrize("method", [hmc, kernels.nuts])
def test_two_axes_are_checked_once_the_position_tells_what_they_are(method):
    """A diagonal shaped as a position `[2, 2]`, or a matrix: refused where it is not positive."""
    square = jnp.ones((2, 2))
    assert jnp.isfinite(step_of(method, square, 2 * np.ones((2, 2), np.float32))).all()
    for inverse in (-np.ones((2, 2)), jnp.array([[1.0, jnp.inf], [1.0, 1.0]])):
        with pytest.raises(ValueError, match="inverse_mass_matrix must be positive and finite"):
            step_of(method, square, inverse)
    with pytest.raises(ValueError, match="inverse_mass_matrix must be positive definite and symmetric"):
        step_of(method, jnp.ones(3), -np.eye(3))
