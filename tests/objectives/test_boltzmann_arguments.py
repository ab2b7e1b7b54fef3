"""Errors of the objectives of Boltzmann machines: wrong arguments, arrays in place of scalars, promoted ranks."""

import jax
import jax.numpy as jnp
import pytest

from bayesjax.objectives import boltzmann
from bayesjax.types import Carried
from tests.kernels.enumerated_machine import parameters
from tests.objectives.enumerated_chain import (
    KEY,
    LAW_KERNEL,
    H,
    Law,
    V,
    example_batch,
    free_energy,
    log_z_of,
    mean_free_energy,
    one_hot,
)
from tests.objectives.test_centred_learning import centred_hidden_mean, free_loss

pytestmark = pytest.mark.usefixtures("compile_once", "double")


PARAMS = {"w": 1.0}
BAD_CALLS = {
    "steps of contrastive divergence": (
        lambda: boltzmann.contrastive_divergence(free_energy, LAW_KERNEL, num_steps=0),
        "num_steps must be at least 1; got 0",
    ),
    "steps of persistent chains": (
        lambda: boltzmann.persistent_contrastive_divergence(free_energy, LAW_KERNEL, num_steps=1.5),
        "num_steps must be an integer, and at least 1; got 1.5",
    ),
    "chunk": (
        lambda: boltzmann.negative_pseudo_likelihood(free_energy, chunk_size=0),
        "chunk_size must be at least 1; got 0",
    ),
    "an image": (
        lambda: boltzmann.negative_pseudo_likelihood(lambda params, v: v.sum())(PARAMS, KEY, jnp.zeros((2, 2))),
        r"x must be one vector \[V\]; got an array of shape \(2, 2\)",
    ),
    "numbers of conditionals": (
        lambda: boltzmann.deep_belief_log_weight([free_energy], [], free_energy),
        "hidden and visible must have equal lengths; got 1 and 0",
    ),
    "number of parameters": (
        lambda: boltzmann.deep_belief_log_weight([], [], free_energy)([PARAMS, PARAMS], KEY, jnp.zeros(V)),
        "params must have 1 entries, one for each machine; got 2",
    ),
    "plain parameters": (
        lambda: boltzmann.follow_means(free_loss, centred_hidden_mean)(parameters(V, H), KEY, example_batch()),
        "params must be those of a centred machine, with visible_offset; got .*kernel",
    ),
    "samples": (
        lambda: boltzmann.persistent_contrastive_divergence(
            mean_free_energy, LAW_KERNEL, samples=lambda state, info: state.position[0]
        )(parameters(V, H), KEY, Carried(one_hot(example_batch()), Law(one_hot(example_batch())))),
        r"samples must be \[num, V\], see the argument samples; got an array of shape \(8,\)",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call()


def array(params, *units):
    return jnp.zeros((2,))


def scalar(params, *units):
    return jnp.zeros(())


def persistent(energy, positive=None):
    loss = boltzmann.persistent_contrastive_divergence(energy, LAW_KERNEL, positive=positive)
    return loss(parameters(V, H), KEY, Carried(jnp.zeros((2, 8)), Law(jnp.zeros((2, 8)))))


ARRAYS = {
    "free_energy, contrastive": lambda f: boltzmann.contrastive_divergence(f, LAW_KERNEL)(
        parameters(V, H), KEY, jnp.zeros(8)
    ),
    "free_energy, persistent": persistent,
    "positive": lambda f: persistent(scalar, f),
    "free_energy, exact": lambda f: boltzmann.exact_negative_log_likelihood(f, scalar)(PARAMS, KEY, jnp.zeros(V)),
    "log_partition_function": lambda f: boltzmann.exact_negative_log_likelihood(scalar, f)(PARAMS, KEY, jnp.zeros(V)),
    "free_energy, pseudo": lambda f: boltzmann.negative_pseudo_likelihood(f)(PARAMS, KEY, jnp.zeros(V)),
    "energy": lambda f: boltzmann.variational_free_energy(f, lambda params, v: [v])(PARAMS, KEY, jnp.zeros(V)),
    "top_free_energy": lambda f: boltzmann.deep_belief_log_weight([], [], f)([PARAMS], KEY, jnp.zeros(V)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_in_place_of_a_scalar_is_refused(name):
    """Only traced; the message names the function."""
    call = ARRAYS[name]
    jax.eval_shape(lambda: call(scalar))
    with pytest.raises(ValueError, match=rf"{name.split(',')[0]} must return a scalar; got an array of shape \(2,\)"):
        jax.eval_shape(lambda: call(array))


@pytest.mark.parametrize("name", ["contrastive", "persistent", "exact", "pseudo", "follow"])
def test_no_rank_is_promoted(name):
    """Every loss can be traced with `jax_numpy_rank_promotion="raise"`."""
    x, params = example_batch(), parameters(V, H)
    laws = one_hot(x)
    calls = {
        "contrastive": lambda: boltzmann.contrastive_divergence(mean_free_energy, LAW_KERNEL)(params, KEY, laws[0]),
        "persistent": lambda: boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL)(
            params, KEY, Carried(laws, Law(laws[:3]))
        ),
        "exact": lambda: boltzmann.exact_negative_log_likelihood(free_energy, log_z_of)(params, KEY, x[0]),
        "pseudo": lambda: boltzmann.negative_pseudo_likelihood(free_energy)(params, KEY, x[0]),
        "follow": lambda: boltzmann.follow_means(free_loss, centred_hidden_mean)(
            parameters(V, H, is_centred=True), KEY, x
        ),
    }
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(calls[name])
