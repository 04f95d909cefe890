"""Real servers on loopback, a clock that only moves when told to, a resolver that answers what it is told to, and requests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from stepwell.engine import auth_parameters, ids
from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.jsontypes import Document, Json, read
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.ports import ConnectionRecord, TargetResult, TaskRequest
from stepwell.engine.secretbox import SecretBox

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HTTP_INVOKE = "arn:aws:states:::http:invoke"


class StillClock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class ToldResolver(AbstractResolver):
    """Answers each question for a host with the next of its lists of addresses (the last one again and again)."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {host.replace("_", "."): list(lists) for host, lists in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        lists = self.answers.get(host)
        if lists is None:
            raise OSError(None, "no such host")
        addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class ConnectionShelf:
    """Connections in memory."""

    def __init__(self, box: SecretBox) -> None:
        self.box = box
        self.records: dict[str, ConnectionRecord] = {}

    def add(self, name: str, text: str) -> str:
        parameters = auth_parameters.parse(text)
        arn = f"arn:aws:events:us-east-1:000000000000:connection/{name}/8d6f2a7e"
        self.records[name] = ConnectionRecord(
            arn, name, parameters.type, parameters.public(), parameters.seal(self.box, name)
        )
        return arn

    async def get(self, name_or_arn: str) -> ConnectionRecord | None:
        return next((each for each in self.records.values() if name_or_arn in (each.name, each.arn)), None)


@asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[TestServer]:
    """A server that has every request handled by `handler`."""
    app = web.Application(client_max_size=1 << 24)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(app, **options)
    await server.start_server(shutdown_timeout=0.0)
    try:
        yield server
    finally:
        await server.close()


def url(server: TestServer, path: str = "/") -> str:
    return str(server.make_url(path))


def request(payload: Json, resource: str = HTTP_INVOKE, **changes: Any) -> TaskRequest:
    parsed = parse_resource(resource)
    assert parsed is not None
    fields: dict[str, Any] = {
        "execution": ids.ExecutionId(bytes(16)),
        "execution_arn": "arn:aws:states:us-east-1:000000000000:execution:m:e",
        "machine_name": "m",
        "task": 7,
        "state": "Call",
        "attempt": 0,
        "delivery": 1,
        "resource": parsed,
        "payload": Document.of(payload),
        "idempotency_key": "key-of-this-attempt",
        "step_id": "id-of-this-step",
    }
    return TaskRequest(**{**fields, **changes})


def output(result: TargetResult) -> Any:
    assert isinstance(result, TaskSucceeded), result
    assert result.task == 7
    return read(bytes(result.output))


def failure(result: TargetResult) -> tuple[str, str]:
    assert isinstance(result, TaskFailed), result
    assert result.task == 7
    assert result.error is not None and result.cause is not None
    return result.error, result.cause


def let_time_pass(seconds: float) -> None:
    """Move the running loop's clock forward, so that its timers are due."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]
