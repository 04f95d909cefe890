"""A node that takes shards up sends the tasks it finds open in the store, but none that it has in hand itself or has seen closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import msgspec
import pytest

from stepwell.engine.ids import ExecutionId, parse_task_token, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import TaskSubmitted
from stepwell.engine.ports import CommitEntry, OpenTaskRow, TaskAnswer
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, Node, open_node
from tests.support.waiting import until


class Slow:
    """The stores of this test's nodes: answers about open tasks, or commits, take until the test lets them come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.commits = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.commits.set()
        self.read: list[Sequence[OpenTaskRow]] = []
        self.given = self.committing = 0
        open_tasks, commit = PostgresRuntimeStore.open_tasks, PostgresRuntimeStore.commit

        async def slow_answer(store: PostgresRuntimeStore, shards: Sequence[int]) -> Sequence[OpenTaskRow]:
            rows = await open_tasks(store, shards)
            self.read.append(rows)
            await self.answers.wait()
            self.given += 1
            return rows

        async def slow_commit(
            store: PostgresRuntimeStore, node: UUID, entries: Sequence[CommitEntry]
        ) -> set[ExecutionId]:
            self.committing += 1
            await self.commits.wait()
            self.committing -= 1
            return await commit(store, node, entries)

        monkeypatch.setattr(PostgresRuntimeStore, "open_tasks", slow_answer)
        monkeypatch.setattr(PostgresRuntimeStore, "commit", slow_commit)

    @contextmanager
    def held(self, gate: asyncio.Event) -> Iterator[None]:
        """Keep something from coming, also while the node is closed after a failure."""
        gate.clear()
        try:
            yield
        finally:
            gate.set()

    async def found_open(self, node: Node, id: ExecutionId) -> None:
        """Have the node look for what is to be done in the shard of an execution, and wait until the store has found a task."""
        reads = len(self.read)
        node.engine.unsure(shard_of(id))
        await until(lambda: len(self.read) > reads)
        assert [row.state for row in self.read[-1]] == ["A"]

    async def answered(self) -> None:
        """Wait until the node has the answer, and has begun what it does about it."""
        await until(lambda: self.given == len(self.read))


async def test_a_task_that_ends_while_the_store_finds_it_open_is_not_done_once_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, targets = Slow(monkeypatch), CommandedTargets()
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(tasks("A")))
        await until(lambda: "A" in targets.waiting)
        with slow.held(slow.answers):
            await slow.found_open(node, started.id)
            targets.answer("A", {"a": 1})
            assert (await node.ended(started.id)).status is Status.SUCCEEDED
        await slow.answered()
        await until(lambda: not node.engine.dispatcher._running)
        assert targets.count("A") == 1


@pytest.mark.parametrize("restarted", (False, True))
async def test_a_task_whose_outcome_is_not_durable_yet_is_not_done_once_more(
    database: str, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    slow, targets = Slow(monkeypatch), CommandedTargets()
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(tasks("A")))
        await until(lambda: "A" in targets.waiting)
        if not restarted:
            await ended_while_slow(slow, node, started.id, targets)
    if restarted:
        targets = CommandedTargets()
        async with open_node(database, targets) as node:
            await until(lambda: "A" in targets.waiting)
            await ended_while_slow(slow, node, started.id, targets)


async def ended_while_slow(slow: Slow, node: Node, id: ExecutionId, targets: CommandedTargets) -> None:
    with slow.held(slow.commits):
        targets.answer("A", {"a": 1})
        await until(lambda: slow.committing == 1)
        in_hand = dict(node.engine.dispatcher._running)
        await slow.found_open(node, id)
        await slow.answered()
        assert node.engine.dispatcher._running == in_hand
    assert (await node.ended(id)).status is Status.SUCCEEDED
    assert targets.count("A") == 1


async def test_a_task_whose_commit_was_not_answered_yet_is_sent_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found open before the node knows that it is durable."""
    slow, targets = Slow(monkeypatch), CommandedTargets({"A": lambda payload: payload})
    commit, gate = PostgresRuntimeStore.commit, asyncio.Event()

    async def late(store: PostgresRuntimeStore, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        written = await commit(store, node, entries)
        await gate.wait()
        return written

    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A"))
        await until(lambda: slow.given > 0)
        monkeypatch.setattr(PostgresRuntimeStore, "commit", late)
        with slow.held(gate):
            starting = asyncio.create_task(node.start(machine))
            while not (row := await node.pool.fetchrow("SELECT id FROM execution")):  # noqa: ASYNC110 - a row announces nothing
                await asyncio.sleep(0.005)
            await slow.found_open(node, ExecutionId(row["id"].bytes))
            await slow.answered()
            assert not node.engine.dispatcher._running
        started = await starting
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
        assert targets.count("A") == 1


async def test_a_request_that_a_service_has_taken_is_not_made_once_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task with a token waits for is somebody's answer, whoever takes its execution over in the meantime."""
    slow, service, successor = Slow(monkeypatch), CommandedTargets(), CommandedTargets()
    asks = {"Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "Parameters": {"QueueUrl": "http://q", "MessageBody.$": "$$.Task.Token"}}  # fmt: skip
    async with open_node(database, service) as node:
        started = await node.start(await node.machine(tasks("A", **asks)))
        await until(lambda: "A" in service.waiting)
        service.waiting["A"].set_result(TaskSubmitted(service.calls[0].task, msgspec.Raw(b'{"MessageId":"m"}')))
        await until(lambda: not node.engine.dispatcher._running)
    answers = slow.given
    async with open_node(database, successor) as node:
        await until(lambda: slow.given > answers)
        assert slow.read[-1] == [], "nothing is to be sent"
        token = parse_task_token(service.calls[0].payload.value["MessageBody"])  # type: ignore[call-overload,index,arg-type]
        assert token is not None
        assert await node.requests.complete_task(token, Document.of({"approved": True})) is TaskAnswer.ACCEPTED
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
        assert (await node.event_types(started.id)).count("TaskSubmitted") == 1
    assert successor.calls == [] and service.count("A") == 1
