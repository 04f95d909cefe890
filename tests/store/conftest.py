"""Stores under test: the ports in Postgres and in memory, and executions committed to either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from stepwell.engine.ids import SHARD_COUNT, ExecutionId, claim_key
from stepwell.engine.machine.map_events import Message
from stepwell.engine.messages import Claim, WorkerReport
from stepwell.engine.ports import (
    ActivityStore,
    ApiKeyStore,
    CommitEntry,
    ConnectionStore,
    DeadLetterStore,
    ExecutionReader,
    FunctionStore,
    MachineStore,
    OpenTaskRow,
    RuntimeStore,
)
from stepwell.engine.store.activities import PostgresActivities
from stepwell.engine.store.api_keys import PostgresApiKeys
from stepwell.engine.store.connections import PostgresConnections
from stepwell.engine.store.dead_letters import PostgresDeadLetters
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.functions import PostgresFunctions
from stepwell.engine.store.machines import PostgresMachines
from stepwell.engine.store.memory import MemoryDatabase, MemoryDeadLetters, MemoryExecutions, MemoryMachines
from stepwell.engine.store.memory_registries import (
    MemoryActivities,
    MemoryApiKeys,
    MemoryConnections,
    MemoryFunctions,
)
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from stepwell.engine.store.pool import create_pool
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.support.local_machine import START, info_of
from tests.support.stored import TASK, StoredRun, machine_record

NODE = UUID(int=7)


def claim_of(run: StoredRun, worker: str, holder: str | None = None) -> Claim:
    """A worker's claim to the first task of an execution."""
    return Claim(run.id.hex(), 1, claim_key(run.tasks[1].secret), worker, "name", holder)


WORKER = str(UUID(int=101))
ALL = range(SHARD_COUNT)


class FixedClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = START

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@dataclass
class Stores:
    """One implementation of every port."""

    machines: MachineStore
    executions: ExecutionReader
    dead_letters: DeadLetterStore
    activities: ActivityStore
    functions: FunctionStore
    connections: ConnectionStore
    api_keys: ApiKeyStore
    clock: FixedClock
    commit: Callable[[CommitEntry], Awaitable[bool]]

    async def keep(self, *runs: StoredRun) -> None:
        """Commit what the runs have done since the last call."""
        for run in runs:
            for entry in run.entries:
                assert await self.commit(entry)
            run.entries.clear()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    pool = await create_pool(database, max_size=4)
    yield pool
    await pool.close()


@pytest.fixture
async def postgres(database: str, pool: asyncpg.Pool[Any]) -> AsyncIterator[Stores]:
    clock = FixedClock()
    runtime = PostgresRuntimeStore(database, pool, clock, notify=False)
    await runtime.register_node(NODE, None, 3_600_000)
    assert len(await runtime.take_shards(NODE, 256)) == 256

    async def commit(entry: CommitEntry) -> bool:
        return bool(await runtime.commit(NODE, [entry]))

    yield Stores(
        PostgresMachines(pool),
        PostgresExecutions(pool),
        PostgresDeadLetters(pool),
        PostgresActivities(pool),
        PostgresFunctions(pool),
        PostgresConnections(pool),
        PostgresApiKeys(pool),
        clock,
        commit,
    )
    await runtime.close()


@pytest.fixture
def memory() -> Stores:
    clock = FixedClock()
    database = MemoryDatabase()

    async def commit(entry: CommitEntry) -> bool:
        return database.commit(entry, clock.now)

    return Stores(
        MemoryMachines(database),
        MemoryExecutions(database),
        MemoryDeadLetters(database),
        MemoryActivities(database),
        MemoryFunctions(database),
        MemoryConnections(database),
        MemoryApiKeys(database),
        clock,
        commit,
    )


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Every implementation: what is tested with this holds for all of them."""
    stores = request.getfixturevalue(request.param)
    assert isinstance(stores, Stores)
    return stores


@dataclass
class RuntimeStores:
    """One implementation, and how its leases are made to run out."""

    store: RuntimeStore
    machines: MachineStore
    clock: FixedClock
    lapse_worker: Callable[[str], Awaitable[None]]
    lapse_node: Callable[[UUID], Awaitable[None]]

    async def commit(self, run: StoredRun, node: UUID = NODE) -> bool:
        """Commit what a run has done since the last call, one step after the other; whether each was written."""
        entries, run.entries = run.entries, []
        return all([bool(await self.store.commit(node, [entry])) for entry in entries])

    async def started(self, definition: Mapping[str, Any] = TASK, name: str = "run-1") -> StoredRun:
        """A committed execution of this definition that has begun."""
        machine = await self.machines.by_name("Machine") or await self.machines.create(machine_record())
        assert machine is not None
        run = StoredRun(definition, machine_key=machine.key, info=info_of(name=name)).start()
        assert await self.commit(run)
        return run

    async def claimed(self, worker: str = WORKER, name: str = "run-1") -> StoredRun:
        run = await self.started(name=name)
        assert await self.claim(run, worker)
        return run

    async def claim(self, run: StoredRun, worker: str, holder: str | None = None) -> bool:
        return await self.store.post_claim(run.id, claim_of(run, worker, holder))

    async def report(self, worker: str, *running: str, ended: bool = False) -> None:
        await self.store.report_worker(WorkerReport(worker, "host", 1, running=list(running), ended=ended), 20)

    async def lost(self, forgotten_before: int = 0) -> list[ExecutionId]:
        return [row.execution for row in await self.store.lost_tasks(ALL, forgotten_before)]

    async def waiting(self) -> list[OpenTaskRow]:
        return list(await self.store.open_tasks(ALL))

    async def inbox(self) -> list[Message]:
        return [row.event for row in await self.store.inbox(ALL, 100)]


@pytest.fixture
async def runtime_postgres(database: str, pool: asyncpg.Pool[Any]) -> AsyncIterator[RuntimeStores]:
    clock = FixedClock()
    store = PostgresRuntimeStore(database, pool, clock, notify=False)

    async def lapse(table: str, incarnation: str | UUID) -> None:
        statement = f"UPDATE {table} SET expires_at = clock_timestamp() - interval '1 second' WHERE incarnation = $1"
        await pool.execute(statement, UUID(str(incarnation)))

    await _own_all(store)
    yield RuntimeStores(
        store, PostgresMachines(pool), clock, lambda worker: lapse("worker", worker), lambda node: lapse("node", node)
    )
    await store.close()


@pytest.fixture
async def runtime_memory() -> RuntimeStores:
    clock = FixedClock()
    store = MemoryRuntimeStore(clock)

    async def lapse_worker(worker: str) -> None:
        store.workers[UUID(worker)] = clock.now - 1

    async def lapse_node(node: UUID) -> None:
        store.nodes[node] = (store.nodes[node][0], clock.now - 1)

    await _own_all(store)
    return RuntimeStores(store, MemoryMachines(store.database), clock, lapse_worker, lapse_node)


async def _own_all(store: RuntimeStore) -> None:
    await store.register_node(NODE, "a:1", 3_600_000)
    assert list(await store.take_shards(NODE, SHARD_COUNT)) == list(ALL)


@pytest.fixture(params=["memory", "postgres"])
def of(request: pytest.FixtureRequest) -> RuntimeStores:
    """Every implementation."""
    found = request.getfixturevalue(f"runtime_{request.param}")
    assert isinstance(found, RuntimeStores)
    return found
