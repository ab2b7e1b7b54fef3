"""The theory of the game: toy distributions to rounding, and measures by quadrature."""

import math

import numpy as np
import pytest

from experiments import gan_theory
from tests.experiments.test_every_experiment import call, rows

pytestmark = pytest.mark.usefixtures("compile_once")


def test_tables_reach_the_best_discriminator():
    """D = p / (p + q) to 1e-6, and V = -ln 4 + 2 JS to 1e-10."""
    errors = gan_theory.train_table(gan_theory.Config(), 0)
    assert errors["D - D*"] < 1e-6 and errors["V + ln 4 - 2 JS"] < 1e-10


def test_measures_by_quadrature():
    """Equal densities and D = 1/2: V = -ln 4, JS = 0. D* of others: V = -ln 4 + 2 JS, no other D has more."""
    even = {"bias": 0.0, "slope": 0.0, "curvature": 0.0}
    at_data = {"shift": gan_theory.MEAN, "log_scale": math.log(gan_theory.DEVIATION)}
    measures = gan_theory.compare(gan_theory.curves({"discriminator": even, "generator": at_data}))
    assert measures == pytest.approx({"mean distance of D from D*": 0, "V": -math.log(4), "-ln 4 + 2 JS": -math.log(4)})
    lines = gan_theory.curves({"discriminator": even, "generator": gan_theory.START})
    other = gan_theory.compare(lines)
    best = gan_theory.compare({**lines, "D": lines["D*"]})
    assert best["V"] == pytest.approx(best["-ln 4 + 2 JS"], abs=1e-4)  # the grid leaves 3e-5 of the fakes out
    assert other["V"] < best["V"] - 0.5
    # log p / q of two normal densities, by its coefficients, is a discriminator of the family
    p, q = (gan_theory.MEAN, gan_theory.DEVIATION), (-1.0, 1.0)
    exact = {
        "bias": math.log(q[1] / p[1]) - 0.5 * (p[0] / p[1]) ** 2 + 0.5 * (q[0] / q[1]) ** 2,
        "slope": p[0] / p[1] ** 2 - q[0] / q[1] ** 2,
        "curvature": 0.5 / q[1] ** 2 - 0.5 / p[1] ** 2,
    }
    lines = gan_theory.curves({"discriminator": exact, "generator": gan_theory.START})
    np.testing.assert_allclose(lines["D"], lines["D*"], atol=1e-6)


@pytest.mark.slow
def test_only_the_discriminator_moves_at_first(tmp_path, capsys):
    """The generator keeps its mean while the discriminator is trained, and moves afterwards."""
    flags = ("--num-toys", 1, "--num-steps", 60, "--batch-size", 8, "--discriminator-steps", 1)
    call("gan_theory", *flags, "--out", tmp_path / "run")
    means = {row["moment"]: row["value"] for row in rows(tmp_path / "run") if row["measure"] == "mean"}
    assert means["generator moved"] != means["discriminator trained"] == -1
    assert (tmp_path / "run" / "figures" / "game.png").exists()
    assert "| at the end" in capsys.readouterr().out
