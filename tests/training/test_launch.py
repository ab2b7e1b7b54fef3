"""Several processes on one machine end together, with the right exit code and words."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayesjax.training import launch

ROOT = Path(__file__).resolve().parents[2]
TWICE = """
import signal, sys

sys.path.append({folder!r})  # the file by itself, without the seconds of `import jax`
import launch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore Ctrl-C
launch.GRACE = 1.0
raise SystemExit(launch.run({command}, 2, reported=2))
"""


def start_twice(command):
    code = TWICE.format(folder=str(Path(launch.__file__).parent), command=[sys.executable, "-c", command])
    return subprocess.Popen(
        [sys.executable, "-c", code],
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
    ids=["success", "process 0 fails", "another fails", "reported", "killed"],
)
def test_processes_end_together(command, code, error):
    """The exit code is that of the failed process; another's words are shown only if process 0 has not explained it."""
    preamble = "import os, sys, time; first = os.environ['JAX_PROCESS_ID'] == '0'; "
    started = start_twice(preamble + command)
    _, words = started.communicate(timeout=30)
    assert (started.returncode, words) == (code, error)


def test_interrupting_processes(tmp_path):
    """Ctrl-C reaches process 0, which may save; then all are gone, with exit code 130."""
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


def test_coordinates(monkeypatch):
    """They come from the environment of a started process, and are empty elsewhere."""
    assert launch.coordinates() == {}
    for name, value in (("COORDINATOR_ADDRESS", "127.0.0.1:1"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
        monkeypatch.setenv(f"JAX_{name}", value)
    assert launch.coordinates() == {"coordinator_address": "127.0.0.1:1", "num_processes": 2, "process_id": 1}
