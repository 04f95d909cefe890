"""Tasks of tested states: performed by a target, or by a worker that claims and reports, on this node or another."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from stepwell.engine import ids
from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.errors import TargetUnavailableError
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.messages import Claim, Outcome
from stepwell.engine.ports import HttpTrace, TargetResult, TaskAnswer, TaskRequest
from stepwell.engine.runtime.once import OnceTasks
from tests.support.nodes import CommandedTargets, Fails, open_node
from tests.support.waiting import until

KEY = "key"


def request(resource: str = "celery:shop.charge", **more: Any) -> TaskRequest:
    parsed = parse_resource(resource)
    assert parsed is not None
    arn = "arn:aws:states:us-east-1:000000000000:express:m:e"
    return TaskRequest(
        execution=ids.execution_id(arn),
        execution_arn=arn,
        machine_name="m",
        task=1,
        state="S",
        attempt=0,
        delivery=1,
        resource=parsed,
        payload=Document.of({"a": 1}),
        idempotency_key="i",
        step_id="s",
        claim_key=KEY,
        **more,
    )


class Broker:
    """Takes every task and says nothing of its outcome."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.taken.set()
        return None


def claim(asked: TaskRequest, worker: str = "w", key: str = KEY, **more: Any) -> Claim:
    return Claim(asked.execution.hex(), asked.task, key, worker, **more)


def outcome(asked: TaskRequest, key: str = KEY, **more: Any) -> Outcome:
    return Outcome(asked.execution.hex(), asked.task, key, **more)


async def test_a_worker_claims_the_task_and_reports_its_outcome() -> None:
    broker, asked = Broker(), request()
    once = OnceTasks(broker)
    performing = asyncio.create_task(once.perform(asked))
    await broker.taken.wait()
    wrong = once.claim(claim(asked, key="wrong"))
    assert wrong is not None and not wrong.granted
    first = once.claim(claim(asked))
    assert first is not None and first.granted
    other = once.claim(claim(asked, "other"))
    assert other is not None and not other.granted
    handed_on = once.claim(claim(asked, "next", holder="w"))
    assert handed_on is not None and handed_on.granted
    assert once.report(outcome(asked, "wrong", error="E")) is TaskAnswer.INVALID
    assert once.report(outcome(asked, output=msgspec.Raw(b"[1]"))) is TaskAnswer.ACCEPTED
    assert once.report(outcome(asked, error="Late")) is TaskAnswer.ACCEPTED
    result = await performing
    assert isinstance(result, TaskSucceeded) and bytes(result.output) == b"[1]"
    assert once.claim(claim(asked)) is None
    assert once.report(outcome(asked)) is None


async def test_a_test_that_is_given_up_leaves_nothing() -> None:
    broker, asked = Broker(), request()
    once = OnceTasks(broker)
    performing = asyncio.create_task(once.perform(asked))
    await broker.taken.wait()
    performing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await performing
    assert once.claim(claim(asked)) is None


async def test_a_workers_claim_and_outcome_find_the_test(database: str) -> None:
    """By the ways a worker's words take: they are asked of the node first, then of the store."""
    asked = request()

    async def broker(request: TaskRequest) -> TargetResult:
        return None

    targets = CommandedTargets()
    targets.perform = broker  # type: ignore[method-assign]
    async with open_node(database, targets) as node:
        performing = asyncio.create_task(node.requests.perform_once(asked))
        await until(lambda: bool(node.engine.once.open))
        assert (await node.requests.claim(claim(asked))).granted
        assert await node.requests.report_outcome(outcome(asked, error="E", cause="c")) is TaskAnswer.ACCEPTED
        assert await performing == TaskFailed(1, "E", "c")
        assert not (await node.requests.claim(claim(asked))).granted


async def test_a_node_that_owns_nothing_has_another_perform_the_task(database: str) -> None:
    def failing(payload: Any) -> Any:
        raise Fails("Broken", "so")

    function = "arn:aws:lambda:us-east-1:000000000000:function:f"
    targets = CommandedTargets({"S": lambda payload: {"got": payload}})
    async with (
        open_node(database, targets, listen=True) as owner,
        open_node(database, owns_shards=False) as asking,
    ):
        result = await asking.requests.perform_once(request(function, trace=HttpTrace(reveal=True)))
        assert isinstance(result, TaskSucceeded) and bytes(result.output) == b'{"got":{"a":1}}'
        (called,) = owner.targets.calls
        assert called.trace is not None and called.payload.value == {"a": 1}
        owner.targets.handlers["S"] = failing
        assert await asking.requests.perform_once(request(function)) == TaskFailed(1, "Broken", "so")


async def test_a_node_reveals_no_secrets_to_another_unless_it_was_told_to(database: str) -> None:
    function = "arn:aws:lambda:us-east-1:000000000000:function:f"
    for reveals in (True, False):
        targets = CommandedTargets({"S": lambda payload: payload})
        async with (
            open_node(database, targets, listen=True, reveal_secrets=reveals) as owner,
            open_node(database, owns_shards=False, reveal_secrets=True) as asking,
        ):
            await asking.requests.perform_once(request(function, trace=HttpTrace(reveal=True)))
            (called,) = owner.targets.calls
            assert called.trace is not None and called.trace.reveal is reveals


async def test_without_an_engine_the_task_cannot_be_performed(database: str) -> None:
    async with open_node(database, owns_shards=False) as node:
        with pytest.raises(TargetUnavailableError, match="No engine node"):
            await node.requests.perform_once(request())
