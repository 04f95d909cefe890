"""The engine's side of function hosts: processes it starts and keeps alive, and hosts elsewhere it connects to.

Calls of one loop tick travel in one frame; a call lost with its host is delivered again, a few times. It must not know
what a task is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from stepwell.engine.errors import ConfigurationError, TargetUnavailableError
from stepwell.engine.messages import (
    PROTOCOL_VERSION,
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

MAX_DELIVERIES: Final = 3
"""A call lost with its host this often is given up: it is likely what ends the hosts."""
SUSPECT_SECONDS: Final = 2.0
"""For so long after it begins, a call that was lost before runs as the only one of its kind: see `FunctionHostPool.call`."""
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
STEADY_SECONDS: Final = 10.0
"""A host that lived this long is started again at once."""
HANDSHAKE_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 12.0
_ENGINES_OWN: Final = frozenset({"STEPWELL_DATABASE_URL", "STEPWELL_SECRET_KEY", "STEPWELL_FUNCTION_SECRET"})

_log: Final = logging.getLogger(__name__)


class HostLostError(Exception):
    """The host of a call is gone; nobody knows how far the call came."""


class HostRefusedError(Exception):
    """The host is not one of ours, or does not take us for its engine."""


class HostConnection(asyncio.Protocol):
    """One connection to a function host."""

    _decoder: Final = msgspec.msgpack.Decoder(list[FromHost])

    def __init__(self, secret: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._secret = secret
        self._nonce = os.urandom(32)
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Returned | Raised]] = {}
        self._outbox: list[ToHost] = []
        self._flushing = False
        self._paused = False
        self.functions: frozenset[str] = frozenset()
        self.pid = 0
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when calls may be made."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is gone."""

    @property
    def alive(self) -> bool:
        """Whether a call can be made at this moment."""
        return self._transport is not None

    @property
    def load(self) -> int:
        """Calls in flight."""
        return len(self._calls)

    async def call(self, call: Call) -> Returned | Raised:
        """Make a call (its id is ours to give). Raises `HostLostError`."""
        if self._transport is None:
            raise HostLostError
        id = next(self._ids)
        answer: asyncio.Future[Returned | Raised] = self._loop.create_future()
        self._calls[id] = answer
        self._send(msgspec.structs.replace(call, id=id))
        try:
            return await answer
        except asyncio.CancelledError:
            if self._calls.pop(id, None) is not None:
                self._send(Cancel(id))
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        calls, self._calls = self._calls, {}
        for answer in calls.values():
            if not answer.done():
                answer.set_exception(HostLostError())
        if not self.ready.done():
            self.ready.set_exception(HostRefusedError("it closed the connection; is the shared secret the same?"))
        if not self.lost.done():
            self.lost.set_result(None)

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
        except (FrameError, HostRefusedError, msgspec.MsgspecError) as error:
            self._refuse(str(error))

    def _take(self, message: FromHost) -> None:
        if isinstance(message, Returned | Raised):
            answer = self._calls.pop(message.id, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif isinstance(message, Challenge):
            if message.version != PROTOCOL_VERSION:
                raise HostRefusedError(f"it speaks version {message.version}, this engine {PROTOCOL_VERSION}")
            self._send(Hello(engine_proof(self._secret, message.nonce), self._nonce))
        elif isinstance(message, Welcome):
            if not hmac.compare_digest(message.proof, host_proof(self._secret, self._nonce)):
                raise HostRefusedError("it does not know the shared secret")
            self.functions = frozenset(message.functions)
            self.pid = message.pid
            if not self.ready.done():
                self.ready.set_result(None)

    def _refuse(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(HostRefusedError(why))
        else:
            _log.warning("Closed the connection to a function host: %s.", why)
        if self._transport is not None:
            self._transport.abort()

    def _send(self, message: ToHost) -> None:
        self._outbox.append(message)
        if not self._flushing and not self._paused:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._paused or not self._outbox:
            return
        messages, self._outbox = self._outbox, []
        self._transport.write(frame(messages))


class FunctionHostPool:
    """Function hosts: `processes` of our own that run functions of `modules`, and those at `addresses`.

    A host that ends is started (or dialled) again, with growing pauses while it keeps ending soon.
    `start` returns at once; calls wait for the first host.
    """

    def __init__(
        self,
        modules: Sequence[str] = (),
        *,
        processes: int = 1,
        threads: int = 64,
        addresses: Sequence[str] = (),
        secret: bytes = b"",
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        patience_seconds: float = 30.0,
    ) -> None:
        self._modules = list(modules)
        self._processes = processes if modules else 0
        self._threads = threads
        self._addresses = list(addresses)
        self._secret = secret
        self._directory = directory
        self._environment = environment
        self._patience = patience_seconds
        self._connections: list[HostConnection] = []
        self._arrival: asyncio.Event | None = None
        self._suspects: asyncio.Lock | None = None
        self._keepers: list[asyncio.Task[None]] = []
        for address in self._addresses:
            _check_address(address, secret)

    @property
    def configured(self) -> bool:
        """Whether there are any hosts to have."""
        return bool(self._processes or self._addresses)

    async def start(self) -> None:
        """Start or dial the hosts, and keep them, in the background."""
        self._arrival = asyncio.Event()
        self._suspects = asyncio.Lock()
        keepers: list[tuple[str, Callable[[], Awaitable[float]]]] = [
            (f"function host {number + 1}", self._run_process) for number in range(self._processes)
        ]
        keepers += [(f"function host at {a}", lambda a=a: self._stay_connected(a)) for a in self._addresses]  # type: ignore[misc]
        self._keepers = [asyncio.create_task(self._keep(name, once), name=name) for name, once in keepers]

    async def close(self) -> None:
        """Let the hosts finish what they run, for some seconds, and end them."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()

    async def has(self, name: str) -> bool:
        """Whether a host announced a function of that name (`@function`)."""
        return any(name in connection.functions for connection in [await self._pick(), *self._connections])

    async def call(self, call: Call) -> Returned | Raised:
        """Make a call, on the host with the fewest in flight. Raises `HostLostError` when it was lost too often,
        `TargetUnavailableError` when no host is there for some time.

        A host that crashes takes innocent calls with it. Calls that were lost once begin one at a time when they are
        delivered again, so the one that ends hosts is told from the others before these are given up.
        """
        try:
            return await (await self._pick(call.function)).call(call)
        except HostLostError:
            pass
        for delivery in range(2, MAX_DELIVERIES + 1):
            try:
                return await self._call_suspect(call)
            except HostLostError:
                if delivery == MAX_DELIVERIES:
                    raise
        raise HostLostError

    async def _call_suspect(self, call: Call) -> Returned | Raised:
        assert self._suspects is not None
        async with self._suspects:
            running = asyncio.ensure_future((await self._pick(call.function)).call(call))
            try:
                await asyncio.wait([running], timeout=SUSPECT_SECONDS)
            except asyncio.CancelledError:
                running.cancel()
                raise
        return await running

    async def _pick(self, function: str = "") -> HostConnection:
        connections = [one for one in self._connections if one.alive]
        if not connections:
            connections = await self._wait_for_host()
        if len(connections) == 1:
            return connections[0]
        if ":" not in function:
            connections = [one for one in connections if function in one.functions] or connections
        return min(connections, key=_load)

    async def _wait_for_host(self) -> list[HostConnection]:
        if self._arrival is None or not self.configured:
            raise TargetUnavailableError(
                "No function host is configured: set STEPWELL_FUNCTION_MODULES, or STEPWELL_FUNCTION_HOSTS."
            )
        try:
            async with asyncio.timeout(self._patience):
                while not (connections := [one for one in self._connections if one.alive]):
                    self._arrival.clear()
                    await self._arrival.wait()
        except TimeoutError:
            raise TargetUnavailableError(
                f"No function host could be reached for {self._patience:g} seconds; see the log for why."
            ) from None
        return connections

    # ----------------------------------------------------------------------------------------------------- keeping

    async def _keep(self, name: str, once: Callable[[], Awaitable[float]]) -> None:
        delay = FIRST_DELAY
        said = ""
        while True:
            lived = 0.0
            try:
                lived = await once()
            except (HostRefusedError, OSError, TimeoutError) as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("No connection to %s: %s. Trying on.", name, error)
            if lived >= STEADY_SECONDS:
                delay = FIRST_DELAY
                said = ""
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _serve(self, connection: HostConnection) -> float:
        """Offer a connection to calls until it is lost; the seconds it lasted."""
        assert self._arrival is not None
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await connection.ready
        began = asyncio.get_running_loop().time()
        self._connections = [*self._connections, connection]
        self._arrival.set()
        try:
            await asyncio.shield(connection.lost)
        finally:
            self._connections = [one for one in self._connections if one is not connection]
        return asyncio.get_running_loop().time() - began

    async def _run_process(self) -> float:
        """Start a host and stay with it to its end. It has one end of a socket pair, no name anybody could connect to."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "stepwell.workers.host", str(theirs.fileno()), str(self._threads)]
            process = await asyncio.create_subprocess_exec(
                *command,
                *self._modules,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                cwd=self._directory,
                env={**_without_secrets(os.environ), **(self._environment or {})},
                start_new_session=True,  # Ctrl-C is for the engine, which lets its hosts finish
            )
        connection: HostConnection | None = None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: HostConnection(b""), sock=ours)
            lived = await self._serve(connection)
            async with asyncio.timeout(CLOSE_SECONDS):
                await process.wait()
            _log.warning("The function host (pid %d) ended: %s.", process.pid, _how(process.returncode))
            return lived
        finally:
            if connection is not None:
                connection.close()
            await _end(process)

    async def _stay_connected(self, address: str) -> float:
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            _, connection = await loop.create_unix_connection(lambda: HostConnection(self._secret), address[5:])
        else:
            host, _, port = address.rpartition(":")
            _, connection = await loop.create_connection(
                lambda: HostConnection(self._secret), host.strip("[]"), int(port)
            )
        try:
            return await self._serve(connection)
        finally:
            connection.close()


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """A user's functions are not handed what is the engine's own."""
    return {name: value for name, value in environment.items() if name not in _ENGINES_OWN}


def _load(connection: HostConnection) -> int:
    return connection.load


def _check_address(address: str, secret: bytes) -> None:
    if address.startswith("unix:"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"'{address}' is no address of a function host: give unix:/path or host:port.")
    if not secret:
        raise ConfigurationError(
            f"The function host at {address} is reached over TCP, which needs a shared secret: set STEPWELL_FUNCTION_SECRET."
        )


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
