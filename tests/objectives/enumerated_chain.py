"""Block Gibbs sampling of a tiny Boltzmann machine as a deterministic chain of distributions, for several test files.

The position of the chain is a vector p of probabilities of all visible states. A step multiplies it by the transition
matrix, and its free energy is the mean of F under p. Losses that are linear in the samples then have their exact
expectations.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayesjax.evaluation import partition_function
from bayesjax.types import Kernel
from tests.kernels.enumerated_machine import gibbs_matrix, law, machine, parameters, states

V, H = 3, 2
KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11)


def free_energy(params, v):
    return machine(V, H).free_energy(params, v)


def slow_parameters():
    """A machine with two modes, all units off and all on, between which its Gibbs chain moves slowly."""
    params = jax.tree.map(lambda leaf: 0.2 * leaf, parameters(V, H))
    biases = {"visible_bias": params["visible_bias"] - H, "hidden_bias": params["hidden_bias"] - V}
    return {"kernel": params["kernel"] + 2.0, **biases}


def example_batch():
    """Five examples, two of them equal."""
    return states(V)[jnp.array([1, 6, 6, 3, 0])]


def gradient_rows(params):
    """dF(v) for all visible states, `[2^V, num_parameters]`."""
    return jax.vmap(lambda v: ravel_pytree(jax.grad(free_energy)(params, v))[0])(states(V))


def flat_gradient(loss, params, *args):
    """The gradient of a loss with aux, as a vector."""
    return ravel_pytree(jax.grad(loss, has_aux=True)(params, *args)[0])[0]


def index_of(v):
    return jnp.asarray(v @ 2.0 ** jnp.arange(V - 1, -1, -1), int)


def one_hot(v):
    """Visible vectors as distributions over all visible states."""
    return jax.nn.one_hot(index_of(v), 2**V, dtype=float)


class Law(NamedTuple):
    position: jax.Array


def step_of_law(rng_key, state, params):
    del rng_key
    moved = Law(state.position @ gibbs_matrix(machine(V, H), params, V, H))
    return moved, moved


LAW_KERNEL = Kernel(lambda position, rng_key: Law(position), step_of_law)


def mean_free_energy(params, p):
    return p @ jax.vmap(free_energy, (None, 0))(params, states(V))


def k_step_law(params, num_steps):
    return np.linalg.matrix_power(np.asarray(gibbs_matrix(machine(V, H), params, V, H)), num_steps)


def exact_gradient(params, x):
    """The gradient of the mean of -log p(x) over a batch."""
    rows = gradient_rows(params)
    return rows[index_of(x)].mean(axis=0) - law(machine(V, H), params, V) @ rows


def log_z_of(params):
    return partition_function.log_partition_function(machine(V, H).hidden_free_energy, params, H)
