"""Places for embedded servers in tests, and waiting for their end."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwell.cli.embedded.lifecycle import EmbeddedService
from stepwell.cli.embedded.locks import FileLock

DEADLINE = 120.0


@contextmanager
def server_place() -> Iterator[Path]:
    """A short temporary directory that every user can pass through; pytest's own are closed to the server's user."""
    place = Path(tempfile.mkdtemp(prefix="sw-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        for lock in list(place.rglob("watchdog.lock")):
            _stopped(lock)
        shutil.rmtree(place, ignore_errors=True)


def wait_until_stopped(service: EmbeddedService) -> None:
    """Wait for the end of a server that nobody uses any more."""
    stopped = _stopped(service.watchdog_lock_path)
    assert stopped, f"the watchdog of {service.data_dir} still runs:\n{service.log_tail()}"


def _stopped(watchdog_lock: Path) -> bool:
    """Wait for a watchdog's lock: whoever gets it knows that its server has stopped."""
    if not watchdog_lock.exists():
        return True
    with FileLock.at(watchdog_lock) as guard:
        waiter = threading.Thread(target=guard.exclusive, daemon=True)
        waiter.start()
        waiter.join(DEADLINE)
        return not waiter.is_alive()
