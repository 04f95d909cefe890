"""The contract of Map Runs in the store: fences, items, children, messages, listings; in Postgres and in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from stepwell.engine.ids import ExecutionId, child_arn, execution_id, shard_of
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import ChildFinished, MapRunStopped, MapRunUpdated
from stepwell.engine.machine.map_run import ItemStatus, Progress, child_name
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.map_ports import MapItem, MapRunEntry, MapRunReader, MapRunStore, NewChild, NewMapRun
from stepwell.engine.ports import ExecutionFilter, ExecutionReader
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.map_runs import PostgresMapRuns, PostgresMapRunStore
from stepwell.engine.store.memory import MemoryExecutions
from stepwell.engine.store.memory_map_runs import MemoryMapRuns
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.store.conftest import ALL, NODE, RuntimeStores
from tests.support.local_machine import START, info_of
from tests.support.stored import FAIL, StoredRun

ARN = "arn:aws:states:us-east-1:000000000000:mapRun:Machine/L:6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
ID = execution_id(ARN)
SPEC = MapRunSpec("Each", "L", ARN, "parent", items=msgspec.Raw(b"[1,2]"))
NEW = NewMapRun(
    id=ID, number=7, arn=ARN, state="Each", spec=msgspec.json.encode(SPEC), max_concurrency=5, tolerated_count=None,
    tolerated_percentage=1.5,
)  # fmt: skip


@dataclass
class Runs:
    """One implementation of the ports, with a parent execution that has begun a Map Run."""

    of: RuntimeStores
    store: MapRunStore
    reader: MapRunReader
    executions: ExecutionReader
    parent: StoredRun

    async def entry(self, **fields: Any) -> MapRunEntry:
        """A step from where the Map Run stands."""
        stored = await self.store.load_map_run(ID)
        assert stored is not None
        given = {"status": stored.status, "progress": stored.progress, "now": START, "stopped_at": stored.stopped_at}
        return MapRunEntry(id=ID, rev=stored.rev, **{**given, **fields})

    async def step(self, **fields: Any) -> dict[ExecutionId, int]:
        starts = await self.store.commit_map_run(NODE, await self.entry(**fields))
        assert starts is not None
        return starts

    async def items(self, **fields: Any) -> list[MapItem]:
        return list(await self.store.map_items(ID, **fields))

    async def inbox(self, id: ExecutionId) -> list[Any]:
        return [row.event for row in await self.of.store.inbox(ALL, 100) if row.execution == id]


def child(number: int) -> NewChild:
    name = child_name(ID, number)
    arn = child_arn(ARN, name)
    return NewChild(id=execution_id(arn), name=name, arn=arn, number=number, input=b'{"n":%d}' % number)


def item(number: int, status: ItemStatus = ItemStatus.PENDING, **fields: Any) -> MapItem:
    return MapItem(number=number, status=status, size=2, input=b'{"n":%d}' % number, **fields)


@pytest.fixture
async def runs(of: RuntimeStores) -> Runs:
    parent = await of.started()
    parent.apply(events.TaskSucceeded(1, msgspec.Raw(b"1")))
    parent.entries[-1].map_runs_new.append(NEW)
    parent.entries[-1].posts.append((ID, MapRunUpdated()))
    assert await of.commit(parent)
    if isinstance(of.store, MemoryRuntimeStore):
        memory = MemoryMapRuns(of.store, of.clock)
        return Runs(of, memory, memory, MemoryExecutions(of.store.database), parent)
    assert isinstance(of.store, PostgresRuntimeStore)
    pool = of.store._pool
    store = PostgresMapRunStore(of.store, pool, of.clock)
    return Runs(of, store, PostgresMapRuns(pool, of.clock), PostgresExecutions(pool), parent)


async def test_a_parents_step_begins_a_map_run(runs: Runs) -> None:
    stored = await runs.store.load_map_run(ID)
    assert stored is not None
    assert (stored.rev, stored.status, stored.parent, stored.number, stored.state) == (
        0, Status.RUNNING, runs.parent.id, 7, "Each",
    )  # fmt: skip
    assert (stored.max_concurrency, stored.tolerated_count, stored.tolerated_percentage) == (5, None, 1.5)
    assert bytes(stored.spec.items) == b"[1,2]"
    assert stored.progress == Progress()
    assert list(await runs.store.open_map_runs(ALL)) == [ID]
    assert list(await runs.store.open_map_runs([(shard_of(ID) + 1) % 256])) == []
    assert await runs.inbox(ID) == [MapRunUpdated()]


async def test_a_void_step_begins_nothing(runs: Runs) -> None:
    other = await runs.of.started(name="run-2")
    other.apply(events.TaskSucceeded(1, msgspec.Raw(b"1")))
    arn = ARN[:-1] + "e"
    entry = replace(other.entries[-1], rev=99)
    entry.map_runs_new.append(replace(NEW, id=execution_id(arn), arn=arn))
    entry.posts.append((execution_id(arn), MapRunUpdated()))
    assert await runs.of.store.commit(NODE, [entry]) == set()
    assert await runs.store.load_map_run(execution_id(arn)) is None
    assert await runs.inbox(execution_id(arn)) == []


async def test_items_and_children_are_written_with_the_step(runs: Runs) -> None:
    progress = Progress(cursor="c", source=4, made=2)
    starts = await runs.step(progress=progress, items_new=[item(0, ItemStatus.RUNNING), item(1)], children=[child(0)])
    assert starts.keys() == {child(0).id}
    assert [(each.number, each.status, each.size, each.input) for each in await runs.items()] == [
        (0, ItemStatus.RUNNING, 2, b'{"n":0}'), (1, ItemStatus.PENDING, 2, b'{"n":1}'),
    ]  # fmt: skip
    (started,) = [row for row in await runs.of.store.inbox(ALL, 100) if row.execution == child(0).id]
    assert started.id == starts[child(0).id]
    assert isinstance(started.event, events.Started) and bytes(started.event.input) == b'{"n":0}'
    stored = await runs.of.store.load(child(0).id)
    assert stored is not None
    assert (stored.rev, stored.map_run, stored.map_item, stored.processor) == (0, ID, 0, "Each")
    run = await runs.store.load_map_run(ID)
    assert run is not None and (run.rev, run.progress) == (1, progress)


async def test_a_child_is_begun_once(runs: Runs) -> None:
    assert await runs.step(items_new=[item(0, ItemStatus.RUNNING)], children=[child(0)])
    assert await runs.step(children=[child(0)]) == {}
    assert len(await runs.inbox(child(0).id)) == 1


async def test_a_child_that_begins_is_told_nothing_else(runs: Runs) -> None:
    """A redrive begins a child again whose execution is there no more."""
    await runs.step(items_new=[item(0, ItemStatus.RUNNING), item(1)], children=[child(0)])
    again = [(child(number).id, events.Redriven()) for number in range(2)]
    assert (await runs.step(children=[child(0), child(1)], posts=again)).keys() == {child(1).id}
    assert [type(event) for event in await runs.inbox(child(0).id)] == [events.Started, events.Redriven]
    assert [type(event) for event in await runs.inbox(child(1).id)] == [events.Started]


async def test_large_children_are_read_few_at_a_time(runs: Runs) -> None:
    """Each has seven bytes of input; one that is larger than all may be is given alone."""
    await runs.step(items_new=[item(number, ItemStatus.RUNNING) for number in range(5)])
    await runs.step(items_ended=[item(1, ItemStatus.SUCCEEDED, output=b"[" + 20 * b" " + b"]")])
    assert [each.number for each in await runs.items(most_bytes=1)] == [0]
    assert [each.number for each in await runs.items(most_bytes=8)] == [0, 1]
    assert [each.number for each in await runs.items(most_bytes=8, after=1)] == [2, 3]
    running = await runs.items(most_bytes=15, status=ItemStatus.RUNNING)
    assert [each.number for each in running] == [0, 2, 3]
    assert len(await runs.items(most_bytes=1, data=False)) == 5


async def test_a_step_is_fenced_by_revision_and_owner(runs: Runs) -> None:
    entry = await runs.entry(items_new=[item(0)])
    assert await runs.store.commit_map_run(UUID(int=99), entry) is None
    assert await runs.store.commit_map_run(NODE, entry) is not None
    again = replace(entry, items_new=[item(1)], children=[child(1)], posts=[(runs.parent.id, events.Continued())])
    assert await runs.store.commit_map_run(NODE, again) is None
    assert [each.number for each in await runs.items()] == [0]
    assert await runs.inbox(child(1).id) == await runs.inbox(runs.parent.id) == []


async def test_items_go_on_by_compare_and_set(runs: Runs) -> None:
    await runs.step(items_new=[item(number) for number in range(4)])
    await runs.step(items_started=[0, 1, 9])
    ended = [
        item(0, ItemStatus.SUCCEEDED, output=b"1", stopped_at=START + 5),
        item(1, ItemStatus.FAILED, error="E", cause="c\x00d", stopped_at=START + 6),
        item(2, ItemStatus.SUCCEEDED, output=b"never"),
    ]
    await runs.step(items_ended=ended)
    await runs.step(items_ended=[item(0, ItemStatus.FAILED, error="late")])
    found = await runs.items()
    assert [each.status.name for each in found] == ["SUCCEEDED", "FAILED", "PENDING", "PENDING"]
    assert (found[0].output, found[0].started_at, found[0].stopped_at) == (b"1", START, START + 5)
    assert (found[1].error, found[2].output) == ("E", None)
    assert [each.number for each in await runs.items(status=ItemStatus.PENDING, after=2)] == [3]
    assert [each.number for each in await runs.items(limit=2)] == [0, 1]
    (bare,) = await runs.items(status=ItemStatus.SUCCEEDED, data=False)
    assert (bare.input, bare.output, bare.size) == (b"", None, 2)


async def test_what_has_not_succeeded_becomes_pending_again(runs: Runs) -> None:
    statuses = [ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.TIMED_OUT, ItemStatus.ABORTED, ItemStatus.ABORTED]
    await runs.step(items_new=[item(number, ItemStatus.RUNNING) for number in range(5)])
    await runs.step(items_ended=[item(number, status) for number, status in enumerate(statuses)])
    assert await runs.store.unsuccessful(ID) == {
        ItemStatus.FAILED: (1, 2), ItemStatus.TIMED_OUT: (1, 2), ItemStatus.ABORTED: (2, 4),
    }  # fmt: skip
    await runs.step(again=True, redriven_at=START + 9)
    found = await runs.items()
    assert [(each.status.name, each.redrives) for each in found] == [("SUCCEEDED", 0)] + [("PENDING", 1)] * 4
    assert await runs.store.unsuccessful(ID) == {}
    run = await runs.store.load_map_run(ID)
    assert run is not None and run.redriven_at == START + 9


async def test_express_children_do_not_show_that_they_are_to_be_redriven(runs: Runs) -> None:
    """Their Map Run has no redrive date either."""
    await runs.step(items_new=[item(0, ItemStatus.RUNNING)])
    await runs.step(items_ended=[item(0, ItemStatus.FAILED)])
    await runs.step(again=True)
    view = await runs.reader.describe(ID)
    assert view is not None and (view.redriven_at, view.pending_redrive, view.pending_redrive_items) == (None, 0, 0)


async def test_a_child_that_is_to_be_redriven_shows_that_until_it_is(runs: Runs) -> None:
    await runs.step(
        items_new=[item(number, ItemStatus.RUNNING) for number in range(3)], children=[child(n) for n in range(3)]
    )
    children = [child(number) for number in range(3)]

    async def pending() -> list[int]:
        found: dict[bool | None, set[ExecutionId]] = {}
        for waits in (True, False, None):
            page = await runs.executions.list(ExecutionFilter(map_run=ID, pending_redrive=waits), 10, None)
            found[waits] = {view.id for view in page.items if waits is not None or view.pending_redrive}
        assert found[True] == found[None] and len(found[True] | found[False]) == 3
        return [number for number, one in enumerate(children) if one.id in found[True]]

    async def counted() -> tuple[int, int]:
        view = await runs.reader.describe(ID)
        assert view is not None
        return view.pending_redrive, view.pending_redrive_items

    for number in range(3):
        failed = StoredRun(FAIL, info=msgspec.structs.replace(info_of(), id=child(number).id)).start()
        (entry,) = failed.run().entries
        assert await runs.of.store.commit(NODE, [replace(entry, new=None)])
    await runs.step(items_ended=[item(number, ItemStatus.FAILED) for number in range(3)])
    assert (await pending(), await counted()) == ([], (0, 0))
    await runs.step(again=True, redriven_at=START + 9)
    assert (await pending(), await counted()) == ([0, 1, 2], (3, 6))
    await runs.step(items_started=[0])
    assert (await pending(), await counted()) == ([0, 1, 2], (2, 4))  # the execution does not know of it yet
    await runs.step(status=Status.ABORTED, stopped_at=START + 10)
    assert (await pending(), await counted()) == ([], (0, 0))


async def test_messages_come_and_go_with_the_steps(runs: Runs) -> None:
    await runs.store.post_map_run(ID, MapRunStopped())
    message = ChildFinished(3, Status.SUCCEEDED, START, msgspec.Raw(b"[1]"))
    await runs.store.post_map_run(ID, message)
    await runs.store.post_map_run(execution_id("nobody"), MapRunStopped())
    rows = [row for row in await runs.of.store.inbox(ALL, 100) if row.execution == ID]
    assert [row.event for row in rows] == [MapRunUpdated(), MapRunStopped(), message]
    finished = events.MapRunFinished(7, 0, msgspec.Raw(b"[]"))
    await runs.step(inbox_gone=[row.id for row in rows[:2]], posts=[(runs.parent.id, finished)])
    assert await runs.inbox(ID) == [message]
    assert await runs.inbox(runs.parent.id) == [finished]


async def test_a_map_run_that_has_ended_is_open_no_more(runs: Runs) -> None:
    await runs.step(status=Status.SUCCEEDED, stopped_at=START + 3)
    assert list(await runs.store.open_map_runs(ALL)) == []
    view = await runs.reader.describe(ID)
    assert view is not None
    assert (view.status, view.stopped_at, view.execution_arn) == (Status.SUCCEEDED, START + 3, runs.parent.info.arn)
    assert not await runs.reader.update(ID, max_concurrency=1, tolerated_count=None, tolerated_percentage=None)
    assert await runs.reader.describe(execution_id("nobody")) is None


async def test_bounds_are_changed_at_once_and_the_owner_is_told(runs: Runs) -> None:
    assert await runs.reader.update(ID, max_concurrency=9, tolerated_count=4, tolerated_percentage=None)
    view = await runs.reader.describe(ID)
    assert view is not None
    assert (view.max_concurrency, view.tolerated_count, view.tolerated_percentage) == (9, 4, 1.5)
    assert await runs.inbox(ID) == [MapRunUpdated(), MapRunUpdated()]
    stored = await runs.store.load_map_run(ID)
    assert stored is not None and (stored.rev, stored.max_concurrency) == (0, 9)


async def test_map_runs_of_an_execution_are_listed(runs: Runs) -> None:
    views, after = await runs.reader.list(runs.parent.id, 10, None)
    assert ([view.arn for view in views], after) == ([ARN], None)
    assert await runs.reader.list(execution_id("nobody"), 10, None) == ([], None)


async def test_children_are_listed_by_their_map_run_alone(runs: Runs) -> None:
    new = [item(number, ItemStatus.RUNNING) for number in range(3)]
    await runs.step(items_new=new, children=[child(number) for number in range(3)])
    page = await runs.executions.list(ExecutionFilter(map_run=ID), 2, None)
    rest = await runs.executions.list(ExecutionFilter(map_run=ID), 2, page.next)
    views = [*page.items, *rest.items]
    assert {view.id for view in views} == {child(number).id for number in range(3)}
    assert {(view.map_run_arn, view.item_count) for view in views} == {(ARN, 2)}
    assert {view.machine_name for view in views} == {"Machine/L"}
    others = await runs.executions.list(ExecutionFilter(), 10, None)
    assert [view.id for view in others.items] == [runs.parent.id]
    machine = await runs.executions.list(ExecutionFilter(runs.parent.info.machine_arn), 10, None)
    assert [view.id for view in machine.items] == [runs.parent.id]
    assert list((await runs.executions.list(ExecutionFilter(map_run=ID, redriven=True), 9, None)).items) == []
    assert len((await runs.executions.list(ExecutionFilter(map_run=ID, redriven=False), 9, None)).items) == 3


async def test_what_express_children_began_with_is_kept(runs: Runs) -> None:
    """How many losses there had been: of a child that begins at once, of one that waited, and of one that begins again."""
    await runs.step(progress=Progress(losses=1), items_new=[item(0, ItemStatus.RUNNING), item(1), item(2)])
    await runs.step(progress=Progress(losses=2), items_started=[1])
    assert [each.losses for each in await runs.items()] == [1, 2, 1]
    await runs.step(progress=Progress(losses=3), items_ended=[item(0, ItemStatus.FAILED)])
    await runs.step(progress=Progress(losses=3), again=True)
    await runs.step(progress=Progress(losses=4), items_started=[0])
    assert [each.losses for each in await runs.items()] == [4, 2, 1]
    stored = await runs.store.load_map_run(ID)
    assert stored is not None and stored.progress.losses == 4


@pytest.mark.parametrize("express", (True, False))
async def test_of_which_type_its_children_are(runs: Runs, express: bool) -> None:
    other = await runs.of.started(name="run-2")
    other.apply(events.TaskSucceeded(1, msgspec.Raw(b"1")))
    arn = ARN[:-1] + "e"
    other.entries[-1].map_runs_new.append(replace(NEW, id=execution_id(arn), arn=arn, express=express))
    assert await runs.of.commit(other)
    stored, view = await runs.store.load_map_run(execution_id(arn)), await runs.reader.describe(execution_id(arn))
    assert stored is not None and view is not None
    assert (stored.express, view.express) == (express, express)
    assert (view.machine_key, view.revision) == (stored.machine_key, stored.revision)


async def test_children_that_have_begun_are_listed_from_the_last_on(runs: Runs) -> None:
    statuses = [ItemStatus.RUNNING, ItemStatus.PENDING, ItemStatus.RUNNING, ItemStatus.RUNNING]
    await runs.step(items_new=[item(number, status) for number, status in enumerate(statuses)])
    await runs.step(items_ended=[item(2, ItemStatus.SUCCEEDED, output=b"2", stopped_at=START)])

    async def listed(status: ItemStatus | None = None, limit: int = 9, before: int | None = None) -> list[int]:
        found = await runs.reader.begun_items(ID, status=status, limit=limit, before=before)
        assert all(each.input == b"" and each.output is None for each in found)
        return [each.number for each in found]

    assert await listed() == [3, 2, 0]
    assert await listed(limit=2) == [3, 2]
    assert await listed(before=3) == [2, 0]
    assert await listed(before=10**10) == [3, 2, 0]
    assert await listed(ItemStatus.RUNNING) == [3, 0]
    assert await listed(ItemStatus.FAILED) == []
    one = await runs.reader.item(ID, 2)
    assert one is not None and (one.status, one.output, one.input) == (ItemStatus.SUCCEEDED, b"2", b'{"n":2}')
    assert await runs.reader.item(ID, 4) is None
    assert await runs.reader.item(ID, 2**32 - 1) is None
