"""The devices and processes of a run: the flags, what they do before JAX loads, and a kernel spread over them.

    python -m experiments.NAME --devices 8 --parallel pmap        eight devices of one process
    python -m experiments.NAME --devices 4 --processes 2          two processes of four devices on this machine
    python -m experiments.NAME --devices 4 --processes 0          on every host of a pod, once

With `--processes 2` the command starts itself twice and waits, computing nothing: each process has the next part of the
machine's accelerators. The first is the one that is seen; what another wrote to standard error is shown if it failed
alone. When one fails the others are ended; Ctrl-C goes to the first, which saves the run. Loads nothing heavy.
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
from dataclasses import dataclass
from typing import Any, NoReturn

BAD_INPUT = 2
GRACE = 10.0  # seconds in which the others may end by themselves after one has failed


@dataclass(frozen=True)
class DeviceFlags:
    """Where a run is computed: no part of its configuration, since its numbers are those of one device, to rounding."""

    devices: int = 1
    """Devices of each process; on a CPU, as many are made."""
    processes: int = 1
    """Processes to start on this machine; 0 joins those that a pod or a cluster has started, one a host."""
    parallel: str = "shard_map"
    """How the devices share a step: shard_map, or pmap (one process, and one of the two axes)."""
    data_devices: int = 0
    """Among how many of all devices each batch is divided; the others divide the particles. 0: as many as can divide
    the particles do, and the rest the batch."""


def error(flags: DeviceFlags) -> str:
    """What is wrong with the flags, in a line; empty if nothing is."""
    if flags.devices < 1:
        return f"--devices must be at least 1; got {flags.devices}"
    if flags.processes < 0 or flags.data_devices < 0:
        return f"--processes and --data-devices must not be negative; got {flags.processes} and {flags.data_devices}"
    if flags.parallel not in ("shard_map", "pmap"):
        return f"--parallel must be shard_map or pmap; got {flags.parallel!r}"
    if flags.parallel == "pmap" and flags.processes != 1:
        return f"--parallel pmap is of the devices of one process; got --processes {flags.processes}"
    return ""


def prepare(flags: DeviceFlags) -> None:
    """Sets the environment that JAX will read; with several processes to start, starts them and exits as they do."""
    if flags.processes > 1 and "JAX_PROCESS_ID" not in os.environ:
        raise SystemExit(run([sys.executable, *sys.orig_argv[1:]], flags.devices, flags.processes))
    if flags.devices > 1 or flags.processes != 1:
        # Twice as many as are used: XLA:CPU has as many threads as devices, all of which a reduction may hold, and
        # whatever else is in flight needs one too.
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(2 * flags.devices))


def join() -> None:
    """Joins the other processes: those that `prepare` has started, or else those of the cluster."""
    from bayesjax import training

    if "JAX_PROCESS_ID" not in os.environ:
        return training.initialize()
    number, index = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
    return training.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], number, index)


def missing(flags: DeviceFlags) -> str:
    """What is wrong with the flags on the devices that are there, in a line; empty if nothing is."""
    import jax

    num = flags.devices * jax.process_count()
    if flags.devices > jax.local_device_count():
        return f"--devices must be at most {jax.local_device_count()}, which are there; got {flags.devices}"
    if flags.data_devices and num % flags.data_devices:
        return f"--data-devices must divide the {num} devices; got {flags.data_devices}"
    return ""


def spread(flags: DeviceFlags, kernel: Any) -> Any:
    """The kernel on the devices that the flags ask for.

    Raises:
      ValueError: if the particles or the batch do not divide over them.
    """
    import jax

    from bayesjax.training import parallel

    num, data = flags.devices * jax.process_count(), flags.data_devices
    parts = {"data": data, "particle": num // data} if data else parallel.axis_sizes(kernel, num, flags.parallel)
    return parallel.spread(kernel, data=parts["data"], particle=parts["particle"], transform=flags.parallel)


def leave(error: BaseException) -> NoReturn:
    """Ends this process of several at once: JAX's way out waits minutes for the others, which may wait for this one."""
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
                    others = {} if index == 0 else {"stdout": subprocess.DEVNULL, "stderr": log}
                    children.append(_start(command, index, processes, devices, address, others))
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
    """One of the processes, out of reach of the terminal's Ctrl-C, which the parent passes on."""
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
        "JAX_LOCAL_DEVICE_IDS": ",".join(str(index * devices + i) for i in range(devices)),
        "JAX_ENABLE_PREEMPTION_SERVICE": "0",  # it would catch the signal that ends a process
    }
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


def _wait(children: list[subprocess.Popen]) -> tuple[int, int | None]:
    """Waits for all, or for one that fails: the exit code, and which it was."""
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


if __name__ == "__main__":
    from experiments import common

    common.not_a_command()
