"""experiments.vae as it is called: what a run leaves, that it resumes, and bad input in one line."""

import json

import numpy as np
import pytest

from bayesjax import models
from experiments import common, tables, vae, vae_flags

pytestmark = pytest.mark.usefixtures("compile_once")
FIGURES = {"bound", "estimators", "interpolation", "latent", "manifold", "reconstructions", "samples"}
SMALL = (
    "--hidden", "12", "--latent-dims", "2", "3", "--num-epochs", "2", "--estimator-epochs", "1", "--batch-size", "16",
    "--num-likelihood", "5", "--likelihood-samples", "50",
)  # fmt: skip


def call(*arguments):
    vae.main(common.parse(vae.PRESETS, vae.__doc__, [str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 4 x 4 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(60)[:, None, None] % 2 == (np.arange(4) < 2)[:, None]) * random.uniform(0.8, 1, (60, 4, 4))
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40].astype(np.float32), y_train=y[:40], x_test=x[40:].astype(np.float32), y_test=y[40:])
    return path


@pytest.mark.slow
def test_a_run_leaves_its_table_and_figures_and_resumes(images, tmp_path, capsys):
    flags = (*SMALL, "--dataset", images, "--out", tmp_path / "run")
    call(*flags)
    assert "| latents" in capsys.readouterr().out
    before = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == FIGURES
    assert all(np.isfinite(entry["value"]) for entry in before.values())
    assert before["latent=3 elbo test -ELBO"]["value"] < 16 * np.log(2) + 5
    assert before["score_function gradient variance"]["value"] > before["closed_form gradient variance"]["value"]
    (tmp_path / "run" / "parts" / "latent3-elbo.json").unlink()
    for path in (tmp_path / "run" / "figures").iterdir():
        path.unlink()
    call(*flags, "--resume")
    after = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert after["latent=3 elbo seconds per epoch"]["value"] is None, "nothing was left to time"
    same = [name for name in before if "seconds" not in name]
    assert [after[name] for name in same] == [before[name] for name in same]
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == FIGURES


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
def test_options(flags, images, tmp_path):
    call(*SMALL, "--latent-dims", "3", "--estimators", "--dataset", images, "--out", tmp_path / "run", *flags)
    table = tables.render(tmp_path / "run" / "results.json")
    assert "active" in table and "gradient" not in table


def test_flags_name_what_the_model_has():
    assert vae_flags.LIKELIHOODS == models.vae.LIKELIHOODS and vae_flags.ARCHITECTURES == models.vae.ARCHITECTURES


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--binarise", "twice"), "--binarise must be resampled or fixed or none; got 'twice'"),
        (("--estimators", "A"), "--estimators must be among closed_form, sampled, score_function; got 'A'"),
        (("--bounds", "iwae"), "--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K; got 'iwae'"),
        (("--bounds", "elbo-0"), "--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K; got 'elbo-0'"),
        (("--schedule", "linear"), "--schedule must be constant or cosine; got 'linear'"),
        (("--bounds", "elbo", "iwae-5", "elbo"), "--bounds must not repeat itself; got ('elbo', 'iwae-5', 'elbo')"),
        (("--likelihood", "gaussian"), "is of grey values: it needs --binarise none; got resampled"),
        (("--num-validation", "1"), "--num-validation must be 0, or 2 or more; got 1"),
        (("--num-annealed", "5", "--num-temperatures", "5"), "--num-temperatures must be at least 10; got 5"),
        (("--num-annealed", "200"), "--num-annealed must be at most --num-likelihood, 100; got 200"),
        (("--num-validation", "1437"), "--num-validation must be less than the 1437 training images"),
        (("--latent-dims", "0"), "--latent-dims must be positive numbers; got (0,)"),
        (("--dataset", "synthetic/ten_clusters"), "must have at least 2 test examples"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("--out", tmp_path / "run", *flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
