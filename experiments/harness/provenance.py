"""Provenance of a result: the command, commit, package versions and devices that made it."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"


def command(experiment: str) -> str:
    """The command line without `--out`, `--resume` and `--overwrite`, which do not affect results."""
    kept, skip = [], False
    for argument in sys.argv[1:]:
        if not skip and not argument.startswith(("--out", "--resume", "--overwrite")):
            kept.append(argument)
        skip = argument == "--out"
    return " ".join(["python", "-m", f"experiments.{experiment}", *kept])


def device_name(num: int = 1) -> str:
    """Kind and number of the devices of all processes, with `num` in each, for example "cpu x 1 (2 cores)"."""
    device, processes = jax.devices()[0], jax.process_count()
    cores = f" ({len(os.sched_getaffinity(0))} cores)" if device.platform == "cpu" else ""
    return f"{device.device_kind} x {num * processes}{f' on {processes} processes' if processes > 1 else ''}{cores}"


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    return {package: version(package) for package in packages}


def commit() -> str:
    """The commit of the working tree, with "+changes" if it has uncommitted changes; "unknown" outside git.

    The environment variable BAYESJAX_COMMIT takes precedence, for a copy of the tree without its history.
    """
    if named := os.environ.get("BAYESJAX_COMMIT"):
        return named
    git, code = ["git", "-C", str(ROOT)], ["bayesjax", "experiments/*.py", "benchmarks/*.py"]
    try:
        head = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True, stderr=subprocess.DEVNULL)
        changed = subprocess.check_output([*git, "status", "--porcelain", "--", *code], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+changes" if changed.strip() else "")
