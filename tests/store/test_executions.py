"""The contract of `ExecutionReader`, over executions that a real interpreter has written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepwell.engine import ids
from stepwell.engine.errors import InvalidPageTokenError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.ports import CommitEntry, ExecutionFilter
from tests.store.conftest import Stores
from tests.support.local_machine import START, info_of, raw
from tests.support.stored import FAIL, PASS, TASK, StoredRun, machine_record

NOBODY = ExecutionId(bytes(16))


async def begun(stores: Stores, run: StoredRun) -> StoredRun:
    """Give the run its machine and commit what it has done."""
    record = machine_record(run.info.machine_name)
    machine = await stores.machines.create(record) or await stores.machines.get(record.arn)
    assert machine is not None
    run.machine_key = machine.key
    for entry in run.entries:
        if entry.new is not None:
            entry.new.machine_key = machine.key
    await stores.keep(run)
    return run


def empty_step(run: StoredRun) -> CommitEntry:
    """A commit that only takes something out of an inbox."""
    last = run.state.next_event - 1
    chunk = chunks.encode(chunks.Chunk(last + 1, [], None, []))
    run.rev += 1
    return CommitEntry(
        id=run.id, shard=ids.shard_of(run.id), rev=run.rev - 1, new=None, status=run.state.status, stopped_at=None,
        first_event=last + 1, last_event=last, chunk=chunk, full_snapshot=False, redrive_count=0, redriven_at=None,
    )  # fmt: skip


async def test_a_running_execution_has_its_input(stores: Stores) -> None:
    run = await begun(stores, StoredRun(TASK, '{"n": 1.50, "s": "é\\u0001"}').start())
    view = await stores.executions.describe(run.id)
    assert view is not None
    assert view.input is not None and view.input.text == '{"n": 1.50, "s": "é\\u0001"}'.encode()
    assert (view.status, view.output, view.error, view.stopped_at) == (Status.RUNNING, None, None, None)
    assert (view.arn, view.name, view.started_at) == (run.info.arn, "run-1", START)
    assert (view.machine_arn, view.machine_name) == (machine_record().arn, "Machine")
    assert view.last_event == len(run.seen)
    assert await stores.executions.describe(run.id, data=False) == replace(view, input=None)


async def test_a_finished_one_has_its_output(stores: Stores) -> None:
    run = StoredRun(TASK, "[]", world=lambda task: (events.TaskSucceeded(task.task, raw({"ok": [1]})),))
    run.run()
    assert len(run.entries) > 1
    await begun(stores, run)
    await stores.keep(run)
    view = await stores.executions.describe(run.id)
    assert view is not None and view.output is not None and view.input is not None
    assert (view.status, view.output.value, view.input.value) == (Status.SUCCEEDED, {"ok": [1]}, [])
    assert view.stopped_at == run.now


async def test_a_failed_one_has_its_error_and_cause(stores: Stores) -> None:
    run = await begun(stores, StoredRun(FAIL).run())
    view = await stores.executions.describe(run.id)
    assert view is not None
    assert (view.status, view.error, view.cause, view.output) == (Status.FAILED, "Oops", "because", None)


async def test_a_commit_without_events_after_the_end_hides_nothing(stores: Stores) -> None:
    run = await begun(stores, StoredRun(FAIL).run())
    before = await stores.executions.describe(run.id)
    assert await stores.commit(empty_step(run))
    assert await stores.executions.describe(run.id) == before
    assert before is not None and before.error == "Oops" and before.stopped_at is not None


async def test_a_step_computed_from_another_revision_is_not_written(stores: Stores) -> None:
    run = await begun(stores, StoredRun(TASK).start())
    stale = empty_step(run)
    assert not await stores.commit(replace(stale, rev=stale.rev + 1))
    assert await stores.commit(stale)
    assert not await stores.commit(stale)


async def test_a_redriven_one_runs_again(stores: Stores) -> None:
    run = await begun(stores, StoredRun(TASK).start())
    run.apply(events.StopRequested("Stop", "by hand"))
    await stores.keep(run)
    view = await stores.executions.describe(run.id)
    assert view is not None and (view.status, view.error, view.cause) == (Status.ABORTED, "Stop", "by hand")
    run.now += 1000
    run.redrive()
    await stores.keep(run)
    view = await stores.executions.describe(run.id)
    assert view is not None
    assert (view.status, view.error, view.stopped_at) == (Status.RUNNING, None, None)
    assert (view.redrive_count, view.redriven_at) == (1, run.now)


async def test_nobody_is_not_there(stores: Stores) -> None:
    assert await stores.executions.describe(NOBODY) is None
    assert await stores.executions.describe(NOBODY, data=False) is None
    assert await stores.executions.history(NOBODY) is None
    assert await stores.executions.history(NOBODY, reverse=True) is None


@pytest.mark.parametrize("reverse", (False, True))
@pytest.mark.parametrize("limit", (1, 3, 100))
async def test_history_is_read_page_by_page_both_ways(stores: Stores, *, reverse: bool, limit: int) -> None:
    run = StoredRun(TASK, world=lambda task: (events.TaskSucceeded(task.task, raw("x" * 100)),))
    run.run()
    await begun(stores, run)
    read: list[tuple[int, HistoryEvent]] = []
    after = 0
    for _ in range(len(run.seen) + 1):
        answer = await stores.executions.history(run.id, after=after, limit=limit, reverse=reverse)
        assert answer is not None
        page, last = answer
        assert last == len(run.seen)
        assert len(page) <= limit
        if not page:
            break
        read += page
        after = page[-1][0]
        if after == 1 and reverse:
            break
    wanted = list(enumerate(run.seen, 1))
    assert read == (wanted[::-1] if reverse else wanted)


async def many(stores: Stores) -> list[StoredRun]:
    """Five executions of two machines, two of which start in the same millisecond."""
    runs = []
    for number, (machine, definition, at) in enumerate(
        [("A", PASS, 1), ("A", FAIL, 2), ("B", PASS, 2), ("A", TASK, 3), ("B", FAIL, 4)]
    ):
        info = info_of(machine, f"{'x' if number % 2 else 'y'}-{number}", started_at=START + at)
        run = StoredRun(definition, info=info)
        run.now = info.started_at
        run.start()
        runs.append(await begun(stores, run))
    return runs


async def names(stores: Stores, where: ExecutionFilter, limit: int = 2) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await stores.executions.list(where, limit, after)
        assert 0 < len(page.items) <= limit or after is None
        found += [view.name for view in page.items]
        after = page.next
        if after is None:
            return found


async def test_listing_shows_the_newest_first(stores: Stores) -> None:
    runs = await many(stores)
    newest = sorted(runs, key=lambda run: (run.info.started_at, run.id), reverse=True)
    assert await names(stores, ExecutionFilter()) == [run.info.name for run in newest]
    assert await names(stores, ExecutionFilter(), limit=100) == [run.info.name for run in newest]
    a = machine_record("A").arn
    assert await names(stores, ExecutionFilter(machine_arn=a)) == ["x-3", "x-1", "y-0"]
    assert await names(stores, ExecutionFilter(machine_arn=a, status=Status.FAILED)) == ["x-1"]
    assert await names(stores, ExecutionFilter(status=Status.RUNNING)) == ["x-3"]
    assert await names(stores, ExecutionFilter(name_prefix="y-")) == ["y-4", "y-2", "y-0"]
    assert await names(stores, ExecutionFilter(name_prefix="%")) == []
    assert await names(stores, ExecutionFilter(started_after=START + 2, started_before=START + 4, name_prefix="x")) == [
        "x-3",
        "x-1",
    ]
    assert await names(stores, ExecutionFilter(machine_arn="other")) == []


async def test_listing_by_machine_survives_its_deletion_and_means_the_live_one(stores: Stores) -> None:
    await many(stores)
    a = machine_record("A")
    await stores.machines.delete(a.arn)
    assert await names(stores, ExecutionFilter(machine_arn=a.arn)) == ["x-3", "x-1", "y-0"]
    await stores.machines.create(a)
    assert await names(stores, ExecutionFilter(machine_arn=a.arn)) == []


async def test_a_position_belongs_to_its_filter(stores: Stores) -> None:
    await many(stores)
    page = await stores.executions.list(ExecutionFilter(), 2, None)
    assert page.next is not None
    await stores.executions.list(ExecutionFilter(), 3, page.next)
    with pytest.raises(InvalidPageTokenError):
        await stores.executions.list(ExecutionFilter(status=Status.RUNNING), 2, page.next)
    with pytest.raises(InvalidPageTokenError):
        await stores.executions.list(ExecutionFilter(), 2, page.next[:-4] + "AAAA")
