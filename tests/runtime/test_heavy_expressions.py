"""Executions whose expressions need more than they may use in the engine's process."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from typing import Any
from uuid import UUID

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.errors import ExpressionsUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine import chunks
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.snapshot import ExecutionState
from stepwell.engine.ports import CommandOutcome, Evaluate, evaluate_here
from stepwell.engine.query.jsonata import Evaluation, Outcome
from stepwell.engine.runtime.expressions import Expressions
from stepwell.engine.runtime.hot import info_of
from stepwell.engine.runtime.local import LocalExecution, Script
from tests.runtime.test_node import PASS
from tests.support.nodes import CommandedTargets, Node, open_node
from tests.support.waiting import until

SUM = "$reduce([1..60000], function($a, $b) {$a + $b})"
"""Comes to its end, after more steps than the engine's process gives it."""
TOTAL = 60_000 * 60_001 // 2
ENDLESS = "($f := function($n) {$f($n + 1)}; $f($states.input.n))"


def machine(states: dict[str, Any]) -> dict[str, Any]:
    return {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states}


def one(output: Json) -> dict[str, Any]:
    return machine({"One": {"Type": "Pass", "Output": output, "End": True}})


class Elsewhere:
    """Carries out what it is asked for once it may."""

    def __init__(self, evaluate: Evaluate = evaluate_here) -> None:
        self.evaluate = evaluate
        self.asked: list[Evaluation] = []
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, evaluation: Evaluation) -> Outcome:
        self.asked.append(evaluation)
        await self.may.wait()
        return await self.evaluate(evaluation)


async def assert_replays(node: Node, id: ExecutionId, definition: dict[str, Any]) -> list[chunks.AppliedEvent]:
    """The stored events come out of the stored inputs."""
    stored = await node.engine._store.load(id)
    assert stored is not None
    model = parse_definition(json.dumps(definition))
    state = ExecutionState(info_of(stored, model, "us-east-1"))
    rows = await node.pool.fetch(
        "SELECT data FROM history_chunk WHERE execution_id = $1 ORDER BY first_event", UUID(bytes=id)
    )
    read = [chunks.decode(row["data"]) for row in rows]
    made = []
    for applied in (applied for chunk in read for applied in chunk.applied):
        step = replay(model, state, applied)
        state = step.state
        made += step.events
    assert made == [event for chunk in read for event in chunk.events]
    return [applied for chunk in read for applied in chunk.applied]


async def test_it_is_carried_out_elsewhere_and_its_outcome_is_stored(database: str) -> None:
    elsewhere = Elsewhere()
    definition = one({"a": f"{{% {SUM} %}}", "id": "{% $uuid() %}", "b": f"{{% {SUM} + 1 %}}", "at": "{% $millis() %}"})
    async with open_node(database, evaluate=elsewhere) as node:
        started = await node.start(await node.machine(definition), {})
        view = await node.ended(started.id)
        assert view.output is not None
        output = view.output.value
        assert isinstance(output, dict) and (output["a"], output["b"]) == (TOTAL, TOTAL + 1)
        assert len(elsewhere.asked) == 1
        applied = await assert_replays(node, started.id, definition)
        assert sum(len(one.outcomes) for one in applied) == 1


async def test_a_start_is_durable_before_its_expressions_have_come_to_an_end(database: str) -> None:
    elsewhere = Elsewhere()
    elsewhere.may.clear()
    async with open_node(database, evaluate=elsewhere) as node:
        started = await node.start(await node.machine(one(f"{{% {SUM} %}}")), {})
        await until(lambda: elsewhere.asked)
        assert await node.event_types(started.id) == ["ExecutionStarted"]
        elsewhere.may.set()
        assert (await node.ended(started.id)).status is Status.SUCCEEDED


async def test_a_stop_does_not_wait_for_an_expression(database: str) -> None:
    elsewhere = Elsewhere()
    elsewhere.may.clear()
    definition = one(f"{{% {SUM} %}}")
    async with open_node(database, evaluate=elsewhere) as node:
        started = await node.start(await node.machine(definition), {})
        await until(lambda: elsewhere.asked)
        assert (
            await node.ended((await node.start(await node.machine(PASS, "ordinary"))).id)
        ).status is Status.SUCCEEDED
        stopping = asyncio.create_task(node.requests.stop(started.id, "Enough", None))
        await until(stopping.done)
        assert (await stopping).outcome is CommandOutcome.DONE
        assert (await node.ended(started.id)).status is Status.ABORTED
        assert await node.event_types(started.id) == ["ExecutionStarted", "ExecutionAborted"]
        await assert_replays(node, started.id, definition)


