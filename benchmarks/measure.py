"""Timing for all benchmarks: each library in its own process on the same cores, rows in alternating order.

    sides = {"bayesjax": functools.partial(bayesjax_rows, config), "torch": functools.partial(torch_rows, config)}
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats)

In one process the thread pools of two libraries would interfere, and their memory could not be separated. On an
accelerator all rows are of JAX and share one process, which is the only one that may use the device.
"""

import functools
import importlib.util
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.training import files
from bayesjax.types import Kernel
from benchmarks import machine, report
from benchmarks.processes import Row, Sides, timed
from experiments.harness import provenance

RESULTS = Path(__file__).parent / "results"
BUSY = 0.7  # load average of the last minute above which the machine counts as busy


def prepare(config: Any, *counts: str, needs: tuple[str, ...] = ("torch",)) -> tuple[float, ...]:
    """Checks the flags and gives this process, and those it starts, the same cores and numbers of threads.

    Args:
      config: flags, with `repeats`, `threads` and `out` among them.
      *counts: other flags that must be at least 1.
      needs: modules of the libraries to compare with.

    Returns:
      The load averages, for the results file. A load above BUSY prints a warning.
    """
    load_average = os.getloadavg()
    require_modules(*needs)
    require_at_least(config, 1, "repeats", "threads", *counts)
    if config.out:
        make_folder(config.out)
    if load_average[0] > BUSY:
        line = f"warning: the load average is {load_average[0]:.1f}: times will be those of a busy machine"
        print(line, file=sys.stderr)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    if "torch" in needs and jax.default_backend() != "cpu":
        fail(f"PyTorch computes on the CPU here and JAX runs on {jax.default_backend()}: set JAX_PLATFORMS=cpu")
    return load_average


def fail(message: str) -> NoReturn:
    """Ends the program with one line on standard error and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def require_at_least(config: Any, least: int, *names: str) -> None:
    """Ends the program with one line if one of the named flags is below `least`."""
    for name in names:
        if (value := getattr(config, name)) < least:
            fail(f"--{name.replace('_', '-')} must be at least {least}; got {value}")


def require_modules(*modules: str) -> None:
    """Ends the program with one line if a library to compare with is not installed."""
    for module in modules:
        if not installed(module):
            fail(f"this benchmark compares with {module}: pip install -e '.[bench]'")


def installed(*modules: str) -> list[str]:
    """Those of the modules that are installed."""
    return [module for module in modules if importlib.util.find_spec(module)]


def make_folder(out: str) -> None:
    """Creates the folder of the results file, or ends the program with one line."""
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot write to --out {out}: {error.strerror}")


def compiled(function: Callable, *arguments: Any) -> tuple[jax.stages.Compiled, float]:
    """Compiles `function` with JAX for these arguments; returns the program and the seconds of compilation."""
    started = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - started


def check_finite(arrays: Any) -> None:
    """Raises FloatingPointError unless all numbers of a tree are finite; computed on the host, which is faster."""
    leaves = [leaf for leaf in jax.tree.leaves(arrays) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not all(np.isfinite(leaf).all() for leaf in jax.device_get(leaves)):
        raise FloatingPointError("the state is not finite")


def kernel_steps(kernel: Kernel, position: Any, batch: Any, num_steps: int) -> Row:
    """A row of steps of a kernel from a fixed state, in a scan that keeps the infos, as in `training.run`."""

    def steps(rng_key: jax.Array, state: Any, batch: Any) -> Any:
        def one(state: Any, step: jax.Array) -> tuple[Any, Any]:
            return kernel.step(jax.random.fold_in(rng_key, step), state, batch)

        return jax.lax.scan(one, state, jnp.arange(num_steps))

    arguments = jax.random.key(3), kernel.init(position, jax.random.key(2)), batch
    program, seconds = compiled(steps, *arguments)

    def run() -> None:
        moved, _ = jax.block_until_ready(program(*arguments))
        check_finite(moved)

    run()
    return Row(run, num_steps, seconds)


def alternate(rows: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Times each function `repeats` times in this process, in ms; the order is reversed in every second repeat."""
    return alternate_timed({name: functools.partial(timed, Row(run, 1)) for name, run in rows.items()}, repeats)


