"""The run folder: one writer, one line for what is damaged or cannot be written, a warning where a run has diverged."""

import json
import math
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import plots, training
from bayesjax.training import guards
from bayesjax.types import Kernel
from experiments import common, parts

pytestmark = pytest.mark.usefixtures("compile_once")
NUM_STEPS = 40


class State(NamedTuple):
    position: jax.Array


class Info(NamedTuple):
    loss: jax.Array


def step(rng_key, state, batch):
    del batch
    moved = 1.1 * state.position + jax.random.normal(rng_key, (400,))
    return State(moved), Info(jnp.abs(moved).mean())


def experiment(out, *, scale=1.0, num_steps=NUM_STEPS, **flags):
    """A whole experiment: a stage, a part with arrays, a figure, results."""
    config = common.RunFlags(out=str(out), dataset="d", checkpoint_interval=0.0, **flags)
    with common.Experiment("small", config) as run:
        _, trace = training.run(
            jax.random.key(0), Kernel(lambda position, rng_key: State(position), step), State(jnp.full(400, scale)),
            num_steps=num_steps, chunk_size=4, **run.stage("walk"),
        )  # fmt: skip

        def part():
            parts.save_arrays(run, "means", means=trace.draws.mean(axis=1))
            return {"mean": float(trace.draws.mean()), "odd": math.nan}

        found = run.cached("part", part)
        curve = {"walk": (np.arange(num_steps), parts.load_arrays(run, "means")["means"][None])}
        plots.curves(run.out / "figures" / "walk.png", curve, xlabel="step", ylabel="mean")
        run.finish({"mean": {"value": found["mean"]}, "none": {"value": math.inf}})
    return trace


def error_line(capsys, *arguments, **flags):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        experiment(*arguments, **flags)
    marks = ("error", "Traceback", "warning")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(marks)]
    assert caught.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_once):
    """The folder of a run that nobody disturbed, and its trace."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, experiment(out)


def assert_same_results(out, finished):
    expected, trace = finished
    files = [json.loads((folder / "results.json").read_text()) for folder in (out, expected)]
    for results in files:
        del results["seconds"], results["command"]
    assert files[0] == files[1]
    assert experiment(out, resume=True).draws.tobytes() == trace.draws.tobytes()


def test_two_runs_in_one_folder(tmp_path, capsys, finished):
    """The second is refused, with --resume and with --overwrite, and deletes nothing."""
    out = tmp_path / "run"
    experiment(out)
    lock = guards.Lock(out)
    lock.acquire()
    before = (out / "results.json").read_bytes()
    for flags in ({"resume": True}, {"overwrite": True}):
        assert f"is writing in {out}" in error_line(capsys, out, **flags)
    assert (out / "results.json").read_bytes() == before
    lock.release()
    assert_same_results(out, finished)


@pytest.mark.parametrize(
    "name", ["config.json", "parts/part.json", "parts/means.npz", "checkpoints/walk/step_00000040/run.json"]
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]"], ids=["empty", "bytes", "list"])
def test_damaged_files(tmp_path, capsys, finished, name, content):
    """One line that names the file; nothing of the run is lost by asking."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / name).write_bytes(content)
    assert str(out / name) in error_line(capsys, out, resume=True)
    assert (out / name).read_bytes() == content


def test_notes_that_are_damaged_do_no_harm(tmp_path, finished):
    """Seconds, commits and metrics are notes: a cut or garbled line of them stops no resumption."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for name in ("seconds.txt", "metrics.jsonl"):
        with (out / name).open("ab") as file:
            file.write(b'1.5.\n{"stage": "walk", "st\xff\n')
    (out / "results.json").unlink()
    experiment(out, resume=True)
    assert_same_results(out, finished)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == NUM_STEPS // 4


@pytest.mark.parametrize("options", ["size=48k", "size=64k", "size=80k", "size=96k", "nr_inodes=14", "nr_inodes=22"])
def test_a_full_disk(disk, capsys, finished, options):
    """Wherever it fills: one line, exit code 2, no half of a file; with more room the run goes on as if nothing was."""
    out = disk(options) / "run"
    line = error_line(capsys, out)
    assert "No space left on device" in line
    assert not list(out.rglob("*.unfinished"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    disk("size=2m,nr_inodes=200")
    experiment(out, resume=(out / "config.json").exists())
    assert_same_results(out, finished)


def test_a_run_that_diverged_says_so(tmp_path, capsys):
    """On standard error and in the results; a run that did not says nothing."""
    experiment(tmp_path / "good")
    assert "warning" not in capsys.readouterr().err
    experiment(tmp_path / "bad", scale=1e6)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("warning"))
    assert "walk: loss ends at" in line and "the run has diverged" in line
    results = json.loads((tmp_path / "bad" / "results.json").read_text())
    assert results["warnings"] == [line.removeprefix("warning: ")]
    assert results["metrics"]["none"]["value"] is None


def test_interrupts_outside_the_run_are_a_line():
    """Ctrl-C while an import runs, or after the results, is no traceback."""
    script = (
        "import sys\nfrom experiments import common\nsys.argv = ['small']\n"
        "common.parse({'quick': common.RunFlags()}, '')\nraise KeyboardInterrupt"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "interrupted\n" and done.returncode != 0
