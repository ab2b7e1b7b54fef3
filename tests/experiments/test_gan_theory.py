"""The theory of the game as called: toys to rounding, a game that resumes, bad input."""

import json
import math

import numpy as np
import pytest

from experiments import gan_theory
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")


def test_toys_find_the_best_discriminator():
    """D = p / (p + q) to 1e-6, and V = -ln 4 + 2 JS to 1e-10."""
    found = gan_theory.toy(gan_theory.Config(), 0)
    assert found["D - D*"] < 1e-6 and found["V + ln 4 - 2 JS"] < 1e-10


def test_what_is_judged_by_quadrature():
    """Equal densities and D = 1/2: V = -ln 4, JS = 0. D* of others: V = -ln 4 + 2 JS, no other D has more."""
    even = {"bias": 0.0, "slope": 0.0, "curvature": 0.0}
    at_data = {"shift": gan_theory.MEAN, "log_scale": math.log(gan_theory.DEVIATION)}
    found = gan_theory.judged(gan_theory.curves({"discriminator": even, "generator": at_data}))
    assert found == pytest.approx({"mean distance of D from D*": 0, "V": -math.log(4), "-ln 4 + 2 JS": -math.log(4)})
    lines = gan_theory.curves({"discriminator": even, "generator": gan_theory.START})
    other = gan_theory.judged(lines)
    best = gan_theory.judged({**lines, "D": lines["D*"]})
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


def test_a_run_leaves_its_table_and_resumes(tmp_path, capsys):
    flags = ("--num-toys", 1, "--num-steps", 60, "--batch-size", 8, "--discriminator-steps", 1)
    call("gan_theory", *flags, "--out", tmp_path / "run")
    read = lambda: json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]  # noqa: E731
    first = read()
    assert first["generator moved: mean"]["value"] != first["discriminator trained: mean"]["value"] == -1
    assert (tmp_path / "run" / "figures" / "game.png").exists()
    assert "| at the end" in capsys.readouterr().out
    call("gan_theory", *flags, "--out", tmp_path / "run", "--resume")
    assert read() == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "mnist"), "--dataset must be synthetic/normal; got 'mnist'"),
        (("--num-steps", "50"), "--num-steps must be at least 51; got 50"),
        (("--learning-rate", "0"), "--learning-rate must be positive; got 0.0"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("gan_theory", *flags, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
