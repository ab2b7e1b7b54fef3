"""`--devices`, `--parallel` and `--processes` give the numbers of one device.

Rows agree to 1e-4 of their value: sums are in another order, over the steps of a tiny run.
"""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs import tables as overview
from experiments.harness import cli
from tests.experiments.test_every_experiment import rows
from tests.experiments.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
ONE_DEVICE = [
    name for name in overview.experiments() if "one_device=True" in inspect.getsource(overview.experiment(name))
]
"""Experiments that refuse more devices: games side by side, persistent chains, text in order, or nothing to spread."""
WARMED_UP = ("bnn_posterior", "hmc_regression", "mc_dropout")
"""Their HMC adapts in a warm-up, in which another rounding decides another acceptance."""


def call(name, out, *flags):
    """What `python -m experiments.NAME FLAGS` does, in this process; the values of its rows by their keys."""
    module = overview.experiment(name)
    module.main(cli.parse(module.PRESETS, None, ["--out", str(out), *TINY[name].flags, *TINY[name].slow, *flags]))
    return values(out)


def values(out):
    """The values of a run's rows by their keys."""
    return {
        str({key: each for key, each in row.items() if key not in ("value", "stderr", "values")}): row["value"]
        for row in rows(out)
    }


def assert_same(found, expected):
    assert found == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert len(found) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TINY) - set(ONE_DEVICE)))
@pytest.mark.parametrize("where", [(), ("--data-devices", "2")], ids=["particles", "batch"])
def test_two_devices(tmp_path, compile_once, name, where):
    """Every experiment with its particles spread, or its batch."""
    if where and name in WARMED_UP:
        pytest.skip("a warm-up amplifies rounding")
    expected = call(name, tmp_path / "one")
    assert_same(call(name, tmp_path / "two", "--devices", "2", *where), expected)


@pytest.mark.slow
def test_pmap_equals_one_device(tmp_path, compile_once):
    """The generators on two devices; the run may be resumed on one, and its results name both."""
    expected = call("bayesian_gan", tmp_path / "one")
    assert_same(call("bayesian_gan", tmp_path / "two", "--devices", "2", "--parallel", "pmap"), expected)
    assert_same(call("bayesian_gan", tmp_path / "two", "--resume"), expected)
    device = json.loads((tmp_path / "two" / "results.json").read_text())["device"]
    assert " x 2" in device and " x 1" in device


@pytest.mark.slow
def test_processes_equal_one_device(tmp_path, compile_once):
    """The command starts itself in two processes of two devices; process 0 writes everything once."""
    expected = call("bayesian_gan", tmp_path / "one")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bayesian_gan", "--out", tmp_path / "two", *TINY["bayesian_gan"].flags,
         *TINY["bayesian_gan"].slow, "--devices", "2", "--processes", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results in") == 1
    assert_same(values(tmp_path / "two"), expected)
    assert "x 4 on 2 processes" in json.loads((tmp_path / "two" / "results.json").read_text())["device"]
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "one" / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(AssertionError):  # power: another seed is not the same to 1e-4
        assert_same(call("bayesian_gan", tmp_path / "other", "--seed", "1"), expected)


@pytest.mark.parametrize("name", ONE_DEVICE)
def test_experiments_for_one_device_refuse_more(tmp_path, capsys, name):
    """One line, exit code 2, before anything is computed."""
    with pytest.raises(SystemExit) as caught:
        call(name, tmp_path / "run", "--devices", "2")
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: experiments.{name} runs on one device of one process\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--devices", "64"), "--devices must be at most 8, the number available; got 64"),
        (("--devices", "4", "--data-devices", "3"), "--data-devices must divide the 4 devices; got 3"),
        (("--devices", "7", "--data-devices", "7"), "must be a multiple of the 7 devices"),
    ],
)
def test_devices_that_do_not_fit(tmp_path, capsys, flags, words):
    """One line, exit code 2."""
    with pytest.raises(SystemExit) as caught:
        call("bayesian_gan", tmp_path / "run", *flags)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(lines) == 1 and words in lines[0]
