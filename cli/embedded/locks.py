"""Advisory locks on files (`flock`): who uses a server, who starts it, who watches it.

The kernel drops such a lock when the last process holding it dies, however it dies; that is the whole reason to count
clients this way and not by process ids. Knows nothing of servers.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class FileLock:
    """One open file description of a lock file. Not reentrant; one lock of one kind at a time.

    A descriptor passed on to a child process is the same lock: it is held until both have closed it. It is passed on
    only on purpose, never by the way.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open a lock file, making it if need be. Raises OSError."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    def fileno(self) -> int:
        return self._descriptor

    def shared(self) -> None:
        """Wait until nobody holds the lock exclusively, then share it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def exclusive(self) -> None:
        """Wait until nobody else holds the lock, then hold it alone."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_exclusive(self) -> bool:
        """Hold the lock alone if nobody else holds it now."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the lock up. Harmless when done twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
