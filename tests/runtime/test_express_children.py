"""Express children of Map Runs over a real database: what they are told, how long they live, what is done when something fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import TaskSucceeded
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.map_ports import MapItem, MapRunEntry
from stepwell.engine.ports import TargetResult, TaskAnswer, TaskRequest
from stepwell.engine.runtime import express as express_module
from stepwell.engine.runtime.express import RUN_BYTES, Express
from stepwell.engine.runtime.map_run_express import MAX_RUNS
from stepwell.engine.store.map_runs import PostgresMapRunStore
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import FileBuckets
from tests.runtime.test_express_sync import Broker, claim, outcome
from tests.runtime.test_map_run_storage import WRITE
from tests.runtime.test_map_run_trouble import bound_pages, map_runs
from tests.runtime.test_map_runs import KINDS, TASK, breaks, comes_true, distributed, map_run, nothing_left, started
from tests.support.nodes import CommandedTargets, Node, open_node
from tests.support.waiting import until

CELERY = {"Work": {"Type": "Task", "Resource": "celery:work", "End": True}}


class Gate(CommandedTargets):
    """Holds all calls back until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.given_up = 0
        self.seen: Callable[[], object] = lambda: None

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.calls.append(request)
        self.seen()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return TaskSucceeded(request.task, msgspec.Raw(request.payload.text))


