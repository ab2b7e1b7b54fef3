"""Tests of block Gibbs sampling: the law of one step, keys of chains, blocks that are pytrees, and the info."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import kernels
from tests.kernels.enumerated_machine import gibbs_matrix, machine, parameters, states

NUM = 40_000


def gibbs(density):
    """Two blocks of normal variables around the batch, for `test_contract.py`; there is no density."""
    del density

    def other(batch, x):
        return distrax.Normal(0.5 * x["b"] + jnp.mean(batch), 1.0)

    def position(batch, z):
        return distrax.Joint({"w": distrax.Normal(z + batch.mean(axis=0), 1.0), "b": distrax.Normal(0.5 * z, 1.0)})

    return kernels.block_gibbs(other, position)


def test_a_step_draws_from_the_enumerated_transition():
    """Frequencies of v' and h after one step of 40 000 chains from one v are within 4.5 standard errors.

    False alarms: 16 comparisons at 6.8e-6, 1e-4 in all. The transition from another v is refused.
    """
    functions, params, v = machine(3, 3), parameters(3, 3), jnp.array([1.0, 0.0, 1.0])
    kernel = kernels.particles(kernels.block_gibbs(functions.hidden, functions.visible), NUM)
    state = kernel.init(jnp.tile(v, (NUM, 1)), jax.random.key(0))
    state, info = jax.jit(kernel.step)(jax.random.key(1), state, params)

    def deviations(draws, p):
        counts = np.bincount(np.asarray(draws @ 2.0 ** jnp.arange(2, -1, -1), int), minlength=8)
        return np.abs((counts / NUM - p) / np.sqrt(p * (1 - p) / NUM)).max()

    transition = np.asarray(gibbs_matrix(functions, params, 3, 3))
    hidden = np.exp(jax.vmap(functions.hidden(params, v).log_prob)(states(3)))
    assert deviations(state.position, transition[0b101]) < 4.5
    assert deviations(info.other, hidden) < 4.5
    assert deviations(state.position, transition[0b100]) > 4.5
    np.testing.assert_allclose(info.distance, jnp.abs(state.position - v).mean(axis=1))


def test_chains_have_their_own_keys():
    """Chain i of many moves as a single chain does with its key, and no two chains move alike."""
    functions, params = machine(40, 20), parameters(40, 20, scale=0.1)
    kernel = kernels.block_gibbs(functions.hidden, functions.visible)
    chains = kernels.particles(kernel, 3)
    states, _ = jax.jit(chains.step)(jax.random.key(1), chains.init(jnp.zeros((3, 40)), jax.random.key(0)), params)
    start, step = kernel.init(jnp.zeros(40), jax.random.key(0)), jax.jit(kernel.step)
    alone = [step(key, start, params)[0].position for key in jax.random.split(jax.random.key(1), 3)]
    np.testing.assert_array_equal(states.position, jnp.stack(alone))
    assert len(np.unique(states.position, axis=0)) == 3


def test_blocks_may_be_trees_and_keep_their_types():
    """A block of several leaves, one in half precision; the distance is the mean over all elements."""
    kernel = gibbs(None)
    position = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.float32(0.5)}
    state, info = jax.jit(kernel.step)(jax.random.key(1), kernel.init(position, jax.random.key(0)), jnp.ones((2, 3)))
    assert jax.tree.map(lambda leaf: leaf.dtype, state.position) == jax.tree.map(lambda leaf: leaf.dtype, position)
    differences = [np.abs(np.float32(state.position[name]) - np.float32(position[name])) for name in ("w", "b")]
    np.testing.assert_allclose(info.distance, np.concatenate([np.ravel(d) for d in differences]).mean(), rtol=1e-6)
