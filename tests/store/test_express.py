"""The contract of what is kept of asynchronous Express executions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from stepwell.engine.ids import execution_id
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import ExecutionFilter, ExpressStart, ExpressStore, ExpressView, MachineRecord
from stepwell.engine.store.express import PostgresExpress
from stepwell.engine.store.memory_express import MemoryExpress
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from tests.store.conftest import NODE, RuntimeStores
from tests.support.local_machine import START
from tests.support.stored import machine_record

OTHER = UUID(int=9)


@dataclass
class Kept:
    """One implementation, with the leases of nodes beside it."""

    store: ExpressStore
    runtime: RuntimeStores
    record: MachineRecord

    def start(self, name: str = "x", at: int = START, **more: Any) -> ExpressStart:
        arn = f"arn:aws:states:us-east-1:000000000000:express:m:{name}:uuid"
        return ExpressStart(
            id=execution_id(arn), arn=arn, name=name, machine_key=1, revision=1, machine_arn=self.record.arn,
            machine_name=self.record.name, role_arn=self.record.role_arn, input=Document.trusted(b'{"a":  1}'), started_at=at,
            **{"attempt": 1, "trace_header": "trace", **more},
        )  # fmt: skip

    async def begun(self, name: str = "x", **more: Any) -> ExpressStart:
        start = self.start(name, **more)
        await self.machine()
        assert await self.store.begin(NODE, [start]) == {start.id}
        return start

    async def machine(self) -> None:
        if await self.runtime.machines.get(self.record.arn) is None:
            made = await self.runtime.machines.create(self.record)
            assert made is not None and made.key == 1

    async def view(self, start: ExpressStart) -> ExpressView:
        view = await self.store.describe(start.id)
        assert view is not None
        return view


def end_of(start: ExpressStart, status: Status = Status.SUCCEEDED, **more: Any) -> ExpressView:
    given = {"output": Document.trusted(b"[ 1 ]")} if status is Status.SUCCEEDED else {}
    return ExpressView(
        id=start.id, arn=start.arn, name=start.name, machine_arn=start.machine_arn, machine_name=start.machine_name,
        machine_key=start.machine_key, revision=start.revision, status=status, started_at=start.started_at,
        stopped_at=start.started_at + 5, attempt=start.attempt, trace_header=start.trace_header, input=start.input,
        **{**given, **more},
    )  # fmt: skip


@pytest.fixture(params=["memory", "postgres"])
def kept(request: pytest.FixtureRequest) -> Kept:
    runtime: RuntimeStores = request.getfixturevalue(f"runtime_{request.param}")
    if isinstance(runtime.store, MemoryRuntimeStore):
        store: ExpressStore = MemoryExpress(
            runtime.store.database, runtime.clock, runtime.store.nodes, runtime.store.workers
        )
    else:
        pool: asyncpg.Pool[Any] = request.getfixturevalue("pool")
        store = PostgresExpress(pool, runtime.clock)
    return Kept(store, runtime, machine_record())


async def lapse(kept: Kept, node: UUID = NODE) -> None:
    await kept.runtime.lapse_node(node)
    await kept.runtime.store.register_node(OTHER, "b:1", 3_600_000)


async def test_it_is_there_from_its_start_to_its_end(kept: Kept) -> None:
    start = await kept.begun()
    assert await kept.store.begin(NODE, [start]) == set()
    running = await kept.view(start)
    assert (running.status, running.stopped_at, running.attempt) == (Status.RUNNING, None, 1)
    assert running.input is not None and running.input.text == b'{"a":  1}'
    end = end_of(start)
    assert await kept.store.end([end]) == {start.id}
    view = await kept.view(start)
    assert view.output is not None and view.output.text == b"[ 1 ]"
    assert replace(view, input=None, output=None) == replace(end, input=None, output=None)
    assert await kept.store.end([end_of(start, Status.FAILED)]) == set(), "the first end is the end"
    assert (await kept.view(start)).status is Status.SUCCEEDED


async def test_a_failure_has_error_and_cause(kept: Kept) -> None:
    start = await kept.begun()
    await kept.store.end([end_of(start, Status.FAILED, error="E", cause="why")])
    view = await kept.view(start)
    assert (view.status, view.error, view.cause, view.output) == (Status.FAILED, "E", "why", None)


async def test_nothing_stays_that_is_not_to_be_kept(kept: Kept) -> None:
    start, other = await kept.begun(), await kept.begun("y")
    stale = replace(end_of(other), attempt=7)
    assert await kept.store.end([end_of(start), stale], keep=False) == {start.id}
    assert await kept.store.describe(start.id) is None
    assert (await kept.view(other)).status is Status.RUNNING


async def test_what_a_live_node_runs_is_taken_by_nobody(kept: Kept) -> None:
    await kept.begun()
    assert list(await kept.store.take(OTHER, 10, START - 1)) == []


async def test_what_no_live_node_runs_is_taken_once_with_all_it_needs(kept: Kept) -> None:
    start = await kept.begun()
    await lapse(kept)
    (taken,) = await kept.store.take(OTHER, 10, 0)
    assert taken.input.text == start.input.text
    assert replace(taken, input=start.input) == replace(start, attempt=2)
    assert list(await kept.store.take(OTHER, 10, 0)) == []
    assert await kept.store.still(NODE, [start.id]) == {}
    assert await kept.store.still(OTHER, [start.id]) == {start.id: 2}
    assert await kept.store.end([end_of(start)]) == set(), "the lost run is not heard"
    assert await kept.store.end([end_of(taken)]) == {start.id}
    assert await kept.store.still(OTHER, [start.id]) == {}


async def test_what_nobody_runs_yet_is_taken_for_its_first_run(kept: Kept) -> None:
    starts = [kept.start(name, attempt=0) for name in "abc"]
    await kept.machine()
    assert len(await kept.store.begin(None, starts)) == 3
    taken = await kept.store.take(NODE, 2, 0)
    assert [one.attempt for one in taken] == [1, 1]
    assert len(await kept.store.take(NODE, 2, 0)) == 1


async def test_what_has_no_definition_keeps_no_other_from_its_turn(kept: Kept) -> None:
    await kept.machine()
    lame = replace(kept.start("lame", attempt=0), machine_key=99)
    await kept.store.begin(None, [lame])
    names = [name for name in "cab" if await kept.store.begin(None, [kept.start(name, attempt=0)])]
    taken = [one.name for _ in range(4) for one in await kept.store.take(NODE, 1, 0)]
    assert sorted(taken) == sorted(names)


async def test_what_was_taken_too_long_ago_is_taken_again_even_from_oneself(kept: Kept) -> None:
    start = await kept.begun()
    (taken,) = await kept.store.take(NODE, 10, kept.runtime.clock.now_ms() + 1)
    assert (taken.id, taken.attempt) == (start.id, 2)


async def test_it_goes_with_its_node_to_another_name(kept: Kept) -> None:
    start = await kept.begun()
    await kept.runtime.store.rename_node(NODE, OTHER)
    assert await kept.store.still(OTHER, [start.id]) == {start.id: 1}
    assert list(await kept.store.take(UUID(int=77), 10, 0)) == []


async def test_a_start_that_was_not_answered_is_taken_back(kept: Kept) -> None:
    first, again, ended = await kept.begun("a"), await kept.begun("b", attempt=2), await kept.begun("c")
    handed = kept.start("d", attempt=0)
    await kept.store.begin(None, [handed])
    await kept.store.end([end_of(ended)])
    starts = [first, again, ended, handed]
    await kept.store.discard([OTHER], [start.id for start in starts])
    assert await kept.store.describe(first.id) is not None, "another node runs it"
    await kept.store.discard([OTHER, NODE], [start.id for start in starts])
    assert await kept.store.describe(first.id) is None
    assert {(await kept.view(start)).id for start in starts[1:]} == {again.id, ended.id, handed.id}


async def test_a_start_that_another_node_answers_for_is_left_to_whoever_takes_it(kept: Kept) -> None:
    first, again, ended = await kept.begun("a"), await kept.begun("b", attempt=2), await kept.begun("c")
    await kept.store.end([end_of(ended)])
    ids = [first.id, again.id, ended.id]
    await kept.store.release([OTHER], ids)
    assert list(await kept.store.take(OTHER, 10, 0)) == []
    await kept.store.release([OTHER, NODE], ids)
    assert [(one.id, one.attempt) for one in await kept.store.take(OTHER, 10, 0)] == [(first.id, 2)]
    assert (await kept.view(ended)).status is Status.SUCCEEDED


async def test_what_has_ended_is_deleted_in_time(kept: Kept) -> None:
    starts = [await kept.begun(str(number), at=START + number) for number in range(4)]
    await kept.store.end([end_of(start) for start in starts[:3]])
    assert await kept.store.expire(START + 7, 1) == 1
    assert await kept.store.expire(START + 7, 10) == 1
    assert await kept.store.expire(START + 1000, 10) == 1
    assert await kept.store.expire(START + 1000, 10) == 0
    assert (await kept.view(starts[3])).status is Status.RUNNING


async def test_they_are_listed_newest_first_without_data(kept: Kept) -> None:
    starts = [await kept.begun(name, at=START + number) for number, name in enumerate(("a1", "a2", "b1"))]
    await kept.store.end([end_of(starts[1], Status.FAILED, error="E")])
    where = ExecutionFilter(kept.record.arn)
    first = await kept.store.list(where, 2, None)
    assert [one.name for one in first.items] == ["b1", "a2"]
    assert {one.input for one in first.items} == {one.output for one in first.items} == {None}
    second = await kept.store.list(where, 2, first.next)
    assert [one.name for one in second.items] == ["a1"] and second.next is None

    async def names(**more: Any) -> list[str]:
        return [one.name for one in (await kept.store.list(ExecutionFilter(**more), 10, None)).items]

    assert await names(status=Status.FAILED) == ["a2"]
    assert await names(name_prefix="a") == ["a2", "a1"]
    assert await names(started_after=START + 1, started_before=START + 2) == ["a2"]
    assert await names(machine_arn="arn:none") == []


async def test_a_worker_is_lost_when_its_lease_is_over(kept: Kept) -> None:
    live, over, never = (str(UUID(int=number)) for number in (301, 302, 303))
    for worker in (live, over):
        await kept.runtime.report(worker)
    await kept.runtime.lapse_worker(over)
    assert await kept.store.lost_workers([live, over, never]) == {over, never}
