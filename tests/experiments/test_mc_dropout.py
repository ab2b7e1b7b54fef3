"""MC dropout: splits are trained with the settings that they chose; a rotated digit."""

import json

import numpy as np
import pytest
import scipy.stats

from bayesjax import data
from experiments import mc_dropout
from tests.experiments.test_every_experiment import call

pytestmark = pytest.mark.usefixtures("compile_once")


def test_each_split_is_trained_with_the_setting_that_it_chose(tmp_path, monkeypatch):
    """Splits with different choices are trained apart, once each, and the numbers of every split keep its place."""
    chosen, trained = np.arange(20) % 3 % 2, []

    def train(run, splits, method, setting, stage):
        """A network whose output is its setting."""
        trained.extend(splits.target_mean)
        means = np.full((len(splits.x), 2, splits.y_test.shape[1]), setting)
        return mc_dropout.Predictions(means, np.ones(len(splits.x)))

    factors = np.arange(20) % 25
    monkeypatch.setattr(mc_dropout, "train", train)
    monkeypatch.setattr(mc_dropout, "choose", lambda *arguments: {"setting": chosen, "factor": factors})
    call("mc_dropout", "--dropout-rates", 0.1, 0.4, "--methods", "dropout", "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    values = {row["measure"]: row["values"] for row in rows}
    splits = data.load_regression("diabetes").standardise_all()
    assert sorted(trained) == sorted(splits.target_mean)
    for i, index in enumerate(chosen):
        y, setting, scale = splits.y_test[i], (0.1, 0.4)[index], splits.target_scale[i]
        rmse = np.sqrt(np.mean((y - setting) ** 2)) * scale
        density = scipy.stats.norm.logpdf(y, setting, mc_dropout.FACTORS[factors[i]] ** -0.5) - np.log(scale)
        assert values["RMSE"][i] == pytest.approx(rmse, rel=1e-5)
        assert values["log-likelihood"][i] == pytest.approx(density.mean(), rel=1e-5)
        assert values["dropout rate"][i] == setting


def test_the_best_setting_and_factor_are_chosen_for_each_split(monkeypatch):
    """The chosen pair has the largest held-out log-likelihood of the split, and not of all splits."""
    random = np.random.default_rng(0)
    table = random.normal(size=(2, len(mc_dropout.FACTORS), 3))  # settings, factors, splits
    monkeypatch.setattr(mc_dropout, "train", lambda run, splits, method, setting, stage: (0.1, 0.4).index(setting))
    monkeypatch.setattr(
        mc_dropout, "log_likelihoods",
        lambda splits, setting, factor: table[setting, list(mc_dropout.FACTORS).index(factor)],
    )  # fmt: skip
    choice = mc_dropout.choose(None, None, (0.1, 0.4), "dropout")
    assert (table[choice["setting"], choice["factor"], range(3)] == table.max(axis=(0, 1))).all()
    assert len(set(choice["factor"])) > 1


@pytest.mark.slow
def test_a_digit_is_rotated(tmp_path, capsys):
    """A row for each angle and measure, with the entropy in nats of at most log 10, and the figure."""
    flags = ("--dataset", "digits", "--num-steps", 4, "--num-draws", 3, "--batch-size", 20)
    call("mc_dropout", *flags, "--out", tmp_path / "run")
    assert "rotated by (degrees)" in capsys.readouterr().out
    assert (tmp_path / "run" / "figures" / "rotation.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    entropies = {row["angle"]: row["value"] for row in rows if row["measure"] == "expected entropy"}
    assert list(entropies) == list(mc_dropout.ANGLES)
    assert all(0 <= value <= np.log(10) for value in entropies.values())
