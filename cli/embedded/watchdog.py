"""The process that looks after one embedded server: its parent, so that a dead server is never mistaken for a live one.

It starts the server, tells the client that asked, starts the server again when it dies while clients use it, and stops
it when the last client is gone. It belongs to no terminal and to no client: neither Ctrl-C nor a client's death by
SIGKILL reaches it. What is particular to a server is the service's business.

Run as `python -m stepwell.cli.embedded.watchdog SPECIFICATION`, by `lifecycle` alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from types import FrameType

from stepwell.cli.embedded.lifecycle import POLL_SECONDS, READY, EmbeddedService, Liveness
from stepwell.cli.embedded.locks import FileLock
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from stepwell.engine.errors import ConfigurationError

RETRY_SECONDS = 0.1
RETRY_LIMIT_SECONDS = 30.0
"""A server that may start a moment later is tried again this often and for this long."""
RESTART_SECONDS = (0.0, 0.2, 1.0, 5.0)
"""How long to wait before a server that died is started again, by how often it failed to come up since it last served."""


class Watchdog:
    """One server's life. `supervise` runs in a thread; `stop` is called by another one."""

    def __init__(self, service: EmbeddedService) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> None:
        self._supervisor.start()

    def stop(self) -> None:
        """Stop the server, gently at first, and return when it has ended."""
        with self._changing:
            self._stopping.set()
            server = self._server
        for number, seconds in self._service.stop_signals:
            if server is not None:
                server.send_signal(number)
            self._supervisor.join(seconds)
            if not self._supervisor.is_alive():
                break
        self._service.clean_up()

    def _supervise(self) -> None:
        try:
            self._serve_first()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client that waits must hear of it
            if not isinstance(error, ConfigurationError | OSError):
                traceback.print_exc()
            _report(str(error))
            # The client is told and lets go; others that wait for this watchdog may try for themselves.
            os._exit(1)
        failures = 0
        while not self._stopping.wait(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]):
            failures += 1
            try:
                server = self._spawn()
            except (ConfigurationError, OSError) as error:
                self._log(str(error))
                continue
            if server is not None:
                failures = 0 if self._becomes_ready(server) else failures
                server.wait()

    def _serve_first(self) -> None:
        """Start the server for the client that waits, and return when the server has ended."""
        service = self._service
        service.prepare()
        if service.liveness() is not Liveness.ABSENT:
            service.stop_stray()
        give_up = time.monotonic() + RETRY_LIMIT_SECONDS
        log_length = service.log_path.stat().st_size if service.log_path.exists() else 0
        while (server := self._spawn()) is not None:
            if self._becomes_ready(server):
                _report(READY)
                server.wait()
                return
            said = service.log_since(log_length)
            if not service.may_try_again(said) or time.monotonic() > give_up:
                raise service.failure("ended while it was starting")
            self._stopping.wait(RETRY_SECONDS)

    def _log(self, text: str) -> None:
        with self._service.open_log() as log:
            log.write(f"watchdog: {text}\n".encode())

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._changing:
            self._server = None if self._stopping.is_set() else self._service.spawn()
            return self._server

    def _becomes_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Wait until the server serves (True) or ends (False). Recovery may take as long as it takes."""
        while self._service.liveness() is not Liveness.READY:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(POLL_SECONDS)
                return False
        return True


def service_of(specification: dict[str, object]) -> EmbeddedService:
    """Build the service that `EmbeddedService.specification` described."""
    kinds: dict[str, type[EmbeddedPostgres] | type[EmbeddedValkey]] = {
        kind.kind: kind for kind in (EmbeddedPostgres, EmbeddedValkey)
    }
    return kinds[str(specification["kind"])].from_specification(specification)


def main(specification: dict[str, object]) -> None:
    guard = FileLock(int(str(specification["guard"])))
    service = service_of(specification)
    watchdog = Watchdog(service)

    def stop_now(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop_now)
    users = FileLock.at(service.users_lock_path)
    watchdog.start()
    with contextlib.suppress(KeyboardInterrupt):
        users.exclusive()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watchdog.stop()
    # In this order: a newcomer that gets `users` must find no trace of a watchdog.
    guard.close()
    users.close()


def _report(text: str) -> None:
    """Tell the client that waits, once, and close the pipe. It may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode())
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.close(silence)


if __name__ == "__main__":
    if os.fork():
        # The client waits for this process; its child is nobody's and outlives them all.
        os._exit(0)
    main(json.loads(sys.argv[1]))
