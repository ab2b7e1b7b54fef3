"""Translators and the patch discriminator: shapes (traced), counts of the authors' program, receptive field, norms."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_particles, count, filled, particle_shapes, quick_jit, shapes

from bayesjax.models import ConvTranspose, cyclegan

RANDOM = np.random.default_rng(0)


def images(*shape):
    return RANDOM.uniform(-1, 1, size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "norm"),
    [
        ((8, 8, 1), "instance"),
        ((28, 28, 1), "group"),
        ((32, 32, 3), "batch"),
        ((64, 64, 3), "none"),
        ((13, 21, 2), "instance"),
    ],
)
def test_shapes(shape, norm):
    """Translations have the image's height and width and channels of their own; a logit for each patch."""
    x = jnp.zeros((2, *shape))
    for model in (cyclegan.ResNetGenerator(5, 4, 2, 1, norm), cyclegan.UNetGenerator(5, (4, 6, 8), norm)):
        assert shapes(model, x)[0].shape == (2, *shape[:2], 5)
    logits = shapes(cyclegan.PatchDiscriminator((4, 6), norm), x)[0]
    assert logits.shape == (2, *(size // 2 - 2 for size in shape[:2]))


def test_counts_are_those_of_the_program():
    """11.378, 54.41 and 2.765 million, as the authors' program prints; here added up layer by layer.

    Their U-Net is counted with batch norm, which has two weights a channel where there is one bias here.
    """
    x = jnp.zeros((1, 256, 256, 3))

    def conv(size, *widths):
        return sum(size**2 * a * b + b for a, b in itertools.pairwise(widths))

    expected = conv(7, 3, 64) + conv(3, 64, 128, 256) + 9 * conv(3, 256, 256, 256) + conv(3, 256, 128, 64)
    assert count(cyclegan.ResNetGenerator(), x) == expected + conv(7, 64, 3) == 11_378_179
    widths = (3, 64, 128, 256, 512, 512, 512, 512, 512)
    up = conv(4, 512, 512) + 3 * conv(4, 1024, 512) + conv(4, 1024, 256) + conv(4, 512, 128) + conv(4, 256, 64)
    assert count(cyclegan.UNetGenerator(), x) == conv(4, *widths) + up + conv(4, 128, 3)
    assert abs(count(cyclegan.UNetGenerator(), x) / 54.41e6 - 1) < 2e-4
    assert count(cyclegan.PatchDiscriminator(), x) == conv(4, 3, 64, 128, 256, 512, 1) == 2_764_737


def test_norms_are_where_the_program_has_them():
    """After every layer but the last, the discriminator's and the U-Net's first, and the innermost one."""
    for model, expected in (
        (cyclegan.ResNetGenerator(1, 4, 2, 1, "group"), 3 + 2 + 2),
        (cyclegan.UNetGenerator(1, (4, 6, 8, 8), "group"), 2 + 3),
        (cyclegan.PatchDiscriminator((4, 6, 8), "group"), 2),
    ):
        params = shapes(model, jnp.zeros((1, 16, 16, 1)))[1]
        assert sum(name.startswith("GroupNorm") for name in params) == expected


@pytest.mark.parametrize(("num_layers", "width"), [(4, 70), (3, 34), (2, 16)])
def test_the_receptive_field(num_layers, width):
    """A logit's gradient is not 0 in 70 x 70 pixels at full depth, and nowhere else; an instance norm sees them all."""
    x = images(1, 88, 88, 1)
    model = cyclegan.PatchDiscriminator((2,) * num_layers, "none")
    variables = filled(model, x, scale=0.5)
    row = shapes(model, x)[0].shape[1] // 2
    gradient = quick_jit(jax.grad(lambda x: model.apply(variables, x)[0, row, row]))(x)[0, :, :, 0]
    rows, columns = np.nonzero(np.asarray(gradient))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == width
    assert len(rows) > 0.95 * width**2


def test_the_program_judges_256_pixels_by_30_by_30_patches():
    """As with the paddings of the authors' program; with "SAME" it would be 32."""
    assert shapes(cyclegan.PatchDiscriminator((2, 2, 2, 2)), jnp.zeros((1, 256, 256, 3)))[0].shape == (1, 30, 30)


def test_instance_norm_is_of_one_channel_of_one_image():
    """Mean 0 and variance 1 in each; no weights; and an image is judged without its neighbours in the batch."""
    x = (images(2, 6, 6, 3) * [1, 5, 0.1] + 3).astype(np.float32)
    norm = cyclegan.make_norm("instance", 3)
    assert jax.eval_shape(norm.init, jax.random.key(0), x) == {}
    out = quick_jit(lambda x: norm.apply({}, x))(x)
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    batch = images(3, 8, 8, 1)
    others = np.concatenate([batch[:1], 0.1 * batch[1:]])
    for name in ("instance", "batch"):
        model = cyclegan.PatchDiscriminator((2, 3), name)
        apply, variables = quick_jit(model.apply), filled(model, batch)
        is_alone = np.allclose(apply(variables, batch)[0], apply(variables, others)[0], rtol=1e-3, atol=1e-4)
        assert is_alone == (name == "instance")


def layer_by_layer_resnet(params, x):
    """One halving and one block by Flax's layers; the transposed convolution is the gradient of the halving."""

    def reflected(name, x, pad):
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        kernel = params[name]["kernel"]
        return nn.Conv(kernel.shape[-1], kernel.shape[:2], padding="VALID").apply({"params": params[name]}, x)

    def norm(x):
        return (x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-5)

    x = nn.relu(norm(reflected("Conv_0", x, 3)))
    x = nn.relu(norm(nn.Conv(4, (3, 3), 2, 1).apply({"params": params["Conv_1"]}, x)))
    branch = nn.relu(norm(reflected("Conv_2", x, 1)))
    x = x + norm(reflected("Conv_3", branch, 1))
    up = params["ConvTranspose_0"]
    turned = up["kernel"][::-1, ::-1].swapaxes(2, 3)  # the kernel of the convolution that this is the gradient of

    def halved(image):
        return jax.lax.conv_general_dilated(
            image, turned, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    doubled = jax.linear_transpose(halved, jnp.zeros((x.shape[0], 8, 8, 2)))(x)[0] + up["bias"]
    return jnp.tanh(reflected("Conv_4", nn.relu(norm(doubled)), 3))


def test_the_resnet_is_its_layers():
    """By Flax's layers with the same weights: reflections, norms, the residual sum, and the phase of the strides."""
    x = images(2, 8, 8, 1)
    model = cyclegan.ResNetGenerator(1, 2, 1, 1)
    variables = filled(model, x)
    actual, expected = quick_jit(lambda v: (model.apply(v, x), layer_by_layer_resnet(v["params"], x)))(variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert np.std(actual) > 0.1


def test_the_u_net_hands_each_size_across():
    """With the way through the innermost pixel cut, the output still depends on the image, by each skip alone, and on
    nothing once the skips are cut, too."""
    x = images(1, 8, 8, 1)
    model = cyclegan.UNetGenerator(1, (3, 4, 5), "none")
    params = filled(model, x)["params"]
    apply = quick_jit(lambda params, x: model.apply({"params": params}, x))

    def change(params):
        """The largest change of the output from one image to another."""
        return np.abs(apply(params, x) - apply(params, -x)).max()

    def cut(kept):
        """Only the skip into that layer up is kept; layer 1 has 4 channels from across, layer 2 has 3, and first."""
        result = jax.tree.map(np.copy, params)
        for layer, across in ((0, 0), (1, 4), (2, 3)):
            kernel = result[f"ConvTranspose_{layer}"]["kernel"]
            if layer != kept:
                kernel[:, :, :across] = 0
            if layer == 0:
                kernel[:] = 0
        return result

    assert change(cut(1)) > 1e-3
    assert change(cut(2)) > 1e-3
    assert change(cut(None)) == 0


def test_the_u_net_is_its_layers():
    """Leaky ReLU before each layer down but the first, ReLU before each layer up, and the skip comes first."""
    x = images(2, 4, 4, 1)
    model = cyclegan.UNetGenerator(1, (3, 4), "none")
    variables = filled(model, x)

    def by_layers(params):
        down = lambda i, x: nn.Conv((3, 4)[i], (4, 4), 2, ((1, 1), (1, 1))).apply({"params": params[f"Conv_{i}"]}, x)  # noqa: E731
        up = lambda i, x: ConvTranspose((3, 1)[i], 4, 2, 2).apply({"params": params[f"ConvTranspose_{i}"]}, x)  # noqa: E731
        first = down(0, x)
        inner = up(0, nn.relu(down(1, nn.leaky_relu(first, 0.2))))
        return jnp.tanh(up(1, nn.relu(jnp.concatenate([first, inner], axis=-1))))

    actual, expected = quick_jit(lambda v: (model.apply(v, x), by_layers(v["params"])))(variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_innermost_pixel_is_not_normalised():
    """An instance norm of one pixel would be 0 at any image: with all skips cut the output must still depend on it."""
    x = images(1, 8, 8, 1)
    model = cyclegan.UNetGenerator(1, (3, 4, 5), "instance")
    params = filled(model, x)["params"]
    for layer, across in ((1, 4), (2, 3)):
        params[f"ConvTranspose_{layer}"]["kernel"][:, :, :across] = 0
    apply = quick_jit(lambda x: model.apply({"params": params}, x))
    assert np.abs(apply(x) - apply(-x)).max() > 1e-3


def test_a_u_net_of_odd_sizes_sees_its_edges():
    """5 x 7: odd sizes round up on the way down, and every pixel of the image counts, also at the far edges."""
    x = images(1, 5, 7, 1)
    model = cyclegan.UNetGenerator(1, (2, 2), "none")
    variables = filled(model, x, scale=0.5)
    gradient = quick_jit(jax.grad(lambda x: model.apply(variables, x).sum()))(x)[0, :, :, 0]
    assert np.all(np.abs(gradient) > 0)


def test_particles():
    """Several of each at once."""
    x = images(2, 8, 8, 1)
    assert particle_shapes(cyclegan.ResNetGenerator(1, 2, 1, 1), 3, x).shape == (3, 2, 8, 8, 1)
    assert particle_shapes(cyclegan.UNetGenerator(1, (2, 3, 4)), 3, x).shape == (3, 2, 8, 8, 1)
    assert_particles(cyclegan.PatchDiscriminator((2,)), images(2, 5, 5, 1))


def test_wrong_arguments_are_named():
    """An image without channels, one too small, an unknown norm."""
    for model, shape, message in (
        (cyclegan.PatchDiscriminator(), (32, 32, 3), r"x must be \[batch, height, width, channels\]; got shape"),
        (cyclegan.ResNetGenerator(), (1, 3, 3, 1), r"image_shape \(3, 3, 1\) is too small for 2 layers"),
        (cyclegan.UNetGenerator(), (1, 32, 32, 1), r"image_shape \(32, 32, 1\) is too small for 8 layers"),
        (cyclegan.PatchDiscriminator(norm="layer"), (1, 32, 32, 1), "norm must be one of instance, group, batch, none"),
        (cyclegan.PatchDiscriminator(), (1, 8, 8, 1), "the output is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            shapes(model, jnp.zeros(shape))
