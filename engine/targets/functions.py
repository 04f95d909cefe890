"""Function tasks: a function ARN as the Resource, and `lambda:invoke`.

The function's name is looked up in the registry: a Python callable goes to a function host, a Celery task to the Celery
target, a URL is invoked like a Lambda function. What is not registered is looked for among the names the hosts announce, then
at `STEPWELL_FUNCTION_URL`. It must not know who runs executions, nor let a user's code into this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from stepwell.engine.asl.resources import IntegrationPattern
from stepwell.engine.clock import Clock
from stepwell.engine.errors import JsonTextError, StepwellError
from stepwell.engine.jsontypes import read
from stepwell.engine.machine.events import TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.messages import Call, Returned
from stepwell.engine.ports import FunctionKind, FunctionRecord, TargetResult, TaskRequest
from stepwell.engine.settings import Settings
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets import guarded
from stepwell.engine.targets.egress import EgressPolicy
from stepwell.engine.targets.function_hosts import MAX_DELIVERIES, FunctionHostPool, HostLostError
from stepwell.engine.targets.guarded import GuardedSession
from stepwell.engine.targets.lambda_invoke import (
    LATEST,
    MAX_ANSWER_BYTES,
    MAX_INVOKE_SECONDS,
    Invocation,
    InvocationType,
    envelope,
    function_error,
    invocation_of,
    invoke_url,
    not_found,
    result,
    service_error,
)

REGISTRY_SECONDS: Final = 2.0
"""How long an entry of the registry is believed; a change on another node is seen after that."""
_MAX_CACHED: Final = 10_000
_log: Final = logging.getLogger(__name__)


class FindFunction(Protocol):
    """What is needed of `ports.FunctionStore`."""

    async def get(self, name: str) -> FunctionRecord | None: ...


class SendTask(Protocol):
    """What is needed of the Celery target."""

    async def send(
        self, request: TaskRequest, task: str, payload: bytes, *, around: tuple[bytes, bytes] | None = None
    ) -> None: ...


def function_pool(settings: Settings) -> FunctionHostPool:
    """The function hosts these settings ask for; `start` it in the engine's loop. Raises `ConfigurationError`."""
    return FunctionHostPool(
        settings.function_modules,
        processes=settings.function_processes,
        threads=settings.function_threads,
        addresses=settings.function_hosts,
        secret=(settings.function_secret or "").encode(),
    )


