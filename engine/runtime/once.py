"""Tasks that belong to no execution: those of states which are tested. Nothing of them is stored.

A task's made-up execution has a shard like any other, so that a worker's claim and outcome find their way to the node that
waits for them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.errors import TargetUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import TEST_STATE_SECONDS
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome
from stepwell.engine.ports import HttpTrace, TaskAnswer, TaskRequest
from stepwell.engine.runtime.dispatch import Targets
from stepwell.engine.runtime.peer_messages import Answer, AskPerform, Performed
from stepwell.engine.states_errors import ErrorName


@dataclass(slots=True)
class _Open:
    key: str
    outcome: asyncio.Future[TaskSucceeded | TaskFailed]
    worker: str | None = None


class OnceTasks:
    """The tasks of tests that this node is performing. `reveals`: whether it shows secrets of connections, to other nodes too."""

    def __init__(self, targets: Targets, *, reveals: bool = False) -> None:
        self._targets = targets
        self._reveals = reveals
        self._open: dict[tuple[ExecutionId, int], _Open] = {}

    async def perform(self, request: TaskRequest) -> TaskSucceeded | TaskFailed:
        """Have the target carry the task out; where a worker reports, wait for it. Raises `TargetUnavailableError`."""
        name = request.execution, request.task
        reported: asyncio.Future[TaskSucceeded | TaskFailed] = asyncio.get_running_loop().create_future()
        self._open[name] = _Open(request.claim_key, reported)
        try:
            result = await self._targets.perform(request)
            if isinstance(result, TaskSucceeded | TaskFailed):
                return result
            return await reported
        finally:
            del self._open[name]

    @property
    def open(self) -> int:
        """How many tasks are under way."""
        return len(self._open)

    def claim(self, claim: Claim) -> ClaimAnswer | None:
        """Answer a worker that wants to run such a task; None if it is none of these."""
        task = self._open.get((ExecutionId(bytes.fromhex(claim.execution)), claim.task))
        if task is None:
            return None
        if task.key != claim.key:
            return ClaimAnswer(False, "The key does not belong to this task.")
        if task.worker not in (None, claim.worker, claim.holder):
            return ClaimAnswer(False, "Another worker runs the task.")
        task.worker = claim.worker
        return ClaimAnswer(True)

    def report(self, outcome: Outcome) -> TaskAnswer | None:
        """Take the outcome of such a task; None if it is none of these."""
        task = self._open.get((ExecutionId(bytes.fromhex(outcome.execution)), outcome.task))
        if task is None:
            return None
        if task.key != outcome.key:
            return TaskAnswer.INVALID
        if not task.outcome.done():
            task.outcome.set_result(reported_event(outcome))
        return TaskAnswer.ACCEPTED

    async def answer(self, ask: AskPerform, number: int) -> Answer:
        """Perform a task for another node."""
        request = _request_of(ask, reveal=ask.reveal and self._reveals)
        try:
            async with asyncio.timeout(TEST_STATE_SECONDS):
                result = await self.perform(request)
        except TargetUnavailableError as error:
            return Answer(number, unavailable=True, reason=str(error))
        except TimeoutError:
            result = TaskFailed(request.task, ErrorName.TIMEOUT)
        trace = request.trace or HttpTrace()
        if isinstance(result, TaskSucceeded):
            performed = Performed(bytes(result.output), request=trace.request, response=trace.response)
        else:
            performed = Performed(None, result.error, result.cause, trace.request, trace.response)
        return Answer(number, data=msgspec.msgpack.encode(performed))


def reported_event(outcome: Outcome) -> TaskSucceeded | TaskFailed:
    """What a worker's report means to an execution."""
    if outcome.output is not msgspec.UNSET:
        return TaskSucceeded(outcome.task, outcome.output)
    return TaskFailed(outcome.task, outcome.error, outcome.cause)


def ask_of(request: TaskRequest) -> AskPerform:
    """The question by which another node is asked to perform a task."""
    return AskPerform(
        request.execution, request.execution_arn, request.machine_name, request.task, request.state,
        request.resource.text, request.payload.text, request.idempotency_key, request.step_id, request.claim_key,
        request.timeout_seconds, request.heartbeat_seconds, request.trace is not None and request.trace.reveal,
    )  # fmt: skip


def outcome_of(answer: Answer, request: TaskRequest) -> TaskSucceeded | TaskFailed:
    """What the other node says came of the task."""
    performed = msgspec.msgpack.decode(answer.data, type=Performed)
    if request.trace is not None:
        request.trace.request, request.trace.response = performed.request, performed.response
    if performed.output is not None:
        return TaskSucceeded(request.task, msgspec.Raw(performed.output))
    return TaskFailed(request.task, performed.error, performed.cause)


def _request_of(ask: AskPerform, *, reveal: bool) -> TaskRequest:
    resource = parse_resource(ask.resource)
    assert resource is not None, "a resource that was sent was parsed before"
    return TaskRequest(
        execution=ExecutionId(ask.execution),
        execution_arn=ask.arn,
        machine_name=ask.machine_name,
        task=ask.task,
        state=ask.state,
        attempt=0,
        delivery=1,
        resource=resource,
        payload=Document.trusted(ask.payload),
        idempotency_key=ask.idempotency_key,
        step_id=ask.step_id,
        claim_key=ask.claim_key,
        timeout_seconds=ask.timeout_seconds,
        heartbeat_seconds=ask.heartbeat_seconds,
        trace=HttpTrace(reveal=reveal),
    )
