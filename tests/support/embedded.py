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
        shutil.rmtree(place)


def wait_until_stopped(service: EmbeddedService) -> None:
    """Wait for the watchdog's lock: whoever gets it knows that the server has stopped."""
    if not service.watchdog_lock_path.exists():
        return
    with FileLock.at(service.watchdog_lock_path) as guard:
        waiter = threading.Thread(target=guard.exclusive, daemon=True)
        waiter.start()
        waiter.join(DEADLINE)
        assert not waiter.is_alive(), f"the watchdog of {service.data_dir} still runs:\n{service.log_tail()}"
