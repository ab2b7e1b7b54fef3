"""A run that stops, at any point and in any way, and resumes is bit for bit the run that never stopped."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data, kernels, training
from bayesjax.training.checkpoint import Record
from tests.parameters import some

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("compile_once")

NUM_STEPS, CHUNK, THINNING, BURNIN = 22, 4, 2, 3
KEY = jax.random.key(2)
X = np.random.default_rng(0).normal(size=(13, 3)).astype(np.float32)


def kernel():
    def logdensity(params, rng_key, batch):
        noise = 0.1 * jax.random.normal(rng_key)
        value = -0.5 * jnp.sum((params["w"] - batch) ** 2) - params["b"] ** 2 + noise
        return value, {"noise": noise}

    return kernels.sghmc(logdensity, step_size=lambda step: 0.05 / (1 + step), friction=0.2)


def go(checkpointer, metrics=None, callback=None, num_steps=NUM_STEPS, thinning=THINNING):
    sghmc = kernel()
    state = sghmc.init({"w": jnp.ones(3), "b": jnp.zeros(())}, jax.random.key(1))
    return training.run(
        KEY, sghmc, state, data.Minibatches(jax.random.key(3), X, 5), num_steps=num_steps, num_burnin=BURNIN,
        thinning=thinning, chunk_size=CHUNK, checkpointer=checkpointer, metrics=metrics,
        callback=callback or (lambda step, state: {"b": float(state.position["b"])}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, compile_once):
    """State, trace and metrics file of the run that nobody stopped."""
    path = tmp_path_factory.mktemp("unbroken") / "metrics.jsonl"
    state, trace = go(None, training.MetricsFile(path, "run"))
    return state, trace, path.read_text()


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def assert_same_run(resumed, unbroken):
    (state, trace), (expected_state, expected) = resumed, unbroken[:2]
    assert_same_bits(state, expected_state)
    assert_same_bits(trace.draws, expected.draws)
    assert_same_bits((trace.info, trace.burnin_info), (expected.info, expected.burnin_info))
    assert trace.metrics == expected.metrics


class Stop(training.MetricsFile):
    """A metrics file that raises KeyboardInterrupt once the line of a step is written: Ctrl-C between two chunks."""

    def __init__(self, path, stage, stop):
        super().__init__(path, stage)
        self.stop = stop

    def write(self, row):
        super().write(row)
        if row["step"] == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("interval", [0.0, 1e9])
@pytest.mark.parametrize("stop", some([4, 20], 4))
def test_interrupted_between_chunks(tmp_path, unbroken, stop, interval):
    """Ctrl-C after a chunk, then a resumption: state, draws, infos, metrics and their file are the unbroken ones."""
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(KeyboardInterrupt):
        go(training.Checkpointer(tmp_path / "run", interval=interval), Stop(path, "run", stop))
    resumed = go(training.Checkpointer(tmp_path / "run", interval=interval), training.MetricsFile(path, "run"))
    assert_same_run(resumed, unbroken)
    assert path.read_text() == unbroken[2]


@pytest.mark.parametrize("stop", some([4, 8, 12], 12))
def test_interrupted_within_a_draw(tmp_path, stop):
    """With chunks shorter than `thinning`, the infos of a part of a draw are saved; a longer run takes them up too."""
    path = tmp_path / "metrics.jsonl"
    unbroken = go(None, thinning=2 * CHUNK)
    assert len(unbroken[1].draws["b"]) == len(jax.tree.leaves(unbroken[1].info)[0]) == 2
    with pytest.raises(KeyboardInterrupt):
        go(training.Checkpointer(tmp_path / "run"), Stop(path, "run", stop), thinning=2 * CHUNK)
    assert_same_run(go(training.Checkpointer(tmp_path / "run"), thinning=2 * CHUNK), unbroken)
    go(training.Checkpointer(tmp_path / "short"), num_steps=stop, thinning=2 * CHUNK)
    assert_same_run(go(training.Checkpointer(tmp_path / "short"), thinning=2 * CHUNK), unbroken)


@pytest.mark.parametrize("stop", [4, 12])
def test_interrupted_inside_every_chunk(tmp_path, unbroken, stop):
    """Ctrl-C while the host is busy between chunks loses no draw: what is saved is whole chunks, state and draws."""

    def callback(step, state):
        if step == stop:
            raise KeyboardInterrupt
        return {"b": float(state.position["b"])}

    with pytest.raises(KeyboardInterrupt):
        go(training.Checkpointer(tmp_path, interval=1e9), callback=callback)
    assert_same_run(go(training.Checkpointer(tmp_path)), unbroken)


def test_interrupted_while_a_chunk_is_recorded(tmp_path, unbroken, monkeypatch):
    """Ctrl-C once draws and metrics are recorded and the state is still that of the chunk before: both are dropped."""
    add = Record.add

    def add_and_stop(record, *parts):
        add(record, *parts)
        if parts[-1]["step"] == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Record, "add", add_and_stop)
        go(training.Checkpointer(tmp_path, interval=1e9))
    assert_same_run(go(training.Checkpointer(tmp_path)), unbroken)


def test_interrupted_many_times(tmp_path, unbroken):
    """A stop after every single chunk, with a resumption each: six processes' worth of one run."""
    for stop in (4, 8, 12, 16, 20):
        with pytest.raises(KeyboardInterrupt):
            go(training.Checkpointer(tmp_path / "run", interval=0), Stop(tmp_path / "metrics.jsonl", "run", stop))
    assert_same_run(go(training.Checkpointer(tmp_path / "run")), unbroken)


