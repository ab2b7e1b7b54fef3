"""Exact tests of centred machines that learn: moving offsets, the distribution that they keep, and the mirror image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels
from bayesjax.models import boltzmann as models
from bayesjax.objectives import boltzmann
from bayesjax.types import Carried
from tests.kernels.enumerated_machine import law, machine, parameters, states
from tests.objectives.enumerated_chain import KEY, H, V, close, example_batch

pytestmark = pytest.mark.usefixtures("compile_once", "double")


def enumerated_loss(params, rng_key, batch):
    """F(x) with the exact gradient of -log p(x); the carry has all states, so that both mirrors sum in one order."""
    functions, (x, order) = machine(V, H, is_centred=True), batch
    energies = jax.vmap(functions.free_energy, (None, 0))
    p = jax.lax.stop_gradient(jax.nn.softmax(-energies(params, order)))
    return energies(params, x).mean() - p @ energies(params, order)


def centred_hidden_mean(params, x):
    return machine(V, H, is_centred=True).hidden(params, x).mean()


def offset_optimizer(rate, offset_rate, *, is_kept=True):
    groups = {"weights": optax.sgd(rate), "offsets": optax.sgd(offset_rate)}
    moves = optax.partition(groups, lambda params: {
        name: "offsets" if name in boltzmann.OFFSETS else "weights" for name in params
    })  # fmt: skip
    return optax.chain(moves, kernels.adjust(models.keep_distribution)) if is_kept else moves


def free_loss(params, rng_key, x):
    """The mean free energy, whose own gradient of the offsets is not 0."""
    return jax.vmap(machine(V, H, is_centred=True).free_energy, (None, 0))(params, x).mean()


@pytest.mark.parametrize("is_carried", [False, True])
def test_the_gradient_of_the_offsets(is_carried):
    """m - mean(x) and l - mean of p(h = 1 | x) alone; the value and all other gradients are those of the loss."""
    params, x = parameters(V, H, is_centred=True), example_batch()
    batch = Carried(x, None) if is_carried else x

    def loss(params, rng_key, batch):
        return free_loss(params, rng_key, batch.batch if is_carried else batch), {"aux": jnp.ones(())}

    following = boltzmann.follow_means(loss, centred_hidden_mean)
    (value, aux), gradient = jax.value_and_grad(following, has_aux=True)(params, KEY, batch)
    (expected_value, expected_aux), expected = jax.value_and_grad(loss, has_aux=True)(params, KEY, batch)
    assert value == expected_value and aux == expected_aux
    means = x.mean(axis=0), jax.vmap(centred_hidden_mean, (None, 0))(params, x).mean(axis=0)
    for name, mean in zip(boltzmann.OFFSETS, means, strict=True):
        close(gradient[name], params[name] - mean)
        assert jnp.abs(gradient[name] - expected[name]).max() > 1e-3
        del gradient[name], expected[name]
    jax.tree.map(close, gradient, expected)


def test_the_value_is_kept_where_the_pull_is_large():
    """Added and subtracted in turn, the pull of offsets of 1e9 would leave nothing of the value."""
    params = parameters(V, H, is_centred=True)
    params["visible_offset"] = jnp.full(V, 1e9)
    following = boltzmann.follow_means(lambda params, rng_key, x: jnp.float64(0.1), centred_hidden_mean)
    assert following(params, KEY, example_batch())[0] == 0.1


def test_offsets_are_moving_averages_and_keep_the_distribution():
    """Three steps of the rate 0.25: (1 - a) m + a mean(x), and one distribution to 1e-12 if the weights have rate 0.

    With weights that learn, the law is that of the learnt weights with the offsets before. Offsets that move without
    the biases are refused.
    """
    params, x = parameters(V, H, is_centred=True), example_batch()
    functions = machine(V, H, is_centred=True)
    loss = boltzmann.follow_means(free_loss, centred_hidden_mean)

    def move(rate, num_steps, **options):
        kernel = kernels.optimize(loss, offset_optimizer(rate, 0.25, **options))
        state = kernel.init(params, KEY)
        for _ in range(num_steps):
            state, _ = kernel.step(KEY, state, x)
        return state.position

    expected = {name: params[name] for name in boltzmann.OFFSETS}
    hidden_mean = jax.vmap(centred_hidden_mean, (None, 0))(params, x).mean(axis=0)  # the same for equal distributions
    for _ in range(3):
        expected["visible_offset"] = 0.75 * expected["visible_offset"] + 0.25 * x.mean(axis=0)
        expected["hidden_offset"] = 0.75 * expected["hidden_offset"] + 0.25 * hidden_mean
    moved = move(0.0, 3)
    for name in boltzmann.OFFSETS:
        close(moved[name], expected[name])
    before = law(functions, params, V)
    np.testing.assert_allclose(law(functions, moved, V), before, atol=1e-12)
    assert jnp.abs(law(functions, move(0.0, 3, is_kept=False), V) - before).max() > 1e-3

    learnt, bare = move(0.1, 1), move(0.1, 1, is_kept=False)
    unmoved = {**bare, **{name: params[name] for name in boltzmann.OFFSETS}}
    np.testing.assert_allclose(law(functions, learnt, V), law(functions, unmoved, V), atol=1e-12)
    assert jnp.abs(law(functions, learnt, V) - before).max() > 1e-3


def mirrored(params):
    """The machine with the visible bits flipped: p'(1 - v) = p(v)."""
    flipped = {"kernel": -params["kernel"], "visible_bias": -params["visible_bias"]}
    return {**params, **flipped, "visible_offset": 1 - params["visible_offset"]}