async def test_a_stop_does_not_wait_for_the_outcome_of_a_task_to_be_put_where_it_belongs(database: str) -> None:
    elsewhere = Elsewhere()
    elsewhere.may.clear()
    task = {"Type": "Task", "Resource": "celery:work", "Output": f"{{% {SUM} %}}", "End": True}
    definition = machine({"Work": task})
    async with open_node(database, CommandedTargets({"Work": lambda payload: payload}), evaluate=elsewhere) as node:
        started = await node.start(await node.machine(definition), {})
        await until(lambda: elsewhere.asked)
        stopping = asyncio.create_task(node.requests.stop(started.id, "Enough", None))
        await until(stopping.done)
        assert (await node.ended(started.id)).status is Status.ABORTED
        assert (await node.event_types(started.id))[-1] == "ExecutionAborted"
        await assert_replays(node, started.id, definition)


async def test_a_loop_of_expressions_can_be_stopped(database: str) -> None:
    elsewhere = Elsewhere()
    definition = machine(
        {
            "Zero": {"Type": "Pass", "Assign": {"n": 0}, "Next": "One"},
            "One": {"Type": "Pass", "Assign": {"n": "{% $n + 1 %}"}, "Output": f"{{% {SUM} + $n %}}", "Next": "Two"},
            "Two": {"Type": "Choice", "Choices": [{"Condition": "{% $n < 0 %}", "Next": "End"}], "Default": "One"},
            "End": {"Type": "Succeed"},
        }
    )
    async with open_node(database, evaluate=elsewhere) as node:
        started = await node.start(await node.machine(definition), {})
        await until(lambda: len(elsewhere.asked) > 2)
        stopping = asyncio.create_task(node.requests.stop(started.id, "Enough", None))
        await until(stopping.done)
        assert (await node.ended(started.id)).status is Status.ABORTED
        await assert_replays(node, started.id, definition)


async def test_a_state_with_many_is_run_once_more_for_each_and_no_state_before_it(database: str) -> None:
    elsewhere = Elsewhere()
    many = {f"f{number}": f"{{% {SUM} + {number} %}}" for number in range(5)}
    definition = machine(
        {
            "One": {"Type": "Pass", "Assign": {"first": many}, "Output": f"{{% {SUM} - 1 %}}", "Next": "Two"},
            "Two": {"Type": "Pass", "Output": many, "Next": "Three"},
            "Three": {"Type": "Choice", "Choices": [{"Condition": f"{{% {SUM} = {TOTAL} %}}", "Next": "Four"}]},
            "Four": {"Type": "Succeed"},
        }
    )
    async with open_node(database, evaluate=elsewhere) as node:
        started = await node.start(await node.machine(definition), {})
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
        assert len(elsewhere.asked) == 4
        applied = await assert_replays(node, started.id, definition)
        assert [len(one.outcomes) for one in applied] == [0, 2, 1, 1, 0]


async def test_another_node_takes_over_while_an_expression_is_evaluated(database: str) -> None:
    stuck, elsewhere = Elsewhere(), Elsewhere()
    stuck.may.clear()
    definition = one(f"{{% {SUM} %}}")
    async with open_node(database, evaluate=stuck) as node:
        started = await node.start(await node.machine(definition), {})
        await until(lambda: stuck.asked)
    async with open_node(database, evaluate=elsewhere) as node:
        view = await node.ended(started.id)
        assert view.output is not None and view.output.value == TOTAL
        await assert_replays(node, started.id, definition)


async def test_a_limit_that_strikes_is_an_error_that_can_be_caught(database: str) -> None:
    expressions = Expressions()
    catch = [
        {"ErrorEquals": ["States.QueryEvaluationError"], "Output": "{% $states.errorOutput.Cause %}", "Next": "End"}
    ]
    task = {"Type": "Task", "Resource": "celery:work", "Arguments": f"{{% {ENDLESS} %}}", "Catch": catch, "End": True}
    definition = machine({"Work": task, "End": {"Type": "Succeed"}})
    async with open_node(database, evaluate=expressions.carry_out) as node:
        started = await node.start(await node.machine(definition), {"n": 1})
        view = await node.ended(started.id)
        assert view.status is Status.SUCCEEDED and view.output is not None
        assert "takes longer than 1 s" in str(view.output.value)
        await assert_replays(node, started.id, definition)
    await expressions.close()


async def test_fifty_that_run_away_hold_up_none_beside_them(database: str) -> None:
    expressions = Expressions()
    elsewhere = Elsewhere(expressions.carry_out)
    elsewhere.may.clear()
    ended: list[str] = []
    async with open_node(database, evaluate=elsewhere) as node:
        endless, ordinary = (
            await node.machine(one(f"{{% {ENDLESS} %}}"), "endless"),
            await node.machine(PASS, "ordinary"),
        )
        heavy = await node.machine(one(f"{{% {SUM} %}}"), "heavy")

        async def run(name: str, id: ExecutionId) -> Status:
            view = await node.ended(id)
            ended.append(name)
            return view.status

        async with asyncio.TaskGroup() as group:
            away = [group.create_task(run("endless", (await node.start(endless, {"n": n % 3})).id)) for n in range(50)]
            await until(lambda: len(elsewhere.asked) == 50)
            await run("ordinary", (await node.start(ordinary)).id)
            elsewhere.may.set()
        assert ended == ["ordinary", *["endless"] * 50] and {task.result() for task in away} == {Status.FAILED}
        ended.clear()
        elsewhere.may.clear()
        async with asyncio.TaskGroup() as group:  # those are known by now, and leave a helper to the others
            for n in range(3, 6):
                group.create_task(run("endless", (await node.start(endless, {"n": n})).id))
            group.create_task(run("heavy", (await node.start(heavy)).id))
            await until(lambda: len(elsewhere.asked) == 54)
            elsewhere.may.set()
        assert ended.index("heavy") < 3
    await expressions.close()


