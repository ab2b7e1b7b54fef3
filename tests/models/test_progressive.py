"""Progressive GAN: fades exact at both ends, normalisations, minibatch statistic, run-time scale; planted bugs refused.

The bugs are those of public programs: a discriminator that never fades, a pixel norm by the variance, noise that is
not normalised, a minibatch statistic that keeps space, and weights without their run-time scale.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_particles, count, filled, quick_jit, scales, shapes

from bayesjax.models import equalised, progressive, sngan
from bayesjax.models.initializers import normal

RANDOM = np.random.default_rng(0)
IMAGE, FEATURES, TOP = (8, 8, 2), (4, 3, 3), 2
Z = RANDOM.normal(size=(4, 5)).astype(np.float32)
X = RANDOM.normal(size=(4, *IMAGE)).astype(np.float32)
MODELS = {
    "generator": progressive.Generator(IMAGE, FEATURES),
    "discriminator": progressive.Discriminator(IMAGE, 3, FEATURES),
}
INPUTS = {"generator": Z, "discriminator": X}
VARIABLES = {name: filled(model, INPUTS[name], scale=1.0) for name, model in MODELS.items()}


@functools.cache
def outputs(name, level, alpha=None):
    """Outputs at a level for inputs of its size; alpha is traced."""
    x = INPUTS[name] if name == "generator" else progressive.real_images(X, TOP - level)
    return np.asarray(program(name, level, alpha is not None)(VARIABLES[name], x, alpha))


@functools.cache
def program(name, level, is_faded):
    """A compiled program of its own for each level, with alpha as an argument if it fades."""
    model = MODELS[name]
    return quick_jit(lambda variables, x, alpha: model.apply(variables, x, level, alpha if is_faded else None))


# ---- growing


@pytest.mark.parametrize("name", MODELS)
def test_a_new_level_starts_as_the_smaller_network(name):
    """Bit for bit: alpha = 0 is the network below, alpha = 1 the whole network, and 1/2 is neither."""
    smaller = outputs(name, TOP - 1)
    np.testing.assert_array_equal(outputs(name, TOP, 0.0), smaller if name != "generator" else sngan.upsample(smaller))
    np.testing.assert_array_equal(outputs(name, TOP, 1.0), outputs(name, TOP))
    for alpha in (0.0, 1.0):
        assert not np.allclose(outputs(name, TOP, 0.5), outputs(name, TOP, alpha), atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_fades_by_default(name):
    """Without level and alpha the program is that of the top level alone; at level 0 there is nothing to fade."""

    def traced(level, *args):
        x = INPUTS[name] if name == "generator" else progressive.real_images(X, TOP - level)
        return str(jax.make_jaxpr(lambda x: MODELS[name].apply(VARIABLES[name], x, *args))(x))

    assert traced(TOP) == traced(TOP, TOP) != traced(TOP, TOP, 0.5)
    assert traced(0, 0) == traced(0, 0, 0.5)


def test_a_discriminator_that_never_fades_is_refused(monkeypatch):
    """The bug of the only other Flax program: the new block alone at any alpha."""
    monkeypatch.setattr(progressive, "fade", lambda old, new, alpha: new)
    model = MODELS["discriminator"]
    logits = quick_jit(lambda variables, x: model.apply(variables, x, TOP, 0.0))(VARIABLES["discriminator"], X)
    assert not np.allclose(logits, outputs("discriminator", TOP - 1), atol=1e-2)


def test_real_images_fade_like_generated_ones():
    """alpha = 0: 2 x 2 equal pixels; 1: the images; each halving is a mean of 2 x 2 pixels."""
    np.testing.assert_array_equal(progressive.real_images(X, 0, 1.0), X)
    old = progressive.real_images(X, 0, 0.0)
    np.testing.assert_array_equal(old, sngan.upsample(sngan.mean_pool(X)))
    np.testing.assert_allclose(progressive.real_images(X, 0, 0.25), 0.75 * old + 0.25 * X, rtol=1e-6)
    np.testing.assert_allclose(progressive.real_images(X, 2), X.reshape(4, 2, 4, 2, 4, 2).mean((2, 4)), atol=1e-6)
    assert progressive.real_images(X, 1, 0.5).shape == (4, 4, 4, 2)


@pytest.mark.parametrize("name", MODELS)
def test_unused_levels_do_not_matter(name):
    """All parameters exist at once. NaN in those of a level above has no effect, and in any that are used it has."""

    def used(level, alpha):
        x = INPUTS[name] if name == "generator" else progressive.real_images(X, TOP - level)
        params = VARIABLES[name]["params"]
        spoilt = {layer: {**params, layer: jax.tree.map(lambda leaf: leaf * np.nan, params[layer])} for layer in params}
        run = program(name, level, alpha is not None)
        return {layer for layer, each in spoilt.items() if not np.all(np.isfinite(run({"params": each}, x, alpha)))}

    ends = {"to_image_0", "dense_bias"} if name == "generator" else {"from_image_0", "logits"}
    at_level_1 = ends | {"convolutions_0", "convolutions_1", "dense"}
    at_level_1 |= {"doublings_0", "to_image_1"} if name == "generator" else {"halvings_0", "from_image_1"}
    unused_image = "to_image_0" if name == "generator" else "from_image_0"
    assert used(TOP - 1, None) == at_level_1 - {unused_image}
    assert used(TOP, 0.5) == set(VARIABLES[name]["params"]) - {unused_image}


# ---- layers


def test_pixel_norm_has_mean_square_one():
    """Of each pixel's vector; the variance, which others divide by, leaves another mean square."""
    x = RANDOM.normal(2, 3, size=(2, 3, 3, 5)).astype(np.float32)

    def is_normal(y):
        return np.allclose(np.mean(np.square(y), -1), 1, atol=1e-5)

    assert is_normal(progressive.pixel_norm(x))
    assert not is_normal(x / np.sqrt(x.var(-1, keepdims=True) + 1e-8))
    assert not is_normal(x / np.sqrt(np.mean(x**2, (1, 2), keepdims=True) + 1e-8))
    np.testing.assert_allclose(progressive.pixel_norm(5 * x), progressive.pixel_norm(x), rtol=1e-5)


