"""Devices and processes of a run.

    python -m experiments.NAME --devices 8 --parallel pmap        eight devices of one process
    python -m experiments.NAME --devices 4 --processes 2          two processes of four devices on this machine
    python -m experiments.NAME --devices 4 --processes 0          on every host of a pod, once

With `--processes 2` the command starts itself twice and waits: each process receives its own share of the machine's
accelerators. Only the first process prints; the standard error of another is shown if that process alone failed. When
one process fails, the others are ended. Ctrl-C goes to the first process, which saves the run.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import jax

from bayesjax import training
from bayesjax.training import parallel
from bayesjax.types import Kernel
from experiments.harness.cli import BAD_INPUT, RunConfig

GRACE = 10.0
"""Seconds in which the other processes may end by themselves after one has failed."""


def prepare(config: RunConfig) -> None:
    """Configures JAX's devices, before its first computation.

    With several processes to start, starts them and exits with their code.
    """
    if config.processes > 1 and "JAX_PROCESS_ID" not in os.environ:
        raise SystemExit(run([sys.executable, *sys.orig_argv[1:]], config.devices, config.processes))
    if (config.devices > 1 or config.processes != 1) and "JAX_NUM_CPU_DEVICES" not in os.environ:
        # Twice as many as are used: XLA:CPU has as many threads as devices, all of which a reduction may hold, and
        # whatever else is in flight needs one too.
        jax.config.update("jax_num_cpu_devices", 2 * config.devices)


def join() -> None:
    """Joins the other processes: those that `prepare` has started, or else those of the cluster."""
    if "JAX_PROCESS_ID" not in os.environ:
        return training.initialize()
    number, index = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
    return training.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], number, index)


def missing(config: RunConfig) -> str:
    """One line that names the flag which the available devices cannot satisfy; empty if they can."""
    num = config.devices * jax.process_count()
    if config.devices > jax.local_device_count():
        return f"--devices must be at most {jax.local_device_count()}, the number available; got {config.devices}"
    if config.data_devices and num % config.data_devices:
        return f"--data-devices must divide the {num} devices; got {config.data_devices}"
    return ""


def spread(config: RunConfig, kernel: Kernel) -> Kernel:
    """The kernel on the devices of a configuration.

    Raises:
      ValueError: if the particles or the batch cannot be divided over them.
    """
    num, data = config.devices * jax.process_count(), config.data_devices
    parts = {"data": data, "particle": num // data} if data else parallel.divide(kernel, num, config.parallel)
    return parallel.spread(kernel, data=parts["data"], particle=parts["particle"], how=config.parallel)


def leave(error: BaseException) -> NoReturn:
    """Ends one of several processes at once: JAX's own exit would wait minutes for processes that may wait for it."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def run(command: Sequence[str], devices: int, processes: int) -> int:
    """Runs the command in several processes that JAX joins; returns the exit code."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        children, logs = [], [f"{folder}/{index}" for index in range(processes)]
        try:
            for index in range(processes):
                with open(logs[index], "w") as log:
                    streams = {} if index == 0 else {"stdout": subprocess.DEVNULL, "stderr": log}
                    children.append(_start(command, index, processes, devices, address, streams))
            code, failed = _wait(children)
            if failed and (code != BAD_INPUT or children[0].poll() != BAD_INPUT):  # the first has not said the same
                with open(logs[failed]) as log:
                    print(f"process {failed} of {processes} failed:\n{log.read()}", end="", file=sys.stderr)
        finally:
            for child in children:
                child.kill()
                child.wait()
    return code


def _start(
    command: Sequence[str], index: int, processes: int, devices: int, address: str, streams: dict[str, Any]
) -> subprocess.Popen:
    """Starts one process in a session of its own: the parent passes the terminal's Ctrl-C on."""
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
        "JAX_LOCAL_DEVICE_IDS": ",".join(str(index * devices + i) for i in range(devices)),
        "JAX_ENABLE_PREEMPTION_SERVICE": "0",  # it would catch the signal that ends a process
    }
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


def _wait(children: list[subprocess.Popen]) -> tuple[int, int | None]:
    """Waits until all processes have ended, or one has failed: the exit code, and the index of the failed process."""
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
