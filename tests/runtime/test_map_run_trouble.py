"""Map Runs over a real database when something goes wrong on the way: nothing is lost, nothing is tried for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import MapRunEvent, MapRunUpdated
from stepwell.engine.machine.map_run import Child, ItemStatus, Maker, SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.map_ports import MapRunEntry, StoredMapRun
from stepwell.engine.ports import InboxRow
from stepwell.engine.runtime import engine as engine_module
from stepwell.engine.runtime import map_results, map_run_express, map_run_pages, map_run_steps, map_run_tools
from stepwell.engine.runtime.map_runs import MapRuns
from stepwell.engine.store.map_runs import PostgresMapRunStore
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_map_run_storage import WRITE, reading
from tests.runtime.test_map_runs import TASK, breaks, comes_true, distributed, map_run, nothing_left, started
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, Node, open_node
from tests.support.waiting import until


def map_runs(node: Node) -> MapRuns:
    assert node.engine.map_runs is not None
    return node.engine.map_runs


def bound_pages(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    """Other bounds of pages and steps, wherever they are known."""
    for name, value in bounds.items():
        for module in (map_run_tools, map_run_steps, map_run_pages, map_run_express):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


async def aborted(node: Node, id: ExecutionId) -> None:
    async def ended() -> bool:
        return (await map_run(node, id)).status is Status.ABORTED

    await comes_true(ended)


async def test_what_came_while_the_lease_had_run_out_is_read_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK), [0])
        await until(lambda: bool(targets.calls))
        refusals: list[None] = []

        def may_act() -> bool:
            if not refusals:
                refusals.append(None)
                return False
            return True

        monkeypatch.setattr(node.engine, "may_act", may_act)
        targets.answer("Work", "done")
        view = await node.ended(id)
        assert refusals, "the step that was to fold the child's end was not allowed"
        assert view.output is not None and view.output.value == ["done"]
        await nothing_left(node)


@pytest.mark.parametrize("how", ("outage", "shard lost", "bug"))
async def test_what_a_step_had_in_hand_is_read_again(database: str, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The step that folds a redrive comes to its end before it is committed."""
    targets = breaks(0)
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK), [0])
        assert (await node.ended(id)).status is Status.FAILED
        run = await map_run(node, id)
        reached = asyncio.Event()
        unsuccessful = PostgresMapRunStore.unsuccessful

        async def trouble(self: PostgresMapRunStore, id: ExecutionId) -> dict[ItemStatus, tuple[int, int]]:
            if reached.is_set():
                return await unsuccessful(self, id)
            reached.set()
            if how == "outage":
                raise StoreUnavailableError("Postgres is away.")
            if how == "bug":
                raise KeyError("bug")
            return await asyncio.Future()

        monkeypatch.setattr(PostgresMapRunStore, "unsuccessful", trouble)
        targets.broken.clear()  # type: ignore[attr-defined]
        await node.requests.redrive(id)
        await reached.wait()
        if how == "shard lost":
            map_runs(node).drop_shards({shard_of(run.id)})
            await map_runs(node).take([shard_of(run.id)])
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0]
        await nothing_left(node)


async def test_a_run_whose_definition_is_gone_fails(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(database) as node:
        machine = node.engine.machine

        async def gone(key: int, revision: int, processor: str | None = None) -> Any:
            if processor is not None:
                raise StepwellError("It is not in the store.")
            return await machine(key, revision)

        monkeypatch.setattr(node.engine, "machine", gone)
        view = await node.ended(await started(node, distributed(), [1]))
        assert view.error == "States.Runtime"
        assert view.cause == "The definition of the Map state 'M' cannot be read: It is not in the store."


@pytest.mark.parametrize("times", (2, 3))
async def test_a_run_whose_step_cannot_be_taken_fails_in_the_end(
    database: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    commit = PostgresMapRunStore.commit_map_run
    left = [TypeError("secret")] * times

    async def broken(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        if entry.items_new and left:
            raise left.pop()
        return await commit(self, node, entry)

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", broken)
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(), [1]))
        assert not left
        if times == 2:
            assert view.status is Status.SUCCEEDED
        else:
            assert view.error == "States.Runtime"
            assert view.cause == "A step of the Map Run could not be taken: TypeError."


async def test_a_run_of_whose_items_no_children_can_be_made_fails(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Maker, item: SourceItem) -> list[Child]:
        raise TypeError("secret")

    monkeypatch.setattr(Maker, "take", broken)
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(), [1]))
        assert (view.error, view.cause) == ("States.Runtime", "Children cannot be made of the items: TypeError.")