def test_noise_is_normalised(monkeypatch):
    """The scale of z has no effect; a generator without the normalisation is refused."""

    def is_normalised():
        generate = quick_jit(lambda z: MODELS["generator"].apply(VARIABLES["generator"], z, 0))
        return np.allclose(generate(3 * Z), generate(Z), atol=1e-4)

    assert is_normalised()
    pixel_norm = progressive.pixel_norm
    monkeypatch.setattr(progressive, "pixel_norm", lambda x: x if x.ndim == 2 else pixel_norm(x))
    assert not is_normalised()


def statistic(x, group_size=4):
    return np.asarray(progressive.minibatch_deviation(x, group_size))[..., -1]


def test_minibatch_deviation_is_one_number_for_a_group():
    """Example i is in group i mod (batch / size); the mean over pixels and channels of the deviations in the group."""
    x = RANDOM.normal(size=(6, 2, 3, 4)).astype(np.float32)
    actual = statistic(x, 3)
    np.testing.assert_array_equal(progressive.minibatch_deviation(x, 3)[..., :-1], x)
    for group in (0, 1):
        expected = x[group::2].std(0).mean()
        np.testing.assert_allclose(actual[group::2], np.full((3, 2, 3), expected), rtol=1e-5)
    keeps_space = np.broadcast_to(x[::2].std(0).mean(-1), (3, 2, 3))  # the bug of a public program
    assert not np.allclose(keeps_space, actual[::2], rtol=1e-2)


def test_minibatch_deviation_of_equal_images():
    """About 0 for equal images and for a single one, with finite gradients; larger for any others."""
    equal = np.broadcast_to(X[:1], (4, *IMAGE))
    gradient = quick_jit(jax.grad(lambda x: jnp.sum(progressive.minibatch_deviation(x) ** 2)))
    assert np.all(statistic(equal) < 2e-4) and np.all(statistic(X[:1]) < 2e-4) and np.all(statistic(X) > 0.1)
    assert np.all(np.isfinite(gradient(equal)))


# ---- scale at the start


def test_gains_are_those_of_the_program():
    """sqrt(2), but 1 for images and logits, which no activation follows, and sqrt(2) / 4 for the first dense layer."""
    gains = {name: {} for name in MODELS}
    for name, model in MODELS.items():

        def watch(layer, inputs, options, context, seen=gains[name]):
            if isinstance(context.module, (equalised.EqualisedConv, equalised.EqualisedDense)):
                seen[context.module.name] = context.module.gain
            return layer(*inputs, **options)

        with nn.intercept_methods(watch):
            shapes(model, INPUTS[name])
    special = {"to_image_0": 1, "to_image_1": 1, "to_image_2": 1, "dense": math.sqrt(2) / 4}
    assert len(gains["generator"]) == 9 and len(gains["discriminator"]) == 10
    for layer, gain in gains["generator"].items():
        assert gain == pytest.approx(special.get(layer, math.sqrt(2))), layer
    for layer, gain in gains["discriminator"].items():
        assert gain == pytest.approx(1 if layer == "logits" else math.sqrt(2)), layer


