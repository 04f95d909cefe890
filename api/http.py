"""A request as the hot paths see it and the reply they give: plain values, read and sent over ASGI with nothing between.

It must not know what is asked, nor who may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from stepwell.engine.service.context import RequestContext

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = "tuple[tuple[bytes, bytes], ...]"

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"

T = TypeVar("T")


class Reply(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()


class BodyTooLargeError(Exception):
    """The body is longer than the server takes."""


class ClientGoneError(Exception):
    """The client closed the connection; nobody waits for an answer."""


class Request:
    """One request whose body has been read. `id` is the request id, `rest` what a route leaves of the path."""

    __slots__ = ("_receive", "body", "context", "headers", "id", "method", "path", "query_string", "trace")

    def __init__(
        self,
        *,
        method: str,
        path: str,
        query_string: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        context: RequestContext,
        id: str,
        receive: Receive,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.context = context
        self.id = id
        self._receive = receive

    def query(self) -> dict[str, str]:
        """The query parameters; of one given twice the last counts."""
        if not self.query_string:
            return {}
        return dict(parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True))

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def while_connected(self, work: Awaitable[T]) -> T:
        """Await something long, but give it up when the client goes away. Raises `ClientGoneError`."""
        me = asyncio.current_task()
        assert me is not None
        left = False

        def leave(_: asyncio.Future[None]) -> None:
            nonlocal left
            left = True
            me.cancel()

        gone = asyncio.ensure_future(self._gone())
        gone.add_done_callback(leave)
        try:
            return await work
        except asyncio.CancelledError:
            if left and me.uncancel() == 0:
                raise ClientGoneError from None
            raise
        finally:
            gone.remove_done_callback(leave)
            gone.cancel()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `BodyTooLargeError` as soon as it is longer than `limit`, `ClientGoneError` on a hang-up."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    first: bytes = message.get("body", b"")
    if len(first) > limit:
        raise BodyTooLargeError
    if not message.get("more_body", False):
        return first
    parts, size = [first], len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_reply(send: Send, reply: Reply, extra: Headers = ()) -> None:
    """Send a reply; `extra` are headers that every reply has."""
    headers = [*extra, *reply.headers]
    if reply.status != 204:
        headers += [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read already, then what the connection says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
