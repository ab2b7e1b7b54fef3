"""Dense networks with noise: shapes, fixed scales, centred units, the variance of the noise, and invalid arguments."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models import noisy_mlp

SHAPE = (4, 5, 1)


@functools.cache
def discriminator(num_features=2, **options):
    model = noisy_mlp.Discriminator(SHAPE, 3, (400, 300)[:num_features], **options)
    x = jax.random.uniform(jax.random.key(1), (2000, *SHAPE), minval=-1.0)
    return model, jax.jit(model.init)(jax.random.key(0), x), x


def test_shapes():
    """Generators give images in (-1, 1), discriminators one logit for each class and the last hidden units."""
    generator = noisy_mlp.Generator(SHAPE, (6, 6))
    images, variables = jax.jit(generator.init_with_output)(jax.random.key(0), jnp.ones((7, 2)))
    assert images.shape == (7, *SHAPE) and set(variables) == {"params"}
    random = generator.apply(variables, jax.random.uniform(jax.random.key(1), (7, 2)))
    assert float(jnp.abs(random).max()) < 1 and float(random.std(axis=0).min()) > 0
    model, variables, x = discriminator()
    assert model.apply(variables, x).shape == (2000, 3) and set(variables) == {"params"}
    assert model.apply(variables, x, method="embed").shape == (2000, 300)


def test_first_outputs_have_variance_one_and_mean_zero():
    """Pixels of the stated mean and standard deviation give units of about N(0, 1) in every layer, with the noise."""
    model, variables, x = discriminator(pixel_mean=0.5, pixel_sd=1 / math.sqrt(12))
    rng = {"noise": jax.random.key(2)}
    _, state = jax.jit(functools.partial(model.apply, rngs=rng, capture_intermediates=True))(variables, x)
    for layer, tolerance in (("layers_0", 0.03), ("layers_1", 0.1)):  # two layers deep, units are correlated
        (units,) = state["intermediates"][layer]["__call__"]
        assert float(units.var(axis=0).mean()) == pytest.approx(1, abs=tolerance)
        assert float(jnp.abs(units.mean(axis=0)).mean()) < tolerance
    shifted, others, _ = discriminator(pixel_mean=0.0, pixel_sd=1 / math.sqrt(12))  # a wrong mean moves the units
    _, state = jax.jit(functools.partial(shifted.apply, rngs=rng, capture_intermediates=True))(others, x)
    assert float(jnp.abs(state["intermediates"]["layers_0"]["__call__"][0].mean(axis=0)).mean()) > 0.5


def test_columns_have_a_fixed_length():
    """Outputs do not depend on the length of a hidden layer's columns, and the length of a column has no gradient."""
    model, variables, x = discriminator()
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if "layers" in str(path) and "kernel" in str(path) else leaf, variables
    )
    np.testing.assert_allclose(model.apply(scaled, x[:50]), model.apply(variables, x[:50]), rtol=2e-4, atol=2e-4)
    gradient = jax.grad(lambda v: model.apply(v, x[:50]).sum())(variables)["params"]["layers_0"]["kernel"]
    kernel = variables["params"]["layers_0"]["kernel"]
    radial, size = (gradient * kernel).sum(axis=0), jnp.linalg.norm(gradient) * jnp.linalg.norm(kernel)
    assert float(jnp.abs(radial).max()) < 1e-4 * float(size)


def test_generator_learns_the_contrast_of_a_pixel():
    """The length of a column of the last layer scales a pixel's logit, and starts at 1; a kernel's length does not."""
    model = noisy_mlp.Generator(SHAPE, (6, 6))
    z = jax.random.uniform(jax.random.key(0), (40, 3))
    params = jax.jit(model.init)(jax.random.key(1), z)["params"]
    last = params["NormalisedDense_0"]
    assert np.all(last["gain"] == 1)

    def logits(**changes):
        return jnp.arctanh(model.apply({"params": params | {"NormalisedDense_0": last | changes}}, z))

    expected = logits(bias=jnp.zeros(20))
    np.testing.assert_allclose(logits(gain=jnp.full(20, 5.0)), 5 * expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(logits(kernel=7 * last["kernel"]), expected, rtol=1e-3, atol=1e-5)


def test_noise_has_the_stated_scale():
    """The noise of a pixel is in units of the range (0, 1), and that of a hidden unit is added after the ReLU."""
    model, variables, x = discriminator(1, input_noise=0.4, hidden_noise=0.0)
    same = jnp.broadcast_to(x[:1], x.shape)

    def embed(v, key, method="embed"):
        return model.apply(v, same, method=method, rngs={"noise": key})

    # A unit with one non-zero weight sees one pixel: gain * (pixel + noise), all in the linear part of the ReLU.
    params = dict(variables["params"])
    kernel = jnp.zeros((20, 400)).at[3].set(1.0)
    params["layers_0"] = {"kernel": kernel, "bias": jnp.full(400, 50.0)}
    units = embed({"params": params}, jax.random.key(3))
    gain = 1 / math.hypot(0.26, 0.4)
    assert float(units.std()) == pytest.approx(0.4 * gain, rel=0.05)  # 2000 draws of noise: a standard error of 1.6 %
    hidden, variables, _ = discriminator(1, input_noise=0.0, hidden_noise=0.7)
    weights = variables["params"]["head"]["kernel"]
    logits = hidden.apply(variables, same, rngs={"noise": jax.random.key(4)})
    expected = 0.7 * jnp.linalg.norm(weights, axis=0)
    np.testing.assert_allclose(logits.std(axis=0), expected, rtol=0.08)  # five standard errors
    assert float(jnp.ptp(hidden.apply(variables, same), axis=0).max()) == 0  # no noise without a key


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"features": ()}, r"features must name at least one positive width; got \(\)"),
        ({"features": (3, 0)}, r"features must name at least one positive width; got \(3, 0\)"),
        ({"hidden_noise": -0.1}, "must be at least 0 and pixel_sd positive; got 0.3, -0.1 and 0.26"),
        ({"pixel_sd": 0.0}, "must be at least 0 and pixel_sd positive; got 0.3, 0.5 and 0.0"),
    ],
)
def test_invalid_attributes(options, match):
    """One line that says what came and what was expected."""
    model = noisy_mlp.Discriminator(SHAPE, 3, **options)
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))


def test_images_of_another_shape():
    """Images are checked before they are flattened."""
    model, variables, _ = discriminator()
    with pytest.raises(ValueError, match=r"x must be \[batch, 4, 5, 1\]; got \(2, 5, 4, 1\)"):
        jax.eval_shape(model.apply, variables, jnp.zeros((2, 5, 4, 1)))
