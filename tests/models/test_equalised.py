"""Equalised learning rate: weights from N(0, 1), outputs of the size of the gain, and an unequalised layer refused."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import quick_jit

from bayesjax.models import resampling
from bayesjax.models.convolution import Conv, convolve, convolve_transpose
from bayesjax.models.equalised import EqualisedConv, EqualisedDense
from bayesjax.models.initializers import normal

RANDOM = np.random.default_rng(0)
NUM = 2048  # outputs, whose root mean square has a relative standard error of at most 1 / sqrt(2 NUM) = 1.6 %
TOLERANCE = 4 / math.sqrt(2 * NUM)  # false alarms: 6.3e-5 for each check


def inside(x):
    """The pixels whose window meets no edge, in maps of 5 x 5 pixels or more."""
    return x[:, 2:-2, 2:-2]


LAYERS = {
    "dense": (EqualisedDense(NUM, gain=1.0), (1, 50), lambda y: y),
    "dense at a hundredth of the rate": (EqualisedDense(NUM, rate=0.01), (1, 50), lambda y: y),
    "convolution": (EqualisedConv(NUM, 3), (1, 5, 5, 7), inside),
    "doubled": (EqualisedConv(NUM, 3, convolution=resampling.convolve_upsampled), (1, 4, 4, 7), inside),
}


def initial(layer, shape):
    """Outputs for inputs of -1 and 1 at random, and the first parameters."""
    x = RANDOM.choice(np.float32([-1, 1]), size=shape)
    y, variables = quick_jit(layer.init_with_output)(jax.random.key(0), x)
    return np.asarray(y), variables["params"]


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_have_the_size_of_the_gain(name):
    """For inputs of mean square 1, every output is N(0, gain^2) over the weights, which are N(0, 1 / rate^2)."""
    layer, shape, part = LAYERS[name]
    y, params = initial(layer, shape)
    rate = getattr(layer, "rate", 1.0)
    assert abs(np.sqrt(np.mean(part(y).reshape(-1, NUM)[0] ** 2)) / layer.gain - 1) < TOLERANCE
    weights = np.asarray(params["kernel"]) * rate
    assert abs(weights.mean()) < 4 / math.sqrt(weights.size)
    assert abs(weights.std() - 1) < 4 / math.sqrt(2 * weights.size)
    assert not np.any(params["bias"])


def test_unequalised_layers_are_refused():
    """N(0, 1) without the coefficient, and the coefficient of another fan-in, fail the check above."""
    for layer in (Conv(NUM, 3, kernel_init=normal(1.0)), Conv(NUM, 3, kernel_init=normal(math.sqrt(2 / 7)))):
        y, _ = initial(layer, (1, 5, 5, 7))
        assert abs(np.sqrt(np.mean(inside(y) ** 2)) / math.sqrt(2) - 1) > TOLERANCE


def test_layers_are_flax_layers_with_scaled_weights():
    """The same outputs as `nn.Dense` and as the convolution that was given, with c W and r b."""
    x = RANDOM.normal(size=(2, 3, 3, 4)).astype(np.float32)
    kernel, bias = RANDOM.normal(size=(3, 3, 4, 5)).astype(np.float32), np.arange(5, dtype=np.float32)
    dense = EqualisedDense(5, gain=3.0, rate=0.5)
    doubled = functools.partial(convolve_transpose, strides=2)
    convolutions = [EqualisedConv(5, 3, gain=2.0, convolution=each) for each in (convolve, doubled)]

    def both(kernel, bias):
        params = {"params": {"kernel": kernel, "bias": bias}}
        scaled = {"kernel": kernel[0, 0] * 3 * 0.5 / 2, "bias": bias / 2}
        actual = dense.apply({"params": {"kernel": kernel[0, 0], "bias": bias}}, x)
        pairs = [(actual, nn.Dense(5).apply({"params": scaled}, x))]
        return pairs + [(each.apply(params, x), each.convolution(x, kernel * 2 / 6) + bias) for each in convolutions]

    for actual, expected in quick_jit(both)(kernel, bias):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_rate_scales_the_steps_and_nothing_else():
    """Of the effective weights, a step of Adam's size moves a layer of rate r by r times as much."""
    x, layers = jnp.ones((1, 4)), [EqualisedDense(2, rate=rate, bias=1.0) for rate in (1.0, 0.25)]

    def before_and_after(layer):
        params = {"kernel": jnp.ones((4, 2)) / layer.rate, "bias": jnp.ones(2) / layer.rate}
        further = jax.tree.map(lambda leaf: leaf + 0.1, params)
        return [layer.apply({"params": each}, x) for each in (params, further)]

    (fast, slow), first = quick_jit(
        lambda key: ([before_and_after(layer) for layer in layers], layers[1].init(key, x)["params"])
    )(jax.random.key(0))
    np.testing.assert_allclose(fast[0], slow[0], rtol=1e-6)
    np.testing.assert_allclose((fast[1] - fast[0]) / (slow[1] - slow[0]), 4, rtol=1e-4)
    np.testing.assert_array_equal(first["bias"], [4, 4])


def test_layers_without_bias():
    """They have the kernel alone."""
    for layer, shape in (
        (EqualisedDense(2, use_bias=False), (1, 3)),
        (EqualisedConv(2, 1, use_bias=False), (1, 2, 2, 3)),
    ):
        assert list(jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape))["params"]) == ["kernel"]
