"""StyleGAN2: modulation against convolutions with a kernel for each image, its variance, and its compiled program.

Planted: no demodulation, a norm over output channels, and the fused form, whose program has grouped convolutions.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from networks import assert_particles, count, filled, quick_jit, scales, shapes

from bayesjax.models import resampling, stylegan, stylegan2
from bayesjax.models.convolution import convolve
from bayesjax.models.progressive import minibatch_deviation
from bayesjax.models.stylegan2 import modulated_convolution

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 6, 6, 4)).astype(np.float32)
KERNEL = RANDOM.normal(size=(3, 3, 4, 5)).astype(np.float32)
SCALE = RANDOM.normal(1, 2, size=(3, 4)).astype(np.float32)


def kernels_of_images(kernel, scale, axes=(1, 2, 3)):
    """w'' of each image, `[batch, k, k, in, out]`."""
    scaled = kernel[None] * scale[:, None, None, :, None]
    return scaled / jnp.sqrt(jnp.sum(scaled**2, axes, keepdims=True) + 1e-8)


def fused(x, kernel, scale):
    """The definition by XLA: each image and its own kernel, which `vmap` makes a grouped convolution."""

    def one(x, kernel):
        return lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]

    return jax.vmap(one)(x, kernels_of_images(kernel, scale))


@pytest.mark.parametrize("name", ["convolve", "convolve_smooth_upsampled"])
def test_scaling_inputs_and_outputs_is_scaling_kernels(name):
    """To 1e-6 of the largest output; with the norm over the wrong axes or none it is not."""
    convolution = convolve if name == "convolve" else resampling.convolve_smooth_upsampled

    def both(x, kernel, scale):
        kernels = [kernels_of_images(kernel, scale, axes) for axes in ((1, 2, 3), (1, 2, 4))]
        expected, wrong = (
            jnp.stack([convolution(x[i : i + 1], each[i])[0] for i in range(len(x))]) for each in kernels
        )
        plain = modulated_convolution(x, kernel, scale, demodulate=False, convolution=convolution)
        return modulated_convolution(x, kernel, scale, convolution=convolution), expected, wrong, plain

    actual, expected, wrong, plain = map(np.asarray, quick_jit(both)(X, KERNEL, SCALE))
    assert abs(actual - expected).max() < 1e-6 * abs(expected).max()
    assert abs(actual - wrong).max() > 0.1 and abs(actual - plain).max() > 0.1
    if name == "convolve":
        assert abs(quick_jit(fused)(X, KERNEL, SCALE) - expected).max() < 1e-6 * abs(expected).max()


def test_outputs_have_variance_one_for_any_style():
    """Over independent inputs, for styles of all scales; without demodulation, the variance follows the style.

    Each of 18 variances is over 4096 images; at 5 standard errors sqrt(2 / 4096), false alarms are 1e-5.
    """
    x = RANDOM.normal(size=(4096, 3, 3, 4)).astype(np.float32)
    scales_of_styles = [SCALE[0], 100 * SCALE[1], 0.01 * SCALE[2]]

    def centre(x, scale, demodulate):
        scale = jnp.broadcast_to(scale, (len(x), 4))
        return modulated_convolution(x, KERNEL, scale, demodulate=demodulate)[:, 1, 1]

    tolerance = 5 * np.sqrt(2 / len(x))
    centre = quick_jit(centre, static_argnums=2)
    for scale in scales_of_styles:
        assert np.all(abs(np.var(centre(x, scale, True), axis=0) - 1) < tolerance)
        assert not np.any(abs(np.var(centre(x, scale, False), axis=0) - 1) < tolerance)


def grouped(program, *args):
    """Number of convolutions with several groups in a compiled program."""
    text = quick_jit(program).lower(*args).compile().as_text()
    assert " convolution(" in text or " dot(" in text
    return len(re.findall(r"(?:feature|batch)_group_count=(?:[2-9]|1\d)", text))


def test_no_convolution_is_grouped_in_a_step():
    """Gradients of generator and discriminator on a CPU; the fused form has a grouped convolution."""
    synthesis, discriminator = stylegan2.Synthesis((4, 4, 1), (3, 3)), stylegan2.Discriminator((4, 4, 1), 1, (3, 3))
    styles = jnp.ones((4, 4, 3))
    variables = filled(synthesis, styles), filled(discriminator, jnp.ones((4, 4, 4, 1)))

    def loss(variables, styles):
        return jax.nn.softplus(discriminator.apply(variables[1], synthesis.apply(variables[0], styles))).mean()

    assert grouped(jax.grad(loss, argnums=(0, 1)), variables, styles) == 0
    assert grouped(jax.grad(lambda *args: jnp.sum(fused(*args) ** 2), argnums=1), X, KERNEL, SCALE) > 0


def test_a_layer_is_its_parts():
    """sqrt(2) leaky ReLU(w'' * x + bias + strength noise), with a style 1 + A w at first."""
    layer, style = stylegan2.StyledLayer(5), RANDOM.normal(size=(3, 2)).astype(np.float32)
    noise = RANDOM.normal(size=(1, 6, 6)).astype(np.float32)  # shared by all images
    params = filled(layer, X, style)["params"]
    inner = params["ModulatedConv_0"]
    scale = style @ inner["style"]["kernel"] / np.sqrt(2) + inner["style"]["bias"]
    x = modulated_convolution(X, inner["kernel"] / 6, scale) + inner["bias"]
    x += params["noise_strength"] * noise[..., None]
    out = quick_jit(layer.apply)({"params": params}, X, style, noise)
    np.testing.assert_allclose(out, np.sqrt(2) * np.where(x > 0, x, 0.2 * x), rtol=1e-4, atol=1e-4)
    first = quick_jit(layer.init)(jax.random.key(0), X, style)["params"]
    assert np.all(first["ModulatedConv_0"]["style"]["bias"] == 1) and first["noise_strength"] == 0


def test_the_image_is_the_sum_of_all_levels():
    """Each level's part, doubled to the top; the bias of a level moves the image by itself."""
    model = stylegan2.Synthesis((8, 8, 1), (3, 3, 3))
    styles = RANDOM.normal(size=(2, 6, 3)).astype(np.float32)
    variables = filled(model, styles)
    apply = quick_jit(model.apply)
    first = apply(variables, styles)
    for level in range(3):
        params = jax.tree.map(np.copy, variables["params"])
        params[f"to_image_{level}"]["bias"] += 0.5
        np.testing.assert_allclose(apply({"params": params}, styles) - first, 0.5, atol=1e-5)