def express(processor: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return distributed(processor, kind="EXPRESS", **fields)


def nothing_held(node: Node) -> bool:
    """Whether the memory of all Express executions has been given back."""
    held = node.engine.express
    return (held.held, held.kept, held.running) == (0, 0, 0)


async def items(node: Node, id: ExecutionId) -> list[MapItem]:
    runs = map_runs(node).tools.store
    return list(await runs.map_items((await map_run(node, id)).id))


async def aborted(node: Node, id: ExecutionId) -> bool:
    return (await map_run(node, id)).status is Status.ABORTED


@KINDS
async def test_what_a_child_is_told(database: str, kind: str) -> None:
    """Children of both types find the same in the context object."""
    tell = {"Work": {"Type": "Pass", "Parameters": {"context.$": "$$"}, "End": True}}
    async with open_node(database) as node:
        id = await started(node, distributed(tell, kind), [7])
        view = await node.ended(id)
        assert view.output is not None
        (child,) = view.output.value  # type: ignore[misc]
        context: Any = child["context"]  # type: ignore[index, call-overload]
        assert context.keys() == {"Execution", "StateMachine", "State"}
        execution = context["Execution"]
        assert execution.keys() == {"Id", "Input", "StartTime", "Name", "RoleArn", "RedriveCount"}
        run = await map_run(node, id)
        home, place = "arn:aws:states:us-east-1:000000000000", run.arn.rpartition(":")[2]
        ids = {"STANDARD": f"{home}:execution:machine/L:", "EXPRESS": f"{home}:express:machine/L:{place}:"}
        assert execution["Id"] == ids[kind] + execution["Name"]
        assert context["StateMachine"] == {"Id": f"{home}:stateMachine:machine/L", "Name": "machine/L"}
        assert (execution["Input"], execution["RedriveCount"]) == (7, 0)


async def test_a_child_that_lasts_too_long_times_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(express_module, "MAX_EXPRESS_SECONDS", 1)
    waits = {"Work": {"Type": "Wait", "Seconds": 3600, "End": True}}
    async with open_node(database) as node:
        id = await started(node, express(waits, ToleratedFailureCount=1), [0])
        view = await node.ended(id)
        assert (view.status, view.output.value if view.output else None) == (Status.SUCCEEDED, [])
        (item,) = await items(node, id)
        assert item.status is ItemStatus.TIMED_OUT
        assert (await map_run(node, id)).progress.executions.timed_out == 1
        assert nothing_held(node)


async def test_nothing_is_written_of_their_steps(database: str) -> None:
    async with open_node(database, CommandedTargets({"Work": lambda payload: payload})) as node:
        await node.ended(await started(node, express(TASK), list(range(20))))
        for table in ("execution", "history_chunk"):
            children = await node.pool.fetchval(
                f"SELECT count(*) FROM {table} t WHERE EXISTS (SELECT FROM map_run m WHERE m.execution_id <> t."
                + ("id)" if table == "execution" else "execution_id)")
            )
            assert children == 0, table
        assert await node.pool.fetchval("SELECT count(*) FROM express_execution") == 0
        assert nothing_held(node)
        await nothing_left(node)


async def test_no_more_children_run_than_fit_into_memory(database: str) -> None:
    gate, running = Gate(), []
    async with open_node(database, gate, express_bytes=40 * RUN_BYTES) as node:
        gate.seen = lambda: running.append(node.engine.express.running)
        id = await started(node, express(TASK), list(range(100)))
        await until(lambda: len(gate.calls) >= 20)
        assert not node.engine.express.full(), "there is room for what callers start"
        gate.open.set()
        view = await node.ended(id)
        assert view.output is not None and view.output.value == list(range(100))
        assert 20 <= max(running) <= 30
        assert nothing_held(node)


async def test_map_runs_that_begin_children_together_take_no_room_twice(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a step that begins children is being written, others see that their room is taken."""
    commit, gate, decided, written = PostgresMapRunStore.commit_map_run, Gate(), 0, 0
    all_decided = asyncio.Event()

    async def together(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> Any:
        nonlocal decided, written
        if entry.items_new:
            decided += 1
            if decided == 4:
                all_decided.set()
            await all_decided.wait()
        answer = await commit(self, node, entry)
        written += bool(entry.items_new)
        return answer

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", together)
    async with open_node(database, gate, express_bytes=40 * RUN_BYTES) as node:
        ids = [await started(node, express(TASK), list(range(20))) for _ in range(4)]
        await until(lambda: written == 4 and not node.engine.express.kept)
        assert 20 <= node.engine.express.running <= 30
        gate.open.set()
        for id in ids:
            view = await node.ended(id)
            assert view.output is not None and view.output.value == list(range(20))
        assert nothing_held(node)


async def test_children_wait_until_there_is_memory(database: str) -> None:
    gate = Gate()
    gate.open.set()
    async with open_node(database, gate, express_bytes=20 * RUN_BYTES) as node:
        node.engine.express.kept += 20 * RUN_BYTES  # other executions, which wait to be written
        id = await started(node, express(TASK), [0, 1, 2])

        async def made() -> bool:
            runs, _ = await node.map_runs.list(id, 1, None)
            return bool(runs) and len(await items(node, id)) == 3

        await comes_true(made)
        assert [item.status for item in await items(node, id)] == [ItemStatus.PENDING] * 3
        node.engine.express.kept -= 20 * RUN_BYTES
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1, 2]


async def test_a_child_that_is_larger_than_the_memory_for_children_is_run_alone(database: str) -> None:
    async with open_node(database, express_bytes=3 * RUN_BYTES) as node:
        large = "x" * 2 * RUN_BYTES
        view = await node.ended(await started(node, express(), [large, "y"]))
        assert view.output is not None and view.output.value == [large, "y"]


async def test_stopping_the_parent_drops_what_runs(database: str) -> None:
    gate = Gate()
    async with open_node(database, gate) as node:
        id = await started(node, express(TASK, MaxConcurrency=3), list(range(5)))
        await until(lambda: len(gate.calls) == 3)
        await node.requests.stop(id, None, None)
        await comes_true(lambda: aborted(node, id))
        assert [item.status for item in await items(node, id)] == [ItemStatus.ABORTED] * 3 + [ItemStatus.PENDING] * 2
        await until(lambda: gate.given_up == 3)
        assert nothing_held(node)
        gate.open.set()
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == list(range(5))
        await nothing_left(node)


async def test_many_are_stopped_page_by_page(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound_pages(monkeypatch, PAGE_ITEMS=4, LEAST_PAGE_ITEMS=4)
    gate = Gate()
    async with open_node(database, gate) as node:
        id = await started(node, express(TASK), list(range(30)))
        await until(lambda: len(gate.calls) == 30)
        await node.requests.stop(id, None, None)
        await comes_true(lambda: aborted(node, id))
        assert (await map_run(node, id)).progress.executions.aborted == 30
        assert nothing_held(node)


async def test_a_redrive_runs_them_anew_under_other_keys(database: str) -> None:
    targets = breaks(1)
    async with open_node(database, targets) as node:
        id = await started(node, express(TASK), [0, 1])
        assert (await node.ended(id)).status is Status.FAILED
        targets.broken.clear()  # type: ignore[attr-defined]
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1]
        failed, again = [call for call in targets.calls if call.payload.value == 1]
        assert (failed.execution, failed.step_id) == (again.execution, again.step_id)
        assert failed.idempotency_key != again.idempotency_key
        run = await map_run(node, id)
        assert (run.progress.redrives, run.redriven_at) == (1, None)


@pytest.mark.parametrize("place", ("before", "after"))
@pytest.mark.parametrize("first", (1, 2, 3))
async def test_an_answer_that_is_lost_stops_no_child(
    database: str, monkeypatch: pytest.MonkeyPatch, place: str, first: int
) -> None:
    """Whatever became of a commit, the children that run go on, those it began are run, and each is run once."""
    commit, steps = PostgresMapRunStore.commit_map_run, 0

    async def unsure(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        nonlocal steps
        steps += 1
        if steps % 3 != first % 3:
            return await commit(self, node, entry)
        if place == "after":
            await commit(self, node, entry)
        raise StoreUnavailableError("The connection was lost.")

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", unsure)
    bound_pages(monkeypatch, PAGE_ITEMS=4, LEAST_PAGE_ITEMS=4)
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets) as node:
        id = await started(node, express(TASK, MaxConcurrency=6), list(range(30)))
        view = await node.ended(id, 60_000)
        assert view.output is not None and view.output.value == list(range(30))
        assert sorted(call.payload.value for call in targets.calls) == list(range(30))  # type: ignore[type-var]
        run = await map_run(node, id)
        assert (run.progress.losses, run.progress.executions.succeeded) == (0, 30)
        assert nothing_held(node)
        await nothing_left(node)


async def test_a_shard_that_is_lost_takes_its_children_along(database: str) -> None:
    gate = Gate()
    async with open_node(database, gate) as node:
        id = await started(node, express(TASK, MaxConcurrency=2), [0, 1, 2])
        await until(lambda: len(gate.calls) == 2)
        shard = shard_of((await map_run(node, id)).id)
        map_runs(node).drop_shards({shard})
        assert nothing_held(node), "they may be running elsewhere"
        await until(lambda: gate.given_up == 2)
        await map_runs(node).take([shard])
        await until(lambda: len(gate.calls) == 4)
        again, before = gate.calls[2:], gate.calls[:2]
        assert {call.idempotency_key for call in again} == {call.idempotency_key for call in before}
        assert (await map_run(node, id)).progress.losses == 1
        gate.open.set()
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1, 2]
        assert [item.losses for item in await items(node, id)] == [0, 0, 1]


async def test_a_fence_takes_the_children_along(database: str) -> None:
    """Another node has advanced the Map Run, and this one does not know yet."""
    gate = Gate()
    async with open_node(database, gate) as node:
        id = await started(node, express(TASK), [0, 1])
        await until(lambda: len(gate.calls) == 2)
        run = await map_run(node, id)
        await node.pool.execute("UPDATE map_run SET rev = rev + 1")
        await node.map_runs.update(run.id, max_concurrency=5, tolerated_count=None, tolerated_percentage=None)
        node.engine.wake_inbox()
        gate.calls.clear()
        # the update is folded by a step that is refused
        await until(lambda: gate.given_up == 2)
        await until(lambda: len(gate.calls) == 2)
        gate.open.set()
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1]


async def test_without_a_lease_they_stand_still(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {
        "Work": {**TASK["Work"], "Next": "Then"},
        "Then": {"Type": "Task", "Resource": TASK["Work"]["Resource"], "End": True},
    }
    del two["Work"]["End"]
    targets = CommandedTargets({"Then": lambda payload: payload})
    async with open_node(database, targets) as node:
        id = await started(node, express(two), [0])
        await until(lambda: "Work" in targets.waiting)
        monkeypatch.setattr(node.engine.express, "_may_act", lambda: False)
        targets.answer("Work", "done")
        await until(targets.waiting["Work"].done)
        for _ in range(5):
            await asyncio.sleep(0)
        assert targets.count("Then") == 0, "another node may be running it"
        monkeypatch.undo()
        shard = shard_of((await map_run(node, id)).id)
        map_runs(node).drop_shards({shard})  # as the lease does when it is renewed
        await map_runs(node).take([shard])
        await until(lambda: targets.count("Work") == 2)
        targets.answer("Work", "again")
        view = await node.ended(id)
        assert view.output is not None and view.output.value == ["again"]


async def test_what_outlives_no_node_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(self: PostgresRuntimeStore, incarnation: UUID) -> None:
        await self._pool.execute("UPDATE node SET expires_at = 'epoch' WHERE incarnation = $1", incarnation)

    monkeypatch.setattr(PostgresRuntimeStore, "remove_node", die)
    id: ExecutionId | None = None
    for _ in range(MAX_RUNS):
        gate = Gate()
        async with open_node(database, gate, express_drain_seconds=0) as node:
            if id is None:
                id = await started(node, express(TASK, MaxConcurrency=2, ToleratedFailureCount=2), [0, 1, 2])
            await until(lambda: len(gate.calls) == 2)  # noqa: B023
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets) as node:
        assert id is not None
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [2]
        assert len(targets.calls) == 1
        assert [item.error for item in await items(node, id)] == ["Stepwell.EngineLost"] * 2 + [None]


async def lost_once(database: str, monkeypatch: pytest.MonkeyPatch) -> ExecutionId:
    """An execution whose Express children ran on a node that died."""

    async def die(self: PostgresRuntimeStore, incarnation: UUID) -> None:
        await self._pool.execute("UPDATE node SET expires_at = 'epoch' WHERE incarnation = $1", incarnation)

    with monkeypatch.context() as patched:
        patched.setattr(PostgresRuntimeStore, "remove_node", die)
        gate = Gate()
        async with open_node(database, gate, express_drain_seconds=0) as node:
            id = await started(node, express(TASK), [0, 1])
            await until(lambda: len(gate.calls) == 2)
    return id


async def test_a_loss_is_counted_once_however_often_its_answer_is_lost(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await lost_once(database, monkeypatch)
    commit, steps = PostgresMapRunStore.commit_map_run, 0

    async def unsure(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        nonlocal steps
        steps += 1
        answer = await commit(self, node, entry)
        if steps <= MAX_RUNS:
            raise StoreUnavailableError("The connection was lost.")
        return answer

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", unsure)
    async with open_node(database, CommandedTargets({"Work": lambda payload: payload})) as node:
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1], (view.error, view.cause)
        assert (await map_run(node, id)).progress.losses == 1


async def test_a_shard_is_given_back_only_when_its_loss_is_counted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is given a shard takes what ran there for given back: it would not count that the node before the giver has died."""
    id = await lost_once(database, monkeypatch)
    tried = asyncio.Event()

    async def away(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        tried.set()
        raise StoreUnavailableError("The connection was lost.")

    with monkeypatch.context() as patched:
        patched.setattr(PostgresMapRunStore, "commit_map_run", away)
        async with open_node(database, express_drain_seconds=0) as node:
            await tried.wait()
            shard = shard_of((await map_run(node, id)).id)
            assert map_runs(node).uncounted() == {shard}
    gate = Gate()
    async with open_node(database, gate) as node:
        owners = await node.engine._store.shard_owners()
        assert owners[shard] != node.engine.identity.node, "it is left to the lease of its last owner"
        await node.pool.execute("UPDATE node SET expires_at = 'epoch' WHERE incarnation = $1", owners[shard])
        await until(lambda: len(gate.calls) == 2)
        assert not map_runs(node).uncounted()
        gate.open.set()
        assert (await node.ended(id)).status is Status.SUCCEEDED
        assert (await map_run(node, id)).progress.losses == 1


async def test_another_name_of_the_node_takes_no_children_along(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is refused since the node has taken another name meanwhile is no other node's."""
    commit, renamed, gate = PostgresMapRunStore.commit_map_run, 0, Gate()

    async def rename(self: PostgresMapRunStore, name: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        nonlocal renamed
        if entry.items_ended and renamed < 2:
            renamed += 1
            node.engine.identity.doubt()  # the fate of another commit is not known
            await node.engine.identity.settled()
        return await commit(self, name, entry)

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", rename)
    async with open_node(database, gate) as node:
        id = await started(node, express(TASK), [0, 1])
        await until(lambda: len(gate.calls) == 2)
        gate.open.set()
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1]
        assert (renamed, len(gate.calls), (await map_run(node, id)).progress.losses) == (2, 2, 0)
        assert nothing_held(node)


async def test_what_nodes_give_back_is_run_as_often_as_it_takes(database: str) -> None:
    id: ExecutionId | None = None
    for _ in range(MAX_RUNS + 1):
        gate = Gate()
        async with open_node(database, gate, express_drain_seconds=0) as node:
            if id is None:
                id = await started(node, express(TASK, MaxConcurrency=2), [0, 1, 2])
            await until(lambda: len(gate.calls) == 2)  # noqa: B023
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets) as node:
        assert id is not None
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1, 2]
        assert (await map_run(node, id)).progress.losses == 0


async def test_a_node_that_is_stopped_writes_how_they_ended(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, drain = Gate(), Express.drain

    async def draining(self: Express, seconds: float) -> None:
        asyncio.get_running_loop().call_soon(gate.open.set)
        await drain(self, seconds)

    async with open_node(database, gate, express_drain_seconds=60) as node:
        id = await started(node, express(TASK, MaxConcurrency=2), list(range(5)))
        await until(lambda: len(gate.calls) == 2)
        monkeypatch.setattr(Express, "drain", draining)
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets) as node:
        view = await node.ended(id)
        assert view.output is not None and view.output.value == list(range(5))
        assert len(gate.calls) == 2, "a node that is stopped begins no more"
        assert sorted(call.payload.value for call in targets.calls) == [2, 3, 4]  # type: ignore[type-var]
        assert (await map_run(node, id)).progress.losses == 0


async def test_workers_claim_their_tasks_and_report(database: str) -> None:
    broker = Broker()
    async with open_node(database, broker, listen=True) as node, open_node(database, owns_shards=False) as front:
        id = await started(node, express(CELERY), [1])
        await broker.called.wait()
        request = broker.calls[0]
        assert (await front.requests.claim(claim(request))).granted
        assert await front.requests.report_outcome(outcome(request)) is TaskAnswer.ACCEPTED
        view = await node.ended(id)
        assert view.output is not None and view.output.value == ["done"]
        assert not (await front.requests.claim(claim(request))).granted
        assert await front.requests.report_outcome(outcome(request)) is TaskAnswer.TIMED_OUT


async def test_the_tokens_of_a_lost_run_are_refused(database: str) -> None:
    broker = Broker()
    async with open_node(database, broker) as node:
        id = await started(node, express(CELERY), [1])
        await until(lambda: len(broker.calls) == 1)
        shard = shard_of((await map_run(node, id)).id)
        map_runs(node).drop_shards({shard})
        await map_runs(node).take([shard])
        await until(lambda: len(broker.calls) == 2)
        old, new = broker.calls
        assert old.execution == new.execution and old.claim_key != new.claim_key
        assert not (await node.requests.claim(claim(old))).granted
        assert await node.requests.report_outcome(outcome(old, b'"old"')) is TaskAnswer.TIMED_OUT
        assert (await node.requests.claim(claim(new))).granted
        assert await node.requests.report_outcome(outcome(new, b'"new"')) is TaskAnswer.ACCEPTED
        view = await node.ended(id)
        assert view.output is not None and view.output.value == ["new"]


async def test_a_child_that_cannot_be_run_fails_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Express.run

    def picky(self: Express, start: Any, *rest: Any, **more: Any) -> Any:
        begun = run(self, start, *rest, **more)
        if start.input.value == 1:
            raise ValueError("secret")
        return begun

    monkeypatch.setattr(Express, "run", picky)
    async with open_node(database) as node:
        id = await started(node, express(ToleratedFailureCount=1), [0, 1, 2])
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 2]
        failed = (await items(node, id))[1]
        assert (failed.error, failed.cause) == ("States.Runtime", "The execution cannot be run: ValueError.")
        assert nothing_held(node)


async def test_a_step_that_fails_keeps_the_ends_it_had_in_hand(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in no inbox: lost, their children would have to be run again."""
    commit, failed = PostgresMapRunStore.commit_map_run, 0

    async def broken(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> Any:
        nonlocal failed
        if entry.items_ended and failed < 2:
            failed += 1
            raise StepwellError("for no known reason")
        return await commit(self, node, entry)

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", broken)
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets) as node:
        view = await node.ended(await started(node, express(TASK), list(range(10))))
        assert view.output is not None and view.output.value == list(range(10))
        assert (failed, len(targets.calls)) == (2, 10)
        assert nothing_held(node)


@KINDS
async def test_both_types_write_the_same_results(database: str, tmp_path: Path, kind: str) -> None:
    targets = breaks(1)
    async with open_node(database, targets, items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        id = await started(node, distributed(TASK, kind, ToleratedFailureCount=1, ResultWriter=WRITE), [0, 1])
        view = await node.ended(id)
        assert view.output is not None, (view.error, view.cause)
        details: Any = view.output.value
        manifest = json.loads((tmp_path / details["ResultWriterDetails"]["Key"]).read_text())
        entries: list[Json] = []
        for part in (*manifest["ResultFiles"]["SUCCEEDED"], *manifest["ResultFiles"]["FAILED"]):
            entries += json.loads((tmp_path / part["Key"]).read_text())
        succeeded, broken = entries
        common = {
            "ExecutionArn", "Input", "InputDetails", "Name", "RedriveCount", "RedriveStatus", "StartDate",
            "StateMachineArn", "Status", "StopDate",
        }  # fmt: skip
        assert isinstance(succeeded, dict) and isinstance(broken, dict)
        assert succeeded.keys() == common | {"Output", "OutputDetails", "RedriveStatusReason"}
        assert broken.keys() == common | {"Error", "Cause"}
        assert [entry["Status"] for entry in (succeeded, broken)] == ["SUCCEEDED", "FAILED"]
        kind_of_arn = "execution" if kind == "STANDARD" else "express"
        assert str(broken["ExecutionArn"]).split(":")[5:7] == [kind_of_arn, "machine/L"]
        assert str(broken["ExecutionArn"]).endswith(f":{broken['Name']}")
