"""One engine node: starts, tasks, timers, stops, redrives, and going on after a restart."""

from __future__ import annotations

import asyncio
import json

import pytest

from stepwell.engine import ids
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import CommandOutcome, StartOutcome, TaskAnswer
from tests.support.nodes import CommandedTargets, Fails, open_node
from tests.support.waiting import until

PASS = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": {"b": 2}, "Next": "B"}, "B": {"Type": "Succeed"}}}


def tasks(*names: str, **extra: object) -> dict[str, object]:
    """A machine of tasks in sequence."""
    states = {}
    for name, following in zip(names, [*names[1:], None], strict=True):
        end = {"Next": following} if following else {"End": True}
        states[name] = {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", **extra, **end}
    return {"StartAt": names[0], "States": states}


async def test_an_execution_runs_to_its_end(database: str) -> None:
    async with open_node(database) as node:
        machine = await node.machine(PASS)
        started = await node.start(machine, {"a": 1})
        view = await node.ended(started.id)
        assert view.status is Status.SUCCEEDED
        assert view.output is not None and view.output.value == {"b": 2}
        assert await node.event_types(started.id) == [
            "ExecutionStarted", "PassStateEntered", "PassStateExited", "SucceedStateEntered", "SucceedStateExited",
            "ExecutionSucceeded",
        ]  # fmt: skip


async def test_tasks_get_their_input_and_hand_on_their_result(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: {"a": payload}, "B": lambda payload: {"b": payload}})
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A", "B"))
        view = await node.ended((await node.start(machine, {"x": 1})).id)
        assert view.output is not None and view.output.value == {"b": {"a": {"x": 1}}}
        assert await node.pool.fetchval("SELECT count(*) FROM task") == 0


async def test_one_name_is_one_execution_however_many_start_it_at_once(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A"))
        answers = await asyncio.gather(*[node.start(machine, {"x": 1}, "same") for _ in range(30)])
        assert {answer.arn for answer in answers} == {answers[0].arn}
        assert [answer.outcome for answer in answers].count(StartOutcome.STARTED) == 1
        assert {answer.outcome for answer in answers} == {StartOutcome.STARTED, StartOutcome.EXISTS_SAME}
        assert {answer.started_at for answer in answers} == {answers[0].started_at}
        other = await node.start(machine, {"x": 2}, "same")
        assert other.outcome is StartOutcome.EXISTS_OTHER
        await node.requests.stop(answers[0].id, None, None)
        closed = await node.start(machine, {"x": 1}, "same")
        assert closed.outcome is StartOutcome.EXISTS_OTHER


async def test_a_stopped_execution_is_aborted_and_its_task_forgotten(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(tasks("A")))
        await until(lambda: "A" in targets.waiting)
        answer = await node.requests.stop(started.id, "Enough", "we stop here")
        view = await node.ended(started.id)
        assert (view.status, view.error, view.cause) == (Status.ABORTED, "Enough", "we stop here")
        assert answer.outcome is CommandOutcome.DONE and answer.at == view.stopped_at
        assert await node.pool.fetchval("SELECT count(*) FROM task") == 0
        again = await node.requests.stop(started.id, "Other", None)
        assert again.at == view.stopped_at


async def test_a_redrive_keeps_what_succeeded(database: str) -> None:
    broken = True

    def second(payload: Json) -> Json:
        if broken:
            raise Fails("Down", "the service is down")
        return {"done": payload}

    targets = CommandedTargets({"A": lambda payload: {"a": 1}, "B": second})
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(tasks("A", "B")))
        view = await node.ended(started.id)
        assert (view.status, view.error, view.cause) == (Status.FAILED, "Down", "the service is down")
        assert await node.pool.fetchval("SELECT count(*) FROM dead_letter WHERE status = 1") == 1
        broken = False
        answer = await node.requests.redrive(started.id, "token")
        assert answer.outcome is CommandOutcome.DONE
        view = await node.ended(started.id)
        assert view.status is Status.SUCCEEDED and view.redrive_count == 1
        assert await node.pool.fetchval("SELECT count(*) FROM dead_letter WHERE status = 2") == 1
        assert (targets.count("A"), targets.count("B")) == (1, 2)
        assert (await node.event_types(started.id)).count("ExecutionRedriven") == 1
        refused = await node.requests.redrive(started.id)
        assert refused.outcome is CommandOutcome.NOT_ALLOWED
        repeated = await node.requests.redrive(started.id, "token")
        assert (repeated.outcome, repeated.at) == (CommandOutcome.DONE, answer.at)


async def test_a_node_goes_on_where_the_last_one_stopped(database: str) -> None:
    machine_of = tasks("A", "B")
    first, second = CommandedTargets({"A": lambda payload: {"a": 1}}), CommandedTargets({"B": lambda payload: payload})
    async with open_node(database, first) as node:
        started = await node.start(await node.machine(machine_of))
        await until(lambda: "B" in first.waiting)
    async with open_node(database, second) as node:
        view = await node.ended(started.id)
        assert view.status is Status.SUCCEEDED
        assert view.output is not None and view.output.value == {"a": 1}
        assert (second.count("A"), second.count("B")) == (0, 1)
        assert first.calls[-1].idempotency_key == second.calls[0].idempotency_key
        assert second.calls[0].delivery == 2


