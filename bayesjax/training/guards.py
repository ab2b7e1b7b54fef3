"""A lock on a folder, so that only one process writes in it, and a block that Ctrl-C cannot interrupt.

    Lock(folder).acquire()           raises Busy if another process holds the lock
    with uninterrupted(): ...        Ctrl-C is delayed until the end of the block

Read `checkpoint.py` next, which uses both.
"""

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""Error numbers of file systems that do not support locks."""


class Busy(OSError):
    """Another process is writing in the folder; the message names that process."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays Ctrl-C during the block until its end.

    Only the main thread receives signals, so the block has no effect in other threads.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received and callable(previous):
            previous(signal.SIGINT, received[-1])


class Lock:
    """An exclusive lock on a folder, held through a file `.lock` in it.

    The operating system holds the lock and releases it when the process ends in any way. On a file system without locks
    the file names the holder. A holder on this machine that no longer runs is ignored.
    """

    def __init__(self, folder: Path):
        self.path = folder / ".lock"
        self._file: Any = None

    def acquire(self) -> None:
        """Acquires the lock. A folder that cannot be written is not locked, and a later write raises its own error.

        Raises:
          Busy: if another process holds it; the message names the process and its host.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b", buffering=0)
        except OSError:
            return
        try:
            if not self._is_free(file):
                file.seek(0)
                holder = file.read(200).decode(errors="replace").strip() or "another process"
                raise Busy(f"{holder} is writing in {self.path.parent}: wait for it, or choose another folder")
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BaseException:
            file.close()
            raise
        self._file = file

    def refusal(self) -> str:
        """Tries to acquire the lock.

        Returns:
          An empty string if the lock was acquired, or else the reason in one line.
        """
        try:
            self.acquire()
        except OSError as error:
            return str(error)
        return ""

    def release(self) -> None:
        """Releases the lock if it is held."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None

    def _is_free(self, file: Any) -> bool:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
        file.seek(0)
        words = file.read(200).decode(errors="replace").split()
        if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdigit():
            return True
        return not _is_running(int(words[1]))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
