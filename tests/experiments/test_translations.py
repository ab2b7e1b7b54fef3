"""Translations without pairs and GANs of few labels, as called: what is known of them, runs that resume, bad input."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data
from bayesjax.objectives import cycle
from bayesjax.training import MetricsFile
from bayesjax.types import Carried, Given
from experiments import common, cyclegan, semi_supervised_gan
from experiments import cyclegan_domains as domains
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")
CYCLES = (
    "--features", 2, "--num-halvings", 0, "--num-blocks", 0, "--kernel-size", 1, "--discriminator-features", 2,
    "--batch-size", 3, "--num-steps", 8, "--num-checks", 2, "--num-judged", 6,
)  # fmt: skip
LABELS = (
    "--generator-features", 2, "--discriminator-features", 2, "--latent-dim", 2, "--batch-size", 6,
    "--labelled-batch-size", 5, "--num-labelled", 20, "--num-steps", 8, "--num-checks", 2, "--kernel-size", 1,
)  # fmt: skip
GREY = np.random.default_rng(0).random((3, 5, 5, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def two_domains(tmp_path_factory):
    """Grey 8 x 8 images of two domains, 12 of X and 9 of Y."""
    path, random = tmp_path_factory.mktemp("data") / "domains.npz", np.random.default_rng(0)
    sizes = {"trainA": 12, "trainB": 9, "testA": 5, "testB": 4}
    np.savez(path, **{part: random.random((num, 8, 8)).astype(np.float32) for part, num in sizes.items()})
    return path


def metrics_of(folder):
    """All but times."""
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    return {name: entry for name, entry in metrics.items() if "ms per step" not in name}


def test_tasks():
    """Grey values come back from inverted and coloured images; a flat image has no outline, a dot has a ring."""
    for name in ("inverted", "coloured"):
        task = domains.TASKS[name]
        there = task.translate(GREY)
        assert there.shape[-1] == task.num_channels and not np.allclose(there.mean(axis=-1), GREY[..., 0], atol=0.1)
        np.testing.assert_allclose(task.grey(there), GREY, atol=1e-5)
    dot = np.zeros((1, 5, 5, 1), np.float32)
    dot[0, 2, 2] = 1
    ring = domains.outlines(dot)
    assert ring.sum() == 8 and ring[0, 2, 2] == 0 and domains.outlines(np.ones_like(dot)).sum() == 0


def test_no_image_has_its_partner_in_the_other_domain(tmp_path):
    """X and Y are halves of the training images; the truth of test images is known, and a judge reads it there."""
    run = common.Experiment("cyclegan", cyclegan.Config(num_judged=40, image_size=10, out=str(tmp_path / "run")))
    about = domains.subject(run)
    rows = {
        name: {image.tobytes() for image in images} for name, images in (("x", about.x), ("y", 0 - about.y))
    }  # no -0
    known = {
        image.tobytes() for image in 2 * np.pad(data.load("digits").train.inputs, ((0, 0), (1, 1), (1, 1), (0, 0))) - 1
    }
    assert rows["x"] <= known and rows["y"] <= known  # all of them, so the next line could fail
    assert not rows["x"] & rows["y"] and abs(len(about.x) - len(about.y)) <= 1
    truth = about.truth
    assert truth is not None and not {image.tobytes() for image in about.x_test} & known
    np.testing.assert_allclose(truth.y, 1 - truth.x)
    for read, images in ((truth.read_x, truth.x), (truth.read_y, truth.y)):
        assert (read(images) == truth.labels).mean() > 0.9  # 360 test images: 98 %
    assert (truth.read_y(truth.x) == truth.labels).mean() < 0.6  # what has not been translated is not read


def test_discriminators_see_former_fakes():
    """The pool takes fakes in while there is room; with a full one the loss is that of what comes out of it."""
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


def test_translations_leave_table_and_panels(tmp_path, capsys):
    """Measures with and without a truth; the figures are PNG files."""
    call("cyclegan", *CYCLES, "--out", tmp_path / "run")
    assert "| inverted | adam" in capsys.readouterr().out
    found = metrics_of(tmp_path / "run")
    assert {"X to Y class kept %", "Y to X L1 to the truth", "after both at the end"} <= set(found)
    for name in ("panels", "distances"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_interrupted_translation_goes_on(tmp_path, monkeypatch):
    """Ctrl-C in the middle: the pool and both players go on, and the numbers are those of an unbroken run."""
    flags = (*CYCLES, "--checkpoint-interval", 0.001)
    monkeypatch.setattr(sys.modules["bayesjax.training.run"], "MAX_CHUNK", 1)  # another length rounds otherwise
    call("cyclegan", *flags, "--out", tmp_path / "run")
    expected = metrics_of(tmp_path / "run")
    write = MetricsFile.write

    def interrupt(self, row):
        write(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(MetricsFile, "write", interrupt)
        call("cyclegan", *flags, "--out", tmp_path / "broken")
    assert caught.value.code == 130
    call("cyclegan", *flags, "--out", tmp_path / "broken", "--resume")
    assert metrics_of(tmp_path / "broken") == expected


@pytest.mark.slow
def test_translators_may_be_sampled(tmp_path, two_domains):
    """SGHMC of both players: finite, several draws; here on images of which no truth is known."""
    call("cyclegan", *CYCLES, "--kernel", "sghmc", "--dataset", two_domains, "--out", tmp_path / "run")
    found = metrics_of(tmp_path / "run")
    assert all(entry["value"] is not None for entry in found.values())
    assert found["X to Y sd over draws"]["value"] > 0 and "X to Y L1 to the truth" not in found


def test_unlabelled_images_have_no_labels():
    """Whatever the labels of the training set are, the batches are the same; the labelled ones are of the subset."""
    config = semi_supervised_gan.Config(batch_size=6, labelled_batch_size=8)
    train = data.load("digits").train
    few = data.labelled_subset(train, 10, 10, seed=0)
    labelled = {"x": few.inputs[None], "y": few.labels[None]}
    batches = [
        semi_supervised_gan.batches(config, jax.random.key(0), data.Split(train.inputs, labels), labelled)(3)
        for labels in (train.labels, np.zeros_like(train.labels))
    ]
    jax.tree.map(np.testing.assert_array_equal, *batches)
    seen = {(image.tobytes(), int(label)) for image, label in zip(few.inputs, few.labels, strict=True)}
    for image, label in zip(np.asarray(batches[0].labelled[0]), np.asarray(batches[0].labels[0]), strict=True):
        assert (image.tobytes(), int(label)) in seen


@pytest.mark.parametrize(
    ("kernel", "draws", "methods"),
    [
        ("adam", 1, ("supervised", "feature_matching")),
        pytest.param("sghmc", 2, ("gan",), marks=pytest.mark.slow),
    ],
)
def test_few_labels_leave_their_table_and_resume(kernel, draws, methods, tmp_path, capsys):
    """One draw of the labels or several side by side, by Adam or sampled: finite, and the same when resumed."""
    flags = (*LABELS, "--kernel", kernel, "--num-label-draws", draws, "--out", tmp_path / "run", "--methods", *methods)
    call("semi_supervised_gan", *flags)
    assert f"| {methods[-1].replace('_', ' ')} | {kernel}" in " ".join(capsys.readouterr().out.split())
    expected = metrics_of(tmp_path / "run")
    errors = [expected[f"{method} N_s=20 error %"] for method in methods]
    assert all(len(entry["errors"]) == draws and 0 <= entry["value"] <= 100 for entry in errors)
    assert all(np.isfinite(expected[f"{method} N_s=20 nll"]["value"]) for method in methods)
    assert (tmp_path / "run" / "figures" / "samples.png").exists()
    (tmp_path / "run" / "parts" / f"{methods[-1]}-20.json").unlink()
    call("semi_supervised_gan", *flags, "--resume")
    assert metrics_of(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("cyclegan", ("--task", "invert"), "--task must be inverted or coloured or edges; got 'invert'"),
        ("cyclegan", ("--image-size", 9), "--image-size must be 0, or at least 8 and leave two equal edges"),
        ("cyclegan", ("--kernel-size", 2), "--kernel-size must be odd; got 2"),
        ("cyclegan", ("--num-validation", 900), "--num-validation must lie in 0 .. 718"),
        ("cyclegan", ("--dataset", "cycle_gan/none.npz"), "no file cycle_gan/none.npz"),
        ("semi_supervised_gan", ("--methods", "gans"), "--methods must be among supervised, gan, feature_matching"),
        ("semi_supervised_gan", ("--num-labelled", 5), "--num-labelled must lie in 10 .. 1437"),
        ("semi_supervised_gan", ("--label-weight", 0), "--label-weight must be positive; got 0.0"),
        ("semi_supervised_gan", ("--dataset", "synthetic/ring"), "must hold images with labels of two classes"),
    ],
)
def test_bad_input(name, flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, *flags, "--out", tmp_path / "run")
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
