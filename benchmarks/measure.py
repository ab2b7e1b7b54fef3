"""What every benchmark here shares: both libraries on the same cores, rows in alternating order, medians and ranges."""

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments import common

RESULTS = Path(__file__).parent / "results"


def prepare(config: Any, *counts: str, devices: bool = False) -> None:
    """Checks the flags and gives both libraries the same cores, before either starts its threads.

    Args:
      config: flags, with `repeats`, `threads` and `out` among them.
      *counts: other flags that must be at least 1.
      devices: whether JAX is to see each core as a device, for rows that spread their work over devices.
    """
    if importlib.util.find_spec("torch") is None:
        common.fail("this benchmark compares with PyTorch: pip install -e '.[bench]'")
    try:
        common.require_at_least_one(config, "repeats", "threads", *counts)
    except ValueError as error:
        common.fail(str(error))
    try:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        common.fail(f"cannot write to --out {config.out}: {error.strerror}")
    import torch  # pyright: ignore[reportMissingImports]

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    if devices:  # twice as many: XLA has a thread for each, and programs were seen to wait for ever without spare ones
        jax.config.update("jax_num_cpu_devices", 2 * config.threads)
    if jax.default_backend() != "cpu":
        common.fail(f"this benchmark compares CPU code and JAX runs on {jax.default_backend()}: set JAX_PLATFORMS=cpu")


def alternate(
    rows: dict[str, Callable[[], Any]], repeats: int, steps: dict[str, int], pause: float = 0.5
) -> dict[str, list[float]]:
    """Milliseconds per step of every row, `repeats` times; the order is reversed every other time.

    Args:
      rows: functions that take `steps[name]` steps each, compiled and warm.
      repeats: times every row is measured.
      steps: the steps of a call.
      pause: seconds before a row, in which the other library's idle threads stop spinning.
    """
    milliseconds = {name: [] for name in rows}
    for repeat in range(repeats):
        for name in list(rows)[:: 1 if repeat % 2 == 0 else -1]:
            time.sleep(pause)
            started = time.perf_counter()
            rows[name]()
            milliseconds[name].append(1e3 * (time.perf_counter() - started) / steps[name])
    return milliseconds


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(times: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median, range and every repeat of each row, for the results file."""
    return {name: {**summary(values), "repeats": values} for name, values in times.items()}


def ratio(times: dict[str, list[float]], numerator: str, denominator: str, bar: str) -> dict[str, Any]:
    """The ratio of two rows' medians, the range of their ratio repeat by repeat, and what was asked of it."""
    by_repeat = [a / b for a, b in zip(times[numerator], times[denominator], strict=True)]
    of_medians = statistics.median(times[numerator]) / statistics.median(times[denominator])
    return {"of_medians": of_medians, "min": min(by_repeat), "max": max(by_repeat), "bar": bar}


def provenance(config: Any, load_average: tuple[float, ...]) -> dict[str, Any]:
    """Command, machine, versions and commit, for the results file."""
    module = Path(sys.argv[0]).stem
    return {
        "benchmark": module,
        "command": " ".join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]),
        "device": common.device_name(),
        "processor": common.processor(),
        "threads": config.threads,
        "load_average_at_start": load_average,
        "versions": common.versions("jax", "jaxlib", "flax", "torch", "numpy"),
        "commit": common.commit(),
    }
