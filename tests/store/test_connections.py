"""Connections that the runtime store opens beside its pool: whatever cuts it short, none is left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.store.conftest import FixedClock


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[asyncpg.Connection[Any]]:
    """Every connection opened from here on."""
    connections: list[asyncpg.Connection[Any]] = []
    connect = asyncpg.connect

    async def noted(*arguments: Any, **options: Any) -> asyncpg.Connection[Any]:
        connection = await connect(*arguments, **options)
        connections.append(connection)
        return connection

    monkeypatch.setattr(asyncpg, "connect", noted)
    return connections


@pytest.fixture
async def store(database: str, pool: asyncpg.Pool[Any]) -> AsyncIterator[PostgresRuntimeStore]:
    store = PostgresRuntimeStore(database, pool, FixedClock())
    yield store
    await store.close()


async def cut_short(*_: object, **__: object) -> None:
    raise asyncio.CancelledError


async def test_that_of_a_listener(
    store: PostgresRuntimeStore, opened: list[asyncpg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncpg.Connection, "add_listener", cut_short)
    with pytest.raises(asyncio.CancelledError):
        await store.listen(asyncio.Event())
    assert [connection.is_closed() for connection in opened] == [True]


async def test_that_of_a_commit_before_its_session_is_set_up(
    store: PostgresRuntimeStore, opened: list[asyncpg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncpg.Connection, "execute", cut_short)
    with pytest.raises(asyncio.CancelledError):
        await store.fetch_committing("SELECT 1")
    assert [connection.is_closed() for connection in opened] == [True]


async def test_that_of_a_commit_that_outlives_the_store(
    store: PostgresRuntimeStore, opened: list[asyncpg.Connection[Any]], database: str
) -> None:
    other = await asyncpg.connect(database)
    await other.execute("SELECT pg_advisory_lock(7)")
    late = asyncio.create_task(store.fetch_committing("SELECT pg_advisory_xact_lock(7)"))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    while not await other.fetchval(waits):  # noqa: ASYNC110 - no signal tells of a lock that is waited for
        await asyncio.sleep(0.01)
    await store.close()
    await other.execute("SELECT pg_advisory_unlock(7)")
    await late
    await other.close()
    assert [connection.is_closed() for connection in opened] == [True, True]
