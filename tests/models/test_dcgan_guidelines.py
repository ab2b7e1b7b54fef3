"""DCGAN at 28, 32 and 64 pixels by the paper's guidelines, read from the parameters (traced, never compiled)."""

import jax.numpy as jnp
import pytest
from networks import count, shapes

from bayesjax.models import dcgan


@pytest.mark.parametrize(
    ("image_shape", "features", "smallest"),
    [((28, 28, 1), (128, 64), 7), ((32, 32, 3), (128, 64, 32), 4), ((64, 64, 3), (32, 16, 8, 4), 4)],
)
def test_guidelines(image_shape, features, smallest):
    """No dense layers but the generator's first and the logits; a stride of 2 for every width, and no pooling.

    Norms in every layer but the generator's last and the discriminator's first; images within -1 and 1.
    """
    depth = len(features)
    generator = dcgan.Generator(image_shape, features)
    images, params = shapes(generator, jnp.zeros((2, 100)))
    assert images.shape == (2, *image_shape)
    assert params["Dense_0"]["kernel"].shape == (100, smallest**2 * features[0])
    names = {"Dense_0", *(f"ConvTranspose_{i}" for i in range(depth)), *(f"GroupNorm_{i}" for i in range(depth))}
    assert set(params) == names
    assert [params[f"GroupNorm_{i}"]["scale"].shape[0] for i in range(depth)] == list(features)
    discriminator = dcgan.Discriminator(image_shape, features=features[::-1])
    logits, params = shapes(discriminator, images)
    assert logits.shape == (2, 1)
    names = {"logits", *(f"convolutions_{i}" for i in range(depth)), *(f"norms_{i}" for i in range(1, depth))}
    assert set(params) == names
    assert params["logits"]["kernel"].shape == (smallest**2 * features[0], 1)


def test_the_generator_of_the_paper():
    """Figure 1: 100 numbers to 4 x 4 x 1024, then 512, 256, 128 and 3 channels by 5 x 5 kernels."""
    generator = dcgan.Generator((64, 64, 3), (1024, 512, 256, 128))
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    channels = 512 + 256 + 128
    expected = 101 * 4 * 4 * 1024 + kernels + channels + 3 + 2 * (1024 + channels)
    assert count(generator, jnp.zeros((1, 100))) == expected
    assert dcgan.layer_sizes((64, 64, 3), 4) == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
