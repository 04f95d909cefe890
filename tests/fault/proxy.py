"""A way to a PostgreSQL that cuts connections in the middle of a statement, or keeps statements and answers waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stepwell.cli.embedded.postgres import SOCKET_NAME
from tests.fault.cluster import DEADLINE

PARSE: Final = b"P"
BIND: Final = b"B"
OF_A_STATEMENT: Final = frozenset({PARSE, BIND, b"D", b"E", b"C"})
"""Messages that the server answers only when another one follows. A statement is prepared under a name, and bound by it."""
READY: Final = b"Z\0\0\0\x05"
"""The server's word that it is done; one byte more says whether there is a transaction."""


class Statement(Enum):
    """A statement that the proxy knows, by what is written in it alone."""

    COMMIT = b"INSERT INTO history_chunk"
    MAP_RUN_COMMIT = b"INSERT INTO map_item"
    OPEN_TASKS = b"FROM task WHERE shard = ANY"
    OPEN_MAP_RUNS = b"SELECT id FROM map_run WHERE shard = ANY"
    """Asked by a node that has taken shards up, as the last of what it asks."""
    RENEWAL = b"UPDATE node SET expires_at = clock_timestamp() +"
    OWNED_SHARDS = b"SELECT id FROM shard WHERE owner ="


class Half(Enum):
    """What of a statement is lost with its connection, or waits."""

    REQUEST = "request"
    """It does not reach the server: nothing is written."""
    REPLY = "reply"
    """The server has carried it out, and nobody is told."""


class Held:
    """What waits in the proxy until it is let through."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._lost = False
        self._count = 0

    def wait_for(self, count: int = 1) -> None:
        """Return once so many wait, or have waited."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, DEADLINE), f"{self._count} of {count} came"

    def release(self) -> None:
        """Let everything through, also what is still to come."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def lose(self) -> None:
        """Cut the connections of what waits, and of what is still to come."""
        with self._changed:
            self._lost = True
        self.release()

    def pass_by(self) -> bool:
        """Wait here; whether to go on."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open)
            return not self._lost


class Proxy:
    """Stands between engines and a PostgreSQL; cuts the connection of a statement, or keeps it waiting, when it is told to."""

    def __init__(self, database: str) -> None:
        parts = urlsplit(database)
        self._socket = str(Path(parse_qs(parts.query)["host"][0]) / SOCKET_NAME)
        self._listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.database = f"postgresql://{parts.username}@{address}{parts.path}?sslmode=disable"
        self._lock = threading.Lock()
        self._cut: dict[Statement, Half] = {}
        self._held: dict[tuple[Statement, Half], Held] = {}
        self._connections: list[_Connection] = []
        self.cuts = 0
        self.answers: Counter[Statement] = Counter()
        """How many statements of a kind have been carried out and answered."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut_next(self, statement: Statement, loss: Half) -> None:
        """Cut the connection of the next one. It is cut even where others are held."""
        with self._lock:
            self._cut[statement] = loss

    @contextmanager
    def holding(self, statement: Statement, half: Half) -> Iterator[Held]:
        """Keep them waiting until they are let through, at the latest at the end of the block."""
        held = Held()
        with self._lock:
            self._held[statement, half] = held
        try:
            yield held
        finally:
            with self._lock:
                del self._held[statement, half]
            held.release()

    def cut_of(self, statement: Statement) -> Half | None:
        """What the statement that comes by now is to lose."""
        with self._lock:
            return self._cut.pop(statement, None)

    def held(self, statement: Statement, half: Half) -> Held | None:
        """Where the statement that comes by now, or its answer, is to wait."""
        with self._lock:
            return self._held.get((statement, half))

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
    """One connection and the two threads that carry its bytes. There is one statement at a time under way on it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._requests = client.makefile("rb")
        self._server = server
        self._known: dict[bytes, Statement] = {}
        self._asked: Statement | None = None
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
        with contextlib.suppress(OSError), self._requests:
            self._server.sendall(self._start())
            request = bytearray()
            while message := self._message():
                request += message
                if message[:1] == PARSE:
                    self._note(message)
                elif message[:1] == BIND:
                    self._asked = self._known.get(message[5:].split(b"\0", 2)[1])
                if message[:1] not in OF_A_STATEMENT:
                    if self._asked is not None and self._is_lost(self._asked):
                        break
                    self._server.sendall(request)
                    request.clear()
        self.cut()

    def _start(self) -> bytes:
        """The message that opens the connection: the only one without a kind."""
        return self._read(4, lambda head: int.from_bytes(head) - 4)

    def _message(self) -> bytes:
        return self._read(5, lambda head: int.from_bytes(head[1:]) - 4)

    def _read(self, head: int, rest: Callable[[bytes], int]) -> bytes:
        """A whole message; nothing once the client has hung up."""
        start = self._requests.read(head)
        return start + self._requests.read(rest(start)) if len(start) == head else b""

    def _note(self, message: bytes) -> None:
        name, text = message[5:].split(b"\0", 2)[:2]
        for statement in Statement:
            if statement.value in text:
                self._known[name] = statement

    def _is_lost(self, statement: Statement) -> bool:
        """Whether a request is not to reach the server; waits where it has to wait."""
        cut = self._proxy.cut_of(statement)
        if cut is Half.REQUEST:
            self._proxy.cuts += 1
            return True
        self._reply_is_lost = cut is Half.REPLY
        held = self._proxy.held(statement, Half.REQUEST)
        return held is not None and not held.pass_by()

    def _carry_replies(self) -> None:
        reply = b""
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                asked = self._asked
                if asked is None:
                    self._client.sendall(data)
                    continue
                reply += data
                if reply[-6:-1] != READY:
                    continue
                if self._reply_is_lost:
                    self._proxy.cuts += 1
                    break
                held = self._proxy.held(asked, Half.REPLY)
                if held is not None and not held.pass_by():
                    break
                self._asked = None
                self._client.sendall(reply)
                self._proxy.answers[asked] += 1
                reply = b""
        self.cut()
