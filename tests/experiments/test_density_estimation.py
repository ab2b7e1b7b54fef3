"""Densities by change of variables as called: closed forms, known targets, a run that resumes, bad input."""

import json
import math

import numpy as np
import pytest

from experiments import density_estimation
from experiments.density_estimation import Config
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")
SMALL = (
    "--targets", "gaussian", "--flows", "affine", "--num-layers", 2, "--hidden", 4, "--num-data", 100,
    "--num-test", 200, "--num-compared", 30, "--batch-size", 8, "--num-steps", 10, "--grid-size", 90,
)  # fmt: skip


@pytest.mark.parametrize("name", density_estimation.TARGETS)
def test_targets_are_densities_and_their_draws_are_of_them(name):
    """They integrate to 1; E log p over draws is that over the square, within 5 standard errors."""
    config = Config(grid_size=200)
    grid, truth = density_estimation.square(config), density_estimation.target(name)
    cell = (2 * density_estimation.HALF_WIDTH / config.grid_size) ** 2
    log_prob = truth.log_prob(grid)
    assert cell * np.exp(log_prob).sum() == pytest.approx(1, abs=1e-4)
    of_draws = truth.log_prob(truth.sample(np.random.default_rng(0), 4000))
    expected = cell * np.sum(np.exp(log_prob) * log_prob)
    assert abs(of_draws.mean() - expected) < 5 * of_draws.std() / math.sqrt(4000)
    assert density_estimation.js_of(log_prob, log_prob, cell) == pytest.approx(0, abs=1e-12)
    far = np.where(log_prob > -50, -800.0, np.log(1 / (cell * np.sum(log_prob <= -50))))
    assert density_estimation.js_of(log_prob, far, cell) == pytest.approx(math.log(2), abs=1e-6)


def test_a_run_leaves_its_table_and_resumes(tmp_path, capsys, monkeypatch):
    """Closed forms hold; of a flow hardly trained integral, inverse, KL and JS; a resumed run has the same."""
    monkeypatch.setattr(density_estimation, "DIMENSIONS", (3,))
    out = tmp_path / "run"
    call("density_estimation", *SMALL, "--out", out)
    read = lambda: json.loads((out / "results.json").read_text())["metrics"]  # noqa: E731
    first = read()
    for name in density_estimation.QUANTILES:  # false alarms 1e-4 each, were the seed not fixed
        assert (
            first[f"quantile {name} difference"]["value"] < 1e-9 and first[f"quantile {name} p_value"]["value"] > 1e-4
        )
    for dim in density_estimation.DIMENSIONS:  # with (2 pi)^(n/2); (2 pi)^(2n) is 3/2 n ln 2 pi away
        assert first[f"linear {dim} difference"]["value"] < 1e-9 < 1.5 * dim * math.log(2 * math.pi)
        assert max(first[f"linear {dim} {what}"]["value"] for what in ("mean", "covariance")) < 5  # standard errors
    assert first["gaussian affine integral"]["value"] == pytest.approx(1, abs=1e-3)
    assert first["gaussian affine inverse"]["value"] < 1e-4
    missed = first["gaussian truth log-likelihood"]["value"] - first["gaussian affine log-likelihood"]["value"]
    assert first["gaussian affine KL"]["value"] == pytest.approx(missed) and missed > 0.05
    assert 0 < first["gaussian affine JS"]["value"] < math.log(2)
    assert (out / "figures" / "densities.png").exists()
    assert "| truth" in capsys.readouterr().out
    call("density_estimation", *SMALL, "--out", out, "--resume")
    assert read() == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "mnist"), "--dataset must be synthetic/densities; got 'mnist'"),
        (("--targets", "moon"), "--targets must be among moons, ring, gaussian; got 'moon'"),
        (("--num-test", 299), "--num-test must be at least --num-compared, 300; got 299"),
        (("--learning-rate", 0), "--learning-rate must be positive; got 0"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("density_estimation", *flags, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
