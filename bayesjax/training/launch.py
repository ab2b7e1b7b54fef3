"""Several processes on one machine that JAX joins into one run, each with its own devices.

    code = launch.run([sys.executable, "script.py"], 2, devices=4)      starts the command twice and waits
    initialize(**launch.coordinates())                                  in the script, before its first computation

Each process receives its own share of the machine's accelerators. Only process 0 writes to standard output. The
standard error of another process is shown if it fails first, unless process 0 has already explained the failure.
When one process fails, the others are ended. Ctrl-C goes to process 0, which may save its state. On a cluster, the
scheduler starts the processes, and `initialize()` needs no arguments. Read `processes.py` next.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NoReturn

GRACE = 10.0
"""Seconds in which the other processes may end by themselves after one has failed."""


def coordinates() -> dict[str, Any]:
    """Returns the arguments of `initialize` in a process that `run` has started, and an empty dict in any other."""
    if "JAX_PROCESS_ID" not in os.environ:
        return {}
    return {
        "coordinator_address": os.environ["JAX_COORDINATOR_ADDRESS"],
        "num_processes": int(os.environ["JAX_NUM_PROCESSES"]),
        "process_id": int(os.environ["JAX_PROCESS_ID"]),
    }


def run(command: Sequence[str], num_processes: int, *, devices: int = 1, reported: int | None = None) -> int:
    """Runs a command in several processes and waits for them.

    Args:
      command: the program and its arguments.
      num_processes: number of processes to start.
      devices: number of local accelerators that each process uses.
      reported: the exit code of failures that process 0 explains itself. If process 0 and another process both end with
        this code, the standard error of the other is not shown. None means that there is no such code.

    Returns:
      0 if all processes succeed, the exit code of the first process that fails (128 + n if signal n ended it), or 130
      after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        children, logs = [], [f"{folder}/{index}" for index in range(num_processes)]
        try:
            for index in range(num_processes):
                with open(logs[index], "w") as log:
                    streams = {} if index == 0 else {"stdout": subprocess.DEVNULL, "stderr": log}
                    children.append(_start(command, index, num_processes, devices, address, streams))
            code, failed = _wait(children)
            if failed and (reported is None or code != reported or children[0].poll() != reported):
                with open(logs[failed]) as log:
                    print(f"process {failed} of {num_processes} failed:\n{log.read()}", end="", file=sys.stderr)
        finally:
            for child in children:
                child.kill()
                child.wait()
    return code


def _start(
    command: Sequence[str], index: int, processes: int, devices: int, address: str, streams: dict[str, Any]
) -> subprocess.Popen:
    """Starts one process in a session of its own, so that Ctrl-C reaches it only through the parent."""
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
        "JAX_LOCAL_DEVICE_IDS": ",".join(str(index * devices + i) for i in range(devices)),
        "JAX_ENABLE_PREEMPTION_SERVICE": "0",  # it would catch the signal that ends a process
    }
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


def _wait(children: list[subprocess.Popen]) -> tuple[int, int | None]:
    """Waits until all processes have ended or one has failed.

    Returns:
      The exit code of the run, and the index of the process that failed or None.
    """
    try:
        while True:
            codes = [child.poll() for child in children]
            failed = next((index for index, code in enumerate(codes) if code), None)
            if failed is not None:
                _wait_at_most(children, GRACE)
                code = children[failed].returncode
                return (code if code > 0 else 128 - code), failed
            if all(code == 0 for code in codes):
                return 0, None
            time.sleep(0.1)
    except KeyboardInterrupt:
        children[0].send_signal(signal.SIGINT)
        _wait_at_most(children[:1], 6 * GRACE)
        return 130, None


def _wait_at_most(children: list[subprocess.Popen], seconds: float) -> None:
    until = time.monotonic() + seconds
    for child in children:
        try:
            child.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return


def _exit_on_signal(number: int, _: Any) -> NoReturn:
    raise SystemExit(128 + number)
