"""Checkpoints: what is refused, what survives a failure."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import training
from bayesjax.types import Kernel
from tests.parameters import some

ROOT = Path(__file__).resolve().parents[2]
KEY = jax.random.key(4)


class State(NamedTuple):
    position: dict
    step: jax.Array


class Info(NamedTuple):
    norm: jax.Array


def walk() -> Kernel:
    def init(position, rng_key):
        del rng_key
        return State(position, jnp.zeros((), jnp.int32))

    def step(rng_key, state, batch):
        del rng_key, batch
        w = state.position["w"] + 1
        return State({"w": w}, state.step + 1), Info(w.sum())

    return Kernel(init, step)


def go(folder, num_steps=4, *, position=None, key=KEY, **arguments):
    kernel = walk()
    state = kernel.init({"w": jnp.zeros(3)} if position is None else position, None)
    checkpointer = training.Checkpointer(folder, **{"interval": 0.0, "config": {"a": 1, "b": [2]}} | arguments)
    return training.run(key, kernel, state, num_steps=num_steps, chunk_size=2, checkpointer=checkpointer)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that holds a run of four steps."""
    folder = tmp_path_factory.mktemp("saved")
    go(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"a": 5, "b": [2]}}, "another configuration: a was 1 and is now 5"),
        ({"config": {"a": 1, "b": [3]}}, "another configuration: b was [2] and is now [3]"),
        ({"config": {"a": 1}}, "another configuration: b was [2] and is now absent"),
        ({"config": {"a": 1, "b": [2], "c": 0}}, "another configuration: c was absent and is now 0"),
        ({"key": jax.random.key(5)}, "its rng_key is [0, 4], this one's [0, 5]"),
        ({"position": {"w": jnp.zeros(2)}}, "another state: .position['w'] was float32[3] and is now float32[2]"),
        (
            {"position": {"w": jnp.zeros(3, jnp.float16)}},
            "another state: .position['w'] was float32[3] and is now float16[3]",
        ),
        ({"position": {"v": jnp.zeros(3)}}, "another state: .position['w'] was float32[3] and is now absent"),
    ],
    ids=["value", "list", "removed", "added", "key", "shape", "type", "name"],
)
def test_a_checkpoint_of_another_run_is_refused(saved, change, words):
    """The message names the folder and the first thing that differs, what it was and what it is."""
    with pytest.raises(training.CheckpointMismatch, match=re.escape(words)) as caught:
        go(saved, **change)
    assert str(saved / "step_00000004") in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_same_run_is_accepted(saved):
    """The tuple that JSON turns into a list is no difference; the state comes back with its types."""
    state, trace = go(saved, config={"b": (2,), "a": 1})
    assert state.position["w"].tolist() == [4, 4, 4]
    assert state.step.dtype == jnp.int32 and int(state.step) == 4
    assert [row["step"] for row in trace.metrics] == [2, 4]


def test_nothing_written_is_thrown_away(saved):
    """resume=False in a folder that holds a run is an error, and the run is still there."""
    with pytest.raises(training.CheckpointError, match="already holds a run"):
        go(saved, resume=False)
    assert (saved / "step_00000004" / "run.json").exists()


def test_resume_false_in_a_fresh_folder(tmp_path):
    """resume=False is for the first start, and saves like any other."""
    go(tmp_path / "new", resume=False)
    assert (tmp_path / "new" / "step_00000004").is_dir()


def test_only_the_newest_state_is_kept(saved):
    """One state folder, complete; as many record files as saves."""
    assert [path.name for path in sorted(saved.glob("step_*"))] == ["step_00000004"]
    assert not list(saved.rglob("unfinished_*"))
    assert len(list((saved / "record").iterdir())) == 2
    run = json.loads((saved / "step_00000004" / "run.json").read_text())
    assert run["step"] == 4 and run["config"] == {"a": 1, "b": [2]}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int8, bool])
def test_draws_keep_their_type(tmp_path, dtype):
    """Also bfloat16, which NumPy's files do not know."""
    kernel = walk()
    checkpointer = lambda: training.Checkpointer(tmp_path, interval=0.0)  # noqa: E731
    run = lambda: training.run(  # noqa: E731
        KEY, kernel, kernel.init({"w": jnp.zeros(3)}, None), num_steps=4, chunk_size=2, checkpointer=checkpointer(),
        keep=lambda state: (state.position["w"] * 3).astype(dtype),
    )  # fmt: skip
    first, again = run()[1].draws, run()[1].draws
    assert first.dtype == again.dtype == jnp.dtype(dtype)
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("damaged", ["record/*.npz", "step_*/state.npz"])
def test_a_damaged_checkpoint_is_one_error(saved, tmp_path, damaged):
    """Truncated files are told as such, in one line, whatever library noticed."""
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    path = sorted(folder.glob(damaged))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(training.CheckpointError, match="cannot read the checkpoint"):
        go(folder, 6)


