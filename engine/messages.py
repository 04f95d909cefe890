"""What engine and workers tell each other: the task envelope, its outcome, claims and reports. msgspec structs, JSON on the wire.

All that a worker's environment imports of the engine. It must not know anything else of it.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 1
RESULTS_QUEUE: Final = "stepwell.results"
"""The broker queue on which Celery workers report outcomes."""
TASK_HEADER: Final = "stepwell"
"""The message header that makes a Celery message a Stepwell task; it holds a `TaskEnvelope`."""


class TaskEnvelope(msgspec.Struct, omit_defaults=True):
    """A task as it travels to a worker. `execution` and `task` name it; `key` is what a claim and a report must show.

    `payload` is the task's input as JSON text. `idempotency_key` is the same for each delivery of this attempt;
    `step_id` for each attempt of this state entry.
    """

    execution: str
    task: int
    key: str
    name: str
    state: str
    idempotency_key: str
    step_id: str
    payload: msgspec.Raw
    attempt: int = 0
    delivery: int = 1
    heartbeat_seconds: int | None = None
    timeout_seconds: int | None = None
    traceparent: str | None = None
    version: int = PROTOCOL_VERSION


class Outcome(msgspec.Struct, omit_defaults=True):
    """How a task ended: `output` (JSON text), or `error` and `cause`."""

    execution: str
    task: int
    key: str
    output: msgspec.Raw | None = None
    error: str | None = None
    cause: str | None = None
    worker: str | None = None
    version: int = PROTOCOL_VERSION


class Claim(msgspec.Struct, omit_defaults=True):
    """A worker process asks for the right to run a task it has received."""

    execution: str
    task: int
    key: str
    worker: str
    """The incarnation of the worker process (a UUID made at its start)."""
    name: str | None = None
    version: int = PROTOCOL_VERSION


class ClaimAnswer(msgspec.Struct, omit_defaults=True):
    """`granted` is False when somebody else runs the task or it is closed: the copy is to be dropped."""

    granted: bool
    reason: str | None = None


class WorkerReport(msgspec.Struct, omit_defaults=True):
    """A worker process is alive; sent every `REPORT_SECONDS`."""

    worker: str
    host: str
    pid: int
    queues: list[str] = []
    running: list[str] = []
    version: int = PROTOCOL_VERSION


REPORT_SECONDS: Final = 5
WORKER_LEASE_SECONDS: Final = 20
