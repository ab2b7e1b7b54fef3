"""Residual GANs: shapes (traced), counts as in the authors' program, resampling, shortcuts, particles."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_particles, count, filled, particle_shapes, quick_jit, shapes

from bayesjax.models import sngan

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("image_shape", "num_blocks", "num_downsamplings", "norm"),
    [
        ((8, 8, 1), 1, 1, "none"),
        ((28, 28, 1), 3, 2, "group"),
        ((32, 32, 3), 3, 2, "batch"),
        ((64, 64, 3), 4, 3, "group"),
        ((13, 21, 2), 3, 3, "none"),
    ],
)
def test_shapes(image_shape, num_blocks, num_downsamplings, norm):
    """Images `[n, *image_shape]`, logits `[n, K]`, features `[n, width]`."""
    images, _ = shapes(sngan.Generator(image_shape, 8, num_blocks, norm), jnp.zeros((2, 5)))
    assert images.shape == (2, *image_shape)
    model = sngan.Discriminator(image_shape, 10, 6, num_downsamplings)
    logits, params = shapes(model, images)
    assert logits.shape == (2, 10)
    embedded = jax.eval_shape(lambda p, x: model.apply({"params": p}, x, method=model.embed), params, images)
    assert embedded.shape == (2, 6)


def test_counts_are_those_of_the_program():
    """Added up layer by layer from the authors' program for CIFAR-10: the defaults are the paper's networks."""
    conv, skip = 256 * 256 * 9 + 256, 256 * 256 + 256
    block = 2 * conv + skip + 2 * 2 * 256
    expected = (128 + 1) * 4 * 4 * 256 + 3 * block + 2 * 256 + 256 * 3 * 9 + 3
    assert count(sngan.Generator((32, 32, 3)), jnp.zeros((1, 128))) == expected == 4_276_739
    conv = 128 * 128 * 9 + 128
    first = 3 * 128 * 9 + 128 + conv + 3 * 128 + 128
    expected = first + 2 * conv + 128 * 128 + 128 + 2 * 2 * conv + 128
    assert count(sngan.Discriminator((32, 32, 3)), jnp.zeros((1, 32, 32, 3))) == expected == 1_053_824


def test_upsampling_and_pooling_are_exact():
    """Nearest neighbours as by `np.repeat`; means of 2 x 2 blocks, of what there is at an odd edge; one undoes the
    other."""
    x = RANDOM.normal(size=(2, 5, 4, 3)).astype(np.float32)
    up = np.asarray(sngan.upsample(x))
    np.testing.assert_array_equal(up, x.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(sngan.mean_pool(up), x, rtol=1e-6)
    down = np.asarray(sngan.mean_pool(x))
    assert down.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(down[:, 1, 1], x[:, 2:4, 2:].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(down[:, 2, 0], x[:, 4, :2].mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("resample", "features"), [("none", 3), ("up", 3), ("down", 4)])
def test_without_its_branch_a_block_is_its_shortcut(resample, features):
    """With the last kernel 0, the output is x, resampled and put through the 1 x 1 kernel where there is one.

    The order in which the paper has the two does not matter.
    """
    block = sngan.Block(features, resample)
    x = RANDOM.normal(size=(2, 6, 6, 3)).astype(np.float32)
    params, apply = filled(block, x)["params"], quick_jit(block.apply)
    assert ("Conv_2" in params) == (resample != "none" or features != 3)
    whole = apply({"params": params}, x)
    params["Conv_1"] = jax.tree.map(np.zeros_like, params["Conv_1"])
    out = apply({"params": params}, x)
    expected = {"none": x, "up": sngan.upsample(x), "down": sngan.mean_pool(x)}[resample]
    if "Conv_2" in params:
        expected = expected @ params["Conv_2"]["kernel"][0, 0] + params["Conv_2"]["bias"]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole, expected, atol=0.1)


def test_a_block_is_its_layers():
    """x + conv(relu(conv(relu(x)))) by Flax's layers: the branch ends without a ReLU, and may be negative."""
    block = sngan.Block(3)
    x = RANDOM.normal(size=(2, 4, 4, 3)).astype(np.float32)
    variables = filled(block, x)

    def by_layers(params):
        conv = lambda i, x: nn.Conv(3, (3, 3)).apply({"params": params[f"Conv_{i}"]}, x)  # noqa: E731
        return x + conv(1, nn.relu(conv(0, nn.relu(x))))

    np.testing.assert_allclose(
        quick_jit(block.apply)(variables, x), quick_jit(by_layers)(variables["params"]), rtol=1e-4, atol=1e-5
    )


