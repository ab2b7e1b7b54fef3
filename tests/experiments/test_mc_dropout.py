"""MC dropout: splits are trained with the settings that they chose; a rotated digit."""

import json

import numpy as np
import pytest
import scipy.stats

from bayesjax import data
from bayesjax.evaluation import uncertainty
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
    splits = data.load_regression("diabetes").standardise_all()
    table = random.normal(size=(2, len(splits.x), len(mc_dropout.FACTORS)))  # settings, splits, factors
    monkeypatch.setattr(mc_dropout, "train", lambda run, splits, method, setting, stage: (0.1, 0.4).index(setting))
    monkeypatch.setattr(mc_dropout, "log_likelihoods", lambda splits, setting, factors: table[setting])
    choice = mc_dropout.choose(None, splits, (0.1, 0.4), "dropout")
    assert (table[choice["setting"], range(20), choice["factor"]] == table.max(axis=(0, 2))).all()
    assert len(set(choice["factor"])) > 1 and len(set(choice["setting"])) > 1


def test_all_factors_are_scored_with_the_density_of_the_mixture():
    """Each factor's mean log density is that of the library, also where every draw is far from the target."""
    splits, random = data.load_regression("diabetes").standardise_all(), np.random.default_rng(0)
    means = random.normal(size=(20, 5, splits.y_test.shape[1])).astype(np.float32)
    means[0] += 100
    predictions = mc_dropout.Predictions(means, random.uniform(0.5, 20, size=20))
    factors = random.uniform(0.2, 5, size=(20, 3))
    values = mc_dropout.log_likelihoods(splits, predictions, factors)
    for i, j in np.ndindex(factors.shape):
        scale = (predictions.precision[i] * factors[i, j]) ** -0.5
        density = uncertainty.mixture_log_density(splits.y_test[i], means[i], scale).mean()
        assert values[i, j] == pytest.approx(density - np.log(splits.target_scale[i]), rel=1e-12)


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
