"""Exact tests of the variational bound of deep belief networks, by enumeration of all draws of the hidden layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.objectives import boltzmann
from tests.kernels.enumerated_machine import law, machine, over_states, parameters, states
from tests.objectives.enumerated_chain import KEY, close

pytestmark = pytest.mark.usefixtures("compile_once", "double")


class Given:
    """A conditional whose draw is fixed."""

    def __init__(self, distribution, value):
        self.distribution, self.value = distribution, value

    def sample_and_log_prob(self, *, seed):
        del seed
        return self.value, self.distribution.log_prob(self.value)


SIZES = (3, 2, 3, 2)  # v, h_1, h_2, and the hidden units of the machine on top


def belief_network(num_layers, seed=0):
    """The parameters of `num_layers` sigmoid layers and of the machine on top of them."""
    return [parameters(*SIZES[i : i + 2], seed=seed + i) for i in range(num_layers + 1)]


def transposed(params):
    """The machine whose visible units are the hidden units of another one."""
    return {
        "kernel": params["kernel"].T,
        "visible_bias": params["hidden_bias"],
        "hidden_bias": params["visible_bias"],
    }


def functions_of(params):
    return machine(*params["kernel"].shape)


def log_weights(network, draws, v):
    """log p(v, h) / q(h | v) + log Z at given draws of the layers, from the library, and log q of these draws."""
    *layers, top = network
    hidden = [
        lambda params, units, h=h: Given(functions_of(params).hidden(params, units), h)
        for h in draws
    ]  # fmt: skip
    log_weight = boltzmann.deep_belief_log_weight(
        hidden, [functions_of(layer).visible for layer in layers], functions_of(top).free_energy
    )
    log_q, below = 0.0, v
    for layer, h in zip(layers, draws, strict=True):
        log_q, below = log_q + functions_of(layer).hidden(layer, below).log_prob(h), h
    return log_weight(network, KEY, v), log_q


def every_draw(network):
    """All states of the layers above v, as a list of arrays `[num, size]`."""
    *layers, _ = network
    sizes = [layer["hidden_bias"].size for layer in layers]
    both = states(sum(sizes))
    return [both[:, sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]


def enumerated_weights(network):
    """Log weights and log q of all draws for every v, `[2^V, num]` each."""
    draws, v = every_draw(network), states(network[0]["visible_bias"].size)
    if not draws:
        value = jax.vmap(lambda v: log_weights(network, [], v)[0])(v)
        return value[:, None], jnp.zeros_like(value)[:, None]
    of_draws = jax.vmap(functools.partial(log_weights, network), (0, None))
    return jax.vmap(of_draws, (None, 0))(draws, v)


def log_z_of_top(network):
    top = network[-1]
    return jax.nn.logsumexp(-jax.vmap(functions_of(top).free_energy, (None, 0))(top, states(top["visible_bias"].size)))


def exact_log_law(network):
    """log p(v) of a deep belief network for every v, by sums over one layer after the other from the top."""
    *layers, top = network
    p = law(functions_of(top), top, top["visible_bias"].size)
    for layer in reversed(layers):
        below, above = (states(size) for size in layer["kernel"].shape)
        p = p @ jnp.exp(over_states(lambda params, h, v: functions_of(params).visible(params, h).log_prob(v))(
            layer, above, below
        ))  # fmt: skip
    return jnp.log(p)


def bounds(network):
    """E_q of the log weight less log Z, for every v."""
    values, log_q = enumerated_weights(network)
    return jnp.sum(jnp.exp(log_q) * values, axis=1) - log_z_of_top(network)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_bound_of_a_deep_belief_network(num_layers):
    """Over all draws the weights have the mean p(v) Z, and the mean log weight is a bound that is not tight.

    The weights p(v, h) without 1 / q have another mean.
    """
    network = belief_network(num_layers)
    values, log_q = enumerated_weights(network)
    exact = exact_log_law(network)
    close(jax.nn.logsumexp(log_q + values, axis=1) - log_z_of_top(network), exact)
    gap = exact - bounds(network)
    assert gap.min() > -1e-12 and gap.max() > 0.01
    wrong = jax.nn.logsumexp(2 * log_q + values, axis=1) - log_z_of_top(network)
    assert jnp.abs(wrong - exact).min() > 1e-2


def test_the_bound_is_tight_where_q_is_exact():
    """With the lowest machine transposed on top, the network is that machine and q its conditional.

    The machine on top that is not transposed, of as many visible as hidden units, has a gap.
    """
    lower = parameters(3, 3)
    network = [lower, transposed(lower)]
    exact = exact_log_law(network)
    close(exact, jnp.log(law(functions_of(lower), lower, 3)))
    close(bounds(network), exact)
    assert jnp.abs(bounds([lower, lower]) - exact).max() > 1e-2


@pytest.mark.parametrize("num_layers", [0, 1])
def test_a_layer_with_transposed_weights_keeps_the_bound(num_layers):
    """The machine on top becomes a sigmoid layer below its transposed self; log Z and the bound are the same.

    A new machine on top that is not the transposed one changes the bound.
    """
    network = belief_network(num_layers)
    grown = [*network, transposed(network[-1])]
    close(log_z_of_top(grown), log_z_of_top(network))
    close(bounds(grown), bounds(network))
    other = transposed({**network[-1], "kernel": -network[-1]["kernel"]})
    assert jnp.abs(bounds([*network, other]) - bounds(network)).max() > 1e-2


@pytest.mark.slow
def test_the_mean_weight_of_draws_is_unbiased():
    """The mean of 40 000 weights is within 4 standard errors of p(v) Z.

    False alarms: 6.3e-5. The mean log weight, whose exponential is below p(v) Z, is refused.
    """
    network, v, num = belief_network(2), states(3)[5], 40_000
    *layers, top = network
    log_weight = boltzmann.deep_belief_log_weight(
        [functions_of(layer).hidden for layer in layers],
        [functions_of(layer).visible for layer in layers],
        functions_of(top).free_energy,
    )
    with jax.debug_key_reuse(True):
        log_weight(network, KEY, v)
    values = np.asarray(jax.jit(jax.vmap(log_weight, (None, 0, None)))(network, jax.random.split(KEY, num), v))
    ratios = np.exp(values - float(exact_log_law(network)[5] + log_z_of_top(network)))
    standard_error = ratios.std() / np.sqrt(num)
    assert abs(ratios.mean() - 1) < 4 * standard_error
    assert abs(np.exp(np.log(ratios).mean()) - 1) > 4 * standard_error
