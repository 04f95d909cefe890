"""The function host: a process that runs a user's Python functions for the engine, over a Unix socket or TCP.

Three things never wait for each other: the loop that reads and writes, the loop that runs async functions, and the threads
that run the others. So a function that blocks holds up, at worst, other async functions, and a crash takes this process
only: the engine notices, starts another and delivers again. Knows the engine's messages alone.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from stepwell.engine.messages import (
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    STRANGER_FRAME_BYTES,
    STRANGER_SECONDS,
    Call,
    Cancel,
    Challenge,
    FrameError,
    FrameReader,
    FromHost,
    Hello,
    Raised,
    Returned,
    ToHost,
    Welcome,
    engine_proof,
    frame,
    host_proof,
)
from stepwell.workers.crew import ThreadCrew
from stepwell.workers.functions import Function, FunctionTable
from stepwell.workers.results import cause_text, error_name, result_text

DEFAULT_THREADS: Final = 64
GRACE_SECONDS: Final = 10.0
"""How long calls in flight may go on when the host is asked to stop."""
_log: Final = logging.getLogger(__name__)


class Relay:
    """Runs callbacks on a loop for other threads, with one wake-up for all that gather before it gets to run."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._woken = False

    def send(self, callback: Callable[[], None]) -> None:
        """Have `callback` run on the loop; from any thread."""
        self._waiting.append(callback)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:  # the loop is closed: the process is ending
                return

    def _run(self) -> None:
        self._woken = False  # before the queue is emptied: what comes later wakes us again
        waiting = self._waiting
        while waiting:
            waiting.popleft()()


class FunctionHost:
    """The functions, the threads and the loop that run them, shared by all connections. Made in the loop's thread."""

    def __init__(self, functions: FunctionTable, *, threads: int = DEFAULT_THREADS, secret: bytes = b"") -> None:
        self.functions = functions
        self.secret = secret
        self.crew = ThreadCrew(threads)
        self.home = Relay(asyncio.get_running_loop())
        self.away = Relay(_loop_in_thread())
        self.connections: set[EngineConnection] = set()
        self.idle = asyncio.Event()
        """Set whenever a call ends; whoever drains looks again then."""

    def connection(self) -> EngineConnection:
        """A protocol for a new connection."""
        return EngineConnection(self)

    async def drain(self, seconds: float) -> None:
        """Wait until no call is in flight, but no longer than that."""
        try:
            async with asyncio.timeout(seconds):
                while any(connection.calls for connection in self.connections):
                    self.idle.clear()
                    await self.idle.wait()
        except TimeoutError:
            _log.warning("Some functions still run after %g s; they are left behind.", seconds)


class Ticket:
    """One call in flight. `cancelled` is set when nobody waits any more; `task` belongs to the loop of async functions."""

    __slots__ = ("call", "cancelled", "task")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.cancelled = False
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """On the loop of async functions."""
        if self.task is not None:
            self.task.cancel()


