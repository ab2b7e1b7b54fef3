"""Densities by change of variables: closed forms and the judgement of a barely trained flow."""

import math

import pytest

from experiments import density_estimation
from experiments.density_estimation import DIFFERENCE, QUANTILES
from tests.experiments.test_every_experiment import call, rows
from tests.experiments.tiny import TINY

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.slow
def test_closed_forms_and_a_barely_trained_flow(tmp_path, capsys, monkeypatch):
    """Closed forms hold; the integral, inverse, KL and JS of a barely trained flow are consistent."""
    monkeypatch.setattr(density_estimation, "DIMENSIONS", (3,))
    call("density_estimation", *TINY["density_estimation"].flags, "--out", tmp_path / "run")
    values = {
        (row["method"], row.get("distribution", row.get("dimensions", row.get("target"))), row["measure"]): row["value"]
        for row in rows(tmp_path / "run")
    }
    for name in QUANTILES:  # false alarms 1e-4 each, were the seed not fixed
        assert values["quantile function", name, DIFFERENCE] < 1e-9
        assert values["quantile function", name, "KS p-value"] > 1e-4
    # with (2 pi)^(n/2); (2 pi)^(2n) is 3/2 n ln 2 pi away
    assert values["linear map", 3, DIFFERENCE] < 1e-9 < 1.5 * 3 * math.log(2 * math.pi)
    assert max(values["linear map", 3, f"largest z of the {part}"] for part in ("mean", "covariance")) < 5
    measures = {measure: value for (method, _, measure), value in values.items() if method == "affine"}
    assert measures["integral"] == pytest.approx(1, abs=1e-3)
    assert measures["largest error of the inverse"] < 1e-4
    missing = values["truth", "gaussian", "log-likelihood (nats)"] - measures["log-likelihood (nats)"]
    assert measures["KL (nats)"] == pytest.approx(missing) and missing > 0.05
    assert 0 < measures["JS (nats)"] < math.log(2)
    assert (tmp_path / "run" / "figures" / "densities.png").exists()
    assert "| truth   | gaussian |" in capsys.readouterr().out
