"""Express executions when something fails that should not: nobody waits for ever, and the others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.machine.commands import Status
from stepwell.engine.runtime import express_log
from stepwell.engine.runtime.express import Express
from stepwell.engine.store.express import PostgresExpress
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, open_node
from tests.support.waiting import until

PATIENCE = 30
"""Seconds after which something is taken to wait for ever."""


def echo() -> CommandedTargets:
    return CommandedTargets({"A": lambda payload: payload})


async def test_a_start_that_fails_for_no_known_reason_is_answered_and_the_next_is_run(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = PostgresExpress.begin

    async def broken(*_: Any) -> Any:
        raise ValueError("secret")

    async with open_node(database, echo()) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        monkeypatch.setattr(PostgresExpress, "begin", broken)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StoreUnavailableError, match="could not be written"):
                await node.start_express(machine)
            monkeypatch.setattr(PostgresExpress, "begin", begin)
            started = await node.start_express(machine)
        assert (await node.ended_express(started.id)).status is Status.SUCCEEDED


async def test_what_cannot_be_taken_back_now_does_not_end_the_writing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, discards = PostgresExpress.begin, 0

    async def away(*_: Any) -> Any:
        raise StoreUnavailableError("The database is away.")

    async def broken(*_: Any) -> None:
        nonlocal discards
        discards += 1
        raise ValueError

    async with open_node(database, echo()) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        monkeypatch.setattr(PostgresExpress, "begin", away)
        monkeypatch.setattr(PostgresExpress, "discard", broken)
        with pytest.raises(StoreUnavailableError):
            await node.start_express(machine)
        await until(lambda: discards > 0)
        monkeypatch.setattr(PostgresExpress, "begin", begin)
        async with asyncio.timeout(PATIENCE):
            started = await node.start_express(machine)
        assert (await node.ended_express(started.id)).status is Status.SUCCEEDED
        monkeypatch.undo()


async def test_an_execution_that_cannot_be_run_fails_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, begin, names = Express.run, PostgresExpress.begin, ("bad", "good")

    def picky(self: Express, start: Any, machine: Any) -> Any:
        begun = run(self, start, machine)
        if start.name == "bad":
            raise ValueError("secret")
        return begun

    async def together(self: PostgresExpress, name: Any, starts: Any) -> Any:
        if [start.name for start in starts] == ["first"]:  # the others are to be written together
            await until(lambda: len(node.engine.express_log._begins) == len(names))
        return await begin(self, name, starts)

    async with open_node(database, echo()) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        monkeypatch.setattr(Express, "run", picky)
        monkeypatch.setattr(PostgresExpress, "begin", together)
        async with asyncio.timeout(PATIENCE):
            first = asyncio.create_task(node.start_express(machine, name="first"))
            bad, good = await asyncio.gather(*[node.start_express(machine, name=name) for name in names])
            await first
        view = await node.ended_express(bad.id)
        assert (view.status, view.error) == (Status.FAILED, "States.Runtime")
        assert view.cause is not None and "ValueError" in view.cause and "secret" not in view.cause
        assert (await node.ended_express(good.id)).status is Status.SUCCEEDED
        assert node.engine.express.running == 0


async def test_what_others_left_is_taken_though_looking_for_it_has_failed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, looks = PostgresExpress.take, 0

    async def broken(*given: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError
        return await take(*given)

    monkeypatch.setattr(PostgresExpress, "take", broken)
    async with open_node(database, owns_shards=False) as front:
        started = await front.start_express(await front.machine(tasks("A"), type="EXPRESS"))
        async with open_node(database, echo()):
            assert (await front.ended_express(started.id)).status is Status.SUCCEEDED


async def test_a_start_under_way_is_answered_when_its_node_is_shut_down(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def silent(*_: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async with open_node(database, echo(), express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        monkeypatch.setattr(PostgresExpress, "begin", silent)
        starts = [asyncio.create_task(node.start_express(machine))]
        await asked.wait()
        starts.append(asyncio.create_task(node.start_express(machine)))  # waits for its turn
        await until(lambda: len(node.engine.express_log._begins) == 1)
    done, _ = await asyncio.wait(starts, timeout=PATIENCE)
    assert [type(start.exception()) for start in starts if start in done] == [StoreUnavailableError] * 2


async def test_a_start_that_is_written_while_its_node_shuts_down_is_left_to_another(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, asked, may = PostgresExpress.begin, asyncio.Event(), asyncio.Event()

    async def slowly(*given: Any) -> Any:
        asked.set()
        await may.wait()
        return await begin(*given)

    first, second = echo(), echo()
    monkeypatch.setattr(express_log, "TAKE_SECONDS", 3_600)  # else this node may be about to take what it gives away
    async with open_node(database, first) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        monkeypatch.setattr(PostgresExpress, "begin", slowly)
        start = asyncio.create_task(node.start_express(machine))
        await asked.wait()
        monkeypatch.undo()
        await node.engine.express.drain(0)
        may.set()
        started = await start
        await node.engine.express_log.close(PATIENCE)
        assert await node.pool.fetchval("SELECT owner FROM express_execution") is None
        async with open_node(database, second) as other:
            assert (await other.ended_express(started.id)).status is Status.SUCCEEDED
        assert (first.count("A"), second.count("A")) == (0, 1)


async def test_a_definition_that_cannot_be_read_now_holds_up_no_other_execution(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(express_log, "LATER_SECONDS", 0.01)
    readable = asyncio.Event()
    targets = CommandedTargets({"A": lambda payload: payload, "B": lambda payload: payload})
    async with open_node(database, owns_shards=False) as front:
        unread = await front.start_express(await front.machine(tasks("A"), "a", "EXPRESS"))
        gone = await front.start_express(await front.machine(tasks("A"), "gone", "EXPRESS"))
        read = await front.start_express(await front.machine(tasks("B"), "b", "EXPRESS"))
        keys = [
            await front.pool.fetchval("SELECT key FROM state_machine WHERE name = $1", name) for name in ("a", "gone")
        ]
        async with open_node(database, targets) as node:
            machines = node.engine.machine

            async def reading(key: int, revision: int) -> StateMachine:
                if key in keys and not readable.is_set():
                    raise StoreUnavailableError("The database is away.")
                if key == keys[1]:
                    raise StepwellError("It is not there.")
                return await machines(key, revision)

            node.engine.express_log._machines = reading
            assert (await front.ended_express(read.id)).status is Status.SUCCEEDED
            still = await front.requests.wait_express(unread.id, 0)
            assert still is not None and still.status is Status.RUNNING
            readable.set()
            view = await front.ended_express(unread.id)
            assert (view.status, view.attempt, targets.count("A")) == (Status.SUCCEEDED, 1, 1)
            assert (await front.ended_express(gone.id)).cause == "It is not there."
            await until(lambda: not node.engine.express_log._later)
            assert node.engine.express.kept == 0


async def test_what_is_kept_to_find_a_position_again_counts_as_memory(database: str) -> None:
    number, size = 20, 100_000
    names = [f"A{at}" for at in range(number)]
    states: dict[str, Any] = {
        name: {
            "Type": "Task",
            "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "Output": 0,
            "Next": after,
        }
        for name, after in zip(names, [*names[1:], "Last"], strict=True)
    }
    states["Last"] = {**states["A0"]}
    states["Last"].pop("Next")
    states["Last"]["End"] = True
    machine = {"QueryLanguage": "JSONata", "StartAt": "A0", "States": states}
    targets = CommandedTargets(dict.fromkeys(names, lambda payload: "x" * size))
    async with open_node(database, targets, express_drain_seconds=0) as node:
        started = await node.start_express(await node.machine(machine, type="EXPRESS"))
        await until(lambda: "Last" in targets.waiting)
        assert node.engine.express.held > number * size / 2, (
            "it is reckoned anew when as much data again has gone through"
        )
        targets.answer("Last", 0)
        await node.ended_express(started.id)
        assert node.engine.express.held == 0
