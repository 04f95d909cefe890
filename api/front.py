"""The gate every request passes: request id, body, Host, key, region; then to the wire protocol, a hot path or the REST app.

One pure ASGI callable, because what stands here is paid for by every start. Whatever goes wrong below becomes an answer
here, in the language of the protocol that was spoken, and nothing of the server's inside is shown.
"""

from __future__ import annotations

import logging
from typing import Final

from stepwell.api import http
from stepwell.api.auth import Authenticator, HostGuard, parse_credential
from stepwell.api.failures import refusal_of
from stepwell.api.http import (
    App,
    BodyTooLargeError,
    ClientGoneError,
    Headers,
    Message,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
)
from stepwell.api.rest import documentation, hot, problems
from stepwell.api.rest.common import REQUEST_KEY
from stepwell.api.wire import protocol
from stepwell.engine import telemetry
from stepwell.engine.service.context import RequestContext
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.service.services import Services
from stepwell.engine.telemetry import Metrics

log = logging.getLogger("stepwell.api")

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"}) | documentation.PATHS
"""Answered without a key and under any Host: they tell nothing but whether the server is well, and what its API is."""
_MAX_REQUEST_ID_CHARS: Final = 128
_PRINTABLE: Final = frozenset(range(0x21, 0x7F))


class Front:
    """The ASGI application that is served."""

    def __init__(
        self,
        services: Services,
        rest: App,
        *,
        guard: HostGuard,
        authenticator: Authenticator,
        metrics: Metrics,
        max_body_bytes: int,
    ) -> None:
        self._services = services
        self._rest = rest
        self._guard = guard
        self._authenticator = authenticator
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._id_prefix = f"{services.seeds.seed():032x}"[:20]
        self._id_count = 0
        self._contexts: dict[str, RequestContext] = {}
        settings = services.settings
        self._default_context = RequestContext(settings.region, settings.account)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        id = self._request_id(headers)
        wire = scope["path"] == "/" and scope["method"] == "POST"
        sent = _Sent(send, self._reply_headers(id, wire))
        telemetry.request_id.set(id)
        clock = self._services.clock
        begun = clock.monotonic()
        self._metrics.change(telemetry.API_OPEN, 1)
        operation = "unknown"
        try:
            operation = await self._answer(scope, receive, sent, headers, id, wire)
        except ClientGoneError:
            log.debug("The client went away")
        finally:
            self._metrics.change(telemetry.API_OPEN, -1)
            self._metrics.count(telemetry.API_REQUESTS, operation, str(sent.status))
            self._metrics.observe(telemetry.API_SECONDS, clock.monotonic() - begun, operation)

    async def _answer(
        self, scope: Scope, receive: Receive, sent: _Sent, headers: dict[bytes, bytes], id: str, wire: bool
    ) -> str:
        operation = "unknown"
        try:
            request = await self._admit(scope, receive, headers, id)
            if wire:
                operation = protocol.operation_of(request)
                await sent.reply(await protocol.handle(self._services, request))
                return operation
            found = hot.find(request.method, request.path)
            if found is not None:
                operation, handler, rest = found
                await sent.reply(await handler(self._services, request, rest))
                return operation
            operation = "rest"
            scope[REQUEST_KEY] = request
            await self._rest(scope, http.replay(request.body, receive), sent)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: everything becomes an answer
            if sent.status == 0:
                refused = refusal_of(error, id)
                await sent.reply(protocol.refusal(refused) if wire else problems.refusal(refused, id))
        return operation

    async def _admit(self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], id: str) -> Request:
        """Read the body and find out who asks. Raises `ServiceError` for whom that is refused."""
        path: str = scope["path"]
        authorization = headers.get(b"authorization")
        text = None if authorization is None else authorization.decode("latin-1")
        credential = parse_credential(text)
        context = self._default_context if credential is None else self._context(credential.region)
        principal: str | None = None
        closed = path not in OPEN_PATHS and await self._authenticator.required()
        if closed:
            principal = await self._authenticator.bearer(text)
            if principal is None and credential is None:
                raise ServiceError(
                    ErrorCode.MISSING_AUTHENTICATION_TOKEN,
                    "Missing Authentication Token: send 'Authorization: Bearer <API key>' or sign the request (SigV4)",
                )
        elif path not in OPEN_PATHS:
            self._guard.check(headers)
        body = await self._body(receive, headers)
        if closed and principal is None and credential is not None:
            principal = await self._authenticator.signature(
                credential,
                method=scope["method"],
                raw_path=scope.get("raw_path", path.encode()).decode("latin-1"),
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                body=body,
            )
        if principal is not None:
            context = RequestContext(context.region, context.account, context.partition, principal)
        return Request(
            method=scope["method"],
            path=path,
            query_string=scope["query_string"],
            headers=headers,
            body=body,
            context=context,
            id=id,
            receive=receive,
        )

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length", b"0")
        try:
            if length.isdigit() and int(length) > self._max_body_bytes:
                raise BodyTooLargeError
            return await http.read_body(receive, self._max_body_bytes)
        except BodyTooLargeError:
            raise ServiceError(
                ErrorCode.REQUEST_TOO_LARGE, f"The request body is longer than {self._max_body_bytes} bytes"
            ) from None

    def _context(self, region: str) -> RequestContext:
        context = self._contexts.get(region)
        if context is None:
            if len(self._contexts) > 100:
                self._contexts.clear()
            account = self._services.settings.account
            context = self._contexts[region] = RequestContext(region.lower(), account)
        return context

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and 1 <= len(given) <= _MAX_REQUEST_ID_CHARS and _PRINTABLE.issuperset(given):
            return given.decode("ascii")
        self._id_count += 1
        text = f"{self._id_prefix}{self._id_count:012x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    @staticmethod
    def _reply_headers(id: str, wire: bool) -> Headers:
        name = id.encode()
        return ((b"x-amzn-requestid", name),) if wire else ((b"x-request-id", name),)


class _Sent:
    """A `send` that adds headers and remembers the status (0: nothing was sent yet)."""

    __slots__ = ("_headers", "_send", "status")

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._send(message)

    async def reply(self, reply: Reply) -> None:
        self.status = reply.status
        await http.send_reply(self._send, reply, self._headers)
