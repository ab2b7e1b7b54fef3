"""Runs a script in two connected processes of two devices each, for tests of several processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEVICES_EACH, TIMEOUT = 2, 400


def run(script, folder, *arguments):
    """Runs `python SCRIPT FOLDER ADDRESS INDEX ARGUMENTS` with index 0 and 1, and returns the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, script, folder, f"127.0.0.1:{port}", str(index), *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {
                "PYTHONPATH": str(ROOT),
                "JAX_NUM_CPU_DEVICES": str(2 * DEVICES_EACH),
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),  # a resumed run need not compile again
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        for done in started:
            output, _ = done.communicate(timeout=TIMEOUT)
            assert done.returncode == 0, output
    finally:
        for one in started:
            one.kill()
    return folder