def test_the_first_block_sees_the_whole_image():
    """No ReLU in front of the first convolution: dark pixels count; in other blocks the branch does not see them."""
    x = -RANDOM.uniform(0.1, 1, size=(1, 4, 4, 2)).astype(np.float32)
    for is_first in (True, False):
        block = sngan.Block(2, is_first=is_first)
        variables = filled(block, x)
        branch = quick_jit(lambda v, x, block=block: block.apply(v, x) - x)
        assert np.allclose(branch(variables, x), branch(variables, 2 * x), atol=1e-5) == (not is_first)


def test_features_are_summed_over_the_pixels():
    """The last block's positive part summed over the pixels, as in the authors' program; a mean is refused."""
    x = RANDOM.uniform(-1, 1, size=(2, 4, 4, 1)).astype(np.float32)
    model = sngan.Discriminator((4, 4, 1), 1, 3, 1, 1)
    variables = filled(model, x)
    block = sngan.Block(3, "down", is_first=True)
    out = np.asarray(quick_jit(block.apply)({"params": variables["params"]["blocks_0"]}, x))
    features = quick_jit(lambda variables, x: model.apply(variables, x, method=model.embed))(variables, x)
    np.testing.assert_allclose(features, np.maximum(out, 0).sum((1, 2)), rtol=1e-5)


def test_particles():
    """Several generators, and several discriminators, at once."""
    assert particle_shapes(sngan.Generator((8, 8, 1), 4, 1), 3, jnp.zeros((2, 5))).shape == (3, 2, 8, 8, 1)
    x = RANDOM.uniform(-1, 1, size=(2, 4, 4, 1)).astype(np.float32)
    assert_particles(sngan.Discriminator((4, 4, 1), 1, 3, 1, 1), x)


def test_initial_weights():
    """Glorot's variance, 2 scale^2 / (fan_in + fan_out), within 4 standard errors (false alarms: 6.3e-5), and its
    bound; a fan-in without the kernel's area is refused."""
    draws = np.ravel(sngan.glorot_uniform(2**0.5)(jax.random.key(0), (3, 3, 20, 30)))
    variance = 4 / (9 * 50)
    error = 4 * np.sqrt(0.8 / draws.size)  # the variance of the square of a uniform number is 0.8 of its square
    assert abs(draws.var() / variance - 1) < error < abs(draws.var() / (9 * variance) - 1)
    assert np.sqrt(3 * variance) * 0.99 < np.abs(draws).max() <= np.sqrt(3 * variance)


def test_wrong_arguments_are_named():
    """Images too small or of another shape, an unknown norm, fewer blocks than halvings."""
    x = jnp.zeros((1, 8, 8, 1))
    for model, args, message in (
        (sngan.Generator((7, 8, 1)), jnp.zeros((1, 3)), r"image_shape \(7, 8, 1\) is too small for 3 layers"),
        (sngan.Generator((8, 8, 1), norm="layer"), jnp.zeros((1, 3)), "norm must be one of group, batch, none"),
        (sngan.Discriminator((8, 8, 3)), x, r"x must be \[batch, 8, 8, 3\]; got \(1, 8, 8, 1\)"),
        (
            sngan.Discriminator((8, 8, 1), num_blocks=1),
            x,
            "num_blocks must be at least 1 and num_downsamplings = 2; got 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            shapes(model, args)
