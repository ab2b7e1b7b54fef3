"""The processor of a benchmark, which its results file records."""

from pathlib import Path


def processor() -> str:
    """Name of the processor as Linux reports it; "unknown" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
