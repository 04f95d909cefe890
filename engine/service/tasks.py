"""Tasks whose outcome comes from outside: by task token, and by the claims and reports of workers.

It must not know HTTP. A task token is an authority: it never appears in a message.
"""

from __future__ import annotations

from stepwell.engine import limits
from stepwell.engine.errors import JsonTextError
from stepwell.engine.ids import TaskToken, parse_task_token
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import Runtime, TaskAnswer
from stepwell.engine.service import checks, refusals


class Tasks:
    """The use-cases of tasks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def succeed(self, token: str, output: bytes) -> None:
        """A task has succeeded with this output text (SendTaskSuccess); returns when that is durable."""
        task = _token(token)
        if len(output) > limits.MAX_PAYLOAD_BYTES:
            raise refusals.constraints_broken([checks.size_fault(output, "output") or ""])
        try:
            document = checks.document_of(output)
        except JsonTextError as error:
            raise refusals.invalid_output(str(error)) from None
        _settle(await self._runtime.complete_task(task, document))

    async def fail(self, token: str, error: str | None = None, cause: str | None = None) -> None:
        """A task has failed (SendTaskFailure)."""
        _settle(await self._runtime.fail_task(_token(token), error, cause))

    async def heartbeat(self, token: str) -> None:
        """A task is alive (SendTaskHeartbeat)."""
        _settle(await self._runtime.heartbeat(_token(token)))

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """A worker asks for the right to run a task."""
        return await self._runtime.claim(claim)

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        """A worker reports how a claimed task ended."""
        return await self._runtime.report_outcome(outcome)

    async def report_worker(self, report: WorkerReport) -> None:
        """A worker process is alive."""
        await self._runtime.report_worker(report)


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
