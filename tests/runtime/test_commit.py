"""Group commit: what becomes of the steps beside one that the database refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec
import pytest

from stepwell.engine.errors import BadBatchError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import ChildFinished
from stepwell.engine.map_ports import NewMapRun
from stepwell.engine.ports import CommitEntry
from stepwell.engine.runtime import commit
from stepwell.engine.runtime.commit import Committer, Fate
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from stepwell.engine.telemetry import NoMetrics
from tests.support.nodes import SystemClock, SystemSeeds
from tests.support.waiting import DEADLINE

NODE = UUID(int=1)


class Refusing(MemoryRuntimeStore):
    """A store that refuses every batch with one of these in it, and writes the others."""

    def __init__(self, refused: set[ExecutionId]) -> None:
        super().__init__(SystemClock())
        self._refused = refused
        self.written: list[ExecutionId] = []

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        ids = [entry.id for entry in entries]
        if self._refused & set(ids):
            raise BadBatchError("The database refuses a value.")
        self.written += ids
        return set(ids)


def entry(number: int) -> CommitEntry:
    return CommitEntry(
        id=ExecutionId(number.to_bytes(16, "big")), shard=0, rev=1, new=None, status=Status.RUNNING, stopped_at=None,
        first_event=1, last_event=1, chunk=b"", full_snapshot=False, redrive_count=0, redriven_at=None,
    )  # fmt: skip


@pytest.mark.parametrize("refused", ((), (0,), (3,), (6,), (1, 5), tuple(range(7))))
async def test_a_refused_step_takes_no_other_with_it(refused: tuple[int, ...]) -> None:
    entries = [entry(number) for number in range(7)]
    store = Refusing({entries[number].id for number in refused})
    committer = Committer(store, Identity(store, NODE, SystemSeeds()), SystemClock(), NoMetrics())
    fates: dict[int, Fate] = {}
    told = asyncio.Event()

    def tell(number: int, fate: Fate) -> None:
        fates[number] = fate
        if len(fates) == len(entries):
            told.set()

    for number, one in enumerate(entries):
        committer.submit(one, lambda fate, why, number=number: tell(number, fate))  # type: ignore[misc]
    committer.start()
    async with asyncio.timeout(DEADLINE):
        await told.wait()
    await committer.close()
    assert {number for number, fate in fates.items() if fate is Fate.POISON} == set(refused)
    assert store.written == [entries[number].id for number, fate in sorted(fates.items()) if fate is Fate.COMMITTED]
    assert len(store.written) == len(entries) - len(refused)


@pytest.mark.parametrize("kind", ("chunk", "spec", "output"))
async def test_what_entries_hold_bounds_a_batch(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(commit, "MAX_BATCH_BYTES", 20)
    many = b"1234567890"
    entries = [entry(number) for number in range(5)]
    for one in entries:
        if kind == "chunk":
            one.chunk = many
        elif kind == "spec":
            one.map_runs_new.append(
                NewMapRun(
                    id=one.id, number=1, arn="a", state="M", spec=many, max_concurrency=0, tolerated_count=None,
                    tolerated_percentage=None,
                )
            )  # fmt: skip
        else:
            one.posts.append((one.id, ChildFinished(0, Status.SUCCEEDED, 1, msgspec.Raw(many))))
    batches: list[int] = []
    all_told = asyncio.Event()

    class Noting(MemoryRuntimeStore):
        async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
            batches.append(len(entries))
            if sum(batches) == 5:
                all_told.set()
            return {one.id for one in entries}

    store = Noting(SystemClock())
    committer = Committer(store, Identity(store, NODE, SystemSeeds()), SystemClock(), NoMetrics())
    for one in entries:
        committer.submit(one, lambda fate, why: None)
    assert committer.backlog_bytes == 50
    committer.start()
    async with asyncio.timeout(DEADLINE):
        await all_told.wait()
    await committer.close()
    assert (batches, committer.backlog_bytes) == ([2, 2, 1], 0)
