"""Engine nodes in the test's own process, over a real database, with targets the test commands."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.map_ports import ItemSource
from stepwell.engine.ports import (
    Evaluate,
    ExecutionView,
    ExpressView,
    MachineRecord,
    StartAnswer,
    StartRequest,
    TargetResult,
    TaskRequest,
    evaluate_here,
)
from stepwell.engine.runtime.dispatch import Targets
from stepwell.engine.runtime.engine import Engine, EngineOptions
from stepwell.engine.runtime.peers import Listener
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.express import PostgresExpress
from stepwell.engine.store.machines import PostgresMachines
from stepwell.engine.store.map_runs import PostgresMapRuns, PostgresMapRunStore
from stepwell.engine.store.pool import create_pool
from stepwell.engine.store.runtime_store import PostgresRuntimeStore

SECRET = b"tests" * 8


class SystemClock:
    """Real time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class StandingClock(SystemClock):
    """A clock that stands still until it is moved. Loops that wait for a moment of it look again after as long in real time."""

    def __init__(self, now: int | None = None) -> None:
        self._now = super().now_ms() if now is None else now

    def now_ms(self) -> int:
        return self._now

    def forward(self, milliseconds: int) -> int:
        """Move it on; what it shows then."""
        self._now += milliseconds
        return self._now


class SystemSeeds:
    """Real chance."""

    def seed(self) -> int:
        return int.from_bytes(os.urandom(16), "big")


class Fails(Exception):
    """Raised by a test's handler to fail the task."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.error, self.cause = error, cause


def _texts(view: ExecutionView) -> dict[str, object]:
    """The members of a view, to compare: documents by their text."""
    members = {name.name: getattr(view, name.name) for name in dataclasses.fields(view)}
    return {name: value.text if isinstance(value, Document) else value for name, value in members.items()}


class CommandedTargets:
    """Runs tasks by handlers (state name -> function of the payload); without one a task waits until the test answers it."""

    def __init__(self, handlers: Mapping[str, Callable[[Json], Json]] | None = None) -> None:
        self.handlers = dict(handlers or {})
        self.calls: list[TaskRequest] = []
        self.waiting: dict[str, asyncio.Future[TargetResult]] = {}
        self.called = asyncio.Event()

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.calls.append(request)
        self.called.set()
        handler = self.handlers.get(request.state)
        if handler is None:
            future = self.waiting[request.state] = asyncio.get_running_loop().create_future()
            result: TargetResult = await future
            return result
        try:
            return TaskSucceeded(request.task, msgspec.Raw(Document.of(handler(request.payload.value)).text))
        except Fails as failure:
            return TaskFailed(request.task, failure.error, failure.cause)

    def answer(self, state: str, value: Json) -> None:
        """Let the task of this state that waits succeed."""
        request = next(request for request in reversed(self.calls) if request.state == state)
        if not self.waiting[state].done():
            self.waiting[state].set_result(TaskSucceeded(request.task, msgspec.Raw(Document.of(value).text)))

    def count(self, state: str) -> int:
        """How often a state's task was performed."""
        return sum(request.state == state for request in self.calls)


