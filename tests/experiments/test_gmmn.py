"""Moment matching networks: every kind of kernel in both spaces, the split of images, and nearest neighbours."""

import numpy as np
import pytest

from bayesjax.training import progress
from experiments import gmmn
from experiments.gmmn import PARZEN, Config
from tests.experiments.test_every_experiment import call, rows

pytestmark = pytest.mark.usefixtures("compile_once")
SMALL = (
    "--hidden", 8, "--latent-dim", 2, "--batch-size", 8, "--num-steps", 20, "--num-sampling-steps", 8,
    "--num-draws", 2, "--code-features", 6, 3, "--num-code-steps", 10, "--num-samples", 20, "--num-validation", 5,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 8 x 8 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(60)[:, None, None] % 2 == (np.arange(8) < 4)[:, None]) * random.uniform(0.8, 1, (60, 8, 8))
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40].astype(np.float32), y_train=y[:40], x_test=x[40:].astype(np.float32), y_test=y[40:])
    return str(path)


@pytest.mark.slow
def test_an_optimiser_and_a_sampler_in_both_spaces(images, tmp_path, capsys):
    """Every model is judged; parts that are lost are computed again to the same numbers."""
    out = tmp_path / "run"
    flags = (*SMALL, "--dataset", images, "--kernels", "sgd", "sghmc", "--drop-after", 0.5, "--warmup-kernel", "sgd")
    call("gmmn", *flags, "--out", out)
    first = rows(out)
    values = {(row.get("space"), row["method"], row["measure"]): row for row in first}
    models = [(space, kernel) for space in ("data", "code") for kernel in ("sgd", "sghmc")]
    for space, kernel in ((None, "training images"), *models):
        entry = values[space, kernel, PARZEN]
        mmd = values[space, kernel, "MMD^2"]["value"]
        assert np.isfinite([entry["value"], entry["stderr"], mmd]).all()
    assert values["data", "sghmc", "kinetic temperature / T"]["value"] > 0
    assert {path.stem for path in (out / "figures").iterdir()} == {"samples", "loss"}
    assert "| code  | sghmc " in capsys.readouterr().out
    for name in ("data-sghmc", "code-sgd-judged"):
        (out / "parts" / f"{name}.npz").unlink()
    call("gmmn", *flags, "--out", out, "--resume")
    assert rows(out) == first


@pytest.mark.slow
def test_one_kernel_in_one_space(images, tmp_path):
    """A sampler starts from the end of its warm-up; the loss of Adam falls."""
    run = tmp_path / "run"
    flags = (*SMALL, "--dataset", images, "--spaces", "data", "--kernels", "adam", "sgld", "--learning-rate", 0.02)
    call("gmmn", *flags, "--out", run, "--num-steps", 100)
    values = {(row["method"], row["measure"]): row["value"] for row in rows(run)}
    assert np.isfinite(list(values.values())).all()
    assert values["sgld", "configurational temperature / T"] > 0
    losses = [line["loss"] for line in progress.read(run / "metrics.jsonl") if line["stage"] == "data-adam"]
    assert losses[-1] < 0.9 * losses[0]


def test_held_out_images_are_not_trained_on(images):
    """The three splits are disjoint and complete."""
    train, held_out, test, shape = gmmn.split_images(Config(dataset=images, num_validation=7))
    assert (len(train), len(held_out), len(test), shape) == (33, 7, 20, (8, 8, 1))
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held_out}


def test_nearest_training_image():
    """The nearest neighbour of an image that has been changed a little is the image."""
    train = np.random.default_rng(0).uniform(size=(50, 16)).astype(np.float32)
    np.testing.assert_array_equal(gmmn.nearest(train[[3, 40]] + 0.01, train), train[[3, 40]])
