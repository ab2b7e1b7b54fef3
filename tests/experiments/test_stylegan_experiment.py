"""The styles of StyleGAN's experiment: their mixing, the path-length penalty and its carry, and the figures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.types import Carried, Given
from experiments import stylegan

CONFIG = stylegan.Config(
    features=(4, 3), latent_dim=3, style_dim=3, mapping_depth=1, batch_size=8, path_weight=1.5, path_interval=4,
    path_decay=0.25,
)  # fmt: skip
NET = stylegan.networks(CONFIG, "stylegan2", (4, 4, 1))
KEY = jax.random.key(0)
PARAMS = jax.jit(NET.init)(KEY)


LOSSES = {method: jax.jit(stylegan.losses(CONFIG, method, NET)["generator"]) for method in ("stylegan2", "path_length")}


def generator_loss(method, step=None, length=0.5):
    """The generator's loss and aux at a step of Adam, or of a sampler for None."""
    loss = LOSSES[method]
    given = Given(jnp.zeros((1, 8, 4, 4, 1)), PARAMS)
    if step is None:
        return loss(PARAMS["generator"], KEY, given)
    return loss(PARAMS["generator"], KEY, Carried(given, {"step": jnp.asarray(step), "length": jnp.float32(length)}))


def test_styles_are_mixed_at_one_layer():
    """All images of a batch change from one style to another at the same layer; other methods have one style."""
    config, params = dataclasses.replace(CONFIG, mixing_probability=1.0), PARAMS["generator"]
    draw = jax.jit(lambda key: stylegan.draw_styles(config, "mixing", NET, params, key, 5))
    cutoffs = set()
    for seed in range(12):
        styles = np.asarray(draw(jax.random.key(seed)))
        changes = (np.diff(styles, axis=1) != 0).any(axis=2)
        assert styles.shape == (5, 4, 3) and (changes == changes[0]).all() and changes[0].sum() == 1
        cutoffs.add(1 + int(changes[0].argmax()))
    assert cutoffs == {1, 2, 3}
    single = np.asarray(stylegan.draw_styles(CONFIG, "path_length", NET, params, KEY, 5))
    assert np.ptp(single, axis=1).max() == 0 and np.ptp(single, axis=0).min() > 0


def test_path_lengths_are_penalised_lazily():
    """In the steps between, the loss is that of stylegan2 and the mean length stays; a due step changes both."""
    plain, aux = generator_loss("stylegan2", 0)
    assert aux["carry"]["step"] == 1 and set(aux) == {"carry"}
    between, aux = generator_loss("path_length", 3)
    np.testing.assert_allclose(between, plain, rtol=1e-6)
    assert aux["carry"]["length"] == 0.5 and aux["carry"]["step"] == 4
    due, aux = generator_loss("path_length", 4)
    assert due > plain and aux["carry"]["length"] != 0.5


@pytest.mark.slow
def test_the_penalty_of_adam_and_of_a_sampler():
    """A due penalty is multiplied by the interval and moves the mean by the decay towards the batch's. With the mean 0
    and the decay 1 / 4 it is E (l - m / 4)^2, and that of a sampler E (l - m)^2, where m is the batch's mean."""
    plain, _ = generator_loss("stylegan2", 0)
    due, aux = generator_loss("path_length", 4, length=0.0)
    mean = float(aux["carry"]["length"]) / CONFIG.path_decay
    sampled, sampler_aux = generator_loss("path_length")
    assert mean > 0 and "carry" not in sampler_aux
    np.testing.assert_allclose(sampler_aux["length"], mean, rtol=1e-5)
    penalty, variance = (due - plain) / (4 * CONFIG.path_weight), (sampled - plain) / CONFIG.path_weight
    np.testing.assert_allclose(penalty, variance + (mean - mean / 4) ** 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "groups"),
    [("stylegan", [[0, 1, 2, 3], [4, 5], [6, 7]]), ("stylegan2", [[0, 1, 2], [3, 4], [5, 6, 7]])],
)
def test_groups_are_layers_of_the_same_sizes(method, groups):
    """Four sizes of images in three groups, of all layers in order; the last style of StyleGAN2 is of its output."""
    config = dataclasses.replace(CONFIG, features=(2, 2, 2, 2))
    net = stylegan.networks(config, method, (32, 32, 1))
    assert net.num_layers == 8 and list(stylegan.layer_groups(net.layer_heights).values()) == groups


def test_two_sizes_have_coarse_and_fine_layers():
    assert stylegan.layer_groups(NET.layer_heights) == {"coarse": [0], "fine": [1, 2, 3]}


def test_figures_show_what_their_rows_say():
    """Mixed images differ from the image in the first column; psi 0 gives one image and psi 1 the samples; the noise
    changes images; interpolations end at two samples."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.5 if "noise_strength" in str(path) else leaf, PARAMS["generator"]
    )
    figures = stylegan.pictures(CONFIG, NET, params, KEY)
    figures = {name: {row: np.asarray(x) for row, x in rows.items()} for name, rows in figures.items()}
    samples, own = figures["truncation"]["psi 1"], [figures["mixing"][f"coarse, image {i}"][0] for i in (1, 2)]
    assert samples.shape == (10, 4, 4, 1) and next(iter(figures["mixing"])) == "styles of"
    np.testing.assert_allclose(figures["mixing"]["styles of"][1:], samples[1:], atol=1e-6)
    assert (figures["mixing"]["styles of"][0] == 1).all() and np.abs(own[0] - own[1]).max() > 1e-3
    for group in ("coarse", "fine"):
        row = figures["mixing"][f"{group}, image 2"]
        np.testing.assert_allclose(row[0], own[1], atol=1e-6)
        assert np.abs(row[1:] - row[0]).max() > 1e-4 and np.abs(row[1:] - samples[1:]).max() > 1e-4
    assert np.ptp(figures["truncation"]["psi 0"], axis=0).max() < 1e-6
    np.testing.assert_allclose(figures["interpolation"]["pair 2"][::9], samples[2:4], atol=1e-6)
    noise = figures["noise"]
    assert np.abs(noise["noise 1"] - noise["noise 2"]).max() > 1e-3
    assert np.abs(noise["noise 1"] - noise["no noise"]).max() > 1e-3 and noise["sd of pixels"].max() > -0.99