class FunctionTarget:
    """The target of `TargetKind.FUNCTION`. The pool, the session and the Celery target are their makers' to close."""

    def __init__(
        self,
        registry: FindFunction,
        hosts: FunctionHostPool,
        session: GuardedSession,
        clock: Clock,
        *,
        celery: SendTask | None = None,
        url: str | None = None,
    ) -> None:
        self._registry = registry
        self._hosts = hosts
        self._session = session
        self._clock = clock
        self._celery = celery
        self._url = url
        self._own_session = GuardedSession(_only(url), max_redirects=0) if url is not None else None
        self._cache: dict[str, tuple[float, FunctionRecord | None]] = {}
        self._background: set[asyncio.Task[object]] = set()

    def forget(self, name: str | None = None) -> None:
        """Ask the registry anew about a function (all of them), now that it has changed."""
        if name is None:
            self._cache.clear()
        else:
            self._cache.pop(name, None)

    async def close(self) -> None:
        """Give up what runs for nobody (`InvocationType: Event`)."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._own_session is not None:
            await self._own_session.close()

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Run the function. None: it was handed to a Celery worker, which reports."""
        try:
            output = await self._run(request, invocation_of(request))
        except StatesError as error:
            return TaskFailed(request.task, error.error, error.cause)
        if output is None:
            return None
        if request.resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN:
            return TaskSubmitted(request.task, output)
        return TaskSucceeded(request.task, output)

    async def _run(self, request: TaskRequest, invocation: Invocation) -> msgspec.Raw | None:
        record = await self._find(invocation)
        if invocation.type is InvocationType.DRY_RUN:
            return result(invocation, b"", self._clock.now_ms(), status=204)
        if record.kind is FunctionKind.HTTP:
            return await self._invoke(request, invocation, record)
        if record.kind is FunctionKind.CELERY:
            return await self._hand_over(request, invocation, record)
        call = _call(request, invocation, record)
        if invocation.type is InvocationType.EVENT:
            self._leave(call)
            return result(invocation, b"", self._clock.now_ms(), status=202)
        try:
            answer = await self._hosts.call(call)
        except HostLostError:
            raise StatesError(
                ErrorName.WORKER_LOST,
                f"The process that ran function '{record.name}' ended while it ran, {MAX_DELIVERIES} times in a row. "
                "See the log of the function host for why.",
            ) from None
        if isinstance(answer, Returned):
            return result(invocation, answer.output, self._clock.now_ms())
        raise StatesError(answer.error, answer.cause)

    # ------------------------------------------------------------------------------------------------------- finding

    async def _find(self, invocation: Invocation) -> FunctionRecord:
        function = invocation.function
        for name in function.registry_names:
            record = await self._registered(name)
            if record is not None:
                return record
        if self._hosts.configured and await self._hosts.has(function.name):
            return FunctionRecord(function.name, FunctionKind.PYTHON, function.name)
        if self._url is not None:
            return FunctionRecord(function.name, FunctionKind.HTTP, self._url)
        for name in function.registry_names:  # who registers it now need not wait to redrive what failed
            self._cache.pop(name, None)
        raise not_found(function, invocation.request_id)

    async def _registered(self, name: str) -> FunctionRecord | None:
        now = self._clock.monotonic()
        known = self._cache.get(name)
        if known is not None and known[0] > now:
            return known[1]
        record = await self._registry.get(name)
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[name] = (now + REGISTRY_SECONDS, record)
        return record

    # ------------------------------------------------------------------------------------------------------ the ways

    async def _hand_over(
        self, request: TaskRequest, invocation: Invocation, record: FunctionRecord
    ) -> msgspec.Raw | None:
        if self._celery is None:
            raise StatesError(
                ErrorName.RUNTIME,
                f"Function '{record.name}' is the Celery task '{record.target}', and this engine has no broker: "
                "set STEPWELL_BROKER_URL.",
            )
        around = envelope(invocation, self._clock.now_ms()) if invocation.enveloped else None
        await self._celery.send(request, record.target, invocation.payload, around=around)
        return None

    def _leave(self, call: Call) -> None:
        async def run() -> None:
            try:
                await self._hosts.call(call)
            except (HostLostError, StepwellError) as error:
                _log.warning("function %s, called as an event, did not run to its end: %s", call.name, error)

        task: asyncio.Task[object] = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _invoke(self, request: TaskRequest, invocation: Invocation, record: FunctionRecord) -> msgspec.Raw:
        own = record.target == self._url
        session = self._own_session if own and self._own_session is not None else self._session
        call = guarded.Call(
            method="POST",
            url=guarded.parse_url(invoke_url(record.target, invocation.function)),
            headers=_invoke_headers(request, invocation),
            body=invocation.payload,
        )
        try:
            answer = await session.fetch(call, timeout_seconds=MAX_INVOKE_SECONDS, max_bytes=MAX_ANSWER_BYTES)
        except StatesError as error:
            if error.error != ErrorName.HTTP_SOCKET:
                raise
            raise StatesError("Lambda.SdkClientException", f"Unable to execute HTTP request: {error.cause}") from None
        request_id = answer.header("x-amzn-requestid") or invocation.request_id
        if answer.header("x-amz-function-error") is not None:
            raise function_error(answer.body)
        if not 200 <= answer.status < 300:
            code = (answer.header("x-amzn-errortype") or "").partition(":")[0] or None
            if answer.status == 404 and code in (None, "ResourceNotFoundException"):
                raise not_found(invocation.function, request_id)
            raise service_error(code, _message(answer.body), answer.status, request_id)
        if answer.body:
            try:
                read(answer.body)
            except JsonTextError as error:
                raise service_error("ServiceException", f"The function's answer: {error}", 502, request_id) from None
        body = answer.body or (b"null" if invocation.type is InvocationType.REQUEST_RESPONSE else b"")
        return result(
            replace(invocation, request_id=request_id),
            body,
            self._clock.now_ms(),
            version=answer.header("x-amz-executed-version") or LATEST,
            status=answer.status,
            log=answer.header("x-amz-log-result"),
        )


def _call(request: TaskRequest, invocation: Invocation, record: FunctionRecord) -> Call:
    return Call(
        0,
        record.target,
        invocation.payload,
        invocation.request_id,
        invocation.function.name,
        invocation.function.arn,
        request.execution_arn,
        request.state,
        request.attempt,
        request.idempotency_key,
        request.step_id,
        request.timeout_seconds,
        request.traceparent,
    )


def _invoke_headers(request: TaskRequest, invocation: Invocation) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", "application/json"),
        ("X-Amz-Invocation-Type", invocation.type.value),
        ("Idempotency-Key", request.idempotency_key),
        ("Stepwell-Step-Id", request.step_id),
    ]
    if invocation.wants_log:
        headers.append(("X-Amz-Log-Type", "Tail"))
    if invocation.client_context is not None:
        headers.append(("X-Amz-Client-Context", invocation.client_context))
    if request.traceparent is not None:
        headers.append(("traceparent", request.traceparent))
    return headers


def _message(body: bytes) -> str:
    try:
        told = read(body)
    except JsonTextError:
        told = None
    if isinstance(told, Mapping):
        message = told.get("Message") or told.get("message")
        if isinstance(message, str):
            return message
    return body.decode(errors="replace")[:1000] or "The function service gave no reason"


def _only(url: str) -> EgressPolicy:
    """A policy that also allows the place the operator named."""
    place = urlsplit(url)
    host = f"[{place.hostname}]" if place.hostname and ":" in place.hostname else place.hostname
    port = place.port or (443 if place.scheme == "https" else 80)
    return EgressPolicy.parse(f"{host}:{port}")
