"""The posterior of one network: references, a curve with a gap, and the schedule of samplers with minibatches."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation import agreement
from experiments.bnn_posterior import __main__ as bnn_posterior
from experiments.bnn_posterior import problems
from tests.experiments.test_every_experiment import call, refusal

pytestmark = pytest.mark.usefixtures("compile_once")
SMALL = (
    *("--num-train", 6, "--num-test", 20, "--hidden", 4, "--num-warmup", 20, "--num-hmc-draws", 20),
    *("--num-integration-steps", 2, "--num-optimizer-epochs", 2, "--batch-size", 6),
)


def measures(out, *flags):
    """The numbers of a small run, by method and measure."""
    call("bnn_posterior", *SMALL, *flags, "--out", out)
    rows = json.loads((out / "results.json").read_text())["rows"]
    return {(row["method"], row["measure"]): row["value"] for row in rows}


@pytest.mark.slow
def test_a_given_reference(tmp_path, capsys):
    """Half of HMC's chains as a file is the same reference: HMC's distance halves with all chains, a mode's stays."""
    whole = measures(tmp_path / "whole", "--methods", "hmc", "map")
    file = tmp_path / "whole" / "parts" / "reference.csv"
    given = measures(tmp_path / "given", "--methods", "map", "hmc", "--reference", file)
    assert f"the predictive of the file {file}" in capsys.readouterr().out
    assert given["hmc", "total variation"] == pytest.approx(whole["hmc", "total variation"] / 2, rel=1e-4)
    assert given["map", "total variation"] == pytest.approx(whole["map", "total variation"], rel=1e-4)
    assert given["hmc", "passes"] == 2 * whole["hmc", "passes"] and whole["hmc", "total variation"] > 0.01
    assert not (tmp_path / "given" / "parts" / "reference.csv").exists()


def test_references_that_do_not_fit(tmp_path, capsys):
    """A file for other test points, other classes or real-valued targets is refused in one line."""
    file = agreement.save_reference(tmp_path / "sure.csv", np.eye(10)[np.zeros(20, int)])
    narrow = agreement.save_reference(tmp_path / "narrow.csv", np.full((20, 4), 0.25))
    for words, *flags in (
        ("must have a row for each of 21 test points; got 20", "--reference", file, "--num-test", 21),
        ("must have 10 probabilities a row; got 4", "--reference", narrow),
        ("is for labels, which --dataset diabetes does not have", "--reference", file, "--dataset", "diabetes"),
        ("there is no such file", "--reference", tmp_path / "none.csv"),
    ):
        line = refusal(capsys, "bnn_posterior", *SMALL, "--methods", "map", *flags, "--out", tmp_path / "refused")
        assert words in line


def test_a_mode_is_compared_to_a_file(tmp_path, capsys):
    """A mode is far from a file that is certain of class 0."""
    file = agreement.save_reference(tmp_path / "sure.csv", np.eye(10)[np.zeros(20, int)])
    found = measures(tmp_path / "run", "--methods", "map", "--reference", file)
    assert f"the predictive of the file {file}" in capsys.readouterr().out
    assert 0.5 < found["map", "total variation"] < 1


@pytest.mark.slow
def test_a_curve(tmp_path):
    """Real-valued targets: bands, the distance of f of NUTS, Laplace and Bayes by Backprop."""
    flags = (
        *("--preset", "gap", "--hidden", 4, "--num-warmup", 20, "--num-hmc-draws", 20, "--num-integration-steps", 2),
        *("--max-num-doublings", 2, "--num-epochs", 40, "--num-draws", 20, "--num-optimizer-epochs", 2),
        *("--num-bbb-epochs", 2, "--methods", "hmc", "nuts", "sgnht", "last_layer", "laplace", "bbb", "mc_dropout"),
    )
    call("bnn_posterior", *flags, "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    distances = {row["method"]: row["value"] for row in rows if row["measure"] == "distance of f"}
    assert set(distances) == {"hmc", "nuts", "sgnht", "last_layer", "laplace", "bbb", "mc_dropout"}
    assert np.isfinite(list(distances.values())).all()
    assert (tmp_path / "run" / "figures" / "bands.png").read_bytes().startswith(b"\x89PNG")


def test_samplers_keep_the_asked_number_of_draws():
    """The second half of the steps has `num_draws` draws; csghmc's are of the last 30 % of each cycle."""
    config = bnn_posterior.Config(num_draws=20, num_epochs=100, num_cycles=4)
    problem = problems.load(config)
    schedule = bnn_posterior.make_schedule(config, problem)
    assert schedule.num_steps == 2 * 20 * schedule.thinning == 800  # 8 steps per epoch
    steps = schedule.thinning * np.arange(1, 41) - 1
    np.testing.assert_array_equal(schedule.is_sampling, steps % 200 >= 140)


@pytest.mark.parametrize("dataset", ["digits", "synthetic/gap"])
def test_units_and_the_density(dataset):
    """The density of scaled parameters is that of the parameters, and scaling is undone."""
    config = bnn_posterior.Config(dataset=dataset, num_train=20, num_test=10, hidden=(3,), noise_unit=2.0)
    problem = problems.load(config)
    params = problem.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, problem.train)
    scaled = problem.scale(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), problem.unscale(scaled), params)
    key = jax.random.key(1)
    value, scaled_value = problem.density()(params, key, batch)[0], problem.scaled_density()(scaled, key, batch)[0]
    likelihoods = jax.vmap(problem.log_likelihood)(problem.apply(params, batch.x), batch.y)
    expected = pytest.approx(float(likelihoods.sum() + problem.log_prior(params)), rel=1e-4)
    assert float(value) == expected and float(scaled_value) == expected
