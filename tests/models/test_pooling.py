"""Pooling and unpooling against Flax's max-pool and a loop; odd sizes; ties."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models.pooling import max_pool, max_pool_with_indices, max_unpool

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_it_is_flax_s_max_pool(size):
    x = jnp.asarray(RANDOM.normal(size=(3, *size, 2)), jnp.float32)
    expected = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
    np.testing.assert_array_equal(max_pool(x), expected)
    np.testing.assert_array_equal(max_pool_with_indices(x)[0], expected)
    np.testing.assert_array_equal(max_pool(x[0]), expected[0])


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_unpooling_puts_maxima_back_where_they_were(size):
    x = jnp.asarray(RANDOM.uniform(0.1, 1, size=(2, *size, 3)), jnp.float32)
    y, places = max_pool_with_indices(x)
    back = np.asarray(max_unpool(y, places, size))
    assert back.shape == x.shape
    put = back != 0
    np.testing.assert_array_equal(back[put], np.asarray(x)[put])
    np.testing.assert_array_equal(max_pool(jnp.asarray(back)), y)
    assert put.sum() == y.size


def test_of_equal_numbers_the_first_is_remembered_and_alone():
    x = jnp.ones((2, 2, 1))
    y, places = max_pool_with_indices(x)
    np.testing.assert_array_equal(max_unpool(y, places, (2, 2))[..., 0], [[1, 0], [0, 0]])


def test_the_gradient_goes_to_the_maximum():
    x = jnp.asarray(RANDOM.normal(size=(4, 4, 1)), jnp.float32)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient, max_unpool(jnp.ones((2, 2, 1)), max_pool_with_indices(x)[1], (4, 4)))


def test_the_gradient_of_equal_numbers_goes_to_the_first():
    """Exactly one element of each block has the gradient, so that it is finite for any rounding of the elements."""
    gradient = jax.jit(jax.grad(lambda x: max_pool(x).sum()))(jnp.ones((2, 4, 1)))
    np.testing.assert_array_equal(gradient[..., 0], [[1, 0, 1, 0], [0, 0, 0, 0]])
