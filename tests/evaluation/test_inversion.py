"""Inversion of generators: a linear one against least squares, and the style of a generated image."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import evaluation
from bayesjax.models import stylegan, stylegan2

RANDOM = np.random.default_rng(0)


def mean_square(x, y):
    return jnp.mean((x - y) ** 2)


def test_a_linear_generator():
    """The minimum is that of least squares, and the distances are those before each step."""
    matrix, image = RANDOM.normal(size=(2, 6, 3)).astype(np.float32)[0], RANDOM.normal(size=6).astype(np.float32)
    generate, start = lambda w: jnp.asarray(matrix) @ w["w"], {"w": jnp.zeros(3)}
    result = evaluation.invert_generator(generate, mean_square, image, start, optax.sgd(0.5), num_steps=300)
    expected, residual = np.linalg.lstsq(matrix, image, rcond=None)[:2]
    np.testing.assert_allclose(result.latent["w"], expected, atol=1e-4)
    assert result.distances.shape == (300,)
    np.testing.assert_allclose(result.distances[np.array([0, -1])], [np.mean(image**2), residual[0] / 6], rtol=1e-4)


def test_the_style_of_a_generated_image():
    """From the mean style, Adam reaches the image of another style to a thousandth of the distance at the start."""
    synthesis = stylegan2.Synthesis((4, 4, 1), (8,))
    styles = jnp.zeros((1, 2, 4))

    @jax.jit
    def invert(rng_key):
        init_key, style_key = jax.random.split(rng_key)
        variables = synthesis.init(init_key, styles)

        def generate(w):
            return synthesis.apply(variables, stylegan.repeat_style(w[None], 2))[0]

        image = generate(jax.random.normal(style_key, (4,)))
        return evaluation.invert_generator(
            generate, mean_square, image, jnp.zeros(4), optax.adam(0.05), num_steps=300
        ).distances

    distances = invert(jax.random.key(0))
    assert distances[0] > 1e-2
    assert distances[-1] < 1e-3 * distances[0]


def test_a_distance_of_pixels_is_refused():
    """ValueError with its shape."""
    with pytest.raises(ValueError, match=r"distance must return a scalar; got an array of shape \(3,\)"):
        evaluation.invert_generator(
            lambda w: w, lambda x, y: x - y, jnp.ones(3), jnp.zeros(3), optax.sgd(1.0), num_steps=1
        )
