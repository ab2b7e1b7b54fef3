"""Moment matching networks as called: all kernels in both spaces, a run that resumes, bad input."""

import json

import numpy as np
import pytest

from experiments import gmmn
from experiments.gmmn_flags import Config
from tests.experiments.test_weight_uncertainty import call, images  # noqa: F401

pytestmark = pytest.mark.usefixtures("compile_once")
SMALL = (
    "--hidden", 8, "--latent-dim", 2, "--batch-size", 8, "--num-steps", 20, "--sampling-steps", 8, "--num-draws", 2,
    "--code-features", 6, 3, "--code-steps", 10, "--num-samples", 20, "--num-validation", 5,
)  # fmt: skip


def read(out):
    return json.loads((out / "results.json").read_text())["metrics"]


@pytest.mark.slow
def test_a_run_leaves_its_table_and_resumes(images, tmp_path, capsys):  # noqa: F811
    """Optimisers and samplers in both spaces; what is computed again from its parts is the same."""
    out = tmp_path / "run"
    flags = (*SMALL, "--dataset", images, "--kernel", "sgd", "sghmc", "--drop-after", 0.5, "--warmup", "sgd")
    call("gmmn", *flags, "--out", out)
    first = read(out)
    names = [f"{space} {kernel}" for space in ("data", "code") for kernel in ("sgd", "sghmc")]
    for name in ("training images", *names):
        entry = first[f"{name} log-likelihood"]
        assert np.isfinite([entry["value"], entry["stderr"], first[f"{name} MMD^2"]["value"]]).all()
    assert first["data sghmc kinetic temperature / T"]["value"] > 0
    assert {path.stem for path in (out / "figures").iterdir()} == {"samples", "loss"}
    assert "| code sghmc" in capsys.readouterr().out
    for name in ("data-sghmc", "code-sgd-judged"):
        (out / "parts" / f"{name}.json").unlink()
    call("gmmn", *flags, "--out", out, "--resume")
    assert read(out) == first


def test_one_kernel_in_one_space(images, tmp_path):  # noqa: F811
    """A sampler alone has its warm-up; the loss of Adam falls."""
    flags = (*SMALL, "--dataset", images, "--space", "data", "--kernel", "sgld", "--learning-rate", 0.02)
    call("gmmn", *flags, "--out", tmp_path / "run", "--num-steps", 100)
    assert np.isfinite([entry["value"] for entry in read(tmp_path / "run").values()]).all()
    assert read(tmp_path / "run")["data sgld configurational temperature / T"]["value"] > 0
    losses = json.loads((tmp_path / "run" / "parts" / "data-adam.json").read_text())["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_what_is_held_out_is_trained_on_by_nobody(images):  # noqa: F811
    train, held, test, shape = gmmn.splits(Config(dataset=images, num_validation=7))
    assert (len(train), len(held), len(test), shape) == (33, 7, 20, (8, 8, 1))
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held}


def test_nearest_training_image():
    train = np.random.default_rng(0).uniform(size=(50, 16)).astype(np.float32)
    np.testing.assert_array_equal(gmmn.nearest(train[[3, 40]] + 0.01, train), train[[3, 40]])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--space", "pixels"), "--space must be among data, code; got 'pixels'"),
        (("--kernel", "hmc"), "--kernel must be among adam, sgd, sghmc, sgld; got 'hmc'"),
        (("--warmup", "sgld"), "--warmup must be adam or sgd; got 'sgld'"),
        (("--friction", 1), "--friction must lie strictly between 0 and 1; got 1"),
        (("--sampling-steps", 19), "--sampling-steps must be at least twice --num-draws, 10; got 19"),
        (("--code-dropout", 0.5), "--code-dropout must be a number in [0, 1) for each of --code-features; got (0.5,)"),
        (("--num-samples", 13), "--num-samples must be at least 14; got 13"),
        (("--num-validation", 1437), "--num-validation must be less than the 1437 training images"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("gmmn", *flags, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
