"""On what, with what and from which commit a result was made: what results.json and the benchmarks record."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def command(experiment: str) -> str:
    """The command line less what says where, or whether again: nobody needs it to make the same results."""
    kept, skip = [], False
    for argument in sys.argv[1:]:
        if not skip and not argument.startswith(("--out", "--resume", "--overwrite")):
            kept.append(argument)
        skip = argument == "--out"
    return " ".join(["python", "-m", f"experiments.{experiment}", *kept])


def device_name(num: int = 1) -> str:
    """Kind and number of the devices in use, e.g. "cpu x 1 (2 cores)", of all processes together."""
    import jax

    device, processes = jax.devices()[0], jax.process_count()
    cores = f" ({len(os.sched_getaffinity(0))} cores)" if device.platform == "cpu" else ""
    return f"{device.device_kind} x {num * processes}{f' on {processes} processes' if processes > 1 else ''}{cores}"


def processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def commit() -> str:
    """The commit of the working tree, with "+changes" if it has uncommitted ones; "unknown" outside git.

    BAYESJAX_COMMIT comes before both: for a copy of the tree that came without its history.
    """
    if named := os.environ.get("BAYESJAX_COMMIT"):
        return named
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "bayesjax", "experiments/*.py", "benchmarks/*.py"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


if __name__ == "__main__":
    from experiments import common

    common.not_a_command()
