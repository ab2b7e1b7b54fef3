"""Mutation testing: plant each fault of `faults.toml` in a copy of the package and run the tests that must catch it.

    python -m tests.mutation                        all faults; exits with 1 if one of them survives
    python -m tests.mutation --only "elbo*"         the faults whose names match a pattern
    python -m tests.mutation --jobs 2               two faults at a time

A fault is *caught* if its tests fail, *survives* if they pass, and is *broken* if pytest cannot run them at all (the
planted text does not import, or no test was selected): a fault that any import would reveal tests nothing. The same
tests run once on an unchanged copy first; those that fail there are printed and left out, since they would count every
fault as caught. All runs share one compilation cache, so that only the programs that a fault changes are compiled
again. `make test` does not run this; it checks by `test_faults.py` that the list fits the source.
"""

import argparse
import concurrent.futures
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.faults import ROOT, Fault, load, plant

COPIED = "bayesjax", "experiments", "benchmarks", "docs", "tests", "pyproject.toml", "README.md", "Makefile"
TESTS_FAILED, TESTS_PASSED = 1, 0  # pytest's exit codes; all others mean that it could not run the tests
TIMEOUT = 900
"""Seconds after which the tests of a fault count as failed: a fault may well make a loop endless."""


def main() -> int:
    """Runs the faults and prints a line each; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of the names of the faults to plant (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="faults planted at the same time, each by one process")
    parser.add_argument("--no-baseline", action="store_true", help="skip the run of all tests on an unchanged copy")
    arguments = parser.parse_args()
    faults = [fault for fault in load() if fnmatch.fnmatchcase(fault.name, arguments.only)]
    if not faults:
        parser.error(f"--only {arguments.only} matches no fault in tests/mutation/faults.toml")

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "compiled"
        left_out: list[str] = []
        if not arguments.no_baseline:
            started = time.perf_counter()
            outcome, output = run_tests(Path(folder), cache, None, sorted({test for f in faults for test in f.tests}))
            left_out = failed_tests(output)
            print(f"unchanged copy: {time.perf_counter() - started:.0f} s", *left_out, sep="\n  fails: ", flush=True)
            if outcome == "broken":
                print(output)
                return 1
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            futures = [pool.submit(run_fault, Path(folder), cache, fault, left_out) for fault in faults]
            outcomes = [report(fault, future.result()) for fault, future in zip(faults, futures, strict=True)]
    for outcome in ("caught", "survived", "broken"):
        names = [fault.name for fault, got in zip(faults, outcomes, strict=True) if got == outcome]
        shown = f": {', '.join(names)}" if names and outcome != "caught" else ""
        print(f"{outcome}: {len(names)} of {len(faults)}{shown}")
    return int(any(outcome != "caught" for outcome in outcomes))


def run_fault(folder: Path, cache: Path, fault: Fault, left_out: list[str]) -> tuple[str, str, float]:
    """Outcome, the end of pytest's output, and seconds."""
    started = time.perf_counter()
    options = ["-x", *(f"--deselect={test}" for test in left_out)]
    outcome, output = run_tests(folder, cache, fault, [*options, *fault.tests], timeout=TIMEOUT)
    return outcome, output, time.perf_counter() - started


def report(fault: Fault, result: tuple[str, str, float]) -> str:
    """Prints the outcome of one fault and returns it."""
    outcome, output, seconds = result
    failed = failed_tests(output)
    print(f"{outcome:8} {seconds:5.0f} s  {fault.name}" + (f"  by {failed[0]}" if failed else ""), flush=True)
    if outcome == "broken":
        print(output)
    return outcome


def failed_tests(output: str) -> list[str]:
    """The tests, or files, that pytest's summary names as failed."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return [line.partition(" ")[2].partition(" - ")[0] for line in lines]


def run_tests(
    folder: Path, cache: Path, fault: Fault | None, arguments: list[str], timeout: float | None = None
) -> tuple[str, str]:
    """Runs tests in a copy of the package, with a fault planted if there is one; outcome and pytest's output."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:
        for name in COPIED:
            source, target = ROOT / name, Path(copy) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "results"))
            else:
                shutil.copy(source, target)
        if fault is not None:
            path = Path(copy) / fault.file
            path.write_text(plant(fault, path.read_text()))
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *arguments]
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return "caught", f"FAILED no end after {timeout} s"
    outcome = {TESTS_FAILED: "caught", TESTS_PASSED: "survived"}.get(done.returncode, "broken")
    return outcome, done.stdout[-3000:] + done.stderr[-1000:]


if __name__ == "__main__":
    raise SystemExit(main())
