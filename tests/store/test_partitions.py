"""Months of history come and go."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.store import partitions
from stepwell.engine.store.codes import bucket_of
from tests.store.conftest import Stores
from tests.store.test_executions import begun
from tests.support.local_machine import info_of, raw
from tests.support.stored import FAIL, TASK, StoredRun

JANUARY = 1_767_225_600_000
DAY = 86_400_000


def run_at(at: int, name: str, definition: Any) -> StoredRun:
    run = StoredRun(definition, f'{{"name":"{name}"}}', info=info_of(name=name, started_at=at))
    run.now = at
    return run.run()


async def tables_of(pool: asyncpg.Pool[Any]) -> list[str]:
    rows = await pool.fetch("SELECT DISTINCT tableoid::regclass::text FROM history_chunk ORDER BY 1")
    return [row[0] for row in rows]


async def test_rows_that_came_too_early_are_moved_into_their_partition(
    postgres: Stores, pool: asyncpg.Pool[Any]
) -> None:
    run = await begun(postgres, run_at(JANUARY, "early", FAIL))
    assert await tables_of(pool) == ["history_chunk_default"]
    async with pool.acquire() as connection:
        made = await partitions.create_ahead(connection, JANUARY)
        assert made == [bucket_of(JANUARY) + n for n in range(3)]
        assert await partitions.create_ahead(connection, JANUARY) == []
        assert set(made) <= set(await partitions.existing(connection))
    assert await tables_of(pool) == ["history_chunk_1_2026_01"]
    view = await postgres.executions.describe(run.id)
    assert view is not None and view.error == "Oops"


def test_a_partition_is_named_after_its_bucket() -> None:
    for bucket in (bucket_of(JANUARY), bucket_of(JANUARY - 1), bucket_of(JANUARY, 3)):
        assert partitions.partition_bucket(partitions.partition_name(bucket)) == bucket


async def test_what_is_past_retention_goes_with_its_month(postgres: Stores, pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as connection:
        await partitions.create_ahead(connection, JANUARY)
        old = [await begun(postgres, run_at(JANUARY + n * DAY, f"old-{n}", FAIL)) for n in range(5)]
        fresh = await begun(postgres, run_at(JANUARY + 31 * DAY, "fresh", FAIL))
        soon = JANUARY + 31 * DAY + 89 * DAY
        assert await partitions.expire(connection, soon) == partitions.Expired()  # the month is not past yet
        expired = await partitions.expire(connection, JANUARY + (31 + 91) * DAY, batch=2)
        assert expired == partitions.Expired([bucket_of(JANUARY)], executions=5, moved=0)
        assert bucket_of(JANUARY) not in await partitions.existing(connection)
        assert await connection.fetchval("SELECT count(*) FROM dead_letter") == 1
    for run in old:
        assert await postgres.executions.describe(run.id) is None
    view = await postgres.executions.describe(fresh.id)
    assert view is not None and view.input is not None


async def test_one_that_still_runs_is_moved_and_goes_on(postgres: Stores, pool: asyncpg.Pool[Any]) -> None:
    now = JANUARY + 200 * DAY
    async with pool.acquire() as connection:
        await partitions.create_ahead(connection, JANUARY)
        run = StoredRun(TASK, "[1]", info=info_of(name="long", started_at=JANUARY))
        await begun(postgres, run.start())
        await begun(postgres, run_at(JANUARY, "done", FAIL))
        await partitions.create_ahead(connection, now)
        expired = await partitions.expire(connection, now)
    assert (expired.executions, expired.moved) == (1, 1)
    assert expired.buckets == [bucket_of(JANUARY) + n for n in range(3)]  # the months made ahead were empty
    assert await tables_of(pool) == [partitions.partition_name(bucket_of(now))]
    (task,) = run.tasks
    run.apply(events.TaskSucceeded(task, raw("late")))
    await postgres.keep(run)
    view = await postgres.executions.describe(run.id)
    assert view is not None and view.output is not None and view.input is not None
    assert (view.status, view.input.value, view.output.value) == (Status.SUCCEEDED, [1], "late")
    answer = await postgres.executions.history(run.id)
    assert answer is not None and [event for _, event in answer[0]] == run.seen


async def test_months_in_the_default_partition_expire_too(postgres: Stores, pool: asyncpg.Pool[Any]) -> None:
    await begun(postgres, run_at(JANUARY, "astray", FAIL))
    async with pool.acquire() as connection:
        expired = await partitions.expire(connection, JANUARY + 200 * DAY)
    assert expired.executions == 1
    assert await tables_of(pool) == []


MAP_RUN = UUID(int=7)


async def begin_map_run(pool: asyncpg.Pool[Any], parent: StoredRun, children: list[StoredRun], *, ended: bool) -> None:
    await pool.execute(
        "INSERT INTO map_run (id, shard, status, execution_id, number, arn, state, started_at, stopped_at,"
        " max_concurrency, spec, progress) VALUES ($1, 0, $4, $2, 1, 'a', 'M', 0, $3, 0, '{}', '{}')",
        MAP_RUN, UUID(bytes=parent.id), 1 if ended else None, 2 if ended else 1,
    )  # fmt: skip
    for number, child in enumerate(children):
        await pool.execute(
            "UPDATE execution SET map_run = $1, map_item = $2 WHERE id = $3", MAP_RUN, number, UUID(bytes=child.id)
        )


async def test_children_of_a_map_run_are_kept_as_long_as_its_execution(
    postgres: Stores, pool: asyncpg.Pool[Any]
) -> None:
    now = JANUARY + 200 * DAY
    children = [await begun(postgres, run_at(JANUARY + n * DAY, f"child-{n}", FAIL)) for n in range(3)]
    parent = await begun(postgres, run_at(now - 50 * DAY, "parent", FAIL))
    await begin_map_run(pool, parent, children, ended=True)
    async with pool.acquire() as connection:
        expired = await partitions.expire(connection, now, batch=2)
        assert (expired.executions, expired.moved) == (0, 3)
        for child in children:
            view = await postgres.executions.describe(child.id)
            assert view is not None and view.input is not None
        expired = await partitions.expire(connection, now + 200 * DAY, batch=2)
        assert expired.executions == 4
        assert await connection.fetchval("SELECT count(*) FROM execution") == 0
        assert await connection.fetchval("SELECT count(*) FROM map_run") == 0


async def test_all_of_a_month_go_at_once_parents_before_their_children(
    postgres: Stores, pool: asyncpg.Pool[Any]
) -> None:
    parent = await begun(postgres, run_at(JANUARY, "parent", FAIL))
    children = [await begun(postgres, run_at(JANUARY + n, f"child-{n}", FAIL)) for n in range(3)]
    await begin_map_run(pool, parent, children, ended=True)
    async with pool.acquire() as connection:
        expired = await partitions.expire(connection, JANUARY + 200 * DAY)
    assert (expired.executions, expired.moved) == (4, 0)


async def test_an_execution_whose_map_run_goes_on_is_kept(postgres: Stores, pool: asyncpg.Pool[Any]) -> None:
    parent = await begun(postgres, run_at(JANUARY, "parent", FAIL))
    await begin_map_run(pool, parent, [], ended=False)
    async with pool.acquire() as connection:
        expired = await partitions.expire(connection, JANUARY + 200 * DAY)
    assert (expired.executions, expired.moved) == (0, 1)


async def test_messages_for_nobody_go(postgres: Stores, pool: asyncpg.Pool[Any]) -> None:
    run = await begun(postgres, run_at(JANUARY, "there", FAIL))
    post = "INSERT INTO inbox (shard, execution_id, event, created_at) VALUES (0, $1, '', $2)"
    for receiver, age in ((UUID(int=1), 2 * DAY), (UUID(int=2), 0), (UUID(bytes=run.id), 2 * DAY)):
        await pool.execute(post, receiver, JANUARY + 10 * DAY - age)
    async with pool.acquire() as connection:
        await partitions.expire(connection, JANUARY + 10 * DAY)
    rows = await pool.fetch("SELECT execution_id FROM inbox ORDER BY id")
    assert [row[0] for row in rows] == [UUID(int=2), UUID(bytes=run.id)]
