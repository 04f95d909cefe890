"""Tasks whose outcome comes from outside: by task token, and by the claims and reports of workers.

It must not know HTTP. A task token is an authority: it never appears in a message.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

import msgspec

from stepwell.engine import limits
from stepwell.engine.errors import JsonTextError
from stepwell.engine.ids import TaskToken, parse_task_token
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import Runtime, TaskAnswer
from stepwell.engine.service import checks, refusals

_KEY: Final = re.compile(r"[0-9a-f]{32}")
_TASKS: Final = 2**31


class Tasks:
    """The use-cases of tasks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def succeed(self, token: str, output: bytes) -> None:
        """A task has succeeded with this output text (SendTaskSuccess); returns when that is durable."""
        task = _token(token)
        if len(output) > limits.MAX_PAYLOAD_BYTES:
            raise refusals.constraints_broken([checks.size_fault(output, "output") or ""], pointer="/output")
        try:
            document = checks.document_of(output)
        except JsonTextError as error:
            raise refusals.invalid_output(error) from None
        _settle(await self._runtime.complete_task(task, document))

    async def fail(self, token: str, error: str | None = None, cause: str | None = None) -> None:
        """A task has failed (SendTaskFailure)."""
        checks.error_and_cause(error, cause)
        _settle(await self._runtime.fail_task(_token(token), error, cause))

    async def heartbeat(self, token: str) -> None:
        """A task is alive (SendTaskHeartbeat)."""
        _settle(await self._runtime.heartbeat(_token(token)))

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """A worker asks for the right to run a task."""
        _check_task(claim.execution, claim.task)
        _check_incarnation(claim.worker)
        checks.no_nul(claim.name, "name")
        return await self._runtime.claim(claim)

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        """A worker reports how a claimed task ended."""
        _check_task(outcome.execution, outcome.task)
        if outcome.output is not msgspec.UNSET:
            try:
                checks.document_of(bytes(outcome.output))
            except JsonTextError as error:
                raise refusals.invalid_output(error) from None
        return await self._runtime.report_outcome(outcome)

    async def report_worker(self, report: WorkerReport) -> None:
        """A worker process is alive."""
        _check_incarnation(report.worker)
        for text in (report.host, *report.queues, *report.running):
            checks.no_nul(text, "report")
        await self._runtime.report_worker(report)


def _check_task(execution: str, task: int) -> None:
    if not _KEY.fullmatch(execution):
        raise refusals.invalid("'execution' must be a key of 32 hexadecimal digits", pointer="/execution")
    if not 0 <= task < _TASKS:
        raise refusals.invalid("'task' is no number of a task", pointer="/task")


def _check_incarnation(worker: str) -> None:
    try:
        UUID(worker)
    except ValueError:
        raise refusals.invalid("'worker' must be the UUID of a worker process", pointer="/worker") from None


def _token(text: str) -> TaskToken:
    token = parse_task_token(text)
    if token is None:
        raise refusals.invalid_token()
    return token


def _settle(answer: TaskAnswer) -> None:
    match answer:
        case TaskAnswer.ACCEPTED:
            return
        case TaskAnswer.TIMED_OUT:
            raise refusals.task_timed_out()
        case TaskAnswer.NOT_FOUND:
            raise refusals.task_does_not_exist()
        case TaskAnswer.INVALID:
            raise refusals.invalid_token()
