"""The run folder: one writer, parts that are computed once, one line for what is damaged, a warning for divergence."""

import json
import math
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import plots, training
from bayesjax.evaluation import mean_estimate
from bayesjax.training import guards
from bayesjax.types import Kernel
from experiments.harness import Column, Run, RunConfig, Table, provenance, read_run, row

pytestmark = pytest.mark.usefixtures("compile_once")
NUM_STEPS = 40
TABLES = [Table({"method": "method"}, [Column("mean"), Column("none")])]


class State(NamedTuple):
    position: jax.Array


class Info(NamedTuple):
    loss: jax.Array


def step(rng_key, state, batch):
    del batch
    moved = 1.1 * state.position + jax.random.normal(rng_key, (400,))
    return State(moved), Info(jnp.abs(moved).mean())


def experiment(out, *, scale=1.0, num_steps=NUM_STEPS, interrupt=False, name="small", **flags):
    """A whole experiment: a stage, a part with arrays, a figure, results."""
    config = RunConfig(**({"dataset": "d", "checkpoint_interval": 0.0} | flags), out=str(out))
    with Run(name, config) as run:
        kernel, options = run.stage("walk", Kernel(lambda position, rng_key: State(position), step))
        _, trace = training.run(
            jax.random.key(config.seed), kernel, State(jnp.full(400, scale)),
            num_steps=num_steps, chunk_size=4, **options,
        )  # fmt: skip
        if interrupt:
            raise KeyboardInterrupt
        means = run.part("means", lambda: {"by step": trace.draws.mean(axis=1), "mean": float(trace.draws.mean())})
        curve = {"walk": (np.arange(num_steps), means["by step"][None])}
        plots.curves(run.figure("walk.png"), curve, xlabel="step", ylabel="mean")
        run.finish([row("mean", means["mean"], method="walk"), row("none", math.inf, method="walk")], TABLES)
    return trace