async def test_a_node_goes_on_from_a_whole_snapshot(database: str) -> None:
    """What one step wrote after many others holds all that is open, not only what that step changed."""
    long = tasks(*(f"L{number}" for number in range(40)), "B")
    machine_of = {
        "StartAt": "P",
        "States": {"P": {"Type": "Parallel", "Branches": [tasks("W"), long], "End": True}},
    }
    first = CommandedTargets({f"L{number}": lambda payload: payload for number in range(40)})
    second = CommandedTargets({"W": lambda payload: "w", "B": lambda payload: "b"})
    async with open_node(database, first) as node:
        started = await node.start(await node.machine(machine_of))
        await until(lambda: {"W", "B"} <= first.waiting.keys())
        assert await node.pool.fetchval("SELECT snapshot_rev FROM execution") > 1
    async with open_node(database, second) as node:
        view = await node.ended(started.id)
        assert view.output is not None and view.output.value == ["w", "b"]


async def test_waits_and_retries_outlive_a_restart(database: str) -> None:
    failures = iter([True, False])

    def flaky(payload: Json) -> Json:
        if next(failures):
            raise Fails("Busy")
        return payload

    definition = tasks("A", Retry=[{"ErrorEquals": ["Busy"], "IntervalSeconds": 2, "MaxAttempts": 1}])
    targets = CommandedTargets({"A": flaky})
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(definition))
        await until(lambda: targets.count("A") == 1)
        while not await node.pool.fetchval("SELECT count(*) FROM timer"):  # noqa: ASYNC110 - a row announces nothing
            await asyncio.sleep(0.005)
    async with open_node(database, targets) as node:
        view = await node.ended(started.id)
        assert view.status is Status.SUCCEEDED
        assert targets.count("A") == 2
        assert targets.calls[0].idempotency_key != targets.calls[1].idempotency_key
        assert targets.calls[0].step_id == targets.calls[1].step_id
        assert await node.pool.fetchval("SELECT count(*) FROM timer") == 0


async def test_a_time_out_closes_the_task_before_its_late_result(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(tasks("A", TimeoutSeconds=1)))
        view = await node.ended(started.id)
        assert (view.status, view.error) == (Status.FAILED, "States.Timeout")
        assert targets.waiting["A"].cancelled()


async def test_who_waits_for_what_times_out_is_told_the_same_as_who_asks(database: str) -> None:
    async with open_node(database, CommandedTargets()) as node:
        started = await node.start(await node.machine({**tasks("A"), "TimeoutSeconds": 1}))
        view = await node.ended(started.id)
        assert (view.status, view.error) == (Status.TIMED_OUT, "States.Timeout")


async def test_a_task_token_is_answered_once(database: str) -> None:
    activity = "arn:aws:states:us-east-1:000000000000:activity:check"
    definition = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": activity, "End": True}}}
    async with open_node(database) as node:
        started = await node.start(await node.machine(definition), {"x": 1})
        task = await node.requests.next_activity_task(activity, "me", 60_000)
        assert task is not None and json.loads(task.input.text) == {"x": 1}
        assert await node.requests.next_activity_task(activity, "other", 0) is None
        token = ids.parse_task_token(task.token)
        assert token is not None
        assert await node.requests.heartbeat(token) is TaskAnswer.ACCEPTED
        forged = token._replace(secret=b"0" * 16)
        assert await node.requests.complete_task(forged, task.input) is TaskAnswer.INVALID
        assert await node.requests.complete_task(token, task.input) is TaskAnswer.ACCEPTED
        assert await node.requests.fail_task(token, "Late", None) is TaskAnswer.TIMED_OUT
        assert await node.requests.heartbeat(token) is TaskAnswer.TIMED_OUT
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
        assert "ActivityStarted" in await node.event_types(started.id)


@pytest.mark.parametrize("count", (40,))
async def test_a_wide_map_writes_little_for_each_item(database: str, count: int) -> None:
    item = {"StartAt": "T", "States": tasks("T")["States"]}
    definition = {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": item, "End": True}}}
    targets = CommandedTargets({"T": lambda payload: {"seen": payload}})
    async with open_node(database, targets) as node:
        started = await node.start(await node.machine(definition), list(range(count)))
        view = await node.ended(started.id)
        assert view.output is not None and view.output.value == [{"seen": number} for number in range(count)]
        assert await node.pool.fetchval("SELECT max(length(data)) FROM history_chunk WHERE rev > 1") < 64_000


async def test_a_cause_with_a_nul_is_kept_and_fails_no_neighbour(database: str) -> None:
    def bad(payload: Json) -> Json:
        raise Fails("E\x00", "a\x00b")

    targets = CommandedTargets({"A": bad})
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A"))
        ids_ = [(await node.start(machine)).id for _ in range(5)]
        for id in ids_:
            view = await node.ended(id)
            assert (view.status, view.error, view.cause) == (Status.FAILED, "E\x00", "a\x00b")
        assert await node.pool.fetchval("SELECT count(*) FROM dead_letter WHERE cause = $1", "a\ufffdb") == 5
