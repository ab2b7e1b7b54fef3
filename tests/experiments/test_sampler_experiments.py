"""Standard posteriors and the posterior of one network, as called; the targets against other forms of themselves."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from bayesjax.evaluation import agreement
from experiments import hmc_tour
from experiments.targets import EFFECTS, ERRORS, TARGETS, eight_schools
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")

SMALL = {  # flags of a tiny run, and a metric that it leaves
    "standard_posteriors, exact": (
        ("--targets", "gaussian", "--methods", "hmc", "--num-warmup", 20, "--num-draws", 20,
         "--num-integration-steps", 2),
        "gaussian hmc worst deviation %",
    ),
    "standard_posteriors": (
        ("--targets", "schools_noncentred", "--num-warmup", 20, "--num-draws", 20, "--num-reference", 30,
         "--max-num-doublings", 3, "--num-integration-steps", 2),
        "schools_noncentred nuts bulk ess a 1000 gradients",
    ),
    "hmc_tour": (
        ("--step-sizes", 0.5, "--dimensions", 2, "--num-chains", 4, "--num-steps", 3), "d=2 eps=0.5 acceptance",
    ),
    "bnn_posterior": (
        ("--num-train", 40, "--num-test", 20, "--hidden", 4, "--num-warmup", 20, "--num-hmc-draws", 20,
         "--num-integration-steps", 2, "--num-epochs", 3, "--num-draws", 20, "--batch-size", 20, "--num-members", 2,
         "--num-optimizer-epochs", 2, "--num-bbb-epochs", 2,
         "--methods", "hmc", "sghmc", "csghmc", "laplace", "mc_dropout", "ensemble"),
        "laplace total variation",
    ),
    "bnn_posterior, a curve": (
        ("--preset", "gap", "--hidden", 4, "--num-warmup", 20, "--num-hmc-draws", 20, "--num-integration-steps", 2,
         "--max-num-doublings", 2, "--num-epochs", 40, "--num-draws", 20, "--num-optimizer-epochs", 2,
         "--num-bbb-epochs", 2, "--methods", "hmc", "nuts", "sgnht", "laplace", "bbb", "mc_dropout"),
        "nuts distance of f",
    ),
    "hmc_regression": (
        ("--num-splits", 2, "--hidden", 3, "--num-warmup", 20, "--num-draws", 20, "--num-integration-steps", 2),
        "hmc largest r hat",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [case if "exact" in case else pytest.param(case, marks=pytest.mark.slow) for case in SMALL]
)
def test_a_run_leaves_its_table_and_resumes(case, tmp_path, capsys):
    """results.json with a metric of each kind; a second call with --resume computes nothing and says the same."""
    (flags, metric), name = SMALL[case], case.partition(",")[0]
    call(name, *flags, "--out", tmp_path / "run")
    first = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert np.isfinite(first[metric]["value"])
    assert "| " in capsys.readouterr().out
    call(name, *flags, "--out", tmp_path / "run", "--resume")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"] == first


TINY = ["--num-train", 6, "--num-test", 20, "--hidden", 4, "--num-warmup", 20, "--num-hmc-draws", 20,
        "--num-integration-steps", 2, "--num-optimizer-epochs", 2, "--batch-size", 6]  # fmt: skip


def measures(out, *others):
    """Of a tiny run."""
    call("bnn_posterior", *TINY, *others, "--out", out)
    found = json.loads((out / "results.json").read_text())["metrics"]
    return {name: entry["value"] for name, entry in found.items()}


@pytest.mark.slow
def test_a_given_reference(tmp_path, capsys):
    """Judged by the predictive of one half of its chains, as a file, HMC's all are half as far as the other half was,
    with all its passes, and a mode as far as before."""
    whole = measures(tmp_path / "whole", "--methods", "hmc", "map")
    file = tmp_path / "whole" / "parts" / "reference.csv"
    judged = measures(tmp_path / "judged", "--methods", "map", "hmc", "--reference", file)
    assert f"the predictive of the file {file}" in capsys.readouterr().out
    assert judged["hmc total variation"] == pytest.approx(whole["hmc total variation"] / 2, rel=1e-4)
    assert judged["map total variation"] == pytest.approx(whole["map total variation"], rel=1e-4)
    assert judged["hmc passes"] == 2 * whole["hmc passes"] and whole["hmc total variation"] > 0.01
    assert not (tmp_path / "judged" / "parts" / "reference.csv").exists()


def test_a_mode_is_judged_by_a_file(tmp_path, capsys):
    """One that is sure of class 0 is as far as the mode is from being so. Files of other test points or classes, or of
    a curve, are refused."""
    file = agreement.save_reference(tmp_path / "sure.csv", np.eye(10)[np.zeros(20, int)])
    found = measures(tmp_path / "run", "--methods", "map", "--reference", file)
    assert f"the predictive of the file {file}" in capsys.readouterr().out
    assert 0.5 < found["map total variation"] < 1

    narrow = agreement.save_reference(tmp_path / "narrow.csv", np.full((20, 4), 0.25))
    for words, *others in (
        ("must have a row for each of 21 test points; got 20", "--reference", file, "--num-test", 21),
        ("must have 10 probabilities a row; got 4", "--reference", narrow),
        ("is of labels, which --dataset diabetes does not have", "--reference", file, "--dataset", "diabetes"),
        ("there is no such file", "--reference", tmp_path / "none.csv"),
    ):
        with pytest.raises(SystemExit) as caught:
            call("bnn_posterior", *TINY, *others, "--out", tmp_path / "refused")
        assert caught.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("standard_posteriors", ("--targets", "school"), "--targets must be among .*; got 'school'"),
        ("standard_posteriors", ("--num-warmup", "3"), "--num-warmup must be at least 20"),
        ("standard_posteriors", ("--hmc-shortest-step", "0"), "--hmc-shortest-step must lie in .0, 1.; got 0.0"),
        ("standard_posteriors", ("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
        ("bnn_posterior", ("--methods", "sghmc", "hmc"), "--methods must begin with hmc"),
        ("bnn_posterior", ("--num-train", "99999"), "--num-train must be at most 1437; got 99999"),
        ("bnn_posterior", ("--dataset", "uci/none", "--data-dir", "nowhere"), "unknown data set 'uci/none'"),
        (
            "bnn_posterior",
            ("--dataset", "diabetes", "--split", "20", "--num-train", "0", "--num-test", "0"),
            "split must lie in 0 .. 19; got 20",
        ),
        ("hmc_regression", ("--num-draws", "3"), "--num-draws must be at least 20; got 3"),
        ("hmc_regression", ("--num-splits", "99"), "--num-splits must be at most [0-9]+, those of diabetes; got 99"),
        ("bnn_posterior", ("--num-chains", "5"), "--num-chains must be even and at least 4; got 5"),
    ],
)
def test_bad_input_is_one_line(name, arguments, words, tmp_path, capsys):
    """Exit code 2, and the flag by name."""
    with pytest.raises(SystemExit) as caught:
        call(name, *arguments, "--out", tmp_path / "run")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(words, line)


def test_the_energy_error_of_leapfrog_is_that_of_the_formula():
    """d/2 sin^2(L theta) (chi - 1/chi)^2, against the mean over 20 000 draws of N(0, I), within 4 standard errors."""
    for step_size, num_leaps in ((0.9, 5), (1.3, 3)):

        def error(position, momentum, step_size=step_size, num_leaps=num_leaps):
            points = kernels.trajectory(
                lambda x: -0.5 * jnp.sum(x**2), position, momentum,
                step_size=step_size, num_integration_steps=num_leaps,
            )  # fmt: skip
            energies = 0.5 * (points.position**2 + points.momentum**2).sum(axis=-1)
            return energies[-1] - energies[0]

        found = np.asarray(jax.jit(jax.vmap(error))(*jax.random.normal(jax.random.key(0), (2, 20_000, 3))), float)
        expected = hmc_tour.mean_energy_error(step_size, 3, num_leaps)
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(20_000)
        assert expected > 8 * found.std() / np.sqrt(20_000)  # so that a wrong formula shows


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_what_it_says(name):
    """A finite value and gradient at its start, as many quantities as names, and as many exact answers."""
    target = TARGETS[name]()
    position = target.start(jax.random.key(0))
    value, gradient = jax.value_and_grad(target.logdensity)(position)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert target.quantities(position).shape == (len(target.names),)
    for exact in target.exact or ():
        assert np.shape(exact) == (len(target.names),)


def test_both_forms_of_the_schools_are_one_posterior():
    """The centred density at theta is the other one's at (theta - mu) / tau, less 8 log tau for the volume."""
    centred, other = eight_schools(is_centred=True), eight_schools(is_centred=False)
    for seed in range(3):
        position = other.start(jax.random.key(seed))
        mu, log_tau = position["mu"], position["log_tau"]
        moved = {**position, "theta": mu + jnp.exp(log_tau) * position["theta"]}
        np.testing.assert_allclose(centred.quantities(moved), other.quantities(position), rtol=1e-5)
        volume = centred.logdensity(moved) - (other.logdensity(position) - 8 * log_tau)
        assert abs(volume) < 1e-3


