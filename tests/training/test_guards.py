"""One writer a folder, and Ctrl-C that waits for a save: all interrupted runs resume, and none says a word."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoint import go, walk

from bayesjax import training
from bayesjax.training import guards

pytestmark = pytest.mark.usefixtures("compile_once")
HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt: a shell has what it runs in the background ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_a_folder_has_one_writer(tmp_path):
    """A second run is refused in a line that names the process; the folder is free again when the first has ended."""

    def second(step, state):
        with pytest.raises(training.CheckpointError) as caught:
            go(tmp_path)
        message = str(caught.value)
        assert f"process {os.getpid()} on " in message and str(tmp_path) in message and "\n" not in message
        return {}

    kernel = walk()
    start = kernel.init({"w": jnp.zeros(3)}, None)
    saves = training.Checkpointer(tmp_path, interval=0, config={"a": 1, "b": [2]})
    arguments = {"num_steps": 4, "chunk_size": 2, "checkpointer": saves}
    training.run(jax.random.key(4), kernel, start, callback=second, **arguments)
    go(tmp_path)


def test_a_killed_writer_leaves_the_folder_free(tmp_path):
    """The kernel gives the lock back, so there is no stale one to recognise."""
    lock = guards.Lock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock.path)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(guards.Busy, match=f"another process is writing in {tmp_path}"):
            lock.acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    ("holder", "is_free"),
    [
        ("", True),
        ("process {here} on {host}", False),
        ("process {gone} on {host}", True),
        ("process 1 on another", True),
    ],
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, holder, is_free):
    """The file names the holder; one of this machine that no longer runs does not count."""
    monkeypatch.setattr(guards, "fcntl", None)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = guards.Lock(tmp_path)
    lock.path.write_text(holder.format(here=os.getppid(), gone=gone.pid, host=guards.socket.gethostname()))
    assert (lock.refusal() == "") == is_free
    lock.release()


@pytest.mark.parametrize("interval", [-5.0, float("nan"), -np.inf])
def test_the_interval_is_checked(interval):
    """Seconds between saves are at least 0."""
    with pytest.raises(ValueError, match="interval must be at least 0; got"):
        training.Checkpointer("unused", interval=interval)


def test_ctrl_c_waits(ctrl_c):
    """Raised at the end of the block and not within; a second handler is the one that was there; other threads pass."""
    done = []
    with pytest.raises(KeyboardInterrupt), guards.uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append("block")
    assert done == ["block"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def elsewhere():
        with guards.uninterrupted():
            done.append("thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == ["block", "thread"]


@pytest.mark.parametrize("num", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_interrupted_saves(ctrl_c, tmp_path, monkeypatch, capfd, num):
    """Ctrl-C at a random moment of a save, again and again: every run resumes, says nothing, and the last has the
    unbroken run's state, draws and infos; nothing unfinished is left. Without the deferral saves are cut off."""
    rng, num_steps, complete = random.Random(3), 2 * num + 20, []
    save = training.Checkpointer._save

    def interrupted(self, *arguments):
        timer = threading.Timer(rng.uniform(0, 0.012), lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        save(self, *arguments)
        complete.append(self.latest())
        timer.join()

    with monkeypatch.context() as patch:
        patch.setattr(training.Checkpointer, "_save", interrupted)
        for _ in range(num):
            with pytest.raises(KeyboardInterrupt):
                go(tmp_path / "broken", num_steps)
    state, trace = go(tmp_path / "broken", num_steps)
    whole, unbroken = go(tmp_path / "whole", num_steps)
    assert len(complete) == num and trace.metrics == unbroken.metrics
    broken_leaves, whole_leaves = (jax.tree.leaves(each) for each in ((state, trace[:3]), (whole, unbroken[:3])))
    for leaf, other in zip(broken_leaves, whole_leaves, strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [".lock", "record", f"step_{num_steps:08d}"]
    assert capfd.readouterr() == ("", "")
