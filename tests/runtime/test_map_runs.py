"""Map Runs over a real database: children, results, failures, concurrency, stop, redrive, updates, several nodes, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepwell.engine.ids import ExecutionId, execution_id
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.map_ports import MapRunView
from stepwell.engine.ports import ExecutionFilter, ExecutionView, TargetResult, TaskRequest
from stepwell.engine.query.jsonata import FULL, Evaluation, Outcome, carry_out
from stepwell.engine.service.express_children import ExpressChildren
from tests.support.nodes import CommandedTargets, Fails, Node, SystemClock, open_node
from tests.support.waiting import until

TASK = {"Work": {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", "End": True}}


KINDS = pytest.mark.parametrize("kind", ("STANDARD", "EXPRESS"))
"""Of which ExecutionType the children are, where it makes no difference."""


def distributed(processor: dict[str, Any] | None = None, kind: str = "STANDARD", **fields: Any) -> dict[str, Any]:
    states = processor or {"Work": {"Type": "Pass", "End": True}}
    config = {"Mode": "DISTRIBUTED", "ExecutionType": kind}
    inner = {"ProcessorConfig": config, "StartAt": next(iter(states)), "States": states}
    return {
        "StartAt": "M",
        "States": {"M": {"Type": "Map", "Label": "L", "ItemProcessor": inner, "End": True, **fields}},
    }


async def started(node: Node, definition: dict[str, Any], items: Json) -> ExecutionId:
    return (await node.start(await node.machine(definition), items)).id


async def map_run(node: Node, id: ExecutionId) -> MapRunView:
    views, _ = await node.map_runs.list(id, 10, None)
    assert views, "the execution has a Map Run"
    return views[0]


async def children(node: Node, id: ExecutionId) -> list[ExecutionView]:
    run = await map_run(node, id)
    if run.express:
        return list((await ExpressChildren(node.map_runs, SystemClock()).page(run, max_results=1000)).items)
    where = ExecutionFilter(map_run=(await map_run(node, id)).id)
    return list((await node.reader.list(where, 1000, None)).items)


async def comes_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the store shows something."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 -- the database sets no events
            await asyncio.sleep(0.01)


async def nothing_left(node: Node) -> None:
    async def empty() -> bool:
        return not await node.pool.fetchval("SELECT count(*) FROM inbox")

    await comes_true(empty)


@KINDS
async def test_items_become_child_executions(database: str, kind: str) -> None:
    async with open_node(database) as node:
        id = await started(node, distributed(kind=kind), [1, "two", {"three": 3}])
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [1, "two", {"three": 3}]
        assert (await node.event_types(id))[2:7] == [
            "MapStateStarted",
            "MapRunStarted",
            "MapRunSucceeded",
            "MapStateSucceeded",
            "MapStateExited",
        ]
        run = await map_run(node, id)
        assert run.status is Status.SUCCEEDED and run.stopped_at is not None
        assert run.progress.executions.succeeded == run.progress.items.succeeded == run.progress.results_written == 3
        found = await children(node, id)
        assert {child.status for child in found} == {Status.SUCCEEDED}
        arn_kind = "express" if kind == "EXPRESS" else "execution"
        assert all(
            child.arn.startswith(f"arn:aws:states:us-east-1:000000000000:{arn_kind}:machine/L:") for child in found
        )
        assert {child.machine_arn.rpartition(":")[2] for child in found} == {"machine/L"}
        assert {child.map_run_arn for child in found} == {run.arn}
        assert run.id == execution_id(run.arn)
        listed = await node.reader.list(ExecutionFilter(), 100, None)
        assert [one.id for one in listed.items] == [id], "children are not among the executions of the machine"
        await nothing_left(node)


@KINDS
async def test_no_items_at_all(database: str, kind: str) -> None:
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(kind=kind, ItemsPath="$.none"), {"none": []}))
        assert view.output is not None and view.output.value == []


class Together(CommandedTargets):
    """Performs tasks, the first when `count` of them are there; `most` is how many there were at once."""

    def __init__(self, count: int) -> None:
        super().__init__({"Work": lambda payload: payload})
        self._count, self._all_here = count, asyncio.Event()
        self.now = self.most = 0

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self._count:
            self._all_here.set()
        await self._all_here.wait()
        await asyncio.sleep(0)
        result = await super().perform(request)
        self.now -= 1
        return result


@KINDS
async def test_concurrency_is_bounded_and_order_is_kept(database: str, kind: str) -> None:
    targets = Together(3)
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=3), list(range(40)))
        view = await node.ended(id)
        assert view.output is not None and view.output.value == list(range(40))
        assert (await map_run(node, id)).max_concurrency == 3
        assert targets.most == 3


@KINDS
async def test_batches_and_selector(database: str, kind: str) -> None:
    batcher = {"MaxItemsPerBatch": 3, "BatchInput": {"b": 1}}
    definition = distributed(kind=kind, ItemSelector={"v.$": "$$.Map.Item.Value"}, ItemBatcher=batcher)
    async with open_node(database) as node:
        id = await started(node, definition, [1, 2, 3, 4])
        view = await node.ended(id)
        assert view.output is not None
        assert view.output.value == [
            {"BatchInput": {"b": 1}, "Items": [{"v": 1}, {"v": 2}, {"v": 3}]},
            {"BatchInput": {"b": 1}, "Items": [{"v": 4}]},
        ]
        progress = (await map_run(node, id)).progress
        assert (progress.executions.total, progress.items.total) == (2, 4)


def breaks(*bad: Json) -> CommandedTargets:
    """A world in which some items fail."""
    broken = list(bad)

    def work(payload: Json) -> Json:
        if payload in broken:
            raise Fails("Broken", f"item {payload}")
        return payload

    targets = CommandedTargets({"Work": work})
    targets.broken = broken  # type: ignore[attr-defined]
    return targets


@KINDS
async def test_a_failure_fails_the_run_and_what_has_not_begun_stays_pending(database: str, kind: str) -> None:
    async with open_node(database, breaks(1)) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=1), [0, 1, 2, 3])
        view = await node.ended(id)
        assert (view.status, view.error) == (Status.FAILED, "States.ExceedToleratedFailureThreshold")
        assert view.cause == "The specified tolerated failure threshold was exceeded"
        run = await map_run(node, id)
        counts = run.progress.items
        assert (run.status, counts.succeeded, counts.failed, counts.pending) == (Status.FAILED, 1, 1, 2)
        letters = await node.pool.fetchval("SELECT count(*) FROM dead_letter")
        assert letters == 1, "the parent's; its children are kept by the Map Run"


@KINDS
async def test_what_runs_is_stopped_when_the_run_fails(database: str, kind: str) -> None:
    targets = CommandedTargets()
    definition = distributed({"C": {"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 0, "Next": "F"}], "Default": "W"},
                              "F": {"Type": "Fail", "Error": "E"}, "W": {"Type": "Wait", "Seconds": 3600, "End": True}}, kind)  # fmt: skip
    async with open_node(database, targets) as node:
        id = await started(node, definition, [1, 2, 0])
        assert (await node.ended(id)).status is Status.FAILED
        counts = (await map_run(node, id)).progress.executions
        assert (counts.failed, counts.aborted, counts.running) == (1, 2, 0)
        assert {child.status for child in await children(node, id)} == {Status.FAILED, Status.ABORTED}


@KINDS
async def test_tolerated_failures_are_left_out_of_the_result(database: str, kind: str) -> None:
    async with open_node(database, breaks(1)) as node:
        id = await started(node, distributed(TASK, kind, ToleratedFailurePercentage=50), [0, 1, 2])
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 2]


@KINDS
async def test_redrive_runs_only_what_has_not_succeeded(database: str, kind: str) -> None:
    targets = breaks(1)
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=2), [0, 1, 2, 3, 4, 5])
        assert (await node.ended(id)).status is Status.FAILED
        before = len(targets.calls)
        succeeded = (await map_run(node, id)).progress.executions.succeeded
        targets.broken.clear()  # type: ignore[attr-defined]
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1, 2, 3, 4, 5]
        assert len(targets.calls) - before == 6 - succeeded
        run = await map_run(node, id)
        assert (run.status, run.progress.redrives, run.progress.executions.succeeded) == (Status.SUCCEEDED, 1, 6)
        assert "MapRunRedriven" in await node.event_types(id)
        assert len(await children(node, id)) == 6
        await nothing_left(node)


@KINDS
async def test_stopping_the_parent_stops_its_children(database: str, kind: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=2), [0, 1, 2])
        await until(lambda: len(targets.calls) == 2)
        await node.requests.stop(id, None, None)

        async def aborted() -> bool:
            return (await map_run(node, id)).status is Status.ABORTED

        await comes_true(aborted)
        assert {child.status for child in await children(node, id)} == {Status.ABORTED}
        counts = (await map_run(node, id)).progress.executions
        assert (counts.aborted, counts.pending, counts.running) == (2, 1, 0)
        targets.handlers["Work"] = lambda payload: payload
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [0, 1, 2]


@KINDS
async def test_a_map_run_can_be_given_more_room_while_it_runs(database: str, kind: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=1), [0, 1, 2])
        await until(lambda: len(targets.calls) == 1)
        run = await map_run(node, id)
        assert await node.map_runs.update(run.id, max_concurrency=3, tolerated_count=3, tolerated_percentage=None)
        await until(lambda: len(targets.calls) == 3)
        await node.requests.stop(id, None, None)


async def test_a_map_in_a_map(database: str) -> None:
    inner = distributed()["States"]["M"] | {"Label": "Inner", "ItemsPath": "$.n"}
    async with open_node(database) as node:
        id = await started(node, distributed({"Deep": inner}), [{"n": [1, 2]}, {"n": [3]}])
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [[1, 2], [3]]


@KINDS
async def test_jsonata(database: str, kind: str) -> None:
    definition = distributed(
        kind=kind, processor={"Work": {"Type": "Pass", "Output": "{% $states.input.v * 2 %}", "End": True}}
    )
    definition["QueryLanguage"] = "JSONata"
    state = definition["States"]["M"]
    state |= {"Items": "{% $states.input.n %}", "ItemSelector": {"v": "{% $states.context.Map.Item.Value %}"}}
    async with open_node(database) as node:
        view = await node.ended(await started(node, definition, {"n": [1, 2, 3]}))
        assert view.output is not None and view.output.value == [2, 4, 6]


@pytest.mark.parametrize("notify", (True, False))
async def test_two_nodes_share_the_children(database: str, notify: bool) -> None:
    both = [CommandedTargets({"Work": lambda payload: payload}) for _ in range(2)]
    async with (
        open_node(database, both[0], listen=True, notify=notify) as first,
        open_node(database, both[1], listen=True, notify=notify) as second,
    ):
        await until(lambda: bool(first.engine.executor.owned) and bool(second.engine.executor.owned))
        id = await started(first, distributed(TASK), list(range(60)))
        view = await first.ended(id)
        assert view.output is not None and view.output.value == list(range(60))
        assert len(both[0].calls) + len(both[1].calls) == 60
        assert both[0].calls and both[1].calls


@KINDS
async def test_another_node_goes_on_with_a_map_run(database: str, kind: str) -> None:
    """The node that ran it goes away in the middle; nothing is done twice, nothing is lost."""
    first = CommandedTargets()
    async with open_node(database, first) as node:
        id = await started(node, distributed(TASK, kind, MaxConcurrency=2), list(range(5)))
        await until(lambda: len(first.calls) == 2)
    second = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, second) as node:
        view = await node.ended(id)
        assert view.output is not None and view.output.value == list(range(5))
        assert len({request.execution for request in second.calls}) == 5
        await nothing_left(node)


@KINDS
async def test_many_children(database: str, kind: str) -> None:
    async with open_node(database) as node:
        id = await started(node, distributed(kind=kind), list(range(1000)))
        view = await node.ended(id, 60_000)
        assert view.output is not None and view.output.value == list(range(1000))
        rows = await node.pool.fetchval("SELECT count(*) FROM execution WHERE map_run IS NOT NULL")
        assert rows == (1000 if kind == "STANDARD" else 0)


@KINDS
async def test_an_item_selector_that_needs_much_is_evaluated_elsewhere(database: str, kind: str) -> None:
    """And draws the same chance when it is tried again, so that it comes to an end."""
    asked: list[Evaluation] = []

    async def elsewhere(evaluation: Evaluation) -> Outcome:
        asked.append(evaluation)
        return carry_out(evaluation, FULL)

    definition = distributed(kind=kind)
    definition["QueryLanguage"] = "JSONata"
    heavy = (
        "{% ($r := $random(); {'n': $states.context.Map.Item.Value, 'sum': $sum([1..200000].($ * 1)), 'r': $r < 1}) %}"
    )
    definition["States"]["M"] |= {"Items": "{% $states.input %}", "ItemSelector": heavy}
    async with open_node(database, evaluate=elsewhere) as node:
        view = await node.ended(await started(node, definition, [1, 2, 3]), 60_000)
        assert view.output is not None, (view.error, view.cause)
        assert view.output.value == [{"n": n, "sum": 20000100000, "r": True} for n in (1, 2, 3)]
        assert len(asked) == 3
