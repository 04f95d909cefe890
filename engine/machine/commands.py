"""What an execution wants of the world: the closed set of outputs of `transition`.

The runtime writes them in the transaction that commits the step, and carries them out after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from stepwell.engine.asl.resources import Resource
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.map_spec import MapRunSpec


class TimerKind(StrEnum):
    """What a timer is for."""

    WAIT = "wait"
    RETRY = "retry"
    TASK_TIMEOUT = "task_timeout"
    HEARTBEAT = "heartbeat"
    EXECUTION_TIMEOUT = "execution_timeout"


@dataclass(frozen=True, slots=True)
class ScheduleTask:
    """Have a task done. `task` is its number in the execution; `entry` the id of the event that entered its state.

    `payload` is what the target gets (the effective input). `secret` is the 16 random bytes of its task token.
    `attempt` counts from 0 within the state entry; retries and redrives raise it.
    """

    task: int
    state: str
    entry: int
    attempt: int
    resource: Resource
    payload: Document
    secret: bytes
    scheduled_event: int
    """Id of the history event that carries the payload."""
    heartbeat_seconds: int | None = None
    timeout_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class CancelTask:
    """A task's outcome is no longer wanted; a target may stop it."""

    task: int


@dataclass(frozen=True, slots=True)
class CloseTask:
    """A task has its outcome; forget it."""

    task: int


@dataclass(frozen=True, slots=True)
class MarkTaskStarted:
    """A worker has taken a task, or a service the request: it is not to be sent again."""

    task: int
    worker: str | None


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Send TimerFired at `due_at` (milliseconds since the epoch). `task` is set for time-outs and heartbeats."""

    timer: int
    kind: TimerKind
    due_at: int
    task: int | None = None


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer is no longer wanted."""

    timer: int


@dataclass(frozen=True, slots=True)
class StartMapRun:
    """Begin a Map Run, an aggregate of its own with the key `id`. `number` is its number in the execution."""

    number: int
    id: bytes
    spec: MapRunSpec


@dataclass(frozen=True, slots=True)
class RedriveMapRun:
    """Let a Map Run that has failed go on: for the `redrives`th time."""

    number: int
    id: bytes
    redrives: int


@dataclass(frozen=True, slots=True)
class CancelMapRun:
    """A Map Run's result is no longer wanted; it stops its child executions."""

    number: int
    id: bytes


class Status(StrEnum):
    """Where an execution stands."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class Finish:
    """The execution has ended. `state` is where it failed; `stopped_at` may lie before now for a time-out."""

    status: Status
    stopped_at: int
    output: Document | None = None
    error: str | None = None
    cause: str | None = None
    state: str | None = None


Command: TypeAlias = (
    ScheduleTask
    | CancelTask
    | CloseTask
    | MarkTaskStarted
    | StartTimer
    | CancelTimer
    | StartMapRun
    | RedriveMapRun
    | CancelMapRun
    | Finish
)
