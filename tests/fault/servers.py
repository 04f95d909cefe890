"""A PostgreSQL that a test may stop and start, and a way to one that cuts connections in the middle of a commit."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stepwell.cli.embedded.lifecycle import Liveness
from stepwell.cli.embedded.postgres import SOCKET_NAME, EmbeddedPostgres
from tests.fault.cluster import until
from tests.fixtures.postgres import migrate
from tests.support.embedded import server_place
from tests.support.sql import run_sql, with_database

DEADLINE: Final = 60.0
PREPARE_COMMIT: Final = re.compile(rb"P.{4}([^\0]+)\0[^\0]*INSERT INTO history_chunk", re.DOTALL)
"""A commit is the only statement that writes history; it is prepared under a name."""
BIND: Final = re.compile(rb"B.{4}\0([^\0]+)\0", re.DOTALL)
EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"
SYNC: Final = b"S\0\0\0\x04"
FLUSH: Final = b"H\0\0\0\x04"
DONE: Final = b"Z\0\0\0\x05I"
"""The server's word that it is done, in no transaction."""


class OwnPostgres:
    """A durable server of one test's own, without the watchdog that would start it again."""

    def __init__(self, place: Path) -> None:
        self._service = EmbeddedPostgres(place)
        self._service.prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        run_sql(self._service.url(), "CREATE DATABASE faults")
        self.database = with_database(self._service.url(), "faults")
        migrate(self.database)

    def start(self) -> None:
        """Start it, and wait until it serves; after a crash it recovers first."""
        self._process = self._service.spawn()
        until(lambda: self._service.liveness() is Liveness.READY, "PostgreSQL")

    def stop(self, how: signal.Signals) -> None:
        """SIGINT ends all sessions, SIGQUIT is as good as a crash; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        self._service.clean_up()


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    with server_place() as place:
        server = OwnPostgres(place)
        try:
            yield server
        finally:
            server.close()


class Loss(Enum):
    """What of a commit is lost with its connection."""

    REQUEST = "request"
    """It did not reach the server: nothing is written."""
    REPLY = "reply"
    """The server has committed, and nobody was told."""


class CuttingProxy:
    """Stands between engines and a PostgreSQL; cuts the connection of the next commit when it is told to."""

    def __init__(self, database: str) -> None:
        parts = urlsplit(database)
        self._socket = str(Path(parse_qs(parts.query)["host"][0]) / SOCKET_NAME)
        self._listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.database = f"postgresql://{parts.username}@{address}{parts.path}?sslmode=disable"
        self._lock = threading.Lock()
        self._armed: Loss | None = None
        self._connections: list[_Connection] = []
        self.cuts = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut_next_commit(self, loss: Loss) -> None:
        with self._lock:
            self._armed = loss

    def take(self) -> Loss | None:
        """What the commit that comes by now is to lose."""
        with self._lock:
            loss, self._armed = self._armed, None
            return loss

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(os.fsencode(self._socket))
                except OSError:
                    client.close()
                    continue
                self._connections.append(_Connection(self, client, server))


class _Connection:
    """One connection and the two threads that carry its bytes."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._reply_is_lost = False
        for carry in (self._carry_requests, self._carry_replies):
            threading.Thread(target=carry, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """Hang up on both sides."""
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _carry_requests(self) -> None:
        commits: set[bytes] = set()
        request = b""
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                request += data  # it may come in parts
                if prepared := PREPARE_COMMIT.search(request):
                    commits.add(prepared[1])
                bound = BIND.search(request) if request.endswith(EXECUTE + SYNC) else None
                if bound is not None and bound[1] in commits:
                    loss = self._proxy.take()
                    if loss is Loss.REQUEST:
                        self._proxy.cuts += 1
                        break
                    self._reply_is_lost = loss is Loss.REPLY
                if request.endswith((SYNC, FLUSH)):
                    request = b""
                self._server.sendall(data)
        self.cut()

    def _carry_replies(self) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                if not self._reply_is_lost:
                    self._client.sendall(data)
                    continue
                seen = seen[-10:] + data
                if seen.endswith(DONE):
                    self._proxy.cuts += 1
                    break
        self.cut()
