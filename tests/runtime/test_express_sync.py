"""Express executions that their callers wait for: run in memory, at most once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import claim_key
from stepwell.engine.jsontypes import EMPTY_OBJECT, Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import TaskSucceeded
from stepwell.engine.messages import Claim, Outcome
from stepwell.engine.ports import TargetResult, TaskAnswer, TaskRequest
from stepwell.engine.runtime.express import Express
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, Fails, Node, StandingClock, open_node
from tests.support.waiting import until

WAIT = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 60, "End": True}}}
LOOP = {
    "StartAt": "A",
    "States": {
        "A": {"Type": "Pass", "Next": "B"},
        "B": {"Type": "Choice", "Choices": [{"Variable": "$.end", "IsPresent": True, "Next": "C"}], "Default": "A"},
        "C": {"Type": "Succeed"},
    },
}
WORKERS = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")


class Broker(CommandedTargets):
    """Takes tasks as a broker does: their outcomes come from workers."""

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.calls.append(request)
        self.called.set()
        return None


def outcome(request: TaskRequest, output: bytes = b'"done"') -> Outcome:
    return Outcome(request.execution.hex(), request.task, request.claim_key, msgspec.Raw(output))


def claim(request: TaskRequest, worker: str = WORKERS[0], **more: Any) -> Claim:
    return Claim(request.execution.hex(), request.task, request.claim_key, worker, **more)


async def test_it_is_answered_when_it_has_ended_and_nothing_is_written(database: str) -> None:
    targets = CommandedTargets({"A": lambda payload: {"a": payload}, "B": lambda payload: {"b": payload}})
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A", "B"), type="EXPRESS")
        view = await node.run_express(machine, {"x": 1}, "same")
        assert (view.status, view.name, view.attempt) == (Status.SUCCEEDED, "same", 0)
        assert view.output is not None and view.output.value == {"b": {"a": {"x": 1}}}
        assert view.arn.startswith("arn:aws:states:us-east-1:000000000000:express:machine:same:")
        again = await node.run_express(machine, {"x": 1}, "same")
        assert again.arn != view.arn and targets.count("A") == 2
        for table in ("execution", "history_chunk", "task", "timer", "dead_letter"):
            assert await node.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert node.engine.express.held == 0


async def test_retries_time_outs_and_failures_are_those_of_every_execution(database: str) -> None:
    failures = iter([True, False])

    def flaky(payload: Json) -> Json:
        if next(failures):
            raise Fails("Busy")
        return payload

    definition = tasks(
        "A", "B", Retry=[{"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 1}], TimeoutSeconds=2
    )
    targets = CommandedTargets({"A": flaky})  # nobody answers B
    async with open_node(database, targets) as node:
        view = await node.run_express(await node.machine(definition, type="EXPRESS"))
        assert (view.status, view.error) == (Status.FAILED, "States.Timeout")
        assert targets.calls[0].idempotency_key != targets.calls[1].idempotency_key
        assert targets.calls[0].step_id == targets.calls[1].step_id
        assert targets.waiting["B"].cancelled()


async def test_it_times_out_by_its_definition(database: str) -> None:
    async with open_node(database) as node:
        view = await node.run_express(await node.machine({**WAIT, "TimeoutSeconds": 1}, type="EXPRESS"))
        assert (view.status, view.stopped_at) == (Status.TIMED_OUT, view.started_at + 1000)


async def test_one_that_never_waits_keeps_nobody_from_running_and_has_no_history_to_fill(database: str) -> None:
    clock = StandingClock()
    async with open_node(database, clock=clock) as node:
        endless = await node.machine({**LOOP, "TimeoutSeconds": 2}, "endless", "EXPRESS")
        looping = asyncio.create_task(node.run_express(endless))
        standard = await node.machine({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
        assert (await node.ended((await node.start(standard)).id)).status is Status.SUCCEEDED
        assert not looping.done()
        clock.forward(2000)
        assert (await looping).status is Status.TIMED_OUT


async def test_a_caller_that_goes_away_does_not_stop_it(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets, express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        call = asyncio.create_task(node.run_express(machine))
        await until(lambda: "A" in targets.waiting)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert node.engine.express.running == 1 and not targets.waiting["A"].done()


async def test_a_worker_claims_a_task_and_reports_it(database: str) -> None:
    definition = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "celery:work", "End": True}}}
    broker = Broker()
    async with open_node(database, broker) as node:
        call = asyncio.create_task(node.run_express(await node.machine(definition, type="EXPRESS")))
        await broker.called.wait()
        request = broker.calls[0]
        assert (await node.requests.claim(claim(request))).granted
        assert (await node.requests.claim(claim(request))).granted, "the first answer may have been lost"
        assert not (await node.requests.claim(claim(request, WORKERS[1]))).granted
        assert (await node.requests.claim(claim(request, WORKERS[1], holder=WORKERS[0]))).granted
        assert (await node.requests.claim(claim(request, WORKERS[1], heartbeat=True))).granted
        forged = Outcome(request.execution.hex(), request.task, request.claim_key[:-1] + "!", error="Forged")
        assert await node.requests.report_outcome(forged) is TaskAnswer.TIMED_OUT
        assert await node.requests.report_outcome(outcome(request)) is TaskAnswer.ACCEPTED
        assert await node.requests.report_outcome(outcome(request)) is TaskAnswer.TIMED_OUT
        view = await call
        assert view.output is not None and view.output.value == "done"


async def test_heartbeats_keep_a_task_from_timing_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, fire, fired = StandingClock(), Express._fire, list[int]()

    def noting(self: Express, *timer: Any) -> None:
        fire(self, *timer)
        fired.append(clock.now_ms())

    monkeypatch.setattr(Express, "_fire", noting)
    work = {"Type": "Task", "Resource": "celery:work", "HeartbeatSeconds": 1, "End": True}
    broker = Broker()
    async with open_node(database, broker, clock=clock) as node:
        machine = await node.machine({"StartAt": "A", "States": {"A": work}}, type="EXPRESS")
        call = asyncio.create_task(node.run_express(machine))
        await broker.called.wait()
        due = clock.now_ms() + 1000
        for _ in range(3):  # together longer than one heartbeat lasts
            clock.forward(600)
            assert (await node.requests.claim(claim(broker.calls[0], heartbeat=True))).granted
        await until(lambda: fired and fired[-1] > due)
        assert node.engine.express.running == 1
        clock.forward(1000)
        assert (await call).status is Status.FAILED


async def test_a_node_that_only_takes_requests_has_it_run_by_another(database: str) -> None:
    broker = Broker()
    definition = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "celery:work", "End": True}}}
    async with open_node(database, broker, listen=True) as engine, open_node(database, owns_shards=False) as front:
        call = asyncio.create_task(front.run_express(await front.machine(definition, type="EXPRESS"), {"x": 1}))
        await broker.called.wait()
        assert engine.engine.express.running == 1 and front.engine.express.running == 0
        request = broker.calls[0]
        assert (await front.requests.claim(claim(request))).granted
        assert await front.requests.report_outcome(outcome(request)) is TaskAnswer.ACCEPTED
        view = await call
        assert (view.status, view.input.value if view.input else None) == (Status.SUCCEEDED, {"x": 1})
        assert view.output is not None and view.output.value == "done"


async def test_it_is_not_run_again_when_its_node_is_lost(database: str) -> None:
    lost = CommandedTargets()

    async def call(front: Node) -> None:
        await front.run_express(await front.machine(tasks("A"), type="EXPRESS"))

    async with open_node(database, owns_shards=False) as front:
        async with open_node(database, lost, listen=True, express_drain_seconds=0):
            asking = asyncio.create_task(call(front))
            await lost.called.wait()
        with pytest.raises(StoreUnavailableError):
            await asking
        assert lost.count("A") == 1
        with pytest.raises(StoreUnavailableError, match="No engine node"):
            await call(front)


async def test_what_claims_a_task_of_a_lost_node_is_refused(database: str) -> None:
    broker = Broker()
    definition = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "celery:work", "End": True}}}
    async with open_node(database, broker, listen=True, express_drain_seconds=0) as node:
        call = asyncio.create_task(node.run_express(await node.machine(definition, type="EXPRESS")))
        await broker.called.wait()
    assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], StoreUnavailableError)
    async with open_node(database, listen=True) as node:
        request = broker.calls[0]
        assert not (await node.requests.claim(claim(request))).granted
        assert await node.requests.report_outcome(outcome(request)) is TaskAnswer.TIMED_OUT
        assert request.claim_key.count(":") == 2 and claim_key(b"") not in request.claim_key


async def test_there_is_room_for_so_many_bytes(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets, express_bytes=100_000, express_drain_seconds=0) as node:
        machine = await node.machine(tasks("A"), type="EXPRESS")
        call = asyncio.create_task(node.run_express(machine, {"x": "y" * 30_000}))
        await until(lambda: "A" in targets.waiting)
        with pytest.raises(StoreUnavailableError, match="memory"):
            await node.run_express(machine, {"x": "y" * 70_000})
        targets.waiting["A"].set_result(None)
        assert not call.done()


async def test_one_that_grows_beyond_its_share_fails_alone(database: str) -> None:
    kept = {"StartAt": "K", "States": {"K": {"Type": "Wait", "Seconds": 60, "End": True}}}
    definition = {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": kept, "End": True}}}
    async with open_node(database, express_bytes=400_000) as node:
        machine = await node.machine(definition, type="EXPRESS")
        view = await node.run_express(machine, ["x" * 2_000 for _ in range(60)])
        assert (view.status, view.error) == (Status.FAILED, "States.DataLimitExceeded")
        assert node.engine.express.held == 0


async def test_a_node_that_shuts_down_lets_what_runs_end_first(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        call = asyncio.create_task(node.run_express(await node.machine(tasks("A"), type="EXPRESS")))
        await until(lambda: "A" in targets.waiting)
        closing = asyncio.create_task(node.engine.express.drain(30))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="shutting down"):
            node.engine.express.admit(EMPTY_OBJECT)
        targets.waiting["A"].set_result(TaskSucceeded(targets.calls[0].task, msgspec.Raw(b"1")))
        assert (await call).status is Status.SUCCEEDED
        await closing


async def test_a_task_fails_when_its_worker_is_lost_and_may_be_tried_again(database: str) -> None:
    retry = [{"ErrorEquals": ["Stepwell.WorkerLost"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    work = {"Type": "Task", "Resource": "celery:work", "Retry": retry, "End": True}
    broker = Broker()
    async with open_node(database, broker) as node:
        machine = await node.machine({"StartAt": "A", "States": {"A": work}}, type="EXPRESS")
        call = asyncio.create_task(node.run_express(machine))
        await broker.called.wait()
        assert (await node.requests.claim(claim(broker.calls[0]))).granted  # by a worker that never reports
        await until(lambda: len(broker.calls) == 2)
        assert await node.requests.report_outcome(outcome(broker.calls[0])) is TaskAnswer.TIMED_OUT
        assert await node.requests.report_outcome(outcome(broker.calls[1])) is TaskAnswer.ACCEPTED
        assert (await call).status is Status.SUCCEEDED
