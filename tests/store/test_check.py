"""`db check` finds nothing in what the engine writes, and finds each kind of damage."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.store.check import INVARIANTS, check
from stepwell.engine.store.pool import connect
from tests.store.conftest import Stores
from tests.store.test_executions import begun, empty_step
from tests.support.local_machine import info_of, raw
from tests.support.sql import run_sql
from tests.support.stored import FAIL, PASS, TASK, StoredRun

MAP: dict[str, Any] = {
    "StartAt": "Each",
    "States": {
        "Each": {
            "Type": "Map",
            "ItemProcessor": {"StartAt": "Work", "States": {"Work": {**TASK["States"]["Work"]}}},  # type: ignore[index]
            "End": True,
        }
    },
    "TimeoutSeconds": 1000,
}


async def populated(stores: Stores) -> dict[str, StoredRun]:
    """Executions of all sorts: running with tasks and timers, ended well and badly, redriven, with commits without events."""
    runs = {
        "passed": StoredRun(PASS, info=info_of(name="passed")).run(),
        "failed": StoredRun(FAIL, info=info_of(name="failed")).run(),
        "running": StoredRun(TASK, info=info_of(name="running")).start(),
        "map": StoredRun(MAP, "[1,2,3]", info=info_of("Map", "map")).start(),
        "redriven": StoredRun(TASK, info=info_of(name="redriven")).start(),
    }
    map_run = runs["map"]
    map_run.apply(events.TaskSucceeded(min(map_run.tasks), raw(1)))
    redriven = runs["redriven"]
    redriven.apply(events.StopRequested())
    redriven.redrive()
    for run in runs.values():
        await begun(stores, run)
    await stores.commit(empty_step(runs["failed"]))
    return runs


async def names_found(url: str, **options: Any) -> set[str]:
    connection = await connect(url, statement_timeout_ms=0)
    findings = await check(connection, **options)
    await connection.close()
    for finding in findings:
        assert finding.count >= len(finding.examples) >= 1
        assert finding.rule
    return {finding.invariant for finding in findings}


@pytest.mark.parametrize("batch", (1, 2, 200))
async def test_what_the_engine_writes_is_in_order(postgres: Stores, database: str, batch: int) -> None:
    assert await names_found(database) == set()
    await populated(postgres)
    assert await names_found(database, batch=batch) == set()


MAP_RUN = (
    "INSERT INTO map_run (id, shard, status, execution_id, number, arn, state, started_at, stopped_at, max_concurrency, spec,"
    " progress) VALUES ('01000000-0000-0000-0000-000000000000', {shard}, {status}, {execution}, 1, 'a', 'M', 0, {stopped}, 0,"
    " '{{}}', '{progress}'); "
)
MAP_ITEM = (
    "INSERT INTO map_item (map_run, item, status, size, input)"
    " VALUES ('01000000-0000-0000-0000-000000000000', 0, {status}, 1, '1'); "
)
CHILD = "UPDATE execution SET map_run = '01000000-0000-0000-0000-000000000000', map_item = 0 WHERE name = '{}'; "


def a_map_run(execution: str, progress: str = "{}", *, shard: int = 1, ended: bool = False) -> str:
    status, stopped = (2, "1") if ended else (1, "NULL")
    return MAP_RUN.format(shard=shard, status=status, execution=execution, stopped=stopped, progress=progress)


EXPRESS = (
    "INSERT INTO express_execution (id, owner, attempt, status, machine_key, revision, name, arn, started_at, claimed_at, stopped_at,"
    " input) VALUES (gen_random_uuid(), gen_random_uuid(), {attempt}, {status}, {key}, 1, 'n', 'a', 0, 0, {stopped}, '1')"
)
OF = "(SELECT id FROM execution WHERE name = '{}')"
DAMAGE: dict[str, tuple[str, ...]] = {
    "shards": ("DELETE FROM shard WHERE id = 255", "DELETE FROM cluster"),
    "shard of execution": ("UPDATE execution SET shard = (shard + 1) % 256 WHERE name = 'passed'",),
    "task without execution": (
        "UPDATE task SET execution_id = gen_random_uuid() WHERE execution_id = " + OF.format("running"),
        "UPDATE task SET shard = (shard + 1) % 256 WHERE execution_id = " + OF.format("running"),
    ),
    "timer without execution": (
        "UPDATE timer SET execution_id = gen_random_uuid() WHERE execution_id = " + OF.format("running"),
    ),
    "inbox without execution": (
        "INSERT INTO inbox (shard, execution_id, event, created_at) VALUES (1, gen_random_uuid(), '', 0)",
    ),
    "map run": (a_map_run("gen_random_uuid()"), a_map_run(OF.format("running"), shard=2)),
    "map run counts": (
        a_map_run(OF.format("running")) + MAP_ITEM.format(status=1),
        a_map_run(OF.format("running"), '{"made": 1, "executions": {"pending": 1}}') + MAP_ITEM.format(status=3),
        a_map_run(OF.format("running"), '{"made": 1, "executions": {"failed": 1}, "items": {"failed": 2}}')
        + MAP_ITEM.format(status=4),
        a_map_run(OF.format("running"), '{"made": 1, "executions": {"aborted": 1}, "items": {"failed": 1}}')
        + MAP_ITEM.format(status=6),
        a_map_run(OF.format("running"), '{"made": 2, "executions": {"timed_out": 1}, "items": {"timed_out": 1}}')
        + MAP_ITEM.format(status=5),
    ),
    "child of map run": (
        a_map_run(OF.format("running"), '{"made": 1, "executions": {"pending": 1}}')
        + MAP_ITEM.format(status=1)
        + CHILD.format("redriven"),
        a_map_run(OF.format("running"), '{"made": 1}') + MAP_ITEM.format(status=4) + CHILD.format("passed"),
        a_map_run(OF.format("running")) + CHILD.format("passed"),
    ),
    "ended map run": (
        a_map_run(OF.format("running"), '{"made": 1, "executions": {"running": 1}}', ended=True)
        + MAP_ITEM.format(status=2),
    ),
    "dead letter without execution": ("UPDATE dead_letter SET execution_id = gen_random_uuid()",),
    "express execution": (
        EXPRESS.format(key=99, attempt=1, status=1, stopped="NULL"),
        EXPRESS.format(key=1, attempt=0, status=1, stopped="NULL"),
        EXPRESS.format(key=1, attempt=1, status=2, stopped="1"),
    ),
    "first step": ("UPDATE execution SET rev = 0, last_event = 0 WHERE name = 'running'",),
    "chunk numbers": (
        "DELETE FROM history_chunk WHERE rev = 2 AND execution_id = " + OF.format("map"),
        "UPDATE execution SET rev = rev + 1 WHERE name = 'running'",
    ),
    "chunk readable": (r"UPDATE history_chunk SET data = '\x00' WHERE execution_id = " + OF.format("passed"),),
    "event numbers": (
        "UPDATE history_chunk SET first_event = 2 WHERE rev = 1 AND execution_id = " + OF.format("passed"),
        "UPDATE execution SET last_event = last_event + 1 WHERE name = 'running'",
    ),
    "redrive count": ("UPDATE execution SET redrive_count = 2 WHERE name = 'redriven'",),
    "status": (
        "UPDATE execution SET status = 2 WHERE name = 'failed'",
        "UPDATE execution SET status = 1, stopped_at = NULL WHERE name = 'passed'",
    ),
    "snapshot": ("UPDATE execution SET snapshot_rev = 1 WHERE name = 'map'",),
    "task without frame": (
        (
            "INSERT INTO task SELECT execution_id, 99, shard, kind, status, resource, scheduled_event, attempt, delivery, secret,"
            " worker, sent_at, started_at, heartbeat_seconds, heartbeat_at, state, entry, timeout_seconds, outcome, created_at"
            " FROM task LIMIT 1"
        ),
    ),
    "frame without task": ("DELETE FROM task WHERE execution_id = " + OF.format("running"),),
    "timer without frame": (
        "UPDATE timer SET due_at = due_at + 1 WHERE execution_id = " + OF.format("map"),
        "UPDATE timer SET kind = 4 WHERE execution_id = " + OF.format("running"),
    ),
    "frame without timer": ("DELETE FROM timer WHERE execution_id = " + OF.format("redriven"),),
    "ended but open": (
        "UPDATE timer SET execution_id = " + OF.format("passed") + " WHERE execution_id = " + OF.format("running"),
    ),
}
"""Statements, any one of which breaks the invariant."""


def rewritten(
    run: StoredRun, *, drop: str | None = None, first: str | None = None, previous: int | None = None
) -> bytes:
    """The first chunk of a run, damaged."""
    chunk = chunks.decode(run.chunks[0])
    if drop is not None:
        chunk.events = [event for event in chunk.events if event.type != drop]
    changes: dict[int, dict[str, Any]] = {}
    if first is not None:
        changes[0] = {"type": first}
    if previous is not None:
        changes[1] = {"previous": previous}
    for index, change in changes.items():
        event = chunk.events[index]
        chunk.events[index] = type(event)(
            **{name: change.get(name, getattr(event, name)) for name in event.__struct_fields__}
        )
    return chunks.encode(chunk)


REWRITTEN: dict[str, dict[str, Any]] = {
    "first event": {"first": "PassStateEntered"},
    "previous event": {"previous": 2},
    "terminal event": {"first": "ExecutionFailed"},
}


def test_every_invariant_is_tested() -> None:
    assert DAMAGE.keys() | REWRITTEN.keys() == INVARIANTS.keys()


@pytest.mark.parametrize(
    ("invariant", "damage"), [(name, one) for name, statements in DAMAGE.items() for one in statements]
)
async def test_damage_is_found(postgres: Stores, database: str, invariant: str, damage: str) -> None:
    await populated(postgres)
    run_sql(database, *filter(None, damage.split("; ")))
    assert invariant in await names_found(database)


@pytest.mark.parametrize("invariant", sorted(REWRITTEN))
async def test_damaged_events_are_found(
    postgres: Stores, database: str, pool: asyncpg.Pool[Any], invariant: str
) -> None:
    run = (await populated(postgres))["passed"]
    await pool.execute(
        "UPDATE history_chunk SET data = $1 WHERE execution_id = (SELECT id FROM execution WHERE name = 'passed')",
        rewritten(run, **REWRITTEN[invariant]),
    )
    assert invariant in await names_found(database)


async def test_one_execution_can_be_looked_at_alone(postgres: Stores, database: str) -> None:
    runs = await populated(postgres)
    run_sql(database, DAMAGE["status"][0], DAMAGE["shards"][0])
    assert await names_found(database, execution=runs["failed"].id) == {"status"}
    assert await names_found(database, execution=runs["passed"].id) == set()


async def test_an_execution_posted_to_an_inbox_is_in_order(postgres: Stores, database: str) -> None:
    run_sql(
        database,
        "INSERT INTO execution (id, shard, rev, status, machine_key, revision, name, arn, bucket, started_at, last_event)"
        " VALUES ('05000000-0000-0000-0000-000000000000', 5, 0, 1, 1, 1, 'n', 'a', 1, 0, 0)",
        "INSERT INTO inbox (shard, execution_id, event, created_at) VALUES (5, '05000000-0000-0000-0000-000000000000', '', 0)",
    )
    assert await names_found(database) == set()


@pytest.mark.parametrize("status", ItemStatus)
async def test_a_map_run_that_has_counted_right_is_in_order(
    postgres: Stores, database: str, status: ItemStatus
) -> None:
    name = status.name.lower()
    progress = f'{{"made": 1, "executions": {{"{name}": 1}}, "items": {{"{name}": 1}}}}'
    await populated(postgres)
    run_sql(
        database,
        *filter(None, (a_map_run(OF.format("running"), progress) + MAP_ITEM.format(status=status.value)).split("; ")),
    )
    assert await names_found(database) == set()