class EngineConnection(asyncio.Protocol):
    """One engine's connection: its handshake, its calls in flight and their answers, gathered into frames."""

    _decoder: Final = msgspec.msgpack.Decoder(list[ToHost])

    def __init__(self, host: FunctionHost) -> None:
        self._host = host
        self._reader = FrameReader(STRANGER_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._nonce = os.urandom(32)
        self._trusted = False
        self.calls: dict[int, Ticket] = {}
        self._answers: list[FromHost] = []
        self._paused = False
        self._flushing = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._host.connections.add(self)
        self._transport.write(frame([Challenge(self._nonce)]))
        asyncio.get_running_loop().call_later(
            STRANGER_SECONDS,
            lambda: None if self._trusted or self._transport is None else self._refuse("it never said who it is"),
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._host.connections.discard(self)
        for id in list(self.calls):
            self._forget(id)
        self._host.idle.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Send what is ready, then close."""
        self._paused = False
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                for message in self._decoder.decode(body):
                    self._take(message)
        except (FrameError, msgspec.MsgspecError) as error:
            self._refuse(str(error))

    def _take(self, message: ToHost) -> None:
        if isinstance(message, Call) and self._trusted:
            self._begin(message)
        elif isinstance(message, Cancel) and self._trusted:
            self._forget(message.id)
        elif isinstance(message, Hello) and not self._trusted:
            self._greet(message)
        else:
            self._refuse("a message came out of order")

    def _greet(self, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION:
            return self._refuse(f"the engine speaks version {hello.version}, this host {PROTOCOL_VERSION}")
        if not hmac.compare_digest(hello.proof, engine_proof(self._host.secret, self._nonce)):
            return self._refuse("the shared secret is not ours")
        self._trusted = True
        self._reader.most = MAX_FRAME_BYTES
        proof = host_proof(self._host.secret, hello.nonce)
        return self._answer(Welcome(proof, os.getpid(), self._host.functions.names))

    def _refuse(self, why: str) -> None:
        _log.warning("Closed the connection of an engine: %s.", why)
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------------------------------------------- calls

    def _begin(self, call: Call) -> None:
        ticket = self.calls[call.id] = Ticket(call)
        function = self._host.functions.loaded(call.function)
        if function is not None and function.is_async:
            self._host.away.send(partial(self._run_async, function, ticket))
        else:
            self._host.crew.submit(partial(self._run_sync, function, ticket))

    def _run_sync(self, function: Function | None, ticket: Ticket) -> None:
        """In a thread of the crew. A function not called before is imported here, where that may take its time."""
        if ticket.cancelled:
            return
        call = ticket.call
        answer: FromHost
        try:
            if function is None:
                function = self._host.functions.find(call.function)
            if function.is_async:
                self._host.away.send(partial(self._run_async, function, ticket))
                return
            answer = Returned(call.id, result_text(function.start(call)))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the function's outcome, not the thread's
            answer = _raised(call, error)
        self._host.home.send(partial(self._end, call.id, answer))

    def _run_async(self, function: Function, ticket: Ticket) -> None:
        """On the loop of async functions."""
        if not ticket.cancelled:
            ticket.task = asyncio.get_running_loop().create_task(self._await(function, ticket))

    async def _await(self, function: Function, ticket: Ticket) -> None:
        call = ticket.call
        answer: FromHost
        try:
            answer = Returned(call.id, result_text(await function.start(call)))
        except asyncio.CancelledError as error:
            if ticket.cancelled:
                raise
            answer = _raised(call, error)
        except BaseException as error:  # noqa: BLE001 - as above
            answer = _raised(call, error)
        self._host.home.send(partial(self._end, call.id, answer))

    def _forget(self, id: int) -> None:
        ticket = self.calls.pop(id, None)
        if ticket is not None:
            ticket.cancelled = True
            self._host.away.send(ticket.stop)
            self._host.idle.set()

    def _end(self, id: int, answer: FromHost) -> None:
        if self.calls.pop(id, None) is not None:
            self._answer(answer)
            self._host.idle.set()

    def _answer(self, answer: FromHost) -> None:
        self._answers.append(answer)
        if not self._flushing and not self._paused:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._paused or not self._answers:
            return
        answers, self._answers = self._answers, []
        self._transport.write(frame(answers))


def _raised(call: Call, error: BaseException) -> Raised:
    return Raised(call.id, error_name(error), cause_text(error, call.request_id))


def _loop_in_thread() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async-functions", daemon=True).start()
    return loop


# ------------------------------------------------------------------------------------------------------------- process


class HostError(Exception):
    """The host cannot be started as it was asked to."""


async def serve_socket(host: FunctionHost, connected: socket.socket) -> None:
    """Serve the one engine at the other end of a connected socket, until it goes or a signal comes."""
    stop = _on_signals()
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(host.connection, connected)
    await asyncio.wait([protocol.closed, stop], return_when=asyncio.FIRST_COMPLETED)
    await host.drain(GRACE_SECONDS)
    protocol.close()


async def serve_address(host: FunctionHost, address: str, on_ready: Callable[[str], None] | None = None) -> None:
    """Listen on `unix:/path` or `host:port` until a signal comes. `on_ready` is told the address that was bound."""
    stop = _on_signals()
    loop = asyncio.get_running_loop()
    if address.startswith("unix:"):
        path = address[5:]
        _clear(Path(path))
        old = os.umask(0o177)  # the socket is its owner's alone from the first moment
        try:
            server = await loop.create_unix_server(host.connection, path)
        finally:
            os.umask(old)
        bound = address
    else:
        name, separator, port = address.rpartition(":")
        if not separator or not port.isdigit():
            raise HostError(f"'{address}' is no address to listen on: give unix:/path or host:port.")
        if not host.secret:
            raise HostError(
                "A function host that listens on TCP needs a shared secret: set STEPWELL_FUNCTION_SECRET here and in the "
                "engine, or listen on unix:/path."
            )
        server = await loop.create_server(host.connection, name.strip("[]"), int(port))
        bound = f"{name}:{server.sockets[0].getsockname()[1]}"
    async with server:
        if on_ready is not None:
            on_ready(bound)
        await stop
        server.close()
        await host.drain(GRACE_SECONDS)
        for connection in list(host.connections):
            connection.close()


def _clear(path: Path) -> None:
    """Remove what a host that was killed left behind."""
    if path.is_socket():
        path.unlink()


def _on_signals() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def ask() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    return stop


def run_host(
    modules: list[str],
    *,
    listen: str | None = None,
    fd: int | None = None,
    threads: int = DEFAULT_THREADS,
    secret: bytes = b"",
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run a function host in this process until it is told to stop. Raises `HostError`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    sys.setswitchinterval(0.001)  # a busy function gives way to the loop that reads and writes

    async def main() -> None:
        host = FunctionHost(FunctionTable(modules), threads=threads, secret=secret)
        if fd is not None:
            await serve_socket(host, socket.socket(fileno=fd))
        elif listen is not None:
            await serve_address(host, listen, on_ready)

    _run(main())


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def main(arguments: list[str]) -> None:
    """`python -m stepwell.workers.host FD THREADS MODULE...`: how an engine starts one, over a socket it hands down."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    fd, threads, *modules = arguments
    run_host(modules, fd=int(fd), threads=int(threads))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # functions that still block in threads must not keep the process


if __name__ == "__main__":
    main(sys.argv[1:])
