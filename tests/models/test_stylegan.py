"""StyleGAN: styles rule each layer, noise each pixel; mapping, AdaIN, mixing, truncation and the mean style.

The mapping network without normalised noise, a refused mixing and statistics of the batch are planted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, filled, quick_jit, scales, shapes

from bayesjax import axes
from bayesjax.models import progressive, stylegan, stylegan2
from bayesjax.models.stylegan import Generator, Mapping, mix_styles, repeat_style, truncate

RANDOM = np.random.default_rng(0)
IMAGE, FEATURES = (8, 8, 2), (5, 4, 3)
Z = RANDOM.normal(size=(3, 5)).astype(np.float32)
W = RANDOM.normal(size=(2, 3, 6)).astype(np.float32)  # two batches of styles
KINDS = {"adain": stylegan, "modulated": stylegan2}
SYNTHESIS = {name: module.Synthesis(IMAGE, FEATURES) for name, module in KINDS.items()}
VARIABLES = {name: filled(model, jnp.zeros((3, 6, 6))) for name, model in SYNTHESIS.items()}
every_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def program(kind):
    return quick_jit(SYNTHESIS[kind].apply)


def images_of(kind, styles, noise=None):
    """Images of styles; `noise` of zeros stands for none, so that all tests share a program."""
    if noise is None:
        noise = [np.zeros((3, *size), np.float32) for size in SYNTHESIS[kind].noise_sizes]
    return np.asarray(program(kind)(VARIABLES[kind], styles, noise))


def noise_of(kind, seed):
    return stylegan.draw_noise(jax.random.key(seed), 3, SYNTHESIS[kind].noise_sizes)


# ---- mapping and styles


def test_noise_is_normalised(monkeypatch):
    """The scale of z has no effect on w; a mapping without the normalisation is refused."""
    mapping = Mapping(6, 2)
    variables = filled(mapping, Z)
    variables = jax.tree.map(lambda leaf: 100 * leaf, variables)

    def is_normalised():
        return np.allclose(mapping.apply(variables, 3 * Z), mapping.apply(variables, Z), rtol=1e-4)

    assert is_normalised()
    monkeypatch.setattr(stylegan, "pixel_norm", lambda x: x)
    assert not is_normalised()


def test_the_mapping_is_its_layers():
    """Leaky ReLU after each layer, the last included; weights at a hundredth of the rate."""
    mapping, x = Mapping(6, 2), progressive.pixel_norm(Z)
    variables = jax.tree.map(lambda leaf: 100 * leaf, filled(mapping, Z))
    for layer in ("EqualisedDense_0", "EqualisedDense_1"):
        kernel, bias = (variables["params"][layer][name] / 100 for name in ("kernel", "bias"))
        x = x @ kernel * np.sqrt(2 / len(kernel)) + bias
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(mapping.apply(variables, Z), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(Mapping(6, 0).apply({}, Z), progressive.pixel_norm(Z))


def test_mixing_equal_styles_is_no_mixing():
    """And of different ones the layers before the cut-off have the coarse style, the others the fine one."""
    coarse, fine = W
    np.testing.assert_array_equal(mix_styles(coarse, coarse, 2, 6), repeat_style(coarse, 6))
    for cutoff in (0, 2, 6):
        mixed = np.asarray(quick_jit(mix_styles, static_argnums=3)(coarse, fine, cutoff, 6))
        for layer in range(6):
            np.testing.assert_array_equal(mixed[:, layer], coarse if layer < cutoff else fine)


def test_cutoffs():
    """Probability 0.9, then uniform over 1 to 5; never 0. Binomial errors of 4 deviations: false alarms 6.3e-5 each."""
    cutoffs = np.asarray(
        quick_jit(jax.vmap(lambda key: stylegan.draw_cutoff(key, 6)))(jax.random.split(jax.random.key(0), 10_000))
    )
    shares = np.bincount(cutoffs, minlength=7) / len(cutoffs)
    expected = np.array([0, 0.18, 0.18, 0.18, 0.18, 0.18, 0.1])
    assert np.all(abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(cutoffs)))


@every_kind
def test_truncation(kind):
    """psi = 0 gives one image, the one of the mean; psi = 1 changes nothing, up to rounding; psi by layer."""
    styles, mean = repeat_style(W[0], 6), W[1, 0]
    images = images_of(kind, truncate(styles, mean, 0.0))
    np.testing.assert_array_equal(images, images_of(kind, repeat_style(np.stack([mean] * 3), 6)))
    np.testing.assert_array_equal(images, np.stack([images[0]] * 3))
    assert np.ptp(images_of(kind, truncate(styles, mean, 0.7)), axis=0).max() > 1e-3
    np.testing.assert_allclose(truncate(styles, mean, 1.0), styles, rtol=1e-5, atol=1e-6)
    by_layer = truncate(styles, mean, np.float32([0, 0, 0, 1, 1, 1])[:, None])
    np.testing.assert_allclose(by_layer[:, 3:], styles[:, 3:], rtol=1e-5, atol=1e-6)
    assert np.all(by_layer[:, :3] == mean)


def test_mean_style():
    """Of the linear mapping z -> 2 z + 1 it is 1, within 4 standard errors of a hundredth of 2."""
    mean = quick_jit(lambda key: stylegan.mean_style(lambda z: 2 * z + 1, key, 5))(jax.random.key(0))
    assert mean.shape == (5,)
    assert np.all(abs(mean - 1) < 4 * 2 / 100)


# ---- synthesis


@every_kind
def test_every_layer_has_its_style_and_its_noise(kind):
    """The image depends on each of the styles and on each array of noise, and one style reaches its image alone."""
    styles, noise = repeat_style(W[0], 6), noise_of(kind, 0)
    first = images_of(kind, styles, noise)
    for layer in range(6):
        changed = np.array(styles)
        changed[0, layer] = W[1, 0]
        change = abs(images_of(kind, changed, noise) - first).max((1, 2, 3))
        assert change[0] > 1e-4 and np.all(change[1:] == 0)
    for layer in range(len(noise)):
        other = [
            each if index != layer else each + 1.0 * (np.arange(each[0].size) % 3).reshape(1, *each[0].shape)
            for index, each in enumerate(noise)
        ]
        assert abs(images_of(kind, styles, other) - first).max() > 1e-4


@every_kind
def test_the_key_decides_the_noise(kind):
    """The same key gives the same image, another key another one, and noise has the sizes of the layers."""
    styles = repeat_style(W[0], 6)
    assert [noise.shape for noise in noise_of(kind, 0)] == [(3, *size) for size in SYNTHESIS[kind].noise_sizes]
    heights = {"adain": [2, 2, 4, 4, 8, 8], "modulated": [2, 4, 4, 8, 8, 8]}[kind]
    assert SYNTHESIS[kind].layer_heights == heights
    first, again, other = (images_of(kind, styles, noise_of(kind, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_devices_draw_the_noise_of_one_device():
    """Along a bound data axis the parts are those of one larger draw."""
    sizes = [(2, 1), (1, 2)]

    @quick_jit
    def drawn(key):
        parts = jax.vmap(lambda _: stylegan.draw_noise(key, 3, sizes), axis_name=axes.DATA)(np.zeros(4))
        return parts, stylegan.draw_noise(key, 12, sizes)

    parts, whole = drawn(jax.random.key(3))
    for part, expected in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(part.reshape(expected.shape), expected)
    assert not np.any(parts[0][0, 0] == parts[0][1, 0])


def test_adain_gives_each_channel_its_mean_and_deviation():
    """(y_o, 1 + y_s) of each image; the statistics of the batch instead of an image are refused."""
    layer = stylegan.StyledLayer()
    x = RANDOM.normal(3, 2, size=(3, 8, 8, 4)).astype(np.float32)
    noise = RANDOM.normal(size=(1, 8, 8)).astype(np.float32)  # shared by all images
    params = filled(layer, x, W[0])["params"]
    style = W[0] @ params["EqualisedDense_0"]["kernel"] / np.sqrt(6) + params["EqualisedDense_0"]["bias"]
    scale, offset = style[:, :4], style[:, 4:]
    out = np.asarray(quick_jit(layer.apply)({"params": params}, x, W[0], noise))
    np.testing.assert_allclose(out.mean((1, 2)), offset, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.std((1, 2)), abs(1 + scale), rtol=1e-3, atol=1e-3)
    active = x + params["noise_strength"] * noise[..., None]
    active = np.where(active > 0, active, 0.2 * active)

    def expected(axes):
        normal = (active - active.mean(axes, keepdims=True)) / active.std(axes, keepdims=True)
        return (1 + scale[:, None, None]) * normal + offset[:, None, None]

    np.testing.assert_allclose(out, expected((1, 2)), rtol=1e-3, atol=1e-3)
    assert not np.allclose(out, expected((0, 1, 2)), atol=0.1)


@every_kind
def test_the_generator_is_its_two_networks(kind):
    """All layers have the style of z; each network works alone on its parameters; no noise is noise of 0."""
    generator = Generator(Mapping(6, 1), SYNTHESIS[kind])
    params = {"mapping": filled(generator.mapping, Z)["params"], "synthesis": VARIABLES[kind]["params"]}
    w = generator.mapping.apply({"params": params["mapping"]}, Z)
    images = quick_jit(generator.apply)({"params": params}, Z)
    np.testing.assert_allclose(images, images_of(kind, repeat_style(w, 6)), rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(shapes(generator, Z)[1]) == jax.tree.structure(params)


def test_growing():
    """As in Progressive GAN: alpha = 0 is the network below, doubled, bit for bit, and 1 is the whole network."""
    model, styles = SYNTHESIS["adain"], repeat_style(W[0], 6)
    faded = quick_jit(lambda variables, styles, alpha: model.apply(variables, styles, None, 2, alpha))
    below = quick_jit(lambda variables, styles: model.apply(variables, styles, None, 1))(VARIABLES["adain"], styles)
    np.testing.assert_array_equal(faded(VARIABLES["adain"], styles, 0.0), progressive.upsample(below))
    np.testing.assert_array_equal(faded(VARIABLES["adain"], styles, 1.0), images_of("adain", styles))
    generator = Generator(Mapping(6, 1), model)
    small = jax.eval_shape(lambda v: generator.apply(v, Z, level=0), {"params": shapes(generator, Z)[1]})
    assert small.shape == (3, 2, 2, 2)


def test_scale_at_the_start():
    """The layers of the mapping keep the scale within 25 %; AdaIN sets that of all other inputs."""
    generator = Generator(Mapping(48, 4, rate=1.0), stylegan.Synthesis((8, 8, 1), (48, 48)))
    z = RANDOM.normal(size=(16, 48)).astype(np.float32)
    found = scales(generator, z)
    assert len(found) == 4 + 4 + 3 + 2
    assert all(abs(scale - 1) < 0.25 for name, (_, scale) in found.items() if "mapping" in name)
    assert all(0.4 < scale < 1.6 for _, scale in found.values()), found


@pytest.mark.slow
def test_counts_are_those_of_the_papers():
    """26.2 million parameters in StyleGAN's generator for 1024 pixels (Karras et al. 2019, section 2)."""
    features = [int(min(8192 / 2 ** (level + 1), 512)) for level in range(9)]
    z = jnp.zeros((1, 512))
    assert round(count(Generator(Mapping(512), stylegan.Synthesis((1024, 1024, 3), features)), z) / 1e6, 1) == 26.2


@every_kind
def test_wrong_arguments_are_named(kind):
    """Styles without layers, noise of some layers, images that cannot be halved, a level that does not exist."""
    model, num = SYNTHESIS[kind], len(SYNTHESIS[kind].noise_sizes)
    for args, message in (
        ((W[0],), r"styles must be \[batch, 6, style_dim\]; got \(3, 6\)"),
        ((jnp.zeros((3, 5, 6)),), r"styles must be \[batch, 6, style_dim\]; got \(3, 5, 6\)"),
        ((jnp.zeros((3, 6, 6)), [jnp.zeros((3, 2, 2))]), f"noise must have an array for each of {num} layers; got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.apply, VARIABLES[kind], *args)
    with pytest.raises(ValueError, match="divisible by 4 for 3 levels; got"):
        shapes(KINDS[kind].Synthesis((6, 8, 1), (1, 1, 1)), jnp.zeros((3, 6, 6)))
    with pytest.raises(ValueError, match="probability must be in"):
        stylegan.draw_cutoff(jax.random.key(0), 6, 1.5)
