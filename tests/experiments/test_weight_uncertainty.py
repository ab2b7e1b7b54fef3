"""The experiments on weight uncertainty as called: what runs leave, that they resume, bad input in one line."""

import importlib
import json

import numpy as np
import pytest

from experiments import common

pytestmark = pytest.mark.usefixtures("compile_once")


def call(name, *arguments):
    module = importlib.import_module(f"experiments.{name}")
    module.main(common.parse(module.PRESETS, module.__doc__, [str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 8 x 8 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(60)[:, None, None] % 2 == (np.arange(8) < 4)[:, None]) * random.uniform(0.8, 1, (60, 8, 8))
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40].astype(np.float32), y_train=y[:40], x_test=x[40:].astype(np.float32), y_test=y[40:])
    return str(path)


SMALL = {  # flags of a tiny run; a figure and a metric that it leaves
    "bayesian_segnet": (
        ("--widths", 4, 4, "--num-epochs", 1, "--batch-size", 100, "--num-draws", 2),
        ("maps", "2 passes AUROC of entropy for errors"),
    ),
    "uncertainty": (
        ("--num-data", 20, 40, "--hidden", 4, "--num-steps", 4, "--num-draws", 5),
        ("heteroscedastic", "softmax exponent of epistemic"),
    ),
}  # fmt: skip
scripts = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in SMALL])


def flags_of(name, images):
    flags, _ = SMALL[name]
    return (*flags, images) if flags[-1] == "--dataset" else flags


def metrics_of(folder):
    """All but times."""
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    return {key: entry for key, entry in metrics.items() if "seconds" not in key}


@scripts
def test_a_run_leaves_its_table_and_figures_and_resumes(name, images, tmp_path, capsys):
    flags, (figure, metric) = (*flags_of(name, images), "--out", tmp_path / "run"), SMALL[name][1]
    call(name, *flags)
    assert "| " in capsys.readouterr().out
    before = metrics_of(tmp_path / "run")
    assert (tmp_path / "run" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert np.isfinite(before[metric]["value"])
    parts = sorted((tmp_path / "run" / "parts").glob("*.json"))
    if parts:
        parts[-1].unlink()
    call(name, *flags, "--resume")
    assert metrics_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("bayesian_segnet", ("--convolutions", "1"), "must have as many numbers; got (16, 32) and (1,)"),
        ("bayesian_segnet", ("--dataset", "nowhere"), "unknown segmentation set 'nowhere'"),
        ("uncertainty", ("--num-data", "100", "50"), "--num-data must be two or more ascending numbers"),
    ],
)
def test_bad_input(name, flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--out", tmp_path / "run", *flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