class Storage:
    """Object storage that breaks or never answers."""

    def __init__(self, breaks: str | None = None, stalls: str | None = None) -> None:
        self.breaks = breaks
        self.stalls = stalls
        self.asked = asyncio.Event()
        self.written: list[str] = []

    async def _do(self, what: str) -> None:
        if self.breaks == what:
            raise TypeError("secret")
        if self.stalls == what:
            self.asked.set()
            await asyncio.Future()

    async def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        yield SourceItem(b"1", "1")
        await self._do("read")

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        await self._do("write")
        await self._do(f"write {len(self.written)}")
        self.written.append(key)

    async def close(self) -> None: ...


async def test_a_writer_that_breaks_fails_the_run(database: str) -> None:
    async with open_node(database, items=Storage(breaks="write")) as node:
        view = await node.ended(await started(node, distributed(ResultWriter=WRITE), [0]))
        assert view.error == "States.ResultWriterFailed"
        assert view.cause == "The results cannot be put together: TypeError."
        assert (await map_run(node, view.id)).progress.results_written == 0


@pytest.mark.parametrize("what", ("read", "write"))
async def test_a_run_is_stopped_though_storage_does_not_answer(database: str, what: str) -> None:
    storage = Storage(stalls=what)
    definition = distributed(**reading(InputType="JSON"), ResultWriter=WRITE)
    async with open_node(database, items=storage) as node:
        id = await started(node, definition, {"key": "k"})
        await storage.asked.wait()
        await node.requests.stop(id, None, None)
        storage.stalls = None
        await aborted(node, id)
        await nothing_left(node)


async def test_a_run_is_redriven_after_its_reading_was_given_up(database: str) -> None:
    storage = Storage(stalls="read")
    async with open_node(database, items=storage) as node:
        id = await started(node, distributed(**reading(InputType="JSON")), {"key": "k"})
        await storage.asked.wait()
        await node.requests.stop(id, None, None)
        await aborted(node, id)
        storage.stalls = None
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [1]