def alternate_timed(timers: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Calls functions that return their own time `repeats` times each, in the order of `alternate`."""
    milliseconds = {name: [] for name in timers}
    for repeat in range(repeats):
        for name in list(timers)[:: 1 if repeat % 2 == 0 else -1]:
            milliseconds[name].append(timers[name]())
    return milliseconds


def summary(values: list[float]) -> dict[str, float]:
    """The median, the minimum and the maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(times: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """The median, the range and all repeats of each row, for the results file."""
    return {name: {**summary(values), "repeats": values} for name, values in times.items()}


def ratio(times: dict[str, list[float]], numerator: str, denominator: str, bar: str) -> dict[str, Any]:
    """The ratio of two rows' medians, its range over repeats, and its bar.

    With five or more repeats it has a standard error, by a bootstrap that draws repeats with replacement.
    """
    pairs = np.array([times[numerator], times[denominator]])
    by_repeat, found = pairs[0] / pairs[1], {"of_medians": _of_medians(pairs)}
    if (num := pairs.shape[1]) >= 5:
        drawn = pairs[:, np.random.default_rng(0).integers(num, size=(1000, num))]
        found["stderr"] = float(np.std(_of_medians(drawn), ddof=1))
    return found | {"min": float(by_repeat.min()), "max": float(by_repeat.max()), "bar": bar}


def ratio_over_processes(
    processes: Sequence[dict[str, list[float]]], numerator: str, denominator: str, bar: str
) -> dict[str, Any]:
    """The mean over processes of the ratio of two rows, its range and its standard error, for the results file.

    The ratio of a process is the median over repeats of the ratio of the two rows. A machine changes its speed for
    seconds at a time, so both rows of a repeat have the same speed.

    Args:
      processes: the results of `Sides.alternate` for sides that were started anew each time; two or more.
    """
    found = [float(np.median(np.divide(times[numerator], times[denominator]))) for times in processes]
    stderr = statistics.stdev(found) / math.sqrt(len(found))
    extremes = {"min": min(found), "max": max(found), "bar": bar}
    return {"value": statistics.fmean(found), "stderr": stderr, "processes": len(found)} | extremes


def _of_medians(pairs: np.ndarray) -> Any:
    """Ratios `[...]` of the medians of two rows `[2, ..., repeats]`."""
    medians = np.median(pairs, axis=-1)
    return (medians[0] / medians[1])[()]


def slope(sizes: Sequence[float], milliseconds: Sequence[float]) -> dict[str, float | None]:
    """Least squares of log time on log size: the exponent, 1 for proportional cost, and its standard error."""
    x, y = np.log(sizes), np.log(milliseconds)
    x = x - x.mean()
    exponent = float(x @ y / (x @ x))
    residual = y - y.mean() - exponent * x
    stderr = math.sqrt(residual @ residual / (len(x) - 2) / (x @ x)) if len(x) > 2 else None
    return {"value": exponent, "stderr": stderr, "from": sizes[0], "to": sizes[-1]}


def of_steps(running: Sides, times: dict[str, list[float]], ratios: dict[str, Any]) -> dict[str, Any]:
    """Times and compile times of the rows, peak memory of the processes, and ratios, for the results file."""
    return {
        "milliseconds_per_step": summaries(times),
        "compile_seconds": running.compile_seconds,
        "peak_mib": running.peak_mib,
        "ratios": ratios,
    }


def made_by(*packages: str) -> dict[str, Any]:
    """Command, machine, versions and commit, for the results file.

    Args:
      *packages: packages whose versions are recorded besides JAX, Flax and NumPy.
    """
    path = Path(sys.argv[0]).with_suffix("")
    module = path.parts[path.parts.index("benchmarks") + 1 :] if "benchmarks" in path.parts else (path.name,)
    return {
        "benchmark": path.name,
        "command": " ".join(["python", "-m", ".".join(["benchmarks", *module]), *sys.argv[1:]]),
        "device": provenance.device_name(),
        "processor": machine.processor(),
        "versions": provenance.versions("jax", "jaxlib", "flax", "numpy", *packages),
        "commit": provenance.commit(),
    }


def made_beside_torch(config: Any, load_average: tuple[float, ...], *packages: str) -> dict[str, Any]:
    """`made_by` for a measurement beside PyTorch, with the number of threads and the load of the machine."""
    return {**made_by("torch", *packages), "threads": config.threads, "load_average_at_start": load_average}


def write(path: str, results: dict[str, Any]) -> None:
    """Writes a results file and prints its tables."""
    files.write_json(Path(path), results)
    print(report.render(files.read_json(Path(path))))
