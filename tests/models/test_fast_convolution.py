"""`models.fast`: Flax's own layers give the same numbers, and run through the operation of `convolution.py`."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from bayesjax import models, posteriors

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))


class Network(nn.Module):
    """Convolutions of several kinds, inside another module and under a lifted transform."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(5, (3, 3), strides=2)(x))
        x = nn.remat(nn.Conv)(4, (3, 3), padding="VALID", use_bias=False)(x)
        x = nn.ConvTranspose(3, (4, 4), strides=(2, 2))(x)
        return nn.Dense(2)(x.mean(axis=(1, 2)))


FAST = {
    "same": nn.Conv(4, (3, 3)),
    "strided": nn.Conv(4, (5, 3), strides=(2, 1)),
    "pads": nn.Conv(4, (3, 3), padding=((1, 0), (2, 1))),
    "circular": nn.Conv(4, (3, 3), padding="CIRCULAR"),
    "masked": nn.Conv(4, (3, 3), mask=jnp.ones((3, 3, 3, 4)).at[1].set(0.0)),
    "transposed": nn.ConvTranspose(4, (4, 4), strides=(2, 2)),
    "transposed valid": nn.ConvTranspose(4, (3, 3), strides=(2, 2), padding="VALID", use_bias=False),
    "network": Network(),
}
UNCHANGED = {
    "dilated": nn.Conv(4, (3, 3), kernel_dilation=2),
    "groups": nn.Conv(6, (3, 3), feature_group_count=3),
    "precision": nn.Conv(4, (3, 3), precision=lax.Precision.HIGHEST),
    "own convolution": nn.Conv(4, (3, 3), conv_general_dilated=lax.conv_general_dilated),
    "transposed with dilation": nn.ConvTranspose(4, (3, 3), kernel_dilation=2),
    "transposed with pads": nn.ConvTranspose(4, (3, 3), padding=((1, 1), (1, 1))),
    "one axis": nn.Conv(4, (3,)),
}


def loss(apply, params, x):
    return jnp.sum(jnp.sin(apply({"params": params}, x)))


@pytest.mark.parametrize("name", [*FAST, *UNCHANGED])
def test_values_and_gradients_are_those_of_the_module(name):
    """The same parameters, outputs and gradients; only plain convolutions of images take the fast operation."""
    module, x = {**FAST, **UNCHANGED}[name], IMAGES[:, 0] if name == "one axis" else IMAGES
    network = models.fast(module)
    params = module.init(jax.random.key(1), x)["params"]
    chex.assert_trees_all_equal(network.init(jax.random.key(1), x)["params"], params)
    expected = quick_jit(jax.value_and_grad(functools.partial(loss, module.apply), (0, 1)))(params, x)
    found = quick_jit(jax.value_and_grad(functools.partial(loss, network.apply), (0, 1)))(params, x)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
    text = str(jax.make_jaxpr(functools.partial(loss, network.apply))(params, x))
    assert ("contract" in text) == (name in FAST)
    if name == "network":
        assert text.count("contract[") == 3 and "conv_general_dilated" not in text
    assert "contract" not in str(jax.make_jaxpr(functools.partial(loss, module.apply))(params, x))


class Doubled(nn.ConvTranspose):
    @nn.compact
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_a_subclass_keeps_its_own_method():
    module = Doubled(4, (3, 3))
    params = module.init(jax.random.key(1), IMAGES)
    np.testing.assert_array_equal(models.fast(module).apply(params, IMAGES), module.apply(params, IMAGES))


def test_single_examples_and_many_networks():
    """One image without a batch axis, and vmap over parameters."""
    module = Network()
    stacked = jax.vmap(lambda key: module.init(key, IMAGES)["params"])(jax.random.split(jax.random.key(1), 3))
    expected = quick_jit(jax.vmap(lambda params: module.apply({"params": params}, IMAGES)))(stacked)
    found = quick_jit(jax.vmap(lambda params: models.fast(module).apply({"params": params}, IMAGES)))(stacked)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    layer = nn.Conv(4, (3, 3))
    params = layer.init(jax.random.key(1), IMAGES[0])
    np.testing.assert_allclose(
        models.fast(layer).apply(params, IMAGES[0]), layer.apply(params, IMAGES[0]), rtol=1e-4, atol=1e-5
    )


def test_flipout_of_a_fast_network():
    """The two interceptions work together."""
    module = nn.Conv(4, (3, 3))
    params = module.init(jax.random.key(1), IMAGES[:1])["params"]
    family = posteriors.mean_field(0.1)
    weights = family.perturb(family.init(params), jax.random.key(2))
    expected = models.flipout(module)(weights, jax.random.key(3), IMAGES[0])
    with_fast = models.flipout(models.fast(module))(weights, jax.random.key(3), IMAGES[0])
    np.testing.assert_allclose(with_fast, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_of_nnx_takes_the_operation():
    """The argument `conv_general_dilated` of `nnx.Conv`."""
    layers = [
        nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0), **options)
        for options in ({}, {"conv_general_dilated": models.conv_general_dilated})
    ]
    np.testing.assert_allclose(layers[1](IMAGES), layers[0](IMAGES), rtol=1e-4, atol=1e-5)
    assert "contract" in str(jax.make_jaxpr(layers[1])(IMAGES))


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match=r"module must be a flax.linen module; got Conv: layers of flax.nnx take"):
        models.fast(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)))
