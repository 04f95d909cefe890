"""What can happen to an execution: the closed set of inputs of `transition`.

User data travels as raw JSON text (`payload` fields), already checked at the edge. Tasks and timers are named by numbers
that are never used twice within an execution, redrives included, so that a late event for an older one is simply ignored.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Started(msgspec.Struct, tag="started", array_like=True, frozen=True):
    """The execution begins with this input."""

    input: msgspec.Raw


class TaskStarted(msgspec.Struct, tag="task_started", array_like=True, frozen=True):
    """A worker has taken the task (activities and claiming workers)."""

    task: int
    worker: str | None = None


class TaskSubmitted(msgspec.Struct, tag="task_submitted", array_like=True, frozen=True):
    """The service took the request of a `.waitForTaskToken` or `.sync` task; its end is still to come."""

    task: int
    output: msgspec.Raw


class TaskSucceeded(msgspec.Struct, tag="task_succeeded", array_like=True, frozen=True):
    """The task's outcome is a result."""

    task: int
    output: msgspec.Raw


class TaskFailed(msgspec.Struct, tag="task_failed", array_like=True, frozen=True):
    """The task's outcome is an error. `stage` tells how far it came: schedule, start, submit or run.

    Where the world only tells of a time-out (a mock does), `stage` is timeout or heartbeat.
    """

    task: int
    error: str | None = None
    cause: str | None = None
    stage: str = "run"


class TimerFired(msgspec.Struct, tag="timer_fired", array_like=True, frozen=True):
    """A timer's time has come: of a Wait, a retry, a task's time-out or the execution's."""

    timer: int


class HeartbeatMissed(msgspec.Struct, tag="heartbeat_missed", array_like=True, frozen=True):
    """No heartbeat came for HeartbeatSeconds."""

    task: int


class MapRunFinished(msgspec.Struct, tag="map_run_finished", array_like=True, frozen=True):
    """A Map Run has ended, with a result or an error. `redrives` tells which of its runs: an older one's end is ignored."""

    map_run: int
    redrives: int
    output: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    cause: str | None = None


class StopRequested(msgspec.Struct, tag="stop_requested", array_like=True, frozen=True):
    """Somebody stops the execution."""

    error: str | None = None
    cause: str | None = None


class Redriven(msgspec.Struct, tag="redriven", array_like=True, frozen=True):
    """An unsuccessful execution goes on from where it failed. `token` is the client token that asked for it."""

    token: str | None = None


class Continued(msgspec.Struct, tag="continued", array_like=True, frozen=True):
    """The execution had used up its slice and goes on now."""


class Poisoned(msgspec.Struct, tag="poisoned", array_like=True, frozen=True):
    """What the execution wanted to write cannot be written; it ends with States.Runtime."""

    cause: str


TaskEvent: TypeAlias = TaskStarted | TaskSubmitted | TaskSucceeded | TaskFailed | HeartbeatMissed
"""What concerns one task."""

Event: TypeAlias = Started | TaskEvent | TimerFired | MapRunFinished | StopRequested | Redriven | Continued | Poisoned