def refusal(capsys, *arguments, **flags):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        experiment(*arguments, **flags)
    marks = ("error", "Traceback", "warning")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(marks)]
    assert caught.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_once):
    """The folder of an undisturbed run, and its trace."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, experiment(out)


def assert_same_results(out, finished):
    expected, trace = finished
    contents = [json.loads((folder / "results.json").read_text()) for folder in (out, expected)]
    for results in contents:
        del results["seconds"], results["command"]
    assert contents[0] == contents[1]
    assert experiment(out, resume=True).draws.tobytes() == trace.draws.tobytes()


# ---- what a run leaves


CONFIG = {"preset": "quick", "dataset": "d", "seed": 0, "fast_compile": False}


def test_results(finished, capsys):
    """results.json records what ran, what came out, how long it took, on which device, from which commit."""
    out, _ = finished
    results = json.loads((out / "results.json").read_text())
    assert results["experiment"] == "small" and results["config"] == CONFIG
    assert [line["measure"] for line in results["rows"]] == ["mean", "none"] and results["rows"][1]["value"] is None
    assert 0 < results["seconds"] < 600 and results["device"].startswith(("cpu", "gpu", "tpu", "NVIDIA"))
    assert results["versions"]["jax"] == jax.__version__ and results["commit"] == provenance.commit()
    config = json.loads((out / "config.json").read_text())
    assert config == {"experiment": "small", **results["config"]}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(4, NUM_STEPS + 1, 4)) and lines[0]["stage"] == "walk"
    assert (out / "figures" / "walk.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    experiment(out, resume=True)
    printed = capsys.readouterr().out
    assert printed.startswith("| method | mean") and f"results in {out / 'results.json'}" in printed
    again = json.loads((out / "results.json").read_text())
    assert again["rows"] == results["rows"] and again["seconds"] >= results["seconds"], "seconds of both starts"


def test_rows():
    """Estimates, NumPy numbers and lists become plain JSON; fields that are absent are left out."""
    estimate = mean_estimate(np.array([1.0, 2.0, 3.0]))
    assert row("error %", estimate, method="hmc", n=3) == {
        "method": "hmc", "measure": "error %", "value": 2.0, "stderr": pytest.approx(1 / math.sqrt(3)), "n": 3,
    }  # fmt: skip
    assert row("loss", np.float32(0.5), math.nan, labels=20, paper=1.2, source="table 1") == {
        "measure": "loss", "labels": 20, "value": 0.5, "paper": 1.2, "source": "table 1",
    }  # fmt: skip
    assert row("loss", np.nan, values=jnp.array([1.0, jnp.inf]), kernel=None) == {
        "measure": "loss", "values": [1.0, None], "value": None,
    }  # fmt: skip


def test_publishing(tmp_path, monkeypatch):
    """--publish writes the same contents to the folder of committed results, under the preset and the data set."""
    monkeypatch.setattr("experiments.harness.run.RESULTS", tmp_path / "published")
    experiment(tmp_path / "run", publish=True, dataset="synthetic/d")
    published = tmp_path / "published" / "small-quick-synthetic_d.json"
    assert published.read_bytes() == (tmp_path / "run" / "results.json").read_bytes()


# ---- parts


def test_a_finished_run_is_read(finished, tmp_path):
    """`read_run` returns the flags and the parts, and changes no file; it names the run of another experiment."""
    out, trace = finished

    def contents():
        return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}

    before = contents()
    config, parts = read_run(out, RunConfig)
    assert config == RunConfig(dataset="d") and set(parts) == {"means"}
    np.testing.assert_array_equal(parts["means"]["by step"], trace.draws.mean(axis=1))
    assert contents() == before
    other = tmp_path / "other"
    other.mkdir()
    for flags, differing in (
        ({**CONFIG, "losses": ["r1"]}, "losses"),
        ({"preset": "quick", "seed": 0}, "dataset, fast"),
    ):
        (other / "config.json").write_text(json.dumps({"experiment": "other", **flags}))
        with pytest.raises(ValueError, match=f"other holds a run of experiments.other with other flags: {differing}"):
            read_run(other, RunConfig)
    with pytest.raises(OSError, match=r"missing/config.json"):
        read_run(tmp_path / "missing", RunConfig)


def test_parts_are_pytrees_that_are_computed_once(tmp_path):
    """A part comes back as it was written: arrays with their types, numbers, strings, None, nested containers."""

    class Pair(NamedTuple):
        first: jax.Array
        second: str

    value = {
        "pair": Pair(jnp.arange(3, dtype=jnp.bfloat16), "two"),
        "list": [1, 2.5, math.nan, None, True],
        "empty": {},
    }
    calls = []
    for resume in (False, True):
        with Run("parts", RunConfig(out=str(tmp_path), dataset="d", resume=resume)) as run:
            found = run.part("part", lambda: calls.append(1) or value)
            assert found["pair"]["first"].dtype == jnp.bfloat16 and found["pair"]["second"] == "two"
            np.testing.assert_array_equal(found["pair"]["first"].astype(float), [0, 1, 2])
            assert found["list"][:2] == [1, 2.5] and math.isnan(found["list"][2]) and found["list"][3:] == [None, True]
            assert found["empty"] == {}
    assert len(calls) == 1
    with (
        pytest.raises(TypeError, match="keys of a part must be strings"),
        Run("p", RunConfig(out=str(tmp_path / "p"))) as run,
    ):
        run.part("part", lambda: {1: 2})


def test_an_interrupted_computation_continues_with_the_first_missing_chunk(tmp_path, capsys):
    """Chunks that are finished are read back; the whole is the same as without an interruption."""

    def go(resume, calls, fails_at=None):
        def compute(start, stop):
            if start == fails_at:
                raise KeyboardInterrupt
            calls.append((start, stop))
            return {"square": np.arange(start, stop, dtype=np.float32) ** 2 / 3, "twice": 2 * np.arange(start, stop)}

        with Run("parts", RunConfig(out=str(tmp_path), dataset="d", resume=resume)) as run:
            return run.part_in_chunks("numbers", compute, 8, 3)

    before, after = [], []
    with pytest.raises(SystemExit) as caught:
        go(False, before, fails_at=6)
    assert caught.value.code == 130 and before == [(0, 3), (3, 6)]
    found = go(True, after)
    assert after == [(6, 8)]
    np.testing.assert_array_equal(found["square"], np.arange(8, dtype=np.float32) ** 2 / 3)
    np.testing.assert_array_equal(found["twice"], 2 * np.arange(8))
    assert "numbers: 100%" in capsys.readouterr().err


# ---- resuming and replacing


def test_an_interrupted_run_resumes(tmp_path, capsys, finished):
    """Ctrl-C exits with 130 and says how to go on; the results are those of the unbroken run."""
    with pytest.raises(SystemExit) as caught:
        experiment(tmp_path, interrupt=True)
    assert caught.value.code == 130 and f"interrupted: add --resume to go on in {tmp_path}" in capsys.readouterr().err
    assert "already holds a run: add --resume to go on, --overwrite" in refusal(capsys, tmp_path)
    line = refusal(capsys, tmp_path, resume=True, seed=7)
    assert "another configuration: seed was 0 and is now 7" in line
    experiment(tmp_path, resume=True)
    assert_same_results(tmp_path, finished)


def test_bookkeeping_is_no_configuration(tmp_path, finished):
    """A run may be resumed with another save interval or --publish: neither changes a number."""
    shutil.copytree(finished[0], tmp_path / "run")
    experiment(tmp_path / "run", resume=True, checkpoint_interval=5.0, data_dir="elsewhere")
    assert_same_results(tmp_path / "run", finished)


def test_overwrite(tmp_path, capsys, finished):
    """--overwrite deletes the experiment's own entries, and those only when the first stage begins."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "note.txt").write_text("mine")
    assert "is not of experiments.other" in refusal(capsys, out, overwrite=True, name="other")
    assert "at most 8, the number available" in refusal(capsys, out, overwrite=True, devices=64)
    with Run("small", RunConfig(out=str(out), dataset="d", overwrite=True)):
        assert (out / "results.json").exists(), "nothing is deleted before the first stage, part or figure"
    experiment(out, overwrite=True)
    assert (out / "note.txt").read_text() == "mine"
    assert_same_results(out, finished)
    other = tmp_path / "other"
    (other / "parts").mkdir(parents=True)
    assert "holds parts without a config.json" in refusal(capsys, other)


