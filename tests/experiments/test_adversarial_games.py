"""Game dynamics: the linear part of each game, and measured rates against theory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation
from experiments import adversarial_games
from experiments.adversarial_games import METHODS, Config
from tests.experiments.test_every_experiment import call, rows

pytestmark = pytest.mark.usefixtures("compile_once")

JACOBIANS = {  # of the gradients of both losses at the equilibrium, by hand
    "bilinear": [[0, 1], [-1, 0]],
    "quadratic": [[0.3, 1], [-1, 0.3]],
    "dirac": [[0, -0.5], [0.5, 0]],
    "dirac_r1": [[0, -0.5], [0.5, 0.5]],
}


@pytest.mark.parametrize("game", JACOBIANS)
def test_the_linear_part_of_each_game(game):
    """The Jacobian equals the one derived by hand."""
    losses, position = adversarial_games.games(Config())[game], {"x": jnp.zeros(()), "y": jnp.zeros(())}
    jacobian = evaluation.game_jacobian(losses, position, jax.random.key(0))
    np.testing.assert_allclose(jacobian, JACOBIANS[game])


@pytest.mark.parametrize("method", ["simultaneous", "alternating", "optimistic"])
def test_measured_and_theoretical_factors_agree(method):
    """To 1e-4 for the quadratic game, where the factor of every other method is 1e-3 away; three factors by hand."""
    config = dataclasses.replace(Config(), num_steps=2000)
    factors = adversarial_games.factors(config, "quadratic", method, 0.2)
    assert factors["measured"] == pytest.approx(factors["theory"], abs=1e-4)

    def theory(game, method):
        return evaluation.convergence_factor(np.array(JACOBIANS[game]), method, 0.2, consensus=config.consensus)

    for other in set(METHODS) - {method}:
        assert abs(theory("quadratic", other) - factors["measured"]) > 1e-3
    assert theory("dirac", "simultaneous") == pytest.approx(np.sqrt(1 + 0.2**2 / 4))
    assert theory("dirac", "alternating") == pytest.approx(1)
    assert theory("dirac", "consensus") == pytest.approx(np.hypot(1 - 0.2 * 0.5 / 4, 0.2 / 2))


def test_rows_and_table(tmp_path, capsys):
    """Simultaneous descent diverges on the bilinear game, extragradient converges, and both appear in the table."""
    flags = ("--games", "bilinear", "--methods", "simultaneous", "extragradient", "--num-steps", 100)
    call("adversarial_games", *flags, "--out", tmp_path / "run")
    first, second = rows(tmp_path / "run")
    assert first["method"] == "simultaneous" and first["value"] > 1 > second["value"]
    assert (tmp_path / "run" / "figures" / "portraits.png").exists()
    assert "| bilinear | simultaneous  | 1.0198       | 1.0198     |" in capsys.readouterr().out
