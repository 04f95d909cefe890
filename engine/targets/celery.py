"""Celery tasks: `celery:<task name>` as the Resource. Publishes the task's message; a worker claims it and reports its outcome.

The message is Celery's own (protocol 2), so that any worker of any app can run it; what makes it Stepwell's is one header. No
result backend, no ETA. It must not know who consumes outcomes.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from stepwell.engine.asl.celery_resources import SCHEME, Route, parse_route
from stepwell.engine.jsontypes import read, write
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.messages import TASK_HEADER, TaskEnvelope
from stepwell.engine.ports import TargetResult, TaskRequest
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.broker import Message, Publisher

_NO_CALLBACKS: Final = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


class CeleryTarget:
    """The target of `TargetKind.CELERY`. Closing it closes the publisher."""

    def __init__(self, publisher: Publisher, *, default_queue: str = "celery") -> None:
        self._publisher = publisher
        self._default_queue = default_queue

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Hand the task to the broker; its outcome comes by the results queue. Raises `TargetUnavailableError`."""
        try:
            await self.send(request, request.resource.name, request.payload.text)
        except StatesError as error:
            return TaskFailed(request.task, error.error, error.cause)
        return None

    async def send(
        self, request: TaskRequest, task: str, payload: bytes, *, around: tuple[bytes, bytes] | None = None
    ) -> None:
        """Publish a message for a Celery task. `around` is put around its result's text by the worker.

        Raises `StatesError` for a message that cannot be made, `TargetUnavailableError`.
        """
        route = route_of(request.resource.text, self._default_queue)
        await self._publisher.publish(message_of(request, task, payload, route, around))

    async def close(self) -> None:
        await self._publisher.close()


def route_of(resource: str, default_queue: str) -> Route:
    """Read the query of a Resource. Raises `StatesError`."""
    if not resource.startswith(SCHEME):
        return Route(default_queue)
    try:
        return parse_route(resource, default_queue)
    except ValueError as error:
        raise StatesError(ErrorName.RUNTIME, str(error)) from None


def message_of(
    request: TaskRequest, task: str, payload: bytes, route: Route, around: tuple[bytes, bytes] | None = None
) -> Message:
    """The message. Raises `StatesError` when the input is not what `call` asks for."""
    envelope = TaskEnvelope(
        execution=request.execution.hex(),
        task=request.task,
        key=request.claim_key,
        name=task,
        state=request.state,
        idempotency_key=request.idempotency_key,
        step_id=request.step_id,
        execution_arn=request.execution_arn,
        attempt=request.attempt,
        delivery=request.delivery,
        heartbeat_seconds=request.heartbeat_seconds,
        timeout_seconds=request.timeout_seconds,
        traceparent=request.traceparent,
        around=None if around is None else (around[0].decode(), around[1].decode()),
    )
    id = _message_id(request)
    headers: dict[str, object] = {
        "lang": "py",
        "task": task,
        "id": id,
        "root_id": id,
        "parent_id": None,
        "group": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, request.timeout_seconds],
        "argsrepr": "(...)",
        "kwargsrepr": "{}",
        "origin": "stepwell",
        "ignore_result": True,
        TASK_HEADER: msgspec.json.encode(envelope).decode(),
    }
    if request.traceparent is not None:
        headers["traceparent"] = request.traceparent
    properties: dict[str, object] = {"correlation_id": id, "reply_to": "", "delivery_mode": 2}
    if route.priority is not None:
        properties["priority"] = route.priority
    return Message(route.queue, _body(payload, route.call), headers, properties)


def _body(payload: bytes, call: str) -> bytes:
    if call == "payload":
        return b"[[" + payload + b"],{}," + _NO_CALLBACKS + b"]"
    value = read(payload)
    if call == "kwargs" and isinstance(value, dict):
        return b"[[]," + write(value) + b"," + _NO_CALLBACKS + b"]"
    if call == "args" and isinstance(value, list):
        return b"[" + write(value) + b",{}," + _NO_CALLBACKS + b"]"
    wanted = "an object (call=kwargs)" if call == "kwargs" else "an array (call=args)"
    raise StatesError(ErrorName.RUNTIME, f"The input of this Celery task must be {wanted}, as its Resource says.")


def _message_id(request: TaskRequest) -> str:
    """An id of its own for each delivery: workers remember the ids of revoked messages."""
    name = f"{request.execution.hex()}/{request.task}/{request.delivery}".encode()
    return str(UUID(bytes=blake2b(name, digest_size=16).digest(), version=4))