def test_interval():
    """A save is due when `interval` seconds have passed, not before."""
    assert training.Checkpointer("unused", interval=0).due()
    assert not training.Checkpointer("unused", interval=1e9).due()


def test_unfinished_saves_are_ignored(tmp_path):
    """What a killed process leaves half-written under unfinished_* is neither resumed from nor in the way."""
    go(tmp_path)
    for step in (2, 6, 99):
        (tmp_path / f"unfinished_{step:08d}" / "state").mkdir(parents=True)
        (tmp_path / f"unfinished_{step:08d}" / "run.json").write_text('{"step": ')
    (tmp_path / "record" / "unfinished_00000006.npz").write_bytes(b"PK half a file")
    state, trace = go(tmp_path, num_steps=8)
    assert int(state.step) == 8
    assert trace.draws["w"][:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert training.Checkpointer(tmp_path).latest() == tmp_path / "step_00000008"


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_folder_that_cannot_be_made(tmp_path):
    """A path under a regular file gives one line that names the folder and says that nothing is saved."""
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "run"
    with pytest.raises(training.CheckpointError) as caught:
        go(folder)
    line = one_line(caught.value)
    assert str(folder) in line and "Not a directory" in line and "no complete save yet" in line


def test_folder_that_cannot_be_written_any_more(tmp_path):
    """A save that fails leaves the one before complete, and says which it is."""
    go(tmp_path)
    record = tmp_path / "record"
    record.rename(tmp_path / "moved")
    record.write_text("in the way")
    state, _, loaded = 4, None, training.checkpoint.Record()
    loaded.add({"w": np.zeros((1, 3))}, Info(np.zeros(1)), Info(np.zeros(0)), {"step": 6})
    saves = training.Checkpointer(tmp_path, config={"a": 1, "b": [2]})
    with pytest.raises(training.CheckpointError) as caught:
        saves.save(6, State({"w": jnp.zeros(3)}, jnp.int32(6)), loaded)
    assert str(tmp_path / "step_00000004") in one_line(caught.value)
    record.unlink()
    (tmp_path / "moved").rename(record)
    state, trace = go(tmp_path, num_steps=6)
    assert int(state.step) == 6 and len(trace.draws["w"]) == 6


FULL_DISK = """
import json, resource, signal, sys
from typing import NamedTuple
import jax, jax.numpy as jnp
from bayesjax import training
from bayesjax.types import Kernel

class State(NamedTuple):
    position: jax.Array

class Info(NamedTuple):
    first: jax.Array

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit fails as on a full disk
folder, what = sys.argv[1:]
kernel = Kernel(lambda position, rng_key: State(position), lambda key, state, batch: (
    State(state.position + jax.random.normal(key, state.position.shape)), Info(state.position[0])))

def go(num_steps):
    keep = (lambda state: state.position[:2]) if what == "state" else (lambda state: jnp.tile(state.position, 10000))
    return training.run(
        jax.random.key(0), kernel, State(jnp.zeros(50000 if what == "state" else 3)), num_steps=num_steps,
        chunk_size=2, keep=keep, checkpointer=training.Checkpointer(folder, interval=0),
    )

go(2)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
try:
    go(4)
    message = None
except training.CheckpointError as error:
    message = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
restored = training.Checkpointer(folder).restore(State(jnp.zeros(50000 if what == "state" else 3)), jax.random.key(0))
state, trace = go(4)
print(json.dumps({"message": message, "restored": restored[0], "draws": len(trace.draws), "steps": trace.metrics[-1]}))
"""


@pytest.mark.parametrize("what", some(["state", "draws"], "draws"))
def test_full_disk(tmp_path, what):
    """A disk that fills while the state, or the draws, are written: one line, and the save before resumes the run."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "run", what],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["message"] is not None, "the write beyond the limit must fail"
    assert "\n" not in result["message"]
    assert (
        "too large" in result["message"]
        and f"the last complete save is {tmp_path}/run/step_00000002" in result["message"]
    )
    assert result["restored"] == 2
    assert result["draws"] == 4 and result["steps"]["step"] == 4