async def test_results_that_were_given_up_are_written_by_a_redrive(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each child has a file of its own; the first is durable, and known to the store, when the run is stopped."""
    monkeypatch.setattr(map_results, "PART_BYTES", 0)
    storage = Storage(stalls="write 1")
    async with open_node(database, items=storage) as node:
        id = await started(node, distributed(ResultWriter=WRITE), [0, 1, 2])
        await storage.asked.wait()
        await node.requests.stop(id, None, None)
        await aborted(node, id)
        progress = (await map_run(node, id)).progress
        assert (progress.executions.succeeded, progress.results_written, len(progress.parts)) == (3, 0, 1)
        storage.stalls = None
        await node.requests.redrive(id)
        assert (await node.ended(id)).status is Status.SUCCEEDED
        progress = (await map_run(node, id)).progress
        assert (progress.results_written, len(progress.parts)) == (3, 3)
        assert storage.written[-1].endswith("manifest.json")


class Hurrying:
    """A clock on which every look takes longer than a turn may."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return 1

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


async def test_others_have_their_turn_while_children_are_made(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    seen: list[int] = []
    take = Maker.take

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def taking(self: Maker, item: SourceItem) -> list[Child]:
        seen.append(turns)
        return take(self, item)

    monkeypatch.setattr(Maker, "take", taking)
    async with open_node(database) as node:
        runs = map_runs(node)
        runs.tools = replace(runs.tools, clock=Hurrying())
        counting = asyncio.create_task(others())
        try:
            await node.ended(await started(node, distributed(), list(range(5))))
        finally:
            counting.cancel()
        assert len(set(seen)) == len(seen) == 5


async def test_pages_are_bounded_by_the_bytes_of_the_children(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound_pages(monkeypatch, PAGE_BYTES=150)
    made: list[int] = []
    commit = PostgresMapRunStore.commit_map_run

    async def noting(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        made.append(len(entry.items_new))
        return await commit(self, node, entry)

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", noting)
    async with open_node(database) as node:
        definition = distributed(ItemSelector={"padding": "x" * 80, "value.$": "$$.Map.Item.Value"})
        view = await node.ended(await started(node, definition, list(range(9))))
        assert view.output is not None and isinstance(view.output.value, list) and len(view.output.value) == 9
    assert max(made) == 2 and sum(made) == 9


async def test_much_mail_of_a_map_run_does_not_keep_others_from_theirs(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Map Run is in the midst of a step, and more waits for it than is read at a time."""
    monkeypatch.setattr(engine_module, "INBOX_ROWS", 2)
    may_go_on, stalled = asyncio.Event(), asyncio.Event()
    load = PostgresMapRunStore.load_map_run
    stalls = False

    async def stalling(self: PostgresMapRunStore, id: ExecutionId) -> StoredMapRun | None:
        if stalls:
            stalled.set()
            await may_go_on.wait()
        return await load(self, id)

    monkeypatch.setattr(PostgresMapRunStore, "load_map_run", stalling)
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, MaxConcurrency=1), [0, 1])
        await until(lambda: len(targets.calls) == 1)
        run = await map_run(node, id)
        other = (await node.start(await node.machine(tasks("A"), "other"))).id
        stalls = True
        for _ in range(9):
            assert await node.map_runs.update(
                run.id, max_concurrency=2, tolerated_count=None, tolerated_percentage=None
            )
        await stalled.wait()
        await node.engine._store.post(other, events.StopRequested())
        node.engine.wake_inbox()
        assert (await node.ended(other)).status is Status.ABORTED
        may_go_on.set()
        await until(lambda: len([call for call in targets.calls if call.state == "Work"]) == 2)
        await nothing_left(node)
        await node.requests.stop(id, None, None)


async def test_a_crowded_map_run_is_told_the_rest_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound_pages(monkeypatch, PAGE_ITEMS=1, LEAST_PAGE_ITEMS=1)
    monkeypatch.setattr(engine_module, "INBOX_ROWS", 3)
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(), list(range(30))))
        assert view.output is not None and view.output.value == list(range(30))
        await nothing_left(node)


async def test_a_child_that_is_gone_is_begun_again_by_a_redrive(database: str) -> None:
    targets = breaks(1)
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, ToleratedFailureCount=0), [1])
        assert (await node.ended(id)).status is Status.FAILED
    async with open_node(database, targets) as node:
        await node.pool.execute(
            "DELETE FROM history_chunk h USING execution e WHERE h.execution_id = e.id AND map_item = 0"
        )
        assert await node.pool.execute("DELETE FROM execution WHERE map_item = 0") == "DELETE 1"
        targets.broken.clear()  # type: ignore[attr-defined]
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [1]
        await nothing_left(node)


async def test_what_came_behind_a_forgotten_message_waits_for_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is forgotten, to be read again, while one behind it is being read: the later must not come first."""
    read, deliver, reads = PostgresRuntimeStore.inbox, MapRuns.deliver, 0
    told: list[tuple[MapRunEvent, int]] = []

    async def forget_meanwhile(self: PostgresRuntimeStore, *rest: Any) -> Sequence[InboxRow]:
        nonlocal reads
        rows = await read(self, *rest)
        for row in rows:
            reads += 1
            if reads == 1:
                node.engine.forgotten(row.execution, row.id - 1)
        return rows

    def note(self: MapRuns, id: ExecutionId, event: MapRunEvent, row: int) -> None:
        told.append((event, reads))
        deliver(self, id, event, row)

    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK), [0])
        await until(lambda: "Work" in targets.waiting)
        run = await map_run(node, id)
        monkeypatch.setattr(PostgresRuntimeStore, "inbox", forget_meanwhile)
        monkeypatch.setattr(MapRuns, "deliver", note)
        assert await node.map_runs.update(run.id, max_concurrency=3, tolerated_count=None, tolerated_percentage=None)
        node.engine.wake_inbox()
        await until(lambda: bool(told))
        assert told == [(MapRunUpdated(), 2)]
        targets.answer("Work", "done")
        assert (await node.ended(id)).status is Status.SUCCEEDED
