"""The closed sets as Postgres keeps them: enum members as small integers. The one list; the CHECK constraints are made of it.

Codes are never renumbered: rows hold them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.machine.commands import Status, TimerKind

STATUS_CODES: Final[dict[Status, int]] = {
    Status.RUNNING: 1,
    Status.SUCCEEDED: 2,
    Status.FAILED: 3,
    Status.TIMED_OUT: 4,
    Status.ABORTED: 5,
}
TARGET_CODES: Final[dict[TargetKind, int]] = {
    TargetKind.FUNCTION: 1,
    TargetKind.ACTIVITY: 2,
    TargetKind.CELERY: 3,
    TargetKind.HTTP: 4,
    TargetKind.SERVICE: 5,
}
TIMER_CODES: Final[dict[TimerKind, int]] = {
    TimerKind.WAIT: 1,
    TimerKind.RETRY: 2,
    TimerKind.TASK_TIMEOUT: 3,
    TimerKind.HEARTBEAT: 4,
    TimerKind.EXECUTION_TIMEOUT: 5,
}
TASK_READY: Final = 1
TASK_SENT: Final = 2
TASK_STARTED: Final = 3
STATUS_OF: Final = {code: status for status, code in STATUS_CODES.items()}
TARGET_OF: Final = {code: kind for kind, code in TARGET_CODES.items()}

DEFAULT_RETENTION_CLASS: Final = 1


def bucket_of(started_at: int, retention_class: int = DEFAULT_RETENTION_CLASS) -> int:
    """The history partition of an execution: its retention class and the month it started in (UTC)."""
    moment = datetime.fromtimestamp(started_at / 1000, UTC)
    return retention_class * 100_000 + moment.year * 12 + moment.month - 1