@functools.cache
def mirror_step(is_centred):
    """A step of learning; the plain learner keeps its offsets at 0, which are not those of its mirror image."""
    if is_centred:
        loss = boltzmann.follow_means(enumerated_loss, centred_hidden_mean)
        kernel = kernels.optimize(loss, offset_optimizer(0.25, 0.125))
    else:
        kernel = kernels.optimize(enumerated_loss, offset_optimizer(0.25, 0.0, is_kept=False))
    return kernel, jax.jit(kernel.step)


def learn(is_centred, params, x, order):
    kernel, step = mirror_step(is_centred)
    state = kernel.init(params, KEY)
    for _ in range(12):
        state, _ = step(KEY, state, Carried(x, order))
    return state.position


def test_the_centred_learner_on_flipped_bits_is_the_mirror_image():
    """Bit for bit after twelve steps, from offsets of 1/2 at the rate 1/8 and four examples: 1 - m is then exact.

    The negative phase is enumerated, with the flipped states in the same order. The plain learner is refused.
    """
    x, order = states(V)[jnp.array([1, 6, 6, 0])], states(V)
    start = parameters(V, H, scale=0.1)
    half = {"visible_offset": jnp.full(V, 0.5), "hidden_offset": jnp.full(H, 0.5)}
    first, second = learn(True, {**start, **half}, x, order), learn(True, mirrored({**start, **half}), 1 - x, 1 - order)
    for name, value in mirrored(first).items():
        np.testing.assert_array_equal(second[name], value)
    assert jnp.abs(first["kernel"] - start["kernel"]).max() > 0.01

    zeros = {name: jnp.zeros_like(value) for name, value in half.items()}
    plain = {**start, **zeros}
    start_of_mirror = models.move_offsets(mirrored(plain), *zeros.values())  # the same law with offsets of 0
    functions = machine(V, H, is_centred=True)
    close(law(functions, start_of_mirror, V), law(functions, plain, V)[::-1])
    first, second = learn(False, plain, x, order), learn(False, start_of_mirror, 1 - x, 1 - order)
    assert jnp.abs(law(functions, second, V)[::-1] - law(functions, first, V)).max() > 1e-3
