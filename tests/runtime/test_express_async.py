"""Express executions that are started and left to themselves: durable when answered, run again when their node is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell.engine.errors import StoreError, StoreUnavailableError
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import TaskAnswer
from stepwell.engine.runtime import express_requests
from stepwell.engine.runtime.express_log import FORGOTTEN_MS, MAX_RUNS
from stepwell.engine.store.express import PostgresExpress
from tests.runtime.test_express_sync import Broker, claim, outcome
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, Fails, Node, SystemClock, open_node
from tests.support.waiting import until

CELERY = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "celery:work", "End": True}}}


async def row(node: Node) -> dict[str, object]:
    found = await node.pool.fetchrow("SELECT status, attempt, owner, error, cause FROM express_execution")
    assert found is not None
    return dict(found)


async def kill(node: Node) -> None:
    """As after a SIGKILL: the lease is over, is not renewed any more, and nothing is told to anybody."""
    renewing = node.engine.leases._task
    assert renewing is not None
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    await node.pool.execute("UPDATE node SET expires_at = clock_timestamp() - interval '1 second'")


async def test_a_start_is_on_disk_when_it_is_answered_and_its_end_later(database: str) -> None:
    targets = CommandedTargets({"B": lambda payload: {"b": payload}})
    async with open_node(database, targets, express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A", "B"), type="EXPRESS")
        started = await node.start_express(machine, {"x": 1}, "n")
        stored = await PostgresExpress(node.pool, SystemClock()).describe(started.id)
        assert stored is not None
        assert (stored.status, stored.attempt, stored.name) == (Status.RUNNING, 1, "n")
        assert stored.input is not None and stored.input.value == {"x": 1}
        still = await node.requests.wait_express(started.id, 0)
        assert still is not None and still.status is Status.RUNNING
        await until(lambda: "A" in targets.waiting)
        targets.answer("A", {"a": 1})
        view = await node.ended_express(started.id)
        assert (view.status, view.attempt) == (Status.SUCCEEDED, 1)
        assert view.output is not None and view.output.value == {"b": {"a": 1}}
        for table in ("execution", "history_chunk", "task", "timer"):
            assert await node.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_each_start_is_another_execution_whatever_its_name(database: str) -> None:
    async with open_node(database, CommandedTargets({"A": lambda payload: payload})) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        answers = await asyncio.gather(*[node.start_express(machine, {"x": 1}, "same") for _ in range(20)])
        assert len({answer.arn for answer in answers}) == 20
        for answer in answers:
            assert (await node.ended_express(answer.id)).status is Status.SUCCEEDED


async def test_a_failure_is_kept_with_what_it_was(database: str) -> None:
    def bad(payload: Json) -> Json:
        raise Fails("E\x00", "a\x00b")

    async with open_node(database, CommandedTargets({"A": bad})) as node:
        started = await node.start_express(await node.machine(tasks("A"), type="EXPRESS"))
        view = await node.ended_express(started.id)
        assert (view.status, view.error, view.cause) == (Status.FAILED, "E\ufffd", "a\ufffdb")
        assert await node.pool.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_nothing_is_kept_of_the_end_where_that_is_asked_for(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: payload})
    async with open_node(database, targets, express_keep=False) as node:
        started = await node.start_express(await node.machine(tasks("A"), type="EXPRESS"))
        assert await node.requests.wait_express(started.id, 30_000) is None
        assert await node.pool.fetchval("SELECT count(*) FROM express_execution") == 0


async def test_another_node_runs_it_again_from_the_start_when_its_node_is_lost(database: str) -> None:
    first = CommandedTargets({"A": lambda payload: {"a": payload}})
    second = CommandedTargets({"A": lambda payload: {"a": payload}, "B": lambda payload: {"b": payload}})
    async with open_node(database, first, ttl_ms=600_000, express_drain_seconds=0) as lost:
        machine = await lost.machine(tasks("A", "B"), type="EXPRESS")
        started = await lost.start_express(machine, {"x": 1})
        await until(lambda: "B" in first.waiting)
        await kill(lost)
        async with open_node(database, second) as node:
            view = await node.ended_express(started.id)
            assert (view.status, view.attempt) == (Status.SUCCEEDED, 2)
            assert (second.count("A"), second.count("B")) == (1, 1)
            assert view.started_at == started.started_at
            # The same call of the same state has the same key in both runs
            assert second.calls[0].idempotency_key == first.calls[0].idempotency_key
            assert second.calls[1].step_id == first.calls[1].step_id != first.calls[0].step_id
            # What the lost node comes to now is not heard: the newest run alone says how it ended
            first.answer("B", {"late": True})
            await until(lambda: lost.engine.express.running == 0)
            assert (await node.ended_express(started.id)).output == view.output


async def test_the_tokens_of_a_lost_run_are_refused(database: str) -> None:
    first, second = Broker(), Broker()
    async with open_node(database, first, ttl_ms=600_000, listen=True, express_drain_seconds=0) as lost:
        started = await lost.start_express(await lost.machine(CELERY, type="EXPRESS"))
        await first.called.wait()
        await kill(lost)
        async with open_node(database, second, listen=True) as node:
            await second.called.wait()
            old, new = first.calls[0], second.calls[0]
            assert old.execution == new.execution and old.claim_key != new.claim_key
            assert not (await node.requests.claim(claim(old))).granted
            assert await node.requests.report_outcome(outcome(old, b'"old"')) is TaskAnswer.TIMED_OUT
            assert (await node.requests.claim(claim(new))).granted
            assert await node.requests.report_outcome(outcome(new, b'"new"')) is TaskAnswer.ACCEPTED
            view = await node.ended_express(started.id)
            assert view.output is not None and view.output.value == "new"


async def test_one_that_outlives_no_node_is_given_up(database: str) -> None:
    async with open_node(database, express_drain_seconds=0) as node:
        started = await node.start_express(await node.machine(tasks("A"), type="EXPRESS"))
        await node.targets.called.wait()
    for _ in range(MAX_RUNS - 1):
        async with open_node(database, express_drain_seconds=0) as node:
            await node.targets.called.wait()
    async with open_node(database) as node:
        view = await node.ended_express(started.id)
        assert (view.status, view.error) == (Status.FAILED, "Stepwell.EngineLost")
        assert node.targets.calls == []


async def test_a_lease_that_lapses_stops_nothing_that_nobody_has_taken(database: str) -> None:
    targets = CommandedTargets({"B": lambda payload: payload})
    async with open_node(database, targets, express_drain_seconds=0) as node:
        started = await node.start_express(await node.machine(tasks("A", "B"), type="EXPRESS"))
        await until(lambda: "A" in targets.waiting)
        node.engine.express_log.lapsed()
        targets.answer("A", {"a": 1})
        await asyncio.sleep(0)
        assert targets.count("B") == 0, "another node may be running it"
        view = await node.ended_express(started.id)
        assert (view.status, view.attempt, targets.count("A")) == (Status.SUCCEEDED, 1, 1)


async def test_what_was_taken_while_the_lease_had_lapsed_is_dropped(database: str) -> None:
    targets = CommandedTargets({"B": lambda payload: payload})
    async with open_node(database, targets, express_drain_seconds=0) as node:
        await node.start_express(await node.machine(tasks("A", "B"), type="EXPRESS"))
        await until(lambda: "A" in targets.waiting)
        await node.pool.execute("UPDATE express_execution SET attempt = 2")
        node.engine.express_log.lapsed()
        await until(lambda: node.engine.express.running == 0)
        targets.answer("A", {"a": 1})
        assert (await row(node))["status"] == 1 and targets.count("B") == 0


async def test_a_node_that_takes_another_name_keeps_what_it_runs(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets, express_drain_seconds=0) as node:
        started = await node.start_express(await node.machine(tasks("A"), type="EXPRESS"))
        await until(lambda: "A" in targets.waiting)
        node.engine.identity.doubt()
        await node.engine.identity.settled()
        assert (await row(node))["owner"] == node.engine.identity.node
        targets.answer("A", 1)
        assert (await node.ended_express(started.id)).attempt == 1


async def test_a_run_that_was_forgotten_is_found_again(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: payload})
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        started = await node.start_express(machine)
        await node.ended_express(started.id)
        await node.pool.execute(
            "UPDATE express_execution SET status = 1, stopped_at = NULL, claimed_at = claimed_at - $1",
            FORGOTTEN_MS + 60_000,
        )
        view = await node.ended_express(started.id)
        assert (view.status, view.attempt) == (Status.SUCCEEDED, 2)


async def test_a_node_that_only_takes_requests_hands_it_over(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: payload})
    async with open_node(database, targets, listen=True) as engine, open_node(database, owns_shards=False) as front:
        started = await front.start_express(await front.machine(tasks("A"), type="EXPRESS"), {"x": 1})
        view = await front.ended_express(started.id)
        assert (view.status, view.attempt, targets.count("A")) == (Status.SUCCEEDED, 1, 1)
        assert engine.engine.express.running == 0


async def test_where_no_node_can_be_reached_the_start_is_written_down_for_one(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: payload})
    async with open_node(database, owns_shards=False) as front:
        started = await front.start_express(await front.machine(tasks("A"), type="EXPRESS"))
        assert (await row(front))["owner"] is None
        async with open_node(database, targets):
            view = await front.ended_express(started.id)
            assert (view.status, view.attempt) == (Status.SUCCEEDED, 1)


@pytest.mark.parametrize("in_store", (False, True))
async def test_a_start_that_was_answered_stays_though_the_node_that_was_asked_could_not_write_it(
    database: str, monkeypatch: pytest.MonkeyPatch, in_store: bool
) -> None:
    """The node that was asked hears nothing of the database for so long that the one that asked writes the start down itself.
    `in_store`: what the first wrote was there all the same."""
    begin, answered = PostgresExpress.begin, asyncio.Event()

    async def unheard(self: PostgresExpress, name: Any, starts: Any) -> Any:
        if name is None:
            return await begin(self, name, starts)
        if in_store:
            await begin(self, name, starts)
        await answered.wait()
        raise StoreUnavailableError("The database is away.")

    monkeypatch.setattr(PostgresExpress, "begin", unheard)
    monkeypatch.setattr(express_requests, "ASK_SECONDS", 0.2)
    targets = CommandedTargets({"A": lambda payload: payload})
    async with open_node(database, targets, listen=True) as engine, open_node(database, owns_shards=False) as front:
        log = engine.engine.express_log
        started = await front.start_express(await front.machine(tasks("A"), type="EXPRESS"), {"x": 1})
        answered.set()
        await until(lambda: not (log._begins or log._discards or log._releases) and log._idle.is_set())
        view = await front.ended_express(started.id)
        assert (view.status, targets.count("A")) == (Status.SUCCEEDED, 1)


async def test_a_full_node_takes_no_more_and_says_so(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets, express_bytes=60_000, express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        await node.start_express(machine, {"x": "y" * 4_000})
        with pytest.raises(StoreUnavailableError, match="memory"):
            await node.start_express(machine, {"x": "y" * 50_000})
        assert await node.pool.fetchval("SELECT count(*) FROM express_execution") == 1


async def test_what_begins_while_a_node_asks_what_is_its_own_goes_on(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = CommandedTargets({"B": lambda payload: payload})
    asked, may = asyncio.Event(), asyncio.Event()
    still = PostgresExpress.still

    async def slowly(*given: Any) -> Any:
        found = await still(*given)
        asked.set()
        await may.wait()
        return found

    async with open_node(database, targets, express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A", "B"), type="EXPRESS")
        before = await node.start_express(machine)
        await until(lambda: targets.count("A") == 1)
        monkeypatch.setattr(PostgresExpress, "still", slowly)
        node.engine.express_log.lapsed()
        await asked.wait()
        meanwhile = await node.start_express(await node.machine(tasks("B"), "other", "EXPRESS"))
        may.set()
        assert (await node.ended_express(meanwhile.id)).attempt == 1
        targets.answer("A", 1)
        assert (await node.ended_express(before.id)).attempt == 1


async def test_a_start_that_the_database_refuses_fails_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, names = PostgresExpress.begin, ("a", "away", "b", "bad", "c")

    async def picky(self: PostgresExpress, name: Any, starts: Any) -> Any:
        if starts[0].name == "first":  # the others are to be written together
            await until(lambda: len(node.engine.express_log._begins) == len(names))
        if len(starts) == 1 and starts[0].name == "away":
            raise StoreUnavailableError("The database is away.")
        if any(start.name in ("bad", "away") for start in starts):
            raise StoreError("The database refuses a value.")
        return await begin(self, name, starts)

    monkeypatch.setattr(PostgresExpress, "begin", picky)
    async with open_node(database, CommandedTargets({"A": lambda payload: payload})) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        first = asyncio.create_task(node.start_express(machine, 1, "first"))
        await until(lambda: node.engine.express.kept)
        async with asyncio.timeout(30):
            starts = [node.start_express(machine, 1, name) for name in names]
            answers = await asyncio.gather(*starts, return_exceptions=True)
        refused = [name for name, one in zip(names, answers, strict=True) if isinstance(one, StoreUnavailableError)]
        assert refused == ["away", "bad"]
        for answer in (await first, *answers):
            if not isinstance(answer, BaseException):
                assert (await node.ended_express(answer.id)).status is Status.SUCCEEDED
        await until(lambda: node.engine.express.kept == 0)
