"""The LSTM against Flax's cell, and the language model: windows that go on give what one long window gives."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import models
from bayesjax.models.recurrent import LSTM, lstm_cell, lstm_over_time

WORDS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (12, 3)))


def test_lstm_is_flax_s_cell():
    x, h, c = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(5, 2, 3), (2, 4), (2, 4)]))
    model = LSTM(4)
    params = model.init(jax.random.key(3), x, h, c)["params"]
    found, last_h, last_c = model.apply({"params": params}, x, h, c)
    kernels, recurrent = (
        np.split(np.asarray(leaf), 4, axis=-1) for leaf in (params["input"]["kernel"], params["recurrent"])
    )
    cell = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", kernels, strict=True)}
    cell |= {
        f"h{gate}": {"kernel": kernel, "bias": np.zeros(4)} for gate, kernel in zip("ifgo", recurrent, strict=True)
    }
    state = (c, h)
    for t in range(5):
        state, y = nn.LSTMCell(4).apply({"params": cell}, state, x[t])
        np.testing.assert_allclose(found[t], y, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last_c, state[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last_h, state[1], rtol=1e-4, atol=1e-6)


def test_windows_that_go_on_are_one_long_window():
    model = models.LanguageModel(11, features=6, initial_scale=1.0)
    carry = model.initial_carry((3,))
    variables = model.init(jax.random.key(0), WORDS, carry)
    weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables) if leaf.ndim > 1])
    assert -1 <= weights.min() < -0.9 and 0.9 < weights.max() <= 1  # uniform on (-initial_scale, initial_scale)
    whole, end = model.apply(variables, WORDS, carry)
    assert whole.shape == (12, 3, 11)
    first, carry = model.apply(variables, WORDS[:5], carry)
    second, carry = model.apply(variables, WORDS[5:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), carry, end)
    forgotten, _ = model.apply(variables, WORDS[5:], model.initial_carry((3,)))
    assert not np.allclose(forgotten, second, atol=1e-2)


def test_one_sequence_has_no_batch_axis():
    model = models.LanguageModel(11, features=6, num_layers=1, initial_scale=1.0)
    variables = model.init(jax.random.key(0), WORDS, model.initial_carry((3,)))
    whole, _ = model.apply(variables, WORDS, model.initial_carry((3,)))
    one, _ = model.apply(variables, WORDS[:, 1], model.initial_carry(()))
    np.testing.assert_allclose(one, whole[:, 1], rtol=1e-4, atol=1e-6)


def test_dropout_is_of_what_does_not_recur():
    """With all of it dropped the words do not count, the softmax sees zeros, and the state still moves."""
    model = models.LanguageModel(11, features=6, initial_scale=1.0, dropout_rate=1.0)
    carry = jax.tree.map(jnp.ones_like, model.initial_carry((3,)))
    variables = model.init(jax.random.key(0), WORDS, carry)
    bias = jnp.arange(11.0)
    variables["params"]["softmax"]["bias"] = bias

    @jax.jit
    def apply(words):
        return model.apply(variables, words, carry, deterministic=False, rngs={"dropout": jax.random.key(1)})

    logits, end = apply(WORDS)
    np.testing.assert_array_equal(logits, jnp.broadcast_to(bias, logits.shape))
    jax.tree.map(np.testing.assert_array_equal, end, apply(WORDS[:, ::-1])[1])
    assert np.abs(end.h).min() > 0


def plain_loop(gates, recurrent, h, c):
    """`lstm_over_time` with the gradient that JAX gives a scan."""

    def step(carry, gates):
        h, c = lstm_cell(gates + carry[0] @ recurrent, carry[1])
        return (h, c), h

    (_, c), outputs = jax.lax.scan(step, (h, c), gates)
    return outputs, c


def test_the_loop_back_gives_the_gradient_of_a_plain_loop():
    shapes = (5, 2, 16), (4, 16), (2, 4), (2, 4)
    arguments = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    weights = jax.random.normal(jax.random.key(4), (6, 2, 4))

    def gradient(loop, of=(0, 1, 2, 3)):
        def loss(*arguments):
            outputs, c = loop(*arguments)
            return jnp.sum(weights[:5] * jnp.sin(outputs)) + jnp.sum(weights[5] * c**2)

        return jax.grad(loss, of)

    expected = gradient(plain_loop)(*arguments)
    for unroll in (1, 5):
        loop = functools.partial(lstm_over_time, unroll=unroll)
        for found, exact in zip(gradient(loop)(*arguments), expected, strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
    # Sharpening through its gradient asks for second derivatives.
    second = [
        jax.grad(lambda u, loop=loop: jnp.sum(gradient(loop, 1)(arguments[0], u, *arguments[2:]) ** 2))(arguments[1])
        for loop in (lstm_over_time, plain_loop)
    ]
    np.testing.assert_allclose(second[0], second[1], rtol=1e-3, atol=1e-3)
