"""The fences between concurrent transactions of a real Postgres: whoever comes first, nothing stale is written.

Each transaction has a session of its own and is held open where the test wants it; that one waits for another is read from
the server, so every interleaving here is the one that its test names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from stepwell.engine.ids import as_uuid, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import CommitEntry, NewExecution, TaskAnswer
from stepwell.engine.store.columns import Columns
from stepwell.engine.store.sql import QUERIES
from tests.store.conftest import ALL, NODE, RuntimeStores
from tests.support.local_machine import START, info_of, raw
from tests.support.stored import TASK, StoredRun

T = TypeVar("T")

OTHER = UUID(int=8)
DONE = events.TaskSucceeded(1, raw({"done": True}))
STOP = events.StopRequested("Stopped")
MOVE = "UPDATE shard SET owner = $1, epoch = epoch + 1 WHERE id = $2"


class Session:
    """One connection with a transaction that is open from the start."""

    def __init__(self, connection: asyncpg.Connection[Any], watcher: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._watcher = watcher
        self.pid = connection.get_server_pid()

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        return list(await self._connection.fetch(statement, *arguments))

    async def commit_step(self, node: UUID, *entries: CommitEntry) -> bool:
        """The group commit's statement; whether it wrote anything. It is durable only after `end`."""
        statement, arguments = Columns(entries).statement(node, START)
        return bool(await self._connection.fetch(statement, *arguments))

    async def end(self, how: str = "COMMIT") -> None:
        await self._connection.execute(how)

    async def blocked_by_this(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin what another session does, and return once that waits for this one."""
        task = asyncio.create_task(work)
        query = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
        async with asyncio.timeout(30):
            while await self._watcher.fetchval(query, self.pid) is None:
                assert not task.done(), f"it did not wait: {task.result()}"
        return task


Open = Callable[[], Awaitable[Session]]


@pytest.fixture
async def session(database: str) -> AsyncIterator[Open]:
    """Opens sessions, each in a transaction."""
    async with AsyncExitStack() as life:

        async def connect() -> asyncpg.Connection[Any]:
            connection = await asyncpg.connect(database)
            life.push_async_callback(connection.close)
            return connection

        watcher = await connect()

        async def open() -> Session:
            connection = await connect()
            await connection.execute("BEGIN")
            return Session(connection, watcher)

        yield open


async def stepping(of: RuntimeStores, event: events.Event) -> tuple[StoredRun, CommitEntry]:
    """A committed execution and a step of it that is still to be committed."""
    run = await of.started()
    run.apply(event)
    return run, run.entries.pop()


async def written(pool: asyncpg.Pool[Any], run: StoredRun) -> tuple[int, int, int]:
    """Revision, chunks and open tasks of an execution."""
    key = as_uuid(run.id)
    return (
        await pool.fetchval("SELECT rev FROM execution WHERE id = $1", key),
        await pool.fetchval("SELECT count(*) FROM history_chunk WHERE execution_id = $1", key),
        await pool.fetchval("SELECT count(*) FROM task WHERE execution_id = $1", key),
    )


BEFORE, AFTER = (1, 1, 1), (2, 2, 0)

# --------------------------------------------------------------------------------------- a commit and a change of owner


async def test_a_change_of_owner_waits_for_the_commit_that_came_first(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any]
) -> None:
    run, entry = await stepping(runtime_postgres, DONE)
    old = await session()
    assert await old.commit_step(NODE, entry)
    renaming = await old.blocked_by_this(runtime_postgres.store.rename_node(NODE, OTHER))
    assert await written(pool, run) == BEFORE
    await old.end()
    await renaming
    assert await written(pool, run) == AFTER  # so the new name reads what the old one wrote
    assert await runtime_postgres.store.owned_shards(NODE) == []


async def test_a_take_over_passes_by_a_shard_that_is_being_committed_to(
    runtime_postgres: RuntimeStores, session: Open
) -> None:
    store = runtime_postgres.store
    run, entry = await stepping(runtime_postgres, DONE)
    old = await session()
    assert await old.commit_step(NODE, entry)
    await runtime_postgres.lapse_node(NODE)
    await store.register_node(OTHER, None, 60_000)
    assert set(ALL) - set(await store.take_shards(OTHER, len(ALL))) == {shard_of(run.id)}
    await old.end()
    assert list(await store.take_shards(OTHER, len(ALL))) == [shard_of(run.id)]
    stored = await store.load(run.id)
    assert stored is not None and stored.rev == 2


@pytest.mark.parametrize("take_over", (True, False), ids=["committed", "rolled_back"])
async def test_a_commit_waits_for_the_take_over_that_came_first(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any], take_over: bool
) -> None:
    run, entry = await stepping(runtime_postgres, DONE)
    await runtime_postgres.lapse_node(NODE)
    await runtime_postgres.store.register_node(OTHER, None, 60_000)
    old, new = await session(), await session()
    assert len(await new.fetch(QUERIES["take_shards"], OTHER, len(ALL))) == len(ALL)
    committing = await new.blocked_by_this(old.commit_step(NODE, entry))
    await new.end("COMMIT" if take_over else "ROLLBACK")
    assert await committing is not take_over
    await old.end()
    assert await written(pool, run) == (BEFORE if take_over else AFTER)


async def test_a_commit_is_void_when_a_take_over_is_rolled_back_after_another_writer_advanced_the_row(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any]
) -> None:
    """The owner is the right one again; only the revision tells."""
    run, entry = await stepping(runtime_postgres, DONE)
    old, new, writer = await session(), await session(), await session()
    await new.fetch(MOVE, OTHER, entry.shard)
    committing = await new.blocked_by_this(old.commit_step(NODE, entry))
    await writer.fetch("UPDATE execution SET rev = rev + 1 WHERE id = $1", as_uuid(run.id))
    await writer.end()
    await new.end("ROLLBACK")
    assert not await committing
    await old.end()
    assert await written(pool, run) == (2, 1, 1)


@pytest.mark.parametrize("advanced", (True, False), ids=["advanced", "untouched"])
async def test_a_commit_during_two_changes_of_owner_is_judged_by_the_revision(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any], advanced: bool
) -> None:
    run, entry = await stepping(runtime_postgres, DONE)
    old, new = await session(), await session()
    await new.fetch(MOVE, OTHER, entry.shard)
    committing = await new.blocked_by_this(old.commit_step(NODE, entry))
    if advanced:
        assert await new.commit_step(OTHER, entry)
    await new.fetch(MOVE, NODE, entry.shard)
    await new.end()
    assert await committing is not advanced
    await old.end()
    assert await written(pool, run) == AFTER
    assert await pool.fetchval("SELECT epoch FROM shard WHERE id = $1", entry.shard) == 3


async def test_two_owners_write_one_step(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any]
) -> None:
    """As if the epoch fence let both in: the row of the execution lets one of them write."""
    run, entry = await stepping(runtime_postgres, DONE)
    first, second = await session(), await session()
    assert await first.commit_step(NODE, entry)
    committing = await first.blocked_by_this(second.commit_step(NODE, entry))
    await first.end()
    assert not await committing
    await second.end()
    assert await written(pool, run) == AFTER


# -------------------------------------------------------------------------------------------------- outcomes and claims


@pytest.mark.parametrize("how", ("COMMIT", "ROLLBACK"))
async def test_what_closes_a_task_waits_for_an_outcome_that_came_first(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any], how: str
) -> None:
    run, stop = await stepping(runtime_postgres, STOP)
    reporter, owner = await session(), await session()
    await reporter.fetch("UPDATE task SET outcome = 'x' WHERE execution_id = $1 AND outcome IS NULL", as_uuid(run.id))
    closing = await reporter.blocked_by_this(owner.commit_step(NODE, stop))
    await reporter.end(how)
    assert await closing is (how == "ROLLBACK")
    await owner.end()
    assert await written(pool, run) == (BEFORE if how == "COMMIT" else AFTER)


@pytest.mark.parametrize("how", ("COMMIT", "ROLLBACK"))
async def test_an_outcome_waits_for_what_closes_its_task_first(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any], how: str
) -> None:
    run = await runtime_postgres.started()
    secret = run.tasks[1].secret
    run.apply(STOP)
    (stop,) = run.entries
    owner = await session()
    assert await owner.commit_step(NODE, stop)
    posting = await owner.blocked_by_this(runtime_postgres.store.post_outcome(run.id, 1, secret, DONE))
    await owner.end(how)
    assert await posting is (TaskAnswer.TIMED_OUT if how == "COMMIT" else TaskAnswer.ACCEPTED)
    assert await runtime_postgres.inbox() == ([] if how == "COMMIT" else [DONE])


async def test_of_two_outcomes_at_once_one_is_accepted(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any]
) -> None:
    run = await runtime_postgres.started()
    secret = run.tasks[1].secret
    first = await session()
    taken = await first.fetch(QUERIES["post_outcome"], as_uuid(run.id), 1, secret, b'["task_failed",1]', START)
    assert taken
    posting = await first.blocked_by_this(runtime_postgres.store.post_outcome(run.id, 1, secret, DONE))
    await first.end()
    assert await posting is TaskAnswer.TIMED_OUT
    assert await runtime_postgres.inbox() == [events.TaskFailed(1)]


# ------------------------------------------------------------------------------------------------- starts under one name


@pytest.mark.parametrize("how", ("COMMIT", "ROLLBACK"))
async def test_a_start_waits_for_another_under_its_name(
    runtime_postgres: RuntimeStores, session: Open, pool: asyncpg.Pool[Any], how: str
) -> None:
    machine_key = (await runtime_postgres.started(name="another")).machine_key
    run = StoredRun(TASK, machine_key=machine_key, info=info_of(name="same")).start()
    new = NewExecution(
        machine_key=machine_key, revision=1, name="same", arn=run.info.arn, started_at=run.info.started_at
    )
    owner = await session()
    assert await owner.commit_step(NODE, run.entries[0])
    posting = await owner.blocked_by_this(runtime_postgres.store.post_start(run.id, new, Document.of({})))
    await owner.end(how)
    assert await posting is (how == "ROLLBACK")
    assert await runtime_postgres.store.status(run.id) is Status.RUNNING
    assert await pool.fetchval("SELECT rev FROM execution WHERE name = 'same'") == (1 if how == "COMMIT" else 0)
