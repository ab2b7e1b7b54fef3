"""experiments.vae: the rows and figures of a tiny run, its options, and the keys of the published results."""

import importlib
import typing

import numpy as np
import pytest

from bayesjax import models
from experiments.vae import TABLES, TEST, Config, model_rows
from tests.experiments.test_every_experiment import call, rows

pytestmark = pytest.mark.usefixtures("compile_once")
FIGURES = {"bound", "estimators", "interpolation", "latent", "manifold", "reconstructions", "samples"}
SMALL = (
    "--hidden", "12", "--latent-dims", "2", "3", "--num-epochs", "2", "--estimator-epochs", "1", "--batch-size", "16",
    "--num-likelihood", "5", "--likelihood-samples", "50",
)  # fmt: skip


def published(name):
    """The rows of a committed results file."""
    return importlib.import_module("docs.tables").results(name)[0]["rows"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 4 x 4 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(60)[:, None, None] % 2 == (np.arange(4) < 2)[:, None]) * random.uniform(0.8, 1, (60, 4, 4))
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40].astype(np.float32), y_train=y[:40], x_test=x[40:].astype(np.float32), y_test=y[40:])
    return path


@pytest.mark.slow
def test_rows_and_figures(images, tmp_path):
    """The bound is finite and near its start; the score function has more variance; parts that are lost come back."""
    flags = (*SMALL, "--dataset", images, "--out", tmp_path / "run")
    call("vae", *flags)
    before = rows(tmp_path / "run")
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == FIGURES
    assert all(np.isfinite(row["value"]) for row in before)
    (bound,) = [row["value"] for row in before if row.get("latents") == 3 and row["measure"] == TEST and len(row) == 4]
    assert bound < 16 * np.log(2) + 5
    variances = {row["estimator"]: row["value"] for row in before if row["measure"] == "gradient variance"}
    assert variances["score_function"] > variances["closed_form"]
    (tmp_path / "run" / "parts" / "latent3-elbo.npz").unlink()
    call("vae", *flags, "--resume")
    assert rows(tmp_path / "run") == before


@pytest.mark.parametrize(
    "flags",
    [
        ("--likelihood", "gaussian_shared", "--binarise", "none"),
        pytest.param(
            (
                *("--bounds", "elbo-2", "iwae-3", "--binarise", "fixed"),
                *("--schedule", "cosine", "--num-validation", "7", "--warm-epochs", "1"),
            ),
            marks=pytest.mark.slow,
            id="iwae",
        ),
        pytest.param(("--num-annealed", "3", "--num-temperatures", "10"), marks=pytest.mark.slow, id="annealed"),
        pytest.param(("--architecture", "convolutional", "--hidden", "4"), marks=pytest.mark.slow, id="convolutional"),
    ],
)
def test_options(flags, images, tmp_path, capsys):
    """Every option trains and is judged; without --estimators there is no table of them."""
    call("vae", *SMALL, "--latent-dims", "3", "--estimators", "--dataset", images, "--out", tmp_path / "run", *flags)
    printed = capsys.readouterr().out
    assert "active units" in printed and "gradient estimator" not in printed
    if "--warm-epochs" in flags:
        earlier = {row["method"]: row["value"] for row in rows(tmp_path / "run") if row["measure"] == "earlier epochs"}
        assert earlier == {"elbo-2": 0, "iwae-3": 2}


def test_choices_are_those_of_the_model():
    """--likelihood and --architecture offer what `models.vae` implements."""
    hints = typing.get_type_hints(Config)
    assert typing.get_args(hints["likelihood"]) == models.vae.LIKELIHOODS
    assert typing.get_args(hints["architecture"]) == models.vae.ARCHITECTURES


def test_rows_are_identified_like_the_published_ones():
    """The rows of one model of the paper preset have the keys, and cite the numbers, of the published results."""
    expected = [row for row in published("vae-paper-mnist") if row.get("latents") == 20]
    curve = np.arange(20.0)
    model = {"test": curve, "kl": curve, "train": curve, "seconds_per_epoch": 1.0, "epochs_before": 0}
    measures = {"NLL (nats)": {"value": 1.0, "stderr": 1.0}, "NLL images": 1000, "active units": 20}

    def identities(rows):
        return sorted(str(sorted((key, each) for key, each in row.items() if key != "value")) for row in rows)

    for row in expected:
        row |= {"stderr": 1.0} if "stderr" in row else {}
    assert identities(model_rows(Config(preset="paper"), 20, "elbo", model, measures)) == identities(expected)


@pytest.mark.parametrize("name", ["paper-mnist", "likelihood-mnist", "annealed-mnist", "faces-frey_faces"])
def test_tables_show_every_published_measure(name):
    """No row of the published results is left out of the tables."""
    shown = {column.measure for table in TABLES for column in table.columns}
    assert {row["measure"] for row in published(f"vae-{name}")} <= shown
