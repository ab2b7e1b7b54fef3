"""LeNet, SegNet and the perceptron's dropout: shapes, sizes, places that are used, dropout that is off by default."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import filled, quick_jit

from bayesjax import models, tree
from bayesjax.models import pooling

RANDOM = np.random.default_rng(0)


def initialised(model, x):
    return jax.jit(model.init)(jax.random.key(0), x)


@pytest.mark.slow
def test_lenet_is_caffe_s_by_its_number_of_weights():
    """431080 with VALID convolutions of 28 x 28 images, as Caffe's; another size of image with SAME ones."""
    model = models.LeNet(10, padding="VALID")
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((28, 28, 1)))
    assert tree.num_elements(variables) == 431_080
    x = jnp.ones((2, 8, 8, 1))
    small = models.LeNet(3)
    assert small.apply(initialised(small, x), x).shape == (2, 3)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (models.MLP((5, 2), dropout_rate=0.5, input_dropout_rate=0.2), jnp.ones((3, 4))),
        (
            models.LeNet(2, channels=(4,), hidden=8, dropout_rate=0.5, convolution_dropout_rate=0.5),
            jnp.ones((3, 8, 8, 1)),
        ),
        (models.SegNet(2, stages=((4,), (8,)), group_size=4), jnp.ones((3, 8, 8, 3))),
    ],
)
def test_dropout_is_off_unless_asked_for_and_then_differs_by_key(model, x):
    variables = initialised(model, x)
    assert set(variables) == {"params"}
    np.testing.assert_array_equal(model.apply(variables, x), model.apply(variables, x))
    one, two = (
        model.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 2)
    )
    assert not np.allclose(one, two)


def test_lenet_is_its_layers():
    """Convolutions and pooling, without a ReLU as in Caffe; a hidden layer with one, and a linear one."""
    x = RANDOM.normal(size=(2, 6, 6, 1)).astype(np.float32)
    model = models.LeNet(2, channels=(3, 4), hidden=5)
    variables = filled(model, x)

    def by_layers(params):
        y = x
        for i, features in enumerate((3, 4)):
            y = nn.Conv(features, (5, 5)).apply({"params": params[f"Conv_{i}"]}, y)
            y = nn.max_pool(y, (2, 2), (2, 2), "SAME")
        first, last = params["Dense_0"], params["Dense_1"]
        return nn.relu(y.reshape(2, -1) @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]

    actual, expected = quick_jit(lambda v: (model.apply(v, x), by_layers(v["params"])))(variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_segnet_is_its_layers():
    """One stage: convolution, norm of two channels at a time and ReLU; maxima back in their places; the same again."""
    x = RANDOM.normal(size=(2, 6, 6, 1)).astype(np.float32)
    model = models.SegNet(3, stages=((4,),), group_size=2)
    variables = filled(model, x)

    def by_layers(params):
        def layer(i, y):
            y = nn.Conv(4, (3, 3), use_bias=False).apply({"params": params[f"Conv_{i}"]}, y)
            return nn.relu(nn.GroupNorm(2).apply({"params": params[f"GroupNorm_{i}"]}, y))

        maxima, places = pooling.max_pool_with_indices(layer(0, x))
        y = layer(1, pooling.max_unpool(maxima, places, (6, 6)))
        return y @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]

    actual, expected = quick_jit(lambda v: (model.apply(v, x), by_layers(v["params"])))(variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def dropouts(model, x):
    """Rate and shape of every dropout that a call passes through, in order."""
    seen = []

    def note(next_function, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            seen.append((context.module.rate, args[0].shape))
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), x)
    return seen


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [
        (models.MLP((5, 2), dropout_rate=0.5, input_dropout_rate=0.2), jnp.ones(4), [(0.2, (4,)), (0.5, (5,))]),
        (models.AutoEncoder(6, (4, 3), dropout_rates=(0.2, 0.5)), jnp.ones(6), [(0.2, (6,)), (0.5, (4,))]),
        (
            models.LeNet(2, channels=(4, 6), hidden=7, dropout_rate=0.5, convolution_dropout_rate=0.1),
            jnp.ones((8, 8, 1)),
            [(0.1, (4, 4, 4)), (0.1, (2, 2, 6)), (0.5, (7,))],
        ),
        (
            models.SegNet(2, stages=((4,), (6,), (8,)), group_size=2, dropout_rate=0.3),
            jnp.ones((8, 8, 3)),
            [(0.3, (2, 2, 6)), (0.3, (1, 1, 8)), (0.3, (2, 2, 6)), (0.3, (4, 4, 4))],
        ),
    ],
)
def test_every_dropout_has_its_rate_and_its_place(model, x, expected):
    """Inputs and hidden units, convolutions and hidden units; SegNet's in the deepest half of its stages alone."""
    assert dropouts(model, x) == expected


@pytest.mark.parametrize("size", [pytest.param((8, 12), marks=pytest.mark.slow), (9, 11)])
def test_segnet_labels_every_pixel_of_any_size(size):
    """One image or a batch of them; an image's logits do not depend on the others (no batch statistics)."""
    model = models.SegNet(5, stages=((4, 4), (8,), (8,)), group_size=4)
    x = jax.random.normal(jax.random.key(1), (2, *size, 3))
    variables = initialised(model, x)
    apply = jax.jit(model.apply)
    logits = apply(variables, x)
    assert logits.shape == (2, *size, 5)
    np.testing.assert_allclose(apply(variables, x[0]), logits[0], rtol=1e-4, atol=1e-5)


def test_the_decoder_mirrors_the_encoder():
    """VGG-16's thirteen convolutions twice; widths of each."""
    model = models.SegNet(11, stages=models.segnet.VGG16_STAGES)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((64, 64, 3)))["params"]
    widths = [shapes[f"Conv_{i}"]["kernel"].shape[-1] for i in range(26)]
    assert widths[:13] == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert widths[13:] == [512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64]
