"""DCGANs sized by the image: shapes (traced, never compiled), norms, errors, and the values by Flax's own layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models import dcgan

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (13, 21, 2), (9, 28, 1)]
FEATURES = (8, 6, 5)
Z = jnp.zeros((2, 7))
# Compiled once and run once: no time is spent on making it fast.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def filled(model, x, scale=0.3):
    """Variables of `model` for inputs like `x`, filled by NumPy: tracing costs nothing, compiling `init` seconds."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: random.normal(scale=scale, size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("norm", dcgan.NORMS)
@pytest.mark.parametrize("num_layers", [2, 3])
@pytest.mark.parametrize("image_shape", SHAPES)
def test_shapes(image_shape, num_layers, norm):
    """Generators give `[n, *image_shape]`, discriminators `[n, K]` logits; parameters are the only collection."""
    features = FEATURES[:num_layers]
    generator = dcgan.Generator(image_shape, features, norm)
    images, variables = jax.eval_shape(generator.init_with_output, jax.random.key(0), Z)
    assert images.shape == (2, *image_shape)
    assert set(variables) == {"params"}
    for num_outputs in (1, 10):
        discriminator = dcgan.Discriminator(image_shape, num_outputs, features[::-1], norm)
        logits, variables = jax.eval_shape(discriminator.init_with_output, jax.random.key(0), images)
        assert logits.shape == (2, num_outputs)
        assert set(variables) == {"params"}
        embedded = jax.eval_shape(lambda v, x, d=discriminator: d.apply(v, x, method=d.embed), variables, images)
        height, width = dcgan.layer_sizes(image_shape, num_layers)[-1]
        assert embedded.shape == (2, height * width * features[0])


def test_layer_sizes_halve_rounding_up():
    """28, 14, 7, 4, each axis for itself."""
    assert dcgan.layer_sizes((28, 28, 1), 3) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert dcgan.layer_sizes((9, 28, 1), 2) == [(9, 28), (5, 14), (3, 7)]


@pytest.mark.parametrize("make", [dcgan.Generator, dcgan.Discriminator])
@pytest.mark.parametrize(
    ("image_shape", "message"),
    [
        ((7, 28, 1), r"image_shape \(7, 28, 1\) is too small for 3 layers.*at least 8"),
        ((28, 28), r"image_shape must be \(height, width, channels\).*\(28, 28\)"),
        ((28, 28, 0), "image_shape must be.*positive"),
    ],
)
def test_a_wrong_image_shape_is_named(make, image_shape, message):
    """Too few pixels for the layers, a missing or empty axis: ValueError naming image_shape."""
    inputs = Z if make is dcgan.Generator else jnp.zeros((2, *image_shape))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make(image_shape, features=FEATURES).init, jax.random.key(0), inputs)


def test_images_of_another_shape_are_refused():
    """A discriminator of 8 x 8 x 1 images says what came instead."""
    discriminator = dcgan.Discriminator((8, 8, 1), features=FEATURES[:2])
    with pytest.raises(ValueError, match=r"x must be \[batch, 8, 8, 1\]; got \(2, 8, 8, 3\)"):
        jax.eval_shape(discriminator.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)))


@pytest.mark.parametrize("make", [dcgan.Generator, dcgan.Discriminator])
def test_unknown_norm(make):
    """ValueError naming norm and what there is."""
    inputs = Z if make is dcgan.Generator else jnp.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="norm must be one of group, batch, none; got 'layer'"):
        jax.eval_shape(make((8, 8, 1), features=FEATURES[:2], norm="layer").init, jax.random.key(0), inputs)


def test_batch_statistics():
    """Zero mean and unit variance per channel over batch and pixels, of this batch: a shift and scale are undone."""
    x = np.random.default_rng(0).normal(3, 2, size=(4, 3, 3, 2)).astype(np.float32)
    out = np.asarray(dcgan.BatchStatistics().apply({}, x), np.float64)
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(axis=(0, 1, 2)), 1, atol=1e-4)
    expected = nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False).init_with_output(
        jax.random.key(0), x
    )[0]
    np.testing.assert_allclose(out, expected, atol=1e-4)
    np.testing.assert_allclose(out, dcgan.BatchStatistics().apply({}, 7 - 5 * x) * -1, atol=1e-4)


@pytest.mark.parametrize("norm", dcgan.NORMS)
def test_an_image_is_judged_by_itself_unless_the_norm_is_of_the_batch(norm):
    """The logits of one image depend on the others of its batch under batch norm, and under no other norm."""
    discriminator = dcgan.Discriminator((8, 8, 1), 2, (4, 8), norm)
    x = np.random.default_rng(1).uniform(-1, 1, size=(3, 8, 8, 1)).astype(np.float32)
    others = np.concatenate([x[:1], 0.1 * x[1:]])
    variables, logits = filled(discriminator, x), quick_jit(discriminator.apply)
    alone = np.allclose(logits(variables, x)[0], logits(variables, others)[0], rtol=1e-4, atol=1e-5)
    assert alone == (norm != "batch")


