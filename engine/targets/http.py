"""HTTP Tasks: `arn:aws:states:::http:invoke`, and a URL written directly as the Resource.

`http:invoke` is AWS's, with its output envelope; a URL gets the effective input as a JSON POST and gives its JSON answer as
the result. What goes over the wire is built by `http_request`, sent by `guarded`, authenticated by `connections`.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import ssl
from bisect import bisect_right
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from aiohttp.abc import AbstractResolver

from stepwell.engine.asl.resources import IntegrationPattern
from stepwell.engine.clock import Clock
from stepwell.engine.errors import ConfigurationError, JsonTextError
from stepwell.engine.jsontypes import Json, read, write, write_text
from stepwell.engine.limits import HTTP_TASK_SECONDS, MAX_CAUSE_LENGTH, MAX_PAYLOAD_BYTES
from stepwell.engine.machine.events import TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.ports import TargetResult, TaskRequest
from stepwell.engine.secretbox import Redactor, SecretBox
from stepwell.engine.settings import Settings
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.connections import Connections, FindConnection, Opened
from stepwell.engine.targets.egress import EgressPolicy
from stepwell.engine.targets.guarded import Answer, Call, GuardedSession, shown
from stepwell.engine.targets.http_request import NOTHING, build_call, direct_call, read_parameters
from stepwell.engine.targets.http_trace import blotted, trace_request, trace_response

STATUS_ERROR: Final = "States.Http.StatusCode."
"""Followed by the status: the error of an answer that is not 2xx."""
_NO_SECRETS: Final = Redactor(())
_MAX_CAUSE_HEADERS: Final = 4_096


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """The settings of HTTP Tasks. `ca_file` (PEM) is trusted beside the system's certificates."""

    allow: str = ""
    timeout_seconds: float = HTTP_TASK_SECONDS
    max_redirects: int = 5
    max_connections: int = 1_000
    ca_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> HttpSettings:
        """Those among the settings of the process."""
        return cls(
            allow=settings.http_allow,
            timeout_seconds=settings.http_timeout,
            max_redirects=settings.http_redirects,
            max_connections=settings.http_connections,
            ca_file=settings.http_ca_file,
        )

    def session(self, *, resolver: AbstractResolver | None = None) -> GuardedSession:
        """A session by these settings; the HTTP and the function target can share one. Raises `ConfigurationError`."""
        tls: ssl.SSLContext | None = None
        if self.ca_file is not None:
            tls = ssl.create_default_context()
            try:
                tls.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"STEPWELL_HTTP_CA_FILE {self.ca_file} cannot be used: {error}.") from None
        return GuardedSession(
            EgressPolicy.parse(self.allow),
            tls=tls,
            resolver=resolver,
            max_redirects=self.max_redirects,
            max_connections=self.max_connections,
        )


