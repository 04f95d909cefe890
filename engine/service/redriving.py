"""Whether an execution can be redriven: the rules of RedriveExecution, and the reasons AWS gives (`redriveStatusReason`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stepwell.engine import limits
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import ExecutionView

_DAY_MS = 86_400_000


class RedriveStatus(StrEnum):
    """`redriveStatus` of an execution."""

    REDRIVABLE = "REDRIVABLE"
    NOT_REDRIVABLE = "NOT_REDRIVABLE"


@dataclass(frozen=True, slots=True)
class Redrivability:
    """The verdict. `final`: by time or size; else by status, on which the runtime has the last word."""

    status: RedriveStatus
    reason: str | None = None
    final: bool = True


def redrivability(view: ExecutionView, now: int) -> Redrivability:
    """Whether the execution can be redriven at this moment (milliseconds)."""
    if view.status is Status.RUNNING:
        return _not("Execution is RUNNING and cannot be redriven", final=False)
    if view.status is Status.SUCCEEDED:
        return _not("Execution is SUCCEEDED and cannot be redriven", final=False)
    if view.map_run_arn is not None:
        return _not("A child execution is redriven with its Map Run: redrive the execution that started it")
    if view.last_event >= limits.MAX_REDRIVE_HISTORY_EVENTS:
        return _not("Execution history event limit exceeded")
    if now - view.started_at >= limits.MAX_EXECUTION_SECONDS * 1_000:
        return _not("Execution has exceeded the max execution time")
    if view.stopped_at is not None and now - view.stopped_at >= limits.REDRIVABLE_DAYS * _DAY_MS:
        return _not("Execution redrivable period exceeded")
    return Redrivability(RedriveStatus.REDRIVABLE)


def _not(reason: str, *, final: bool = True) -> Redrivability:
    return Redrivability(RedriveStatus.NOT_REDRIVABLE, reason, final)
