"""The HTTP client of the targets: guarded, bounded and plain. One `fetch` is one exchange, redirects included.

The egress policy is asked at the moment a socket is made, about the very address it will connect to, so neither a name that
resolves differently the second time nor a redirect leads past it. It must not know Task states.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from stepwell.engine.limits import HTTP_TASK_SECONDS, MAX_PAYLOAD_BYTES
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.egress import EgressPolicy

Headers: TypeAlias = Sequence[tuple[str, str]]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEP_ALIVE_SECONDS: Final = 4.0
"""Less than what common servers keep an idle connection open, so that a request seldom meets one being closed."""
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response. `truncated`: the body was longer than asked for (only where `keep_long_body`)."""

    status: int
    reason: str
    headers: Headers
    body: bytes
    truncated: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request. `secret_headers` (lower case) are dropped, and a body with secrets is never sent on, when a redirect
    leads to another origin."""

    method: str
    url: URL
    headers: Headers = ()
    body: bytes | None = None
    secret_headers: frozenset[str] = frozenset()
    secret_body: bool = False


@dataclass(slots=True)
class _Destination:
    """Whom the running request wants to reach, and why it may not."""

    host: str
    port: int
    refusals: list[str] = field(default_factory=list)


_destination: ContextVar[_Destination | None] = ContextVar("destination", default=None)

_AddrInfo: TypeAlias = tuple[int, int, int, str, tuple[object, ...]]


class GuardedSession:
    """A pool of connections that only leads where the policy allows. Made anywhere; its first `fetch` needs a running loop.

    `tls` verifies servers (default: the system's certificates); `resolver` replaces the system's DNS.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        max_redirects: int = 5,
        max_connections: int = 1000,
        user_agent: str = "Stepwell",
    ) -> None:
        self._policy = policy
        self._tls = tls
        self._resolver = resolver
        self._max_redirects = max_redirects
        self._max_connections = max_connections
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def fetch(
        self,
        call: Call,
        *,
        timeout_seconds: float | None = HTTP_TASK_SECONDS,
        max_bytes: int = MAX_PAYLOAD_BYTES,
        keep_long_error: bool = True,
    ) -> Answer:
        """Send a request, follow its redirects, read its answer; whatever the status is.

        Raises `StatesError`: States.Http.Socket (no answer), Stepwell.EgressDenied, States.DataLimitExceeded (a body
        longer than `max_bytes`; that of an unsuccessful answer is cut instead if `keep_long_error`), States.Runtime (a URL
        that cannot be called). `timeout_seconds` None leaves the limit to the caller.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(call, max_bytes, keep_long_error)
        except TimeoutError:
            raise StatesError(
                ErrorName.HTTP_SOCKET, f"{shown(call.url)} did not answer within {timeout_seconds:g} seconds."
            ) from None

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _follow(self, call: Call, max_bytes: int, keep_long_error: bool) -> Answer:
        for _ in range(self._max_redirects + 1):
            outcome = await self._once(call, max_bytes, keep_long_error)
            if isinstance(outcome, Answer):
                return outcome
            call = _redirected(call, *outcome)
        raise StatesError(
            ErrorName.HTTP_SOCKET,
            f"{shown(call.url)} was reached by more than {self._max_redirects} redirects. Call the final address instead.",
        )

    async def _once(self, call: Call, max_bytes: int, keep_long_error: bool) -> Answer | tuple[int, URL]:
        """One request: its answer, or status and place of a redirect."""
        check_url(call.url)
        assert call.url.host is not None and call.url.port is not None
        destination = _Destination(call.url.host, call.url.port)
        previous = _destination.set(destination)
        try:
            async with self._open().request(
                call.method, call.url, headers=list(call.headers), data=call.body, allow_redirects=False
            ) as response:
                location = response.headers.get("Location")
                if self._max_redirects and response.status in _REDIRECTS and location is not None:
                    return response.status, _target(call.url, location)
                body, truncated = await _read(response, max_bytes, keep_long_error)
                return Answer(
                    status=response.status,
                    reason=_readable(response.reason or ""),
                    headers=tuple((_readable(name), _readable(value)) for name, value in response.headers.items()),
                    body=body,
                    truncated=truncated,
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            if destination.refusals:
                raise StatesError(ErrorName.EGRESS_DENIED, destination.refusals[0] + ".") from None
            raise _socket_error(call.url, error) from None
        finally:
            _destination.reset(previous)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the session is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._tls if self._tls is not None else True,
                    resolver=self._resolver,
                    limit=self._max_connections,
                    keepalive_timeout=_KEEP_ALIVE_SECONDS,
                    socket_factory=self._make_socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                headers={"User-Agent": self._user_agent},
                skip_auto_headers=("Content-Type",),
                trust_env=False,
            )
        return self._session

    def _make_socket(self, info: _AddrInfo) -> socket.socket:
        """Called with each address right before it is connected to."""
        family, kind, protocol, _, address = info
        host, port = str(address[0]), address[1]
        assert isinstance(port, int)
        destination = _destination.get() or _Destination(host, port)
        refusal = self._policy.refusal(destination.host, port, host)
        if refusal is not None:
            destination.refusals.append(refusal)
            raise PermissionError(errno.EACCES, "not allowed")
        return socket.socket(family, kind, protocol)


def check_url(url: URL) -> None:
    """Refuse a URL that cannot, or must not, be called. Raises `StatesError`."""
    if url.scheme not in ("http", "https") or not url.host:
        raise StatesError(
            ErrorName.RUNTIME, f"{shown(url)!r} is not a URL that begins with https:// or http:// and has a host."
        )
    if url.user is not None or url.password is not None:
        raise StatesError(
            ErrorName.RUNTIME,
            f"The URL of {shown(url)} has a user name or password in it. Use a connection to authenticate.",
        )


def parse_url(text: str) -> URL:
    """Read a URL. Raises `StatesError` (States.Runtime)."""
    try:
        url = URL(text).with_fragment(None)
        _ = url.host, url.port
    except ValueError as error:
        raise StatesError(ErrorName.RUNTIME, f"The endpoint is not a valid URL: {error}.") from None
    check_url(url)
    return url


def shown(url: URL) -> str:
    """The URL without what may be secret in it: user, password, query."""
    try:
        return str(url.with_user(None).with_query(None)) if url.host else str(url.path)
    except ValueError:
        return "the endpoint"


def _readable(text: str) -> str:
    """Header text whose bytes were not UTF-8 holds lone surrogates, which no JSON text can; they are replaced."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _target(base: URL, location: str) -> URL:
    try:
        return URL(urljoin(str(base), location)).with_fragment(None)
    except ValueError:
        raise StatesError(
            ErrorName.HTTP_SOCKET, f"{shown(base)} redirects to a place that is not a valid URL."
        ) from None


