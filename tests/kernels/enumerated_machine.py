"""Tiny Boltzmann machines whose laws are enumerated: all states, probabilities, and transition matrices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.models import boltzmann


def states(size):
    """All binary vectors, `[2^size, size]`, the first unit slowest."""
    return jnp.array(list(itertools.product((0.0, 1.0), repeat=size)))


def over_states(function):
    """`(params, a [n, A], b [m, B]) -> [n, m]` of a function of one state of each layer."""
    return jax.vmap(jax.vmap(function, (None, None, 0)), (None, 0, None))


@functools.cache
def machine(num_visible, num_hidden, *, visible_units="bernoulli", is_centred=False):
    """The functions of one machine."""
    return boltzmann.machine(boltzmann.RBM(num_visible, num_hidden, visible_units, is_centred))


def parameters(num_visible, num_hidden, *, visible_units="bernoulli", is_centred=False, seed=0, scale=1.0):
    """Parameters with all entries random, offsets inside (0, 1), and weights of the given scale."""
    random = np.random.default_rng(seed)
    params = {
        "kernel": scale * random.normal(size=(num_visible, num_hidden)),
        "visible_bias": random.normal(size=num_visible),
        "hidden_bias": random.normal(size=num_hidden),
    }
    if visible_units == "gaussian":
        params["log_variance"] = 0.5 * random.normal(size=num_visible)
    if is_centred:
        params["visible_offset"] = random.uniform(size=num_visible)
        params["hidden_offset"] = random.uniform(size=num_hidden)
    return jax.tree.map(jnp.asarray, params)


def law(functions, params, num_visible):
    """p(v) of all visible states, `[2^V]`, of Bernoulli units, from the free energy."""
    return jax.nn.softmax(-jax.vmap(functions.free_energy, (None, 0))(params, states(num_visible)))


def gibbs_matrix(functions, params, num_visible, num_hidden):
    """T[v, v'] = sum_h p(h | v) p(v' | h) of block Gibbs sampling, from the conditionals that the kernel draws from."""
    v, h = states(num_visible), states(num_hidden)
    to_hidden = over_states(lambda params, v, h: functions.hidden(params, v).log_prob(h))(params, v, h)
    to_visible = over_states(lambda params, h, v: functions.visible(params, h).log_prob(v))(params, h, v)
    return jnp.exp(to_hidden) @ jnp.exp(to_visible)