def test_finished_run_is_restored_not_repeated(tmp_path, unbroken):
    """Resuming a finished run takes no step and returns the same state and trace."""
    assert_same_run(go(training.Checkpointer(tmp_path)), unbroken)
    stepped = []
    again = go(training.Checkpointer(tmp_path), callback=lambda step, state: stepped.append(step) or {})
    assert_same_run(again, unbroken)
    assert stepped == []


def test_record_of_an_unfinished_save_is_not_counted_twice(tmp_path, unbroken):
    """Killed between the two renames of a save, a process leaves draws beyond its newest state.

    Saves by the clock need not fall on the same steps after the resumption, so the stray file must be replaced or left
    out for good: read together with the next save's, it would repeat draws.
    """
    with pytest.raises(KeyboardInterrupt):
        go(training.Checkpointer(tmp_path / "run", interval=0), Stop(tmp_path / "metrics.jsonl", "run", 8))
    stray = tmp_path / "run" / "record" / "00000012.npz"
    with np.load(tmp_path / "run" / "record" / "00000008.npz") as arrays:
        np.savez(stray, **arrays)
    go(training.Checkpointer(tmp_path / "run", interval=1e9))
    assert_same_run(go(training.Checkpointer(tmp_path / "run", interval=1e9)), unbroken)


SCRIPT = """
import os, sys, time
import jax, jax.numpy as jnp, numpy as np
from bayesjax import data, kernels, training

def logdensity(params, rng_key, batch):
    return -0.5 * jnp.sum((params - batch) ** 2), {"noise": jax.random.normal(rng_key)}

sghmc = kernels.sghmc(logdensity, step_size=0.05, friction=0.2)
x = np.random.default_rng(0).normal(size=(13, 3)).astype(np.float32)
folder, pause = sys.argv[1], float(sys.argv[2])

def callback(step, state):
    time.sleep(pause)
    return {"first": float(state.position[0])}

state, trace = training.run(
    jax.random.key(2), sghmc, sghmc.init(jnp.ones(3), jax.random.key(1)), data.Minibatches(jax.random.key(3), x, 5),
    num_steps=64, thinning=2, chunk_size=4, callback=callback,
    checkpointer=training.Checkpointer(folder + "/run", config={"seed": 2}, interval=0),
)
leaves = jax.tree.leaves((state, trace.draws, trace.info))
temporary = folder + "/unfinished.npz"
np.savez(temporary, *[np.asarray(leaf) for leaf in leaves], metrics=np.array([row["first"] for row in trace.metrics]))
os.rename(temporary, folder + "/result.npz")
"""


@pytest.mark.parametrize(("num", "num_early"), [(2, 1), pytest.param(6, 2, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, num, num_early):
    """`kill -9` at several random moments, then a resumption: state, draws, infos, metrics are the unbroken run's bits.

    Some kills come before the first save exists; the others at random moments after a new save of the process at hand,
    and so anywhere inside a later save, a chunk or the host's work between. Only the unbroken run compiles for itself.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    rng = random.Random(5)

    def begin(name, pause):
        (tmp_path / name).mkdir(exist_ok=True)
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | (cache if name == "killed" else {})
        command = [sys.executable, script, tmp_path / name, str(pause)]
        return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE)

    def newest():
        return max((path.name for path in (tmp_path / "killed" / "run").glob("step_*")), default="")

    straight = begin("straight", 0)
    reached = []
    for kill in range(num):
        process, before, deadline = begin("killed", 0.05), newest(), time.monotonic() + 60
        if kill < num_early:
            time.sleep(rng.uniform(0.1, 0.6))
        else:
            while newest() == before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"the run must still be going when it is killed: {err.decode()}"
        reached.append(newest())
    later = reached[num_early:]
    assert reached[0] == "" and all(a < b for a, b in itertools.pairwise(["", *later, "step_00000064"]))
    last = begin("killed", 0)
    for process in (straight, last):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
    with np.load(tmp_path / "straight" / "result.npz") as a, np.load(tmp_path / "killed" / "result.npz") as b:
        assert a.files == b.files and len(a.files) > 5
        assert a["metrics"].shape == (16,)
        for name in a.files:
            assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name
