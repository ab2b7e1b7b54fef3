"""The experiments on weight uncertainty as called: what runs leave, that they resume, bad input in one line."""

import importlib
import json
import sys

import numpy as np
import pytest
import scipy.stats

from bayesjax import data
from bayesjax.training import MetricsFile
from experiments import common, mc_dropout_regression, tables

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
    "bayes_by_backprop": (
        ("--widths", 8, "--num-epochs", 2, "--num-sgd-epochs", 1, "--batch-size", 20, "--num-draws", 3, "--dataset"),
        ("signal_to_noise", "bbb_mixture removed 0.98 error %"),
    ),
    "bayes_by_backprop_regression": (
        ("--num-data", 20, "--hidden", 4, "--num-steps", 4, "--num-draws", 5),
        ("bands", "posterior outside / inside"),
    ),
    "bayesian_cnn": (
        ("--channels", 2, "--hidden", 4, "--num-members", 2, "--num-epochs", 1, "--batch-size", 20, "--num-draws", 3,
         "--dataset"),
        ("reliability", "bbb AUROC of outside by mutual information"),
    ),
    "bayesian_rnn": (
        ("--features", 4, "--num-epochs", 1, "--num-streams", 400, "--num-draws", 2),
        ("perplexity", "bbb test at the end, draws averaged"),
    ),
    "bayesian_segnet": (
        ("--widths", 4, 4, "--num-epochs", 1, "--batch-size", 100, "--num-draws", 2),
        ("maps", "2 passes AUROC of entropy for errors"),
    ),
    "mc_dropout": (
        ("--hidden", 4, "--num-steps", 4, "--num-draws", 3, "--dropout-rates", 0.1),
        ("splits", "dropout log-likelihood"),
    ),
    "uncertainty": (
        ("--num-data", 20, 40, "--hidden", 4, "--num-steps", 4, "--num-draws", 5),
        ("heteroscedastic", "softmax exponent of epistemic"),
    ),
}  # fmt: skip
FAST = ("bayes_by_backprop_regression",)
scripts = pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]
)


def flags_of(name, images):
    flags, _ = SMALL[name]
    return (*flags, images) if flags[-1] == "--dataset" else flags


def metrics_of(folder):
    """All but times."""
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    return {key: entry for key, entry in metrics.items() if "seconds" not in key}


def rows_of(folder):
    """What the training of posteriors wrote, line by line."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "bbb" in row["stage"]]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bayes_by_backprop", "bayesian_rnn"])
def test_an_interrupted_run_gives_the_unbroken_run_s_numbers(name, images, tmp_path, monkeypatch):
    """Ctrl-C after an epoch of the posterior's training: optimiser, order of the data and an LSTM's state go on."""
    monkeypatch.setattr(sys.modules["bayesjax.training.run"], "MAX_CHUNK", 1)  # an epoch a chunk
    flags, write = list(flags_of(name, images)), MetricsFile.write
    flags[flags.index("--num-epochs") + 1] = 3
    flags += ["--checkpoint-interval", 0.001]

    def interrupt(self, row):
        write(self, row)
        if "bbb" in self.stage:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(MetricsFile, "write", interrupt)
        call(name, *flags, "--out", tmp_path / "broken")
    assert caught.value.code == 130
    steps = [row["step"] for row in rows_of(tmp_path / "broken")]
    call(name, *flags, "--out", tmp_path / "broken", "--resume")
    rows = rows_of(tmp_path / "broken")
    assert len(steps) == 1
    assert [row["step"] / steps[0] for row in rows if row["stage"] == rows[0]["stage"]] == [1, 2, 3]
    call(name, *flags, "--out", tmp_path / "whole")
    assert metrics_of(tmp_path / "broken") == metrics_of(tmp_path / "whole")


def test_each_split_is_trained_with_what_it_chose(tmp_path, monkeypatch):
    """Splits that choose apart are trained apart, once each, and every split's numbers come back to its place."""
    picked, trained = [i % 3 % 2 for i in range(20)], []

    def train(run, splits, name, setting, stage):
        """A network that puts out its setting."""
        trained.extend(splits.target_mean)
        means = np.full((len(splits.x), 2, splits.y_test.shape[1]), setting)
        return mc_dropout_regression.Predictions(means, np.ones(len(splits.x)))

    monkeypatch.setattr(mc_dropout_regression, "train", train)
    factors = [i % 25 for i in range(20)]
    monkeypatch.setattr(mc_dropout_regression, "chosen", lambda *arguments: {"setting": picked, "factor": factors})
    call("mc_dropout", "--dropout-rates", 0.1, 0.4, "--methods", "dropout", "--out", tmp_path / "run")
    found = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    splits = mc_dropout_regression.stacked(data.load_regression("diabetes"))
    assert sorted(trained) == sorted(splits.target_mean)
    for i, at in enumerate(picked):
        y, setting, scale = splits.y_test[i], (0.1, 0.4)[at], splits.target_scale[i]
        rmse = np.sqrt(np.mean((y - setting) ** 2)) * scale
        density = scipy.stats.norm.logpdf(y, setting, mc_dropout_regression.FACTORS[factors[i]] ** -0.5) - np.log(scale)
        assert found["dropout rmse"]["splits"][i] == pytest.approx(rmse, rel=1e-5)
        assert found["dropout log-likelihood"]["splits"][i] == pytest.approx(density.mean(), rel=1e-5)