def _redirected(call: Call, status: int, url: URL) -> Call:
    """The request a redirect asks for (Fetch standard, "HTTP-redirect fetch"), without credentials for strangers."""
    method, body, headers = call.method, call.body, call.headers
    if (status in (301, 302) and method == "POST") or (status == 303 and method not in ("GET", "HEAD")):
        method, body = "GET", None
        headers = [(name, value) for name, value in headers if not name.lower().startswith("content-")]
    if url.origin() == call.url.origin() if url.host and call.url.host else False:
        return Call(
            method=method,
            url=url,
            headers=headers,
            body=body,
            secret_headers=call.secret_headers,
            secret_body=call.secret_body and body is not None,
        )
    if call.url.scheme == "https" and url.scheme == "http":
        raise StatesError(
            ErrorName.EGRESS_DENIED,
            f"{shown(call.url)} redirects to {shown(url)}, which is not encrypted. Such redirects are not followed.",
        )
    if call.secret_body and body is not None:
        raise StatesError(
            ErrorName.EGRESS_DENIED,
            f"{shown(call.url)} redirects to {shown(url)}, and the request's body has parameters of a connection, "
            "which are not sent to another origin. Call the final address instead.",
        )
    dropped = _CREDENTIAL_HEADERS | call.secret_headers
    return Call(method=method, url=url, headers=[pair for pair in headers if pair[0].lower() not in dropped], body=body)


async def _read(response: aiohttp.ClientResponse, max_bytes: int, keep_long_error: bool) -> tuple[bytes, bool]:
    cut = keep_long_error and not 200 <= response.status < 300
    parts, size = [], 0
    async for part in response.content.iter_chunked(65_536):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            response.close()
            if cut:
                return b"".join(parts)[:max_bytes], True
            raise StatesError(
                ErrorName.DATA_LIMIT_EXCEEDED,
                f"{shown(response.url)} answered {response.status} with more than {max_bytes} bytes. "
                "Have the service answer with less, or store the data and answer with its place.",
            )
    return b"".join(parts), False


def _socket_error(url: URL, error: Exception) -> StatesError:
    """A failed exchange in words. The library's own texts can hold the whole URL, so they are used only where they do not."""
    where = shown(url)
    match error:
        case aiohttp.ClientConnectorDNSError():
            text = f"The host name of {where} could not be resolved: {_reason(error.os_error)}."
        case aiohttp.ClientConnectorCertificateError():
            text = f"The certificate of {where} is not trusted: {_reason(error.certificate_error)}."
        case aiohttp.ClientConnectorSSLError():
            text = f"No TLS connection to {where} could be made: {_reason(error.os_error)}."
        case aiohttp.ClientConnectorError():
            text = f"No connection to {where} could be made: {_reason(error.os_error)}."
        case aiohttp.ServerDisconnectedError():
            text = f"{where} closed the connection without an answer."
        case aiohttp.ClientPayloadError():
            text = f"{where} closed the connection before its answer was complete, or it was not encoded as it says."
        case aiohttp.InvalidURL() | ValueError():
            return StatesError(ErrorName.RUNTIME, f"{where} cannot be called: the URL or a header of it is not valid.")
        case aiohttp.ClientResponseError():
            text = f"What {where} answered is not valid HTTP."
        case OSError():
            text = f"The connection to {where} broke: {_reason(error)}."
        case _:
            text = f"The exchange with {where} failed ({type(error).__name__})."
    return StatesError(ErrorName.HTTP_SOCKET, text)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and error.strerror:
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror
    return str(error) or type(error).__name__