class HttpTarget:
    """The target of `TargetKind.HTTP`. Closing it closes the session it was given."""

    def __init__(
        self,
        session: GuardedSession,
        connections: FindConnection,
        box: SecretBox,
        clock: Clock,
        *,
        timeout_seconds: float = HTTP_TASK_SECONDS,
    ) -> None:
        self._session = session
        self._connections = Connections(connections, box, session, clock)
        self._timeout = timeout_seconds

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Send the request and make its answer the outcome; with `.waitForTaskToken` it is only submitted by that."""
        waits = request.resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN
        try:
            raw = msgspec.Raw(write(await self._perform(request)))
        except StatesError as error:
            cause = error.cause[:MAX_CAUSE_LENGTH] if error.cause is not None else None
            return TaskFailed(request.task, error.error, cause, "submit" if waits else "run")
        except (JsonTextError, RecursionError):
            cause = "The request or its answer is nested too deeply to be handled."
            return TaskFailed(request.task, ErrorName.RUNTIME, cause, "submit" if waits else "run")
        return TaskSubmitted(request.task, raw) if waits else TaskSucceeded(request.task, raw)

    async def close(self) -> None:
        """Close connections."""
        await self._connections.close()
        await self._session.close()

    async def _perform(self, request: TaskRequest) -> Json:
        if request.resource.pattern in (IntegrationPattern.SYNC, IntegrationPattern.SYNC_2):
            raise StatesError(
                ErrorName.RUNTIME, f"{request.resource.text} does not exist: an HTTP Task starts no job to wait for."
            )
        own = request.timeout_seconds
        limit = self._timeout if own is None else min(self._timeout, own)
        try:
            async with asyncio.timeout(limit):
                return await (self._direct(request) if request.resource.name else self._invoke(request))
        except TimeoutError:
            if own is not None and own <= self._timeout:
                raise StatesError(
                    ErrorName.TIMEOUT, f"No complete answer came within the {own} seconds of TimeoutSeconds."
                ) from None
            raise StatesError(
                ErrorName.HTTP_SOCKET, f"No complete answer came within {limit:g} seconds, the limit of an HTTP Task."
            ) from None

    async def _direct(self, request: TaskRequest) -> Json:
        call = direct_call(request.resource.name, request.payload.text, _own_headers(request))
        trace_request(request.trace, call)
        answer = await self._session.fetch(call, timeout_seconds=None)
        trace_response(request.trace, call, answer, _status_text(answer), _NO_SECRETS)
        if not 200 <= answer.status < 300:
            raise _status_error(call, answer, _NO_SECRETS)
        return _body(answer)

    async def _invoke(self, request: TaskRequest) -> Json:
        parameters = read_parameters(request.payload.value)
        defaults = {"Range": f"bytes=0-{MAX_PAYLOAD_BYTES}", **_own_headers(request)}
        opened: Opened | None = None
        if parameters.connection is not None:
            opened = await self._connections.open(parameters.connection)
        additions = opened.additions if opened else NOTHING
        call = build_call(parameters, additions, defaults)
        if (trace := request.trace) is not None:
            trace_request(trace, call if trace.reveal else build_call(parameters, blotted(additions), defaults))
        answer = await self._session.fetch(call, timeout_seconds=None)
        if answer.status == HTTPStatus.UNAUTHORIZED and parameters.connection is not None and opened and opened.token:
            opened = await self._connections.open(parameters.connection, refused=opened.token)
            call = build_call(parameters, opened.additions, defaults)
            answer = await self._session.fetch(call, timeout_seconds=None)
        redactor = opened.redactor if opened else _NO_SECRETS
        trace_response(request.trace, call, answer, _status_text(answer), redactor)
        if not 200 <= answer.status < 300:
            raise _status_error(call, answer, redactor)
        output: dict[str, Json] = {
            "Headers": _header_lists(answer),
            "ResponseBody": _body(answer),
            "StatusCode": answer.status,
            "StatusText": _status_text(answer),
        }
        return redactor.json(output)


def http_target(
    settings: HttpSettings,
    connections: FindConnection,
    box: SecretBox,
    clock: Clock,
    session: GuardedSession | None = None,
) -> HttpTarget:
    """The target by these settings, with a session of its own unless one is given."""
    return HttpTarget(session or settings.session(), connections, box, clock, timeout_seconds=settings.timeout_seconds)


def _own_headers(request: TaskRequest) -> dict[str, str]:
    """The headers by which a service knows a repeated request, and joins it to its trace."""
    headers = {"Idempotency-Key": request.idempotency_key, "Stepwell-Step-Id": request.step_id}
    if request.traceparent is not None:
        headers["traceparent"] = request.traceparent
    return headers


def _status_text(answer: Answer) -> str:
    if answer.reason:
        return answer.reason
    return HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else ""


def _header_lists(answer: Answer) -> dict[str, list[str]]:
    """Names in lower case, as on AWS, each with its values in order."""
    lists: dict[str, list[str]] = {}
    for name, value in answer.headers:
        lists.setdefault(name.lower(), []).append(value)
    return lists


def _body(answer: Answer) -> Json:
    """The body as JSON where it is JSON (by its type, or by how it begins), as text where it is text, else in base64.

    An empty body is null.
    """
    if not answer.body:
        return None
    media_type, _, options = (answer.header("content-type") or "").lower().partition(";")
    media_type = media_type.strip()
    says_json = media_type == "application/json" or media_type.endswith("+json")
    if says_json or answer.body.lstrip()[:1] in (b"{", b"["):
        try:
            return read(answer.body)
        except JsonTextError:
            pass
    charset = options.partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        text = answer.body.decode(codecs.lookup(charset or "utf-8").name)
        text.encode()  # some codecs decode to what is no text in JSON
    except (LookupError, UnicodeError):
        return base64.b64encode(answer.body).decode()
    return text


def _status_error(call: Call, answer: Answer, redactor: Redactor) -> StatesError:
    """The error of an answer that is not 2xx. Its cause is JSON text and keeps the body, cut to what a cause may hold."""
    cause: dict[str, Json] = {
        "StatusCode": answer.status,
        "StatusText": _status_text(answer),
        "ApiEndpoint": shown(call.url),
    }
    headers = {name: values for name, values in _header_lists(answer).items() if name != "set-cookie"}
    if len(write_text(headers)) <= _MAX_CAUSE_HEADERS:
        cause["Headers"] = redactor.json(headers)
    body = answer.body.decode(errors="replace") if answer.truncated else redactor.json(_body(answer))
    text = write_text({**cause, "ResponseBody": body})
    if len(text) <= MAX_CAUSE_LENGTH and not answer.truncated:
        return StatesError(f"{STATUS_ERROR}{answer.status}", text)
    kept = redactor.text(body if isinstance(body, str) else write_text(body))
    cause["ResponseBodyTruncated"] = True

    def cut(size: int) -> str:
        return write_text({**cause, "ResponseBody": kept[:size]})

    fitting = bisect_right(range(min(len(kept), MAX_CAUSE_LENGTH)), MAX_CAUSE_LENGTH, key=lambda size: len(cut(size)))
    return StatesError(f"{STATUS_ERROR}{answer.status}", cut(max(0, fitting - 1)))