class Node:
    """One engine node with what a test asks of it."""

    def __init__(self, engine: Engine, requests: Requests, pool: asyncpg.Pool[Any], targets: CommandedTargets) -> None:
        self.engine, self.requests, self.pool, self.targets = engine, requests, pool, targets
        self.machines = PostgresMachines(pool)
        self.reader = PostgresExecutions(pool)
        self.map_runs = PostgresMapRuns(pool, SystemClock())

    async def machine(self, definition: dict[str, Any], name: str = "machine", type: str = "STANDARD") -> MachineRecord:
        """Store a state machine."""
        arn = f"arn:aws:states:us-east-1:000000000000:stateMachine:{name}"
        record = MachineRecord(
            key=0, arn=arn, name=name, type=type, definition=json.dumps(definition), revision=1, revision_id=None,
            role_arn="arn:aws:iam::000000000000:role/test", created_at=1, updated_at=1,
        )  # fmt: skip
        return await self.machines.create(record) or await self.found(arn)

    async def found(self, arn: str) -> MachineRecord:
        record = await self.machines.get(arn)
        assert record is not None
        return record

    async def start(self, machine: MachineRecord, input: Json = None, name: str | None = None) -> StartAnswer:
        return await self.requests.start(StartRequest(machine=machine, input=Document.of(input or {}), name=name))

    async def start_express(self, machine: MachineRecord, input: Json = None, name: str | None = None) -> StartAnswer:
        return await self.requests.start_express(
            StartRequest(machine=machine, input=Document.of(input or {}), name=name)
        )

    async def ended_express(self, id: ExecutionId, timeout_ms: int = 30_000) -> ExpressView:
        """Wait for the end of an asynchronous Express execution."""
        view = await self.requests.wait_express(id, timeout_ms)
        assert view is not None and view.stopped_at is not None, "the execution has not ended in time"
        return view

    async def run_express(self, machine: MachineRecord, input: Json = None, name: str | None = None) -> ExpressView:
        return await self.requests.run_express(StartRequest(machine=machine, input=Document.of(input or {}), name=name))

    async def ended(self, id: ExecutionId, timeout_ms: int = 30_000) -> ExecutionView:
        """Wait for the end and describe the execution."""
        waited = await self.requests.wait(id, timeout_ms)
        assert waited.ended, "the execution has not ended in time"
        view = await self.reader.describe(id)
        assert view is not None
        if waited.view is not None:
            assert _texts(waited.view) == _texts(view), "who waits is told what the store holds"
        return view

    async def event_types(self, id: ExecutionId) -> list[str]:
        history = await self.reader.history(id, limit=1000)
        assert history is not None
        return [event.type for _, event in history[0]]


def make_node(
    store: PostgresRuntimeStore,
    pool: asyncpg.Pool[Any],
    targets: Targets,
    clock: Clock,
    options: EngineOptions,
    *,
    notify: bool = True,
    items: ItemSource | None = None,
    evaluate: Evaluate = evaluate_here,
) -> tuple[Engine, Requests]:
    """An engine node over these connections. Whoever opens the engine closes it, and what it is made of."""
    seeds = SystemSeeds()
    engine = Engine(
        store=store, express=PostgresExpress(pool, clock), machines=PostgresMachines(pool), targets=targets, clock=clock, seeds=seeds, options=options,
        listen=store.listen if notify else None, evaluate=evaluate,
        map_store=PostgresMapRunStore(store, pool, clock), items=items,
    )  # fmt: skip
    return engine, Requests(engine, store, clock, seeds, secret=SECRET)


@asynccontextmanager
async def open_node(
    url: str,
    targets: CommandedTargets | None = None,
    *,
    listen: bool = False,
    ttl_ms: int = 10_000,
    owns_shards: bool = True,
    notify: bool = True,
    items: ItemSource | None = None,
    evaluate: Evaluate = evaluate_here,
    clock: SystemClock | None = None,
    **more: Any,
) -> AsyncIterator[Node]:
    """An engine node over the database at `url`; with `listen`, other nodes can reach it."""
    pool = await create_pool(url, max_size=4)
    clock, targets = clock or SystemClock(), targets or CommandedTargets()
    store = PostgresRuntimeStore(url, pool, clock, notify=notify)
    holder: list[Requests] = []
    listener = Listener(SECRET, lambda ask, number: holder[0].answer(ask, number))  # noqa: PLW0108 - made below
    address = await listener.open("127.0.0.1") if listen else None
    options = EngineOptions(node=uuid4(), address=address, lease_ttl_ms=ttl_ms, owns_shards=owns_shards, **more)
    engine, requests = make_node(store, pool, targets, clock, options, notify=notify, items=items, evaluate=evaluate)
    holder.append(requests)
    await engine.open()
    try:
        yield Node(engine, requests, pool, targets)
    finally:
        await listener.close()
        requests.close()
        await engine.close()
        await store.close()
        await pool.close()
