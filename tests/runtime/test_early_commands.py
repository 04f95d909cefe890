"""What is written down for an execution before its owner has applied its start."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from stepwell.engine import ids
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Started, StopRequested
from stepwell.engine.ports import InboxRow, NewExecution
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_node import tasks
from tests.support.nodes import open_node
from tests.support.waiting import until


class LateStarts:
    """Starts are not read from the inbox until they are let through. Before a node begins: it may read at any moment after."""

    held_back = True
    reads_of_others = 0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = PostgresRuntimeStore.inbox

        async def inbox(
            store: PostgresRuntimeStore, shards: Sequence[int], limit: int, rows: Collection[int] = (),
            receivers: Collection[ExecutionId] = (),
        ) -> Sequence[InboxRow]:  # fmt: skip
            found = await read(store, shards, limit, rows, receivers)
            if not self.held_back:
                return found
            others = [row for row in found if not isinstance(row.event, Started)]
            self.reads_of_others += bool(others)
            return others

        monkeypatch.setattr(PostgresRuntimeStore, "inbox", inbox)


async def test_a_stop_that_is_read_before_the_start_is_kept_for_after_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateStarts(monkeypatch)
    async with open_node(database, notify=False) as node:
        machine = await node.machine(tasks("A"))
        store = node.engine.committer._store
        arn = ids.execution_arn(machine.arn, "early")
        id = ids.execution_id(arn)
        new = NewExecution(machine_key=machine.key, revision=1, name="early", arn=arn, started_at=1_800_000_000_000)
        assert await store.post_start(id, new, Document.of({}))
        await store.post(id, StopRequested("Stopped"))
        await until(lambda: late.reads_of_others > 2)
        assert await node.pool.fetchval("SELECT count(*) FROM inbox") == 2
        assert await node.pool.fetchval("SELECT rev FROM execution") == 0
        late.held_back = False
        view = await node.ended(id)
        assert (view.status, view.error) == (Status.ABORTED, "Stopped")
        assert (await node.event_types(id))[0] == "ExecutionStarted"
