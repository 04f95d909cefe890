"""Talking to other engine nodes: a listener that answers for the executions this node owns, and connections to the owners.

Only a shorter way: whenever a peer cannot be reached, the caller writes the request down for the owner in the store instead.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, cast

import msgspec

from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.messages import MAX_FRAME_BYTES, STRANGER_FRAME_BYTES, STRANGER_SECONDS, FrameError, FrameReader
from stepwell.engine.runtime.peer_messages import (
    Answer,
    Ask,
    PeerChallenge,
    PeerHello,
    PeerMessage,
    PeerWelcome,
    Question,
    decode,
    encode,
    proof,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 2.0
Handler = Callable[[Ask, int], Awaitable[Answer]]


class PeerUnavailableError(StepwellError):
    """The owner's node cannot be reached, or it no longer is the owner."""


class PeerLostError(PeerUnavailableError):
    """The node was asked, and was lost before it answered: nobody knows what it has done."""


class _Stream(asyncio.Protocol):
    """A framed connection; messages of one turn of the event loop travel in one write."""

    def __init__(self, received: Callable[[_Stream, PeerMessage], None], lost: Callable[[_Stream], None]) -> None:
        self._received = received
        self._lost = lost
        self._reader = FrameReader(STRANGER_FRAME_BYTES)
        self._outgoing: list[PeerMessage] = []
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.nonce = b""
        self.trusted = False

    def trust(self) -> None:
        """The other side knows the secret."""
        self.trusted = True
        self._reader.most = MAX_FRAME_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._loop.call_later(STRANGER_SECONDS, lambda: None if self.trusted else self.close())
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                for message in decode(body):
                    self._received(self, message)
        except (FrameError, msgspec.MsgspecError):
            log.warning("a peer does not speak our protocol; closing")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._lost(self)

    def send(self, message: PeerMessage) -> None:
        """Queue a message; everything queued is written at the end of this turn."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(message)

    def _flush(self) -> None:
        if self.transport is None:  # not connected yet: what is queued goes out with the connection
            return
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self.transport.write(encode(outgoing))

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.close()


class Listener:
    """Answers other nodes. Listens on `host`, on a port of the system's choice unless one is given."""

    def __init__(self, secret: bytes, handler: Handler) -> None:
        self._secret = secret
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._streams: set[_Stream] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int = 0) -> str:
        """Begin to listen; returns `host:port`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port)
        bound = self._server.sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> _Stream:
        stream = _Stream(self._received, self._streams.discard)
        stream.nonce = secrets.token_bytes(32)
        self._streams.add(stream)
        stream.send(PeerChallenge(stream.nonce))
        return stream

    def _received(self, stream: _Stream, message: PeerMessage) -> None:
        if isinstance(message, PeerHello):
            if not hmac.compare_digest(message.proof, proof(self._secret, b"caller", stream.nonce)):
                log.warning("a peer does not know the cluster's secret; closing")
                stream.close()
                return
            stream.trust()
            stream.send(PeerWelcome(proof(self._secret, b"listener", message.nonce)))
        elif isinstance(message, Question) and stream.trusted:
            task = asyncio.create_task(self._answer(stream, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            stream.close()

    async def _answer(self, stream: _Stream, question: Question) -> None:
        try:
            answer = await self._handler(question.ask, question.id)
        except StoreUnavailableError as error:
            answer = Answer(question.id, unavailable=True, reason=str(error))
        except Exception:
            log.exception("a peer's request failed")
            answer = Answer(question.id, unavailable=True, reason="The owner failed on this request.")
        stream.send(answer)


class Peer:
    """A connection to one other node, made when first needed and made anew when lost."""

    def __init__(self, address: str, secret: bytes) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._secret = secret
        self._stream: _Stream | None = None
        self._ready: asyncio.Future[None] | None = None
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._next = 1
        self._connecting = asyncio.Lock()

    async def ask(self, ask: Ask, seconds: float) -> Answer:
        """Ask the node. Raises `PeerUnavailableError` when nothing was asked or nobody knows, and where it is not the owner."""
        stream = await self._connected()
        id = self._next
        self._next += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[id] = future
        stream.send(Question(id, ask))
        try:
            answer = await asyncio.wait_for(future, seconds)
        except TimeoutError:
            raise PeerLostError("The owner did not answer in time.") from None
        finally:
            self._pending.pop(id, None)
        if answer.unavailable:
            raise StoreUnavailableError(answer.reason or "The owner cannot reach the database.")
        if answer.not_owner:
            raise PeerUnavailableError("The node no longer owns this execution.")
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._stream is not None:
            self._stream.close()

    async def _connected(self) -> _Stream:
        async with self._connecting:
            if self._stream is not None and self._stream.transport is not None:
                return self._stream
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            stream = _Stream(self._received, self._lost)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.create_connection(lambda: stream, self._host, self._port)
                    await self._ready
            except (OSError, TimeoutError) as error:
                stream.close()
                raise PeerUnavailableError(f"The node at {self._host}:{self._port} cannot be reached.") from error
            self._stream = stream
            return stream

    def _received(self, stream: _Stream, message: PeerMessage) -> None:
        if isinstance(message, PeerChallenge):
            stream.nonce = secrets.token_bytes(32)
            stream.send(PeerHello(proof(self._secret, b"caller", message.nonce), stream.nonce))
        elif isinstance(message, PeerWelcome):
            if not hmac.compare_digest(message.proof, proof(self._secret, b"listener", stream.nonce)):
                log.warning("the node at a peer's address does not know the cluster's secret")
                stream.close()
                return
            stream.trust()
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif isinstance(message, Answer):
            future = self._pending.pop(message.id, None)
            if future is not None and not future.done():
                future.set_result(message)

    def _lost(self, stream: _Stream) -> None:
        if self._stream is stream:
            self._stream = None
        error = PeerLostError("The connection to the owner was lost.")
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        for future in list(self._pending.values()):
            if not future.done():
                future.set_exception(error)
        self._pending.clear()
