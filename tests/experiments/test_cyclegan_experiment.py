"""Translations without pairs: the two domains, the pool of earlier fakes, and sampled translators."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data
from bayesjax.objectives import cycle
from bayesjax.types import Carried, Given
from experiments import cyclegan
from experiments.harness import Run
from tests.experiments.test_every_experiment import call, refusal
from tests.experiments.tiny import TINY

pytestmark = pytest.mark.usefixtures("compile_once")
GREY = np.random.default_rng(0).random((3, 5, 5, 1)).astype(np.float32)


def test_no_image_has_its_partner_in_the_other_domain(tmp_path):
    """X and Y are halves of the training images; the truth of test images is known, and a judge reads it there."""
    run = Run("cyclegan", cyclegan.Config(num_judged=40, image_size=10, out=str(tmp_path / "run")))
    domains = cyclegan.load_domains(run)
    images = {
        name: {image.tobytes() for image in images}
        for name, images in (("x", domains.x), ("y", 0 - domains.y))  # 0 - y has no negative zeros
    }
    padded = np.pad(data.load("digits").train.inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    known = {image.tobytes() for image in 2 * padded - 1}
    assert images["x"] <= known and images["y"] <= known  # all of them, so that the next line could fail
    assert not images["x"] & images["y"] and abs(len(domains.x) - len(domains.y)) <= 1
    truth = domains.truth
    assert truth is not None and not {image.tobytes() for image in domains.x_test} & known
    np.testing.assert_allclose(truth.y, 1 - truth.x)
    for read, images in ((truth.read_x, truth.x), (truth.read_y, truth.y)):
        assert (read(images) == truth.labels).mean() > 0.9  # 98 % of 360 test images
    assert (truth.read_y(truth.x) == truth.labels).mean() < 0.6  # untranslated images are not read


def test_discriminators_see_earlier_fakes():
    """The pool takes fakes while it has room; with a full one the loss is that of the images that come out of it."""
    config = cyclegan.Config(features=2, num_halvings=0, num_blocks=0, kernel_size=1, discriminator_features=(2,))
    net = cyclegan.networks(config, (8, 8, 1))
    loss = jax.jit(cyclegan.losses(config, net)["discriminator"])
    position = net.init(jax.random.key(0))
    x, y = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8, 1)), jnp.float32)
    given = Given({"x": x, "y": y}, {"generator": position["generator"]})
    params, key = jax.tree.map(lambda w: 30 * w, position["discriminator"]), jax.random.key(1)  # far from even
    plain, _ = loss(params, key, given)
    pools = {name: cycle.empty_pool(6, (8, 8, 1)) for name in "xy"}
    first, aux = loss(params, key, Carried(given, pools))
    assert first == pytest.approx(float(plain), rel=1e-5)
    np.testing.assert_allclose(
        aux["carry"]["y"].images[:3], net.translate(position["generator"]["forward"], x), rtol=1e-5
    )
    assert aux["carry"]["x"].num == 3
    former = {name: cycle.ImagePool(jnp.full((6, 8, 8, 1), 0.5), jnp.int32(6)) for name in "xy"}
    other, aux = loss(params, key, Carried(given, former))
    assert other != pytest.approx(float(plain), rel=1e-4)
    assert (aux["carry"]["x"].images != 0.5).any() or (aux["carry"]["y"].images != 0.5).any()


def test_measures_of_perfect_and_of_no_translations(tmp_path):
    """True images have distance 0 and the class of the true images; untranslated ones have their own distance."""
    config = cyclegan.Config(num_judged=40, out=str(tmp_path / "run"))
    domains = cyclegan.load_domains(Run("cyclegan", config))
    truth = domains.truth
    assert truth is not None
    perfect = {"there": truth.y, "back": truth.x, "sd": 0 * truth.y}
    values = {row["measure"]: row["value"] for row in cyclegan.judge_rows(config, domains, "X to Y", perfect)}
    assert values["L1 to the true image"] == 0 and values["L1 after both translations"] < 1e-6
    assert values["correct class %"] == values["correct class of true images %"] > 90
    assert values["correct class after both translations %"] > 90
    untranslated = {"there": truth.x, "back": truth.x, "sd": 0 * truth.y}
    rows = cyclegan.judge_rows(config, domains, "X to Y", untranslated)
    values = {row["measure"]: row["value"] for row in rows}
    assert values["L1 to the true image"] == pytest.approx(values["L1 of the untranslated image"])
    assert values["L1 to the true image"] > 0.1
    assert values["correct class %"] < 60 and "sd over draws" not in values


@pytest.mark.slow
def test_translators_may_be_sampled(tmp_path):
    """SGHMC of both players: finite, with several draws; here on images whose truth is not known."""
    random = np.random.default_rng(0)
    sizes = {"trainA": 12, "trainB": 9, "testA": 5, "testB": 4}
    arrays = {part: random.random((num, 8, 8)).astype(np.float32) for part, num in sizes.items()}
    np.savez(tmp_path / "domains.npz", **arrays)
    flags = ("--kernel", "sghmc", "--num-warmup", "4", "--dataset", tmp_path / "domains.npz")
    call("cyclegan", *TINY["cyclegan"].flags, *flags, "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert all(row["value"] is not None for row in rows)
    assert {row["value"] > 0 for row in rows if row["measure"] == "sd over draws"} == {True}
    assert "L1 to the true image" not in {row["measure"] for row in rows}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--image-size", 9), "--image-size must be 0, or at least 8 and leave two equal edges"),
        (("--num-validation", 900), "--num-validation must be at most 718, half of the training images; got 900"),
        (("--dataset", "cycle_gan/none.npz"), "no file cycle_gan/none.npz"),
    ],
)
def test_data_that_do_not_fit(flags, words, tmp_path, capsys):
    """One line, before anything is written."""
    assert words in refusal(capsys, "cyclegan", *flags, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