def test_images_are_linear_outputs():
    """Without a tanh, images move with the bias of their layer by as much, also far outside of (-1, 1)."""
    params, layer = VARIABLES["generator"]["params"], f"to_image_{TOP}"
    shift = np.float32([100, -100])
    moved = {**params, layer: {**params[layer], "bias": params[layer]["bias"] + shift}}
    images = program("generator", TOP, False)({"params": moved}, Z, None)
    assert np.allclose(images - outputs("generator", TOP), shift, atol=1e-3)


def has_scale_one(model, x):
    """Whether each layer's outputs have its gain times the scale of its inputs, and are of order 1."""
    found = scales(model, x)
    absolute, relative = np.array([value for name, value in found.items() if name != "logits"]).T
    return len(found) == 7 - (x.ndim == 2) and np.all(abs(relative - 1) < 0.25) and np.all(abs(absolute - 1) < 0.5)


def test_every_layer_has_scale_one_at_the_start(monkeypatch):
    """Within 25 % for each layer, and within 50 % in all: zeros beyond the edges are up to a third of the inputs.

    Without the coefficient gain / sqrt(fan_in), the scale of a layer is sqrt(fan_in) > 3 times larger.
    """
    image, features = (16, 16, 3), (48, 48)
    colours = np.broadcast_to(RANDOM.normal(size=(16, 1, 1, 3)), (16, *image)).astype(np.float32)
    discriminator = progressive.Discriminator(image, 1, features)
    assert has_scale_one(discriminator, colours)
    assert has_scale_one(progressive.Generator(image, features), RANDOM.normal(size=(16, 48)).astype(np.float32))
    monkeypatch.setattr(
        equalised, "equalised_kernel", lambda module, shape, gain, rate=1.0: module.param("kernel", normal(1.0), shape)
    )
    assert not has_scale_one(discriminator, colours)


# ---- shapes


def test_shapes():
    """Images and logits of each level, features, any base size; 64 pixels."""
    generator, discriminator = (
        progressive.Generator((12, 8, 1), (3, 2)),
        progressive.Discriminator((12, 8, 1), 2, (3, 2)),
    )
    params, trunk = shapes(generator, Z)[1], shapes(discriminator, jnp.zeros((4, 12, 8, 1)))[1]
    for level, size in enumerate(((6, 4), (12, 8))):
        images = jax.eval_shape(lambda params, level=level: generator.apply({"params": params}, Z, level), params)
        embed = lambda params, x, level=level: discriminator.apply(  # noqa: E731
            {"params": params}, x, level, method=discriminator.embed
        )
        assert images.shape == (4, *size, 1)
        assert jax.eval_shape(embed, trunk, images).shape == (4, 3)
    images = shapes(progressive.Generator((64, 64, 3), (2, 2, 2, 2, 2)), Z)[0]
    assert images.shape == (4, 64, 64, 3)
    assert shapes(progressive.Discriminator((64, 64, 3), 10, (2, 2, 2, 2, 2)), images)[0].shape == (4, 10)


@pytest.mark.slow
def test_counts_are_those_of_the_paper():
    """23.1 million parameters in either network for 1024 pixels (Karras et al. 2018, table 2)."""
    features = [int(min(8192 / 2 ** (level + 1), 512)) for level in range(9)]
    generator = progressive.Generator((1024, 1024, 3), features)
    discriminator = progressive.Discriminator((1024, 1024, 3), 1, features)
    assert round(count(generator, jnp.zeros((1, 512))) / 1e6, 1) == 23.1
    assert round(count(discriminator, jnp.zeros((1, 1024, 1024, 3))) / 1e6, 1) == 23.1


@pytest.mark.slow
def test_particles():
    """Two discriminators at once, by `vmap` over their weights."""
    assert_particles(progressive.Discriminator((4, 4, 1), 1, (3, 2)), X[:, :4, :4, :1], scale=1.0)


def test_wrong_arguments_are_named():
    """Levels that do not exist, sizes that cannot be halved, images of another level, incomplete groups."""
    for call, message in (
        (lambda: shapes(progressive.Generator((28, 28, 1)), Z), r"height and width divisible by 8 for 4 levels; got"),
        (lambda: MODELS["generator"].apply(VARIABLES["generator"], Z, 3), "level must be from 0 to 2; got 3"),
        (lambda: MODELS["discriminator"].apply(VARIABLES["discriminator"], X, -1), "level must be from 0 to 2; got -1"),
        (
            lambda: MODELS["discriminator"].apply(VARIABLES["discriminator"], X, 1),
            r"x must be \[batch, 4, 4, 2\] at level 1; got \(4, 8, 8, 2\)",
        ),
        (lambda: progressive.minibatch_deviation(X, 3), "group_size must divide the number of examples.*got 3 and 4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
