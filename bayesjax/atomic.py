"""Atomic writing of files: readers find the complete old file or the complete new one, even if a process is killed.

    with replacing(path) as temporary: ...      `temporary` replaces `path` at the end of the block

A file is written under a temporary name, flushed to the disk and renamed. Temporary names end in UNFINISHED, so that
`remove_unfinished` finds the files of killed processes. Every error message is one line that names the file.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".unfinished"


def cause(error: BaseException) -> str:
    """The first line of the message of an error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` at the end of the block. If the block fails, `path` is unchanged.

    Raises:
      OSError: if `path` cannot be written; the message is one line with its name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {cause(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flushes the entries of a folder to the disk, where the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append(path: Path, line: str) -> None:
    """Appends a line to a text file. A line that could be written only in part is removed.

    Raises:
      OSError: if `path` cannot be written; the message is one line with its name.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before, encoded = file.seek(0, os.SEEK_END), (line + "\n").encode()
            try:
                if file.write(encoded) != len(encoded):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise OSError(f"cannot write {path}: {cause(error)}") from error


def remove_unfinished(folder: Path, *, name: str = "*", min_age: float = 0.0) -> None:
    """Deletes unfinished files and folders of killed processes in a folder.

    Args:
      folder: the folder.
      name: pattern of the names without the ending UNFINISHED.
      min_age: the age in seconds, since the last change, from which on they are deleted. It spares those of running
        processes where several processes may write in the folder.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.glob(f"{name}{UNFINISHED}")):
            if min_age > 0 and time.time() - path.lstat().st_mtime < min_age:  # clocks of hosts may differ
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