def test_schools_against_quadrature():
    """Integrated over theta by hand and over (mu, log tau) on a grid: posteriordb's means of mu (4.4) and tau (3.6)."""
    log_tau = np.linspace(-8, 5, 400)[:, None]
    mu = np.linspace(-25, 30, 300)[None]
    tau = np.exp(log_tau)
    variances = tau[..., None] ** 2 + ERRORS**2
    fit = -0.5 * ((EFFECTS - mu[..., None]) ** 2 / variances + np.log(variances)).sum(axis=-1)
    log_density = fit - 0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + log_tau
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    assert (weights * mu).sum() == pytest.approx(4.4, abs=0.1)
    assert (weights * tau).sum() == pytest.approx(3.6, abs=0.1)
    # The program's density, integrated over theta around its mode, differs by a constant between two points.
    target = eight_schools(is_centred=True)

    def marginal(mu, log_tau):
        """Of a density that is normal in theta: its value at the mode less half the log determinant."""
        tau = np.exp(log_tau)
        precision = 1 / ERRORS**2 + 1 / tau**2
        mode = (EFFECTS / ERRORS**2 + mu / tau**2) / precision
        position = {"mu": jnp.float32(mu), "log_tau": jnp.float32(log_tau), "theta": jnp.asarray(mode, jnp.float32)}
        return float(target.logdensity(position)) - 0.5 * np.log(precision).sum()

    def by_hand(mu, log_tau):
        tau = np.exp(log_tau)
        variances = tau**2 + ERRORS**2
        fit = -0.5 * ((EFFECTS - mu) ** 2 / variances + np.log(variances)).sum()
        return fit - 0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + log_tau

    differences = [marginal(*point) - by_hand(*point) for point in [(0.0, 0.0), (5.0, 1.5), (-3.0, 2.0)]]
    np.testing.assert_allclose(differences, differences[0], atol=1e-3)
