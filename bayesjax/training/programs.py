"""The folder in which JAX may keep compiled programs between processes.

    ~/.cache/bayesjax/programs/PROCESSOR      BAYESJAX_CACHE_DIR sets another folder than ~/.cache/bayesjax

A program for a CPU contains the instructions of the processor that compiled it, so that each kind of processor has its
own folder. JAX keys the programs by their code, its version, the devices and the compiler's options. JAX can limit the
size of a folder itself, but needs a further package for it. The library sets none of JAX's options:
`experiments/harness/launch.py` does so for the command line.
"""

import hashlib
import os
import platform
import re
from pathlib import Path

from bayesjax.data import decoded

MAX_BYTES = 2**31
"""Size of a folder above which the programs that were not read or written for the longest time are deleted."""


def cache_folder() -> Path | None:
    """The folder of this processor's programs, created if it is missing; None if it is switched off or not writable."""
    parent = decoded.cache_folder()
    if parent is None:
        return None
    folder = parent / "programs" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{platform.node()}"
        probe.touch()
        probe.unlink(missing_ok=True)
        _prune(folder, MAX_BYTES)
    except OSError:
        return None
    return folder


def processor() -> str:
    """A name for the instructions of this processor: those that Linux lists, elsewhere the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    words = listed[1] if listed else f"{platform.machine()} {platform.processor()}"
    return hashlib.sha256(" ".join(sorted(words.split())).encode()).hexdigest()[:16]


def _prune(folder: Path, most: int) -> None:
    """Deletes the files that were not used for the longest time until the rest have at most `most` bytes."""
    entries = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda entry: -_last_use(entry[0]))
    total = 0
    for status, path in entries:
        total += status.st_size
        if total > most:
            path.unlink(missing_ok=True)


def _last_use(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)
