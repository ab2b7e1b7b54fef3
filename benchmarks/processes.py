"""Rows of a benchmark and the processes that time them: one process for each library on a CPU, else this process."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Row(NamedTuple):
    """A function to be timed.

    Attributes:
      run: takes `steps` steps, compiled and warm, and waits for the result.
      steps: number of steps of a call.
      compile_seconds: compilation time; None for code that is not compiled.
    """

    run: Callable[[], Any]
    steps: int
    compile_seconds: float | None = None


class Sides:
    """A context manager for several processes, of which one computes at a time.

    On a backend other than the CPU, the rows are made and timed in this process: a TPU belongs to one process, and a
    GPU's memory to the first that reserves it.

    Args:
      sides: functions without arguments that make the rows of a process, by the name of the process (side). They are
        pickled, so they must be functions of a module, or `functools.partial` of one.
      threads: number of cores and threads of each process.
      devices: number of CPU devices on which JAX spreads the work of a side; 1 for sides that are not listed.
      pause: seconds before a row, in which idle threads stop spinning.

    Attributes:
      compile_seconds: compilation time of each row, by its name.
      peak_mib: largest resident memory so far in MiB, by side; it includes the interpreter and libraries. In this
        process, the largest memory of the device.
    """

    def __init__(
        self,
        sides: Mapping[str, Callable[[], dict[str, Row]]],
        *,
        threads: int,
        devices: Mapping[str, int] | None = None,
        pause: float = 0.5,
    ):
        self.sides, self.threads, self.devices, self.pause = sides, threads, devices or {}, pause
        self.compile_seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}
        self._processes: list[Any] = []
        self._pipes: dict[str, Connection] = {}
        self._side_of: dict[str, str] = {}
        self._rows: dict[str, Row] = {}  # the rows of this process

    def __enter__(self) -> "Sides":
        """Starts the processes; each makes its rows."""
        if jax.default_backend() != "cpu":
            for name, make_rows in self.sides.items():
                made = make_rows()
                self._rows |= made
                self._side_of |= dict.fromkeys(made, name)
            compiled = {name: row.compile_seconds for name, row in self._rows.items()}
            self.compile_seconds = {name: seconds for name, seconds in compiled.items() if seconds is not None}
            return self
        context = multiprocessing.get_context("spawn")
        try:
            for name, make_rows in self.sides.items():  # one after the other, because they compile
                self._pipes[name], theirs = context.Pipe()
                process = context.Process(
                    target=_serve, args=(theirs, make_rows, self.devices.get(name, 1)), daemon=True
                )
                process.start()
                theirs.close()
                self._processes.append(process)
                for row, seconds in self._receive(name).items():
                    self._side_of[row] = name
                    if seconds is not None:
                        self.compile_seconds[row] = seconds
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.terminate()
            process.join()

    def alternate(self, repeats: int, rows: list[str] | None = None) -> dict[str, list[float]]:
        """Times each row `repeats` times, in milliseconds per step; the order is reversed in every second repeat.

        Raises:
          RuntimeError: if a side fails; the message is its traceback.
        """
        milliseconds = {row: [] for row in rows or self._side_of}
        for repeat in range(repeats):
            for row in list(milliseconds)[:: 1 if repeat % 2 == 0 else -1]:
                time.sleep(self.pause)
                milliseconds[row].append(self.time(row))
        return milliseconds

    def rows(self) -> list[str]:
        """Names of all rows."""
        return list(self._side_of)

    def time(self, row: str) -> float:
        """Times one call of a row, in milliseconds per step."""
        side = self._side_of[row]
        if row in self._rows:
            elapsed, self.peak_mib[side] = timed(self._rows[row]), device_peak_mib()
        else:
            self._pipes[side].send(row)
            elapsed, self.peak_mib[side] = self._receive(side)
        return elapsed

    def _receive(self, side: str) -> Any:
        try:
            answer = self._pipes[side].recv()
        except EOFError:
            raise RuntimeError(f"the process of {side} ended without a result") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{side}: {answer}")
        return answer


def _serve(pipe: Connection, make_rows: Callable[[], dict[str, Row]], devices: int) -> None:
    """Runs in the process of a side: makes its rows, then times the rows that are requested."""
    try:
        jax.config.update("jax_num_cpu_devices", devices)
        rows = make_rows()
        pipe.send({name: row.compile_seconds for name, row in rows.items()})
        while True:
            pipe.send((timed(rows[pipe.recv()]), _peak_mib()))
    except EOFError:
        pass  # the benchmark has ended
    except Exception:  # a row may raise anything; the other process raises it again
        pipe.send(traceback.format_exc())


def _peak_mib() -> float:
    """Largest resident memory of this process in MiB. `getrusage` would include the process it was forked from."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def device_peak_mib() -> float:
    """Largest memory of the first device that this process has used, in MiB; NaN where JAX does not report it."""
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use", float("nan")) / 2**20


def timed(row: Row) -> float:
    """Milliseconds per step of one call."""
    started = time.perf_counter()
    row.run()
    return 1e3 * (time.perf_counter() - started) / row.steps