def layer_by_layer_generator(params, z):
    """A 9 x 6 generator of two layers by Flax's layers: dense, norm, relu; transposed, cropped, norm, relu; tanh."""
    x = nn.Dense(3 * 2 * 4).apply({"params": params["Dense_0"]}, z).reshape(-1, 3, 2, 4)
    x = nn.relu(nn.GroupNorm(4).apply({"params": params["GroupNorm_0"]}, x))
    x = nn.ConvTranspose(6, (5, 5), (2, 2)).apply({"params": params["ConvTranspose_0"]}, x)[:, :5, :3]
    x = nn.relu(nn.GroupNorm(2).apply({"params": params["GroupNorm_1"]}, x))
    return jnp.tanh(nn.ConvTranspose(1, (5, 5), (2, 2)).apply({"params": params["ConvTranspose_1"]}, x)[:, :9, :6])


def layer_by_layer_discriminator(params, x):
    """A discriminator of two layers by Flax's layers; the first has no norm."""
    x = nn.leaky_relu(nn.Conv(4, (5, 5), 2).apply({"params": params["convolutions_0"]}, x), 0.2)
    x = nn.Conv(6, (5, 5), 2).apply({"params": params["convolutions_1"]}, x)
    x = nn.leaky_relu(nn.GroupNorm(2).apply({"params": params["norms_1"]}, x), 0.2)
    return nn.Dense(3).apply({"params": params["logits"]}, x.reshape(x.shape[0], -1))


def test_values_are_those_of_flax_layers():
    """Both networks, group norm, equal the same layers of Flax with the same parameters, at 1e-5; images in (-1, 1)."""
    generator = dcgan.Generator((9, 6, 1), (4, 6))
    discriminator = dcgan.Discriminator((9, 6, 1), 3, (4, 6))
    z = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    made, judged = filled(generator, z), filled(discriminator, jnp.zeros((3, 9, 6, 1)))

    @quick_jit
    def both(made, judged):
        images = generator.apply(made, z)
        expected = layer_by_layer_generator(made["params"], z)
        return (
            (images, discriminator.apply(judged, images)),
            (expected, layer_by_layer_discriminator(judged["params"], expected)),
        )

    actual, expected = both(made, judged)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-4, atol=1e-5)
    assert 0.1 < jnp.abs(actual[0]).max() < 1
    assert actual[1].std() > 0.01


def test_dense_layers_before_and_after_the_convolutions():
    """One of 5 units in each network: dense, norm and (leaky) relu, then the network without it, by its own values."""
    generator, discriminator = dcgan.Generator((8, 8, 1), (4, 6)), dcgan.Discriminator((8, 8, 1), 3, (4, 6))
    deeper, longer = generator.clone(hidden=(5,)), discriminator.clone(hidden=(5,))
    z = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    x = np.random.default_rng(2).uniform(-1, 1, size=(3, 8, 8, 1)).astype(np.float32)
    made, judged = filled(deeper, z)["params"], filled(longer, x)["params"]
    dense = lambda layer, h: h @ layer["kernel"] + layer["bias"]  # noqa: E731

    @quick_jit
    def both(made, judged):
        first = {name: leaf for name, leaf in made.items() if not name.startswith(("hidden_0", "GroupNorm"))}
        for i in range(2):  # those of the convolutions come after that of the hidden layer
            first[f"GroupNorm_{i}"] = made[f"GroupNorm_{i + 1}"]
        hidden = nn.relu(nn.GroupNorm(1).apply({"params": made["GroupNorm_0"]}, dense(made["hidden_0"], z)))
        features = discriminator.apply({"params": judged}, x, method=discriminator.embed)
        normed = nn.GroupNorm(1).apply({"params": judged["dense_norms_0"]}, dense(judged["dense_0"], features))
        return (
            (deeper.apply({"params": made}, z), longer.apply({"params": judged}, x)),
            (
                generator.apply({"params": first}, hidden),
                dense(judged["logits"], nn.leaky_relu(normed, 0.2)),
            ),
        )

    actual, expected = both(made, judged)
    assert judged["dense_0"]["kernel"].shape == (2 * 2 * 6, 5) and judged["logits"]["kernel"].shape == (5, 3)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        assert a.std() > 0.01


def test_initial_weights_are_small():
    """N(0, 0.02) kernels, as the paper has them, within 4 standard errors over 5000 weights (false alarms: 6.3e-5)."""
    generator = dcgan.Generator((8, 8, 1), (32, 20))
    params = jax.jit(generator.init)(jax.random.key(0), Z)["params"]
    weights = np.ravel(params["ConvTranspose_0"]["kernel"])
    assert abs(weights.std() / 0.02 - 1) < 4 / np.sqrt(2 * weights.size)
    assert abs(weights.std() / 0.03 - 1) > 4 / np.sqrt(2 * weights.size)
