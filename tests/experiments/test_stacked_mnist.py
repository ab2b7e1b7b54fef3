"""What the discriminator of stacked_mnist sees of the images of several generators."""

import jax.numpy as jnp
import numpy as np

from experiments import stacked_mnist


def test_deviations_are_those_of_one_generator():
    """A generator whose images are equal is visible, which the deviation over the whole batch would hide."""
    images = np.random.default_rng(0).normal(size=(2, 4, 3, 3, 2)).astype(np.float32)
    images[1] = images[1, :1]
    seen = stacked_mnist.with_deviations(jnp.asarray(images.reshape(8, 3, 3, 2)), 4)
    np.testing.assert_array_equal(seen[..., :2], images.reshape(8, 3, 3, 2))
    np.testing.assert_allclose(seen[:4, ..., 2:], np.tile(images[0].std(axis=0), (4, 1, 1, 1)), rtol=1e-4)
    np.testing.assert_allclose(seen[4:, ..., 2:], 1e-3, rtol=0.02)
    whole = stacked_mnist.with_deviations(jnp.asarray(images.reshape(8, 3, 3, 2)), 8)
    assert whole[4:, ..., 2:].min() > 0.1