def test_a_residual_level_is_its_two_paths():
    """(branch + shortcut) / sqrt(2) by Flax's layers; with another factor or without the shortcut it is not."""
    x = X[..., :1][:, :4, :4]
    model = stylegan2.Discriminator((4, 4, 1), 1, (3, 2))
    variables = filled(model, x, scale=1.0)

    def layer(params, name, x, gain=2**0.5):
        kernel = params[name]["kernel"]
        out = convolve(x, gain * kernel / np.sqrt(kernel.size / kernel.shape[-1]))
        return jax.nn.leaky_relu(out + params[name]["bias"], 0.2) if "bias" in params[name] else out

    def by_layers(params, factor, shortcut):
        x_ = layer(params, "from_image", x)
        branch = layer(params, "convolutions_1", x_)
        kernel, bias = params["halvings_0"]["kernel"], params["halvings_0"]["bias"]
        branch = resampling.convolve_smooth_pooled(branch, kernel * np.sqrt(2 / 18)) + bias
        branch = jax.nn.leaky_relu(branch, 0.2)
        x_ = factor * (branch + shortcut * layer(params, "shortcuts_0", resampling.smooth_pool(x_), gain=1.0))
        x_ = layer(params, "convolutions_0", minibatch_deviation(x_))
        dense = x_.reshape(3, -1) @ params["dense"]["kernel"] * np.sqrt(2 / 12) + params["dense"]["bias"]
        return jax.nn.leaky_relu(dense, 0.2)

    def all_of_them(variables):
        expected = [by_layers(variables["params"], *each) for each in ((2**-0.5, 1), (1, 1), (2**-0.5, 0))]
        return model.apply(variables, x, method=model.embed), expected

    actual, (expected, *wrong) = quick_jit(all_of_them)(variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert not any(np.allclose(actual, each, atol=1e-2) for each in wrong)


def test_scale_at_the_start():
    """Each equalised layer of the discriminator keeps the scale of a constant image, up to the edges."""
    colours = np.broadcast_to(RANDOM.normal(size=(16, 1, 1, 3)), (16, 16, 16, 3)).astype(np.float32)
    found = scales(stylegan2.Discriminator((16, 16, 3), 1, (48, 48)), colours)
    assert len(found) == 1 + 2 + 1 + 1 + 2
    assert all(abs(scale - 1) < 0.25 for name, (_, scale) in found.items() if name != "logits"), found


@pytest.mark.slow
def test_counts_are_those_of_the_program():
    """The numbers that the authors' program prints for 1024 pixels, configuration F."""
    features = [int(min(16384 / 2 ** (level + 1), 512)) for level in range(9)]
    generator = stylegan.Generator(stylegan.Mapping(512), stylegan2.Synthesis((1024, 1024, 3), features))
    assert count(generator, jnp.zeros((1, 512))) == 30_370_060
    assert count(stylegan2.Discriminator((1024, 1024, 3), 1, features), jnp.zeros((1, 1024, 1024, 3))) == 29_012_513


def test_shapes():
    """Images of 64 pixels, several outputs, features."""
    image, features = (64, 64, 3), (3, 2, 2, 2, 2)
    images = shapes(stylegan2.Synthesis(image, features), jnp.zeros((4, 10, 3)))[0]
    model = stylegan2.Discriminator(image, 10, features)
    logits, params = shapes(model, images)
    embedded = jax.eval_shape(lambda v, x: model.apply(v, x, method=model.embed), {"params": params}, images)
    assert images.shape == (4, *image) and logits.shape == (4, 10) and embedded.shape == (4, 3)


@pytest.mark.slow
def test_particles():
    """Two generators at once, by `vmap` over their weights."""
    assert_particles(stylegan2.Synthesis((4, 4, 1), (3, 2)), RANDOM.normal(size=(2, 4, 3)).astype(np.float32))


def test_wrong_arguments_are_named():
    """Images of another shape."""
    with pytest.raises(ValueError, match=r"x must be \[batch, 8, 8, 1\]; got \(3, 6, 6, 4\)"):
        shapes(stylegan2.Discriminator((8, 8, 1), 1, (2, 2)), X)
