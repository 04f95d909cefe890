"""Stores under test: the ports in Postgres and in memory, and executions committed to either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from stepwell.engine.ports import (
    ActivityStore,
    ApiKeyStore,
    CommitEntry,
    ConnectionStore,
    DeadLetterStore,
    ExecutionReader,
    FunctionStore,
    MachineStore,
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
from stepwell.engine.store.pool import create_pool
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.support.local_machine import START
from tests.support.stored import StoredRun

NODE = UUID(int=7)


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