async def test_an_express_execution_goes_on_from_where_it_was(database: str) -> None:
    """Nothing of it is stored: its position is found again by what was applied."""
    elsewhere = Elsewhere()
    loop = machine(
        {
            "Count": {"Type": "Pass", "Assign": {"n": "{% $n + 1 %}", "id": "{% $uuid() %}"}, "Next": "Work"},
            "Work": {
                "Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", "Arguments": {"id": "{% $id %}"},
                "Output": "{% $states.result.id = $id %}", "Next": "Again",
            },
            "Again": {"Type": "Choice", "Choices": [{"Condition": "{% $n < 70 %}", "Next": "Count"}], "Default": "Sum"},
            "Sum": {"Type": "Pass", "Output": {"sum": f"{{% {SUM} %}}", "n": "{% $n %}", "same": "{% $states.input %}"}, "Next": "End"},
            "End": {"Type": "Pass", "Output": {"sum": f"{{% {SUM} + $states.input.sum %}}", "n": "{% $states.input.n %}",
                    "same": "{% $states.input.same %}"}, "End": True},
        }
    )  # fmt: skip
    start = {"Start": {"Type": "Pass", "Assign": {"n": 0}, "Next": "Count"}}
    definition = loop | {"StartAt": "Start", "States": start | loop["States"]}
    targets = CommandedTargets({"Work": lambda payload: payload})
    async with open_node(database, targets, evaluate=elsewhere) as node:
        record = await node.machine(definition, "quick", type="EXPRESS")
        answer = await node.run_express(record, {})
        assert answer.status is Status.SUCCEEDED and answer.output is not None
        assert answer.output.value == {"sum": 2 * TOTAL, "n": 70, "same": True}
        assert len(elsewhere.asked) == 2 and targets.count("Work") == 70


def test_an_item_selector_in_memory_is_evaluated_elsewhere_too() -> None:
    """As `stepwell run` and `stepwell test` do, at the time of the run."""
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED"}, "StartAt": "W", "States": {"W": {"Type": "Succeed"}}}
    selector = f"{{% [$states.context.Map.Item.Value, {SUM}, $millis()] %}}"
    each = {"Type": "Map", "Items": [1, 2], "ItemSelector": selector, "ItemProcessor": processor, "End": True}
    local = LocalExecution(parse_definition(json.dumps(machine({"Each": each}))), now=1_700_000_000_000)
    finish = local.run(Script({}), input=Document.parse("{}"))
    assert finish is not None and finish.output is not None, finish
    assert finish.output.value == [[1, TOTAL, 1_700_000_000_000], [2, TOTAL, 1_700_000_000_000]]


class Line:
    """Has room for a few, whom it lets wait until they may; the others it sends away."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside = 0
        self.refused = 0
        self.may = asyncio.Event()

    async def __call__(self, evaluation: Evaluation) -> Outcome:
        if self.inside >= self.most:
            self.refused += 1
            raise ExpressionsUnavailableError("Too many expressions wait to be evaluated.")
        self.inside += 1
        try:
            await self.may.wait()
            return await evaluate_here(evaluation)
        finally:
            self.inside -= 1


async def test_what_finds_no_room_in_line_holds_no_data_meanwhile(database: str) -> None:
    """Its execution has been written down, and is read back when its turn has come."""
    count, most, size = 120, 4, 250_000
    line = Line(most)
    definition = one(f"{{% $length($states.input.text) + {SUM} %}}")
    async with open_node(database, evaluate=line) as node:
        heavy = await node.machine(definition)
        tracemalloc.start()
        try:
            started = [await node.start(heavy, {"n": n, "text": "x" * size}) for n in range(count)]
            # but for a few, which are just looking whether there is room
            await until(lambda: len(node.engine.executor._room._waiting) >= count - 4 * most, 120)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 10 * most * size
        line.may.set()
        views = [await node.ended(one.id) for one in started]
        assert {view.status for view in views} == {Status.SUCCEEDED}
    assert line.inside == 0


async def test_what_waits_for_room_can_be_stopped(database: str) -> None:
    line = Line(0)
    async with open_node(database, evaluate=line) as node:
        started = await node.start(await node.machine(one(f"{{% {SUM} %}}")), {})
        await until(lambda: line.refused > 0)
        await node.requests.stop(started.id, None, None)
        assert (await node.ended(started.id)).status is Status.ABORTED