def test_two_runs_in_one_folder(tmp_path, capsys, finished):
    """The second is refused, with --resume and with --overwrite, and deletes nothing."""
    out = tmp_path / "run"
    experiment(out)
    lock = guards.Lock(out)
    lock.acquire()
    before = (out / "results.json").read_bytes()
    for flags in ({"resume": True}, {"overwrite": True}):
        assert f"is writing in {out}" in refusal(capsys, out, **flags)
    assert (out / "results.json").read_bytes() == before
    lock.release()
    assert_same_results(out, finished)


# ---- what can go wrong


def test_folder_that_cannot_be_written(tmp_path, capsys):
    """A run folder below a regular file is refused in one line."""
    (tmp_path / "file").write_text("in the way")
    line = refusal(capsys, tmp_path / "file" / "run")
    assert "--out" in line and str(tmp_path / "file" / "run") in line and "Not a directory" in line


def test_devices_of_an_experiment_for_one_device(tmp_path, capsys):
    """Devices that would stand idle are refused."""
    with pytest.raises(SystemExit), Run("name", RunConfig(out=str(tmp_path / "run"), devices=2), one_device=True):
        pass
    assert capsys.readouterr().err == "error: experiments.name runs on one device of one process\n"


@pytest.mark.parametrize(
    "name", ["config.json", "parts/means.npz", "checkpoints/walk/step_00000040/run.json"]
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]"], ids=["empty", "bytes", "list"])
def test_damaged_files(tmp_path, capsys, finished, name, content):
    """One line names the file; nothing of the run is lost by asking."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / name).write_bytes(content)
    assert str(out / name) in refusal(capsys, out, resume=True)
    assert (out / name).read_bytes() == content


def test_damaged_notes_do_no_harm(tmp_path, finished):
    """Seconds, commits and metrics are notes: a line of them that is cut or garbled stops no resumption."""
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
    """Wherever it fills: one line, exit code 2, no half of a file; with more room the run continues unharmed."""
    out = disk(options) / "run"
    line = refusal(capsys, out)
    assert "No space left on device" in line
    assert not list(out.rglob("*.unfinished"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    disk("size=2m,nr_inodes=200")
    experiment(out, resume=(out / "config.json").exists())
    assert_same_results(out, finished)


def test_a_diverged_run_warns(tmp_path, capsys):
    """On standard error and in the results; a run that has not diverged warns of nothing."""
    experiment(tmp_path / "good")
    assert "warning" not in capsys.readouterr().err
    experiment(tmp_path / "bad", scale=1e6)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("warning"))
    assert "walk: loss ends at" in line and "the run has diverged" in line
    results = json.loads((tmp_path / "bad" / "results.json").read_text())
    assert results["warnings"] == [line.removeprefix("warning: ")]
