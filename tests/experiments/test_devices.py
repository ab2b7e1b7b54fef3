"""`--devices`, `--parallel` and `--processes`: the numbers of one device, and processes that end together.

Metrics agree to 1e-4 of their value: sums in another order, over the steps of a tiny run.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import bayesian_gan, bayesian_gan_semisupervised, bayesian_gan_step_sizes, common, vae

ROOT = Path(__file__).resolve().parents[2]
PLAYERS = ("--num-generators", "4", "--latent-dim", "2", "--batch-size", "8", "--thinning", "2")
STEPS = ("--num-steps", "8", "--warmup", "4")
SYNTHETIC = ("--hidden", "4", "--grid-step", "0.5", *PLAYERS, *STEPS)
SEMISUPERVISED = (
    "--num-labelled", "10", "--generator-features", "4", "--discriminator-features", "4", "--labelled-batch-size", "8",
    "--num-discriminators", "2", "--num-burnin", "0", *PLAYERS, *STEPS,
)  # fmt: skip
VAE = (
    "--hidden", "8", "--latent-dims", "2", "--num-epochs", "1", "--estimator-epochs", "1", "--num-likelihood", "4",
    "--likelihood-samples", "20",
)  # fmt: skip
OTHERS = {
    "bayes_by_backprop": (
        "--widths", "8", "--num-epochs", "1", "--num-sgd-epochs", "1", "--batch-size", "100", "--num-draws", "2",
    ),
    "bayesian_cnn": (
        "--channels", "2", "--hidden", "4", "--num-members", "2", "--num-epochs", "1", "--batch-size", "100",
        "--num-draws", "2",
    ),
    "bayesian_segnet": ("--widths", "4", "4", "--num-epochs", "1", "--batch-size", "100", "--num-draws", "2"),
    "mc_dropout": ("--hidden", "4", "--num-steps", "4", "--num-draws", "3", "--dropout-rates", "0.1", "0.4"),
    "uncertainty": ("--num-data", "20", "40", "--hidden", "4", "--num-steps", "4", "--num-draws", "5"),
    "bnn_posterior": (
        "--num-train", "40", "--num-test", "20", "--hidden", "4", "--num-warmup", "20", "--num-hmc-draws", "20",
        "--num-integration-steps", "2", "--num-epochs", "3", "--num-draws", "20", "--batch-size", "20",
        "--num-members", "2", "--num-optimizer-epochs", "2", "--methods", "hmc", "sghmc", "ensemble",
    ),
    "hmc_regression": ("--hidden", "3", "--num-warmup", "20", "--num-draws", "20", "--num-integration-steps", "2"),
    "standard_posteriors": (
        "--targets", "gaussian", "--methods", "hmc", "--num-warmup", "20", "--num-draws", "20",
        "--num-integration-steps", "2",
    ),
}  # fmt: skip
TWICE = """
import signal
from experiments import devices

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore Ctrl-C
devices.GRACE = 1.0
raise SystemExit(devices.run({command}, 1, 2))
"""


def call(module, out, *arguments):
    """What `python -m experiments.NAME ARGUMENTS` does, in this process; the metrics less the timings."""
    module.main(common.parse(module.PRESETS, None, ["--out", str(out), *arguments]))
    return metrics(out)


def metrics(out):
    found = json.loads((out / "results.json").read_text())["metrics"]
    return {name: entry["value"] for name, entry in found.items() if not re.search("ms|fraction|seconds", name)}


def assert_same(found, expected):
    assert found == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert len(found) > 0


@pytest.mark.slow
def test_pmap_equals_one_device(tmp_path, compile_once, vectors):
    """Four generators on two devices; the run may be resumed on one, and says where it was."""
    flags = (*SYNTHETIC, "--methods", "ml_coupled", "--dataset", str(vectors))
    expected = call(bayesian_gan, tmp_path / "one", *flags)
    assert_same(call(bayesian_gan, tmp_path / "two", *flags, "--devices", "2", "--parallel", "pmap"), expected)
    assert_same(call(bayesian_gan, tmp_path / "two", *flags, "--resume"), expected)
    device = json.loads((tmp_path / "two" / "results.json").read_text())["device"]
    assert " x 2" in device and " x 1" in device


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "flags"),
    [
        (bayesian_gan, SYNTHETIC),
        (bayesian_gan_semisupervised, (*SEMISUPERVISED, "--num-label-draws", "2")),
        (bayesian_gan_step_sizes, ("--hidden", "4", "--num-generators", "4", "--warmup", "4", "--num-steps", "4")),
        (vae, VAE),
        *((importlib.import_module(f"experiments.{name}"), flags) for name, flags in OTHERS.items()),
    ],
    ids=["synthetic", "semisupervised", "step sizes", "vae", *OTHERS],
)
@pytest.mark.parametrize("where", [(), ("--data-devices", "2")], ids=["particles", "batch"])
def test_every_method_on_two_devices(tmp_path, compile_once, module, flags, where):
    """Every method of every experiment, its particles spread, or its batch.

    HMC with its batch spread is tested without a warm-up (`test_parallel.py`): its first trajectories diverge, and
    another rounding there decides another acceptance.
    """
    if where and module.__name__.endswith(("bnn_posterior", "hmc_regression")):
        pytest.skip("a warm-up amplifies rounding")
    expected = call(module, tmp_path / "one", *flags)
    assert_same(call(module, tmp_path / "two", *flags, "--devices", "2", *where), expected)


@pytest.mark.slow
def test_processes_equal_one_device(tmp_path, compile_once):
    """The command starts itself in two processes of two devices; the first writes, all of it, once."""
    flags = (*SYNTHETIC, "--methods", "ml", "bayes")
    expected = call(bayesian_gan, tmp_path / "one", *flags)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bayesian_gan", "--out", tmp_path / "two", *flags,
         "--devices", "2", "--processes", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results in") == 1
    assert_same(metrics(tmp_path / "two"), expected)
    assert "x 4 on 2 processes" in json.loads((tmp_path / "two" / "results.json").read_text())["device"]
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "one" / "metrics.jsonl").read_text().splitlines())
    other = call(bayesian_gan, tmp_path / "other", *flags, "--seed", "1")
    with pytest.raises(AssertionError):  # power: another seed is not the same to 1e-4
        assert_same(other, expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--devices", "0"), "--devices must be at least 1; got 0"),
        (("--devices", "64"), "--devices must be at most 8, which are there; got 64"),
        (("--processes", "-1"), "--processes and --data-devices must not be negative; got -1 and 0"),
        (("--processes", "2", "--parallel", "pmap"), "--parallel pmap is of the devices of one process"),
        (("--parallel", "pmapp"), "--parallel must be shard_map or pmap; got 'pmapp'"),
        (("--devices", "4", "--data-devices", "3"), "--data-devices must divide the 4 devices; got 3"),
        (("--devices", "3"), "leaf of shape (8, 6); axis 0 must divide over 3 devices"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, vectors, arguments, words):
    """One line, exit code 2."""
    with pytest.raises(SystemExit) as caught:
        call(bayesian_gan, tmp_path / "run", *SYNTHETIC, "--methods", "bayes", "--dataset", str(vectors), *arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(lines) == 1 and words in lines[0]


def test_batch_norm_needs_its_batch_whole(tmp_path, capsys):
    """Divided, each part would be normalised by itself."""
    with pytest.raises(SystemExit):
        call(bayesian_gan_semisupervised, tmp_path / "run", *SEMISUPERVISED, "--norm", "batch", "--devices", "2")
    assert "--norm batch needs every batch whole" in capsys.readouterr().err


def test_devices_of_an_experiment_that_spreads_nothing(tmp_path):
    """Asking for devices that would stand idle is refused."""
    run = common.Experiment("name", common.RunFlags(out=str(tmp_path), dataset="d", devices=2))
    with pytest.raises(SystemExit), run:
        run.stage("one")


def start_twice(command):
    return subprocess.Popen(
        [sys.executable, "-c", TWICE.format(command=[sys.executable, "-c", command])],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("print('done')", 0, ""),
        ("sys.exit(3 if first else 0)", 3, ""),
        ("time.sleep(60 * first); sys.exit('mine')", 1, "process 1 of 2 failed:\nmine\n"),
        ("sys.exit(print('bad', file=sys.stderr) or 2)", 2, "bad\n"),
        ("os.kill(os.getpid(), 9) if first else time.sleep(60)", 137, ""),
    ],
    ids=["well", "the first fails", "another fails", "bad input", "killed"],
)
def test_processes_end_together(command, code, error):
    """The exit code of the one that failed; the first's words as they come, another's only if they are its own."""
    preamble = "import os, sys, time; first = os.environ['JAX_PROCESS_ID'] == '0'; "
    started = start_twice(preamble + command)
    _, said = started.communicate(timeout=30)
    assert (started.returncode, said) == (code, error)


def test_interrupting_processes(tmp_path):
    """Ctrl-C reaches the first process, which may save; then all are gone, with exit code 130."""
    started = start_twice(
        f"import os, time; index = os.environ['JAX_PROCESS_ID']; path = {str(tmp_path)!r} + '/' + index\n"
        "open(path, 'w').write(str(os.getpid()))\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    open(path + '-saved', 'w')"
    )
    while len(list(tmp_path.glob("[01]"))) < 2 or not all(path.read_text() for path in tmp_path.glob("[01]")):
        time.sleep(0.05)
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=30)
    assert started.returncode == 130
    assert [path.name for path in tmp_path.glob("*-saved")] == ["0-saved"]
    for index in "01":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / index).read_text()), 0)