@pytest.mark.slow
def test_a_digit_turns(images, tmp_path):
    flags = ("--dataset", images, "--num-steps", 4, "--num-draws", 3, "--batch-size", 20)
    call("mc_dropout", *flags, "--out", tmp_path / "run")
    assert "turned by" in tables.render(tmp_path / "run" / "results.json")
    assert (tmp_path / "run" / "figures" / "rotation.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--kl-weights", "blundell", "--estimator", "weights", "--methods", "bbb_mixture"),
        ("--estimator", "local", "--methods", "bbb_gaussian", "--num-validation", "9"),
    ],
)
def test_options_of_bayes_by_backprop(flags, images, tmp_path):
    call("bayes_by_backprop", *flags_of("bayes_by_backprop", images), *flags, "--out", tmp_path / "run")
    assert "% removed" in tables.render(tmp_path / "run" / "results.json")


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("bayes_by_backprop", ("--methods", "vi"), "--methods must be among sgd, dropout, bbb_gaussian, bbb_mixture"),
        ("bayes_by_backprop", ("--estimator", "local"), "--estimator local draws no weights"),
        ("bayes_by_backprop", ("--removed", "1.0"), "--removed must be fractions in [0, 1); got (1.0,)"),
        ("bayes_by_backprop", ("--num-validation", "1437"), "--num-validation must lie in 0 .. 1436; got 1437"),
        ("bayes_by_backprop_regression", ("--low", "1"), "--low must be below --high; got 1.0 and 0.5"),
        ("bayesian_cnn", ("--methods", "swag"), "--methods must be among point, ensemble, dropout, bbb; got 'swag'"),
        ("bayesian_rnn", ("--dataset", "wiki"), "unknown corpus 'wiki': expected ptb, synthetic/chain"),
        ("bayesian_segnet", ("--convolutions", "1"), "must have as many numbers; got (16, 32) and (1,)"),
        ("bayesian_segnet", ("--dataset", "nowhere"), "unknown segmentation set 'nowhere'"),
        ("mc_dropout", ("--dropout-rates", "1"), "--dropout-rates must be numbers in (0, 1); got (1.0,)"),
        ("mc_dropout", ("--dataset", "uci/boston", "--data-dir", "nowhere"), "unknown data set 'uci/boston'"),
        ("uncertainty", ("--num-data", "100", "50"), "--num-data must be two or more ascending numbers"),
    ],
)
def test_bad_input(name, flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--out", tmp_path / "run", *flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
