"""Game dynamics as called: rates against the theory of each game, a run that resumes, bad input."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import adversarial_games
from experiments.adversarial_games import Config
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")

JACOBIANS = {  # of the gradients of both losses at the equilibrium, by hand
    "bilinear": [[0, 1], [-1, 0]],
    "quadratic": [[0.3, 1], [-1, 0.3]],
    "dirac": [[0, -0.5], [0.5, 0]],
    "dirac_r1": [[0, -0.5], [0.5, 0.5]],
}


@pytest.mark.parametrize("game", JACOBIANS)
def test_the_linear_part_of_each_game(game):
    """By hand; and gradients vanish at the equilibrium."""
    np.testing.assert_allclose(adversarial_games.jacobian(adversarial_games.games(Config())[game]), JACOBIANS[game])


@pytest.mark.parametrize("method", ["simultaneous", "alternating", "optimistic"])
def test_the_rate_is_that_of_theory(method):
    """Measured, to 1e-4, of the quadratic game: every other way to move is 1e-3 away. Three by hand."""
    config = dataclasses.replace(Config(), num_steps=2000)
    found = adversarial_games.rate(config, "quadratic", method, 0.2)
    assert found["measured"] == pytest.approx(found["theory"], abs=1e-4)
    matrix = np.array(JACOBIANS["quadratic"])
    for other in set(adversarial_games.METHODS) - {method}:
        assert abs(adversarial_games.expected_rate(config, matrix, other, 0.2) - found["measured"]) > 1e-3
    matrix = np.array(JACOBIANS["dirac"])
    rates = {name: adversarial_games.expected_rate(config, matrix, name, 0.2) for name in adversarial_games.METHODS}
    assert rates["simultaneous"] == pytest.approx(np.sqrt(1 + 0.2**2 / 4))
    assert rates["alternating"] == pytest.approx(1)
    assert rates["consensus"] == pytest.approx(np.hypot(1 - 0.2 * 0.5 / 4, 0.2 / 2))


def test_a_run_leaves_its_table_and_resumes(tmp_path, capsys):
    flags = ("--games", "bilinear", "--methods", "simultaneous", "extragradient", "--num-steps", 100)
    call("adversarial_games", *flags, "--out", tmp_path / "run")
    read = lambda: json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]  # noqa: E731
    first = read()
    assert first["bilinear simultaneous eta=0.2"]["value"] > 1 > first["bilinear extragradient eta=0.2"]["value"]
    assert (tmp_path / "run" / "figures" / "portraits.png").exists()
    assert "1.0198 (1.0198)" in capsys.readouterr().out
    call("adversarial_games", *flags, "--out", tmp_path / "run", "--resume")
    assert read() == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--games", "chess"), "--games must be among bilinear, quadratic, dirac, dirac_r1; got 'chess'"),
        (("--methods", "newton"), "--methods must be among simultaneous"),
        (("--step-sizes", "-1"), "--step-sizes must be positive numbers; got (-1.0,)"),
        (("--num-steps", "3"), "--num-steps must be at least 40; got 3"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("adversarial_games", *flags, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
