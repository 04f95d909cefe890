"""The closed sets as Postgres keeps them: enum members as small integers. The one list; the CHECK constraints are made of it.

Codes are never renumbered: rows hold them. It also knows how an execution's history bucket is numbered.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.ports import DeadLetterStatus

STATUS_CODES: Final[dict[Status, int]] = {
    Status.RUNNING: 1,
    Status.SUCCEEDED: 2,
    Status.FAILED: 3,
    Status.TIMED_OUT: 4,
    Status.ABORTED: 5,
}
MAP_RUN_CODES: Final = {status: code for status, code in STATUS_CODES.items() if status is not Status.TIMED_OUT}
"""A Map Run never times out by itself."""
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
DEAD_LETTER_CODES: Final[dict[DeadLetterStatus, int]] = {
    DeadLetterStatus.OPEN: 1,
    DeadLetterStatus.REDRIVEN: 2,
    DeadLetterStatus.DISCARDED: 3,
}
TASK_READY: Final = 1
"""Committed, not yet handed to its target."""
TASK_SENT: Final = 2
TASK_STARTED: Final = 3
"""Taken by a worker. A task that is over has no row."""
UNKNOWN_WORKER_GRACE_MS: Final = 60_000
"""How long a task is left to a worker that has never reported."""
TASK_CODES: Final = (TASK_READY, TASK_SENT, TASK_STARTED)
STATUS_OF: Final = {code: status for status, code in STATUS_CODES.items()}
TARGET_OF: Final = {code: kind for kind, code in TARGET_CODES.items()}
TIMER_OF: Final = {code: kind for kind, code in TIMER_CODES.items()}
DEAD_LETTER_OF: Final = {code: status for status, code in DEAD_LETTER_CODES.items()}

NUMBERS: Final[dict[str, int]] = {
    **{f"execution.{status.value}": code for status, code in STATUS_CODES.items()},
    **{f"item.{status.name}": int(status) for status in ItemStatus},
    **{f"dead_letter.{status.value}": code for status, code in DEAD_LETTER_CODES.items()},
    **{f"target.{kind.name}": code for kind, code in TARGET_CODES.items()},
    "task.READY": TASK_READY,
    "task.SENT": TASK_SENT,
    "task.STARTED": TASK_STARTED,
}
"""What stands in statements by name (`{task.READY}`), with its number."""

DEAD_LETTER_KINDS: Final = ("execution", "delivery")
MACHINE_TYPES: Final = ("STANDARD", "EXPRESS")
MACHINE_STATUSES: Final = ("ACTIVE", "DELETING")

DEFAULT_RETENTION_CLASS: Final = 1
BUCKETS_PER_CLASS: Final = 100_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def bucket_of(started_at: int, retention_class: int = DEFAULT_RETENTION_CLASS) -> int:
    """The history partition of an execution: its retention class and the month it started in (UTC)."""
    moment = datetime.fromtimestamp(started_at / 1000, UTC)
    return retention_class * BUCKETS_PER_CLASS + moment.year * 12 + moment.month - 1


def bucket_month(bucket: int) -> tuple[int, int, int]:
    """A bucket taken apart: retention class, year and month (1 to 12)."""
    retention_class, months = divmod(bucket, BUCKETS_PER_CLASS)
    return retention_class, months // 12, months % 12 + 1


def bucket_end(bucket: int) -> int:
    """The first moment, in milliseconds since the epoch, after every start in the bucket."""
    _, year, month = bucket_month(bucket)
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (after - _EPOCH) // timedelta(milliseconds=1)
