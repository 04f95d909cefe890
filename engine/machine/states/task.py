"""Task: has one unit of work done by a target, and takes its outcome.

Three families of history events tell of it, as on AWS: LambdaFunction* for a function ARN, Activity* for an activity, Task*
for everything else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from stepwell.engine.asl.resources import Resource, TargetKind
from stepwell.engine.asl.states import FieldValue, TaskState
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.limits import MAX_PAYLOAD_BYTES
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import MarkTaskStarted, ScheduleTask, TimerKind
from stepwell.engine.machine.dataflow import effective_input, field_scope, finish_state, integer, within_limit
from stepwell.engine.machine.failure import details_of, fail, guarded
from stepwell.engine.machine.history import Details
from stepwell.engine.machine.run import Run, data_limit
from stepwell.engine.machine.snapshot import Frame, OpenTask, Phase
from stepwell.engine.states_errors import ErrorName


class Family(StrEnum):
    """The prefix of the history events of a task."""

    FUNCTION = "LambdaFunction"
    ACTIVITY = "Activity"
    TASK = "Task"


def family_of(resource: Resource) -> Family:
    """Which family of events tells of this resource's tasks."""
    if resource.plain_function:
        return Family.FUNCTION
    return Family.ACTIVITY if resource.kind is TargetKind.ACTIVITY else Family.TASK


CLAIMED: Final = frozenset({TargetKind.ACTIVITY, TargetKind.CELERY})
"""Targets whose workers say themselves when they start; the others start as soon as the schedule is committed."""


def run_task(run: Run, frame: Frame) -> None:
    """Run the body of a Task state: schedule the task."""
    state = frame.current
    assert isinstance(state, TaskState)
    resource = state.resource
    # A function may be registered as a Celery task, whose worker claims it by what is derived from the secret.
    needs_secret = resource.has_token or resource.kind is TargetKind.FUNCTION
    number = run.state.next_task
    # The payload may hold the task's token, so the task is there before the payload is.
    frame.task = task = OpenTask(number, run.entropy.bytes16() if needs_secret else b"")
    try:
        payload = within_limit(frame, effective_input(run, frame))
        task.timeout_seconds = _seconds(run, frame, state.timeout_seconds)
        task.heartbeat_seconds = _seconds(run, frame, state.heartbeat_seconds)
        role = _role(run, frame, state)
    except BaseException:
        frame.task = None
        raise
    timeout, heartbeat = task.timeout_seconds or None, task.heartbeat_seconds or None
    run.emit_next(
        frame, f"{family_of(resource)}Scheduled", _scheduled(run, resource, timeout, heartbeat, role), payload
    )
    run.state.next_task = number + 1
    run.state.tasks[number] = frame
    frame.phase = Phase.TASK
    run.touch(frame)
    run.commands.append(
        ScheduleTask(
            number,
            state.name,
            frame.entered_event,
            frame.attempts,
            resource,
            payload,
            task.secret,
            frame.last_event,
            heartbeat,
            timeout,
        )
    )
    if resource.kind is not TargetKind.ACTIVITY:  # an activity's time begins when a worker takes it
        _start_timers(run, frame, task)
    if resource.kind not in CLAIMED:
        run.started.append(frame)


def task_started(run: Run, frame: Frame, worker: str | None) -> None:
    """The task runs now."""
    task, resource = frame.task, _resource(frame)
    if task is None or task.started:
        return
    task.started = True
    details: Details | None = None
    family = family_of(resource)
    if family is Family.TASK:
        details = _kind(resource)
    elif family is Family.ACTIVITY:
        details = {"workerName": worker} if worker is not None else {}
        _start_timers(run, frame, task)
    run.emit_next(frame, f"{family}Started", details)
    run.touch(frame)


def worker_started(run: Run, frame: Frame, event: events.TaskStarted) -> None:
    """A worker has taken the task."""
    if frame.task is not None and not frame.task.started:
        run.commands.append(MarkTaskStarted(event.task, event.worker))
        task_started(run, frame, event.worker)


def task_submitted(run: Run, frame: Frame, event: events.TaskSubmitted) -> None:
    """The service has taken the request; the outcome is still to come. Whoever asks it once more is told what is known."""
    if frame.task is None or frame.task.submitted:
        return
    frame.task.submitted = True
    run.commands.append(MarkTaskStarted(event.task, None))  # else the request would be made again
    task_started(run, frame, None)
    run.emit_next(frame, "TaskSubmitted", _kind(_resource(frame)), Document.trusted(bytes(event.output)))
    run.touch(frame)


def task_succeeded(run: Run, frame: Frame, event: events.TaskSucceeded) -> None:
    """The task has a result."""
    resource = _resource(frame)
    result = Document.trusted(bytes(event.output))
    task_started(run, frame, None)
    if len(result.text) > MAX_PAYLOAD_BYTES:
        error = data_limit(resource.text if resource.plain_function else resource.history_type)
        _emit_outcome(run, frame, "Failed", details_of(error.error, error.cause))
        fail(run, frame, error.error, error.cause)
        return
    family = family_of(resource)
    run.emit_next(frame, f"{family}Succeeded", _kind(resource) if family is Family.TASK else None, result)
    run.close_task(frame)
    guarded(run, frame, lambda: finish_state(run, frame, result, frame.current.next))


_Outcome = Literal["ScheduleFailed", "StartFailed", "SubmitFailed", "Failed", "TimedOut"]
_STAGES: Final[dict[str, _Outcome]] = {
    "schedule": "ScheduleFailed",
    "start": "StartFailed",
    "submit": "SubmitFailed",
    "timeout": "TimedOut",
    "heartbeat": "TimedOut",
}


def task_failed(run: Run, frame: Frame, event: events.TaskFailed) -> None:
    """The task has failed; `stage` tells how far it had come."""
    outcome = _STAGES.get(event.stage, "Failed")
    if outcome in ("SubmitFailed", "Failed", "TimedOut"):
        task_started(run, frame, None)
    details = details_of(event.error, event.cause)
    _emit_outcome(run, frame, outcome, details)
    alias = ErrorName.HEARTBEAT_TIMEOUT if event.stage == "heartbeat" else None
    fail(run, frame, details.get("error"), details.get("cause"), alias)


def tasks_timed_out(run: Run, frames: list[Frame], alias: ErrorName | None = None) -> None:
    """Tasks have not come to their end, or not sent their heartbeat, in time. All of them are reported before any fails."""
    for frame in frames:
        run.close_task(frame, cancel=True)
        _emit_outcome(run, frame, "TimedOut", details_of(ErrorName.TIMEOUT, None))
    for frame in frames:
        if frame.phase is Phase.TASK:  # what one time-out led to may have swept away the next
            fail(run, frame, ErrorName.TIMEOUT, None, alias)


def _emit_outcome(run: Run, frame: Frame, outcome: _Outcome, details: Details) -> None:
    resource = _resource(frame)
    family = family_of(resource)
    suffix: str = outcome
    if family is Family.TASK:
        details = {**_kind(resource), **details}
        if outcome == "ScheduleFailed":
            suffix = "StartFailed"
    elif outcome == "SubmitFailed" or (family is Family.ACTIVITY and outcome == "StartFailed"):
        suffix = "Failed"  # not every family has an event for every stage
    run.emit_next(frame, f"{family}{suffix}", details)


def _scheduled(run: Run, resource: Resource, timeout: int | None, heartbeat: int | None, role: Json) -> Details:
    family = family_of(resource)
    details: Details = {"resource": resource.text}
    if family is Family.TASK:
        details = {**_kind(resource), "region": run.state.info.region}
    if timeout is not None:
        details["timeoutInSeconds"] = timeout
    if heartbeat is not None and family is not Family.FUNCTION:
        details["heartbeatInSeconds"] = heartbeat
    if role is not None and family is not Family.ACTIVITY:
        details["taskCredentials"] = {"roleArn": role}
    return details


def _start_timers(run: Run, frame: Frame, task: OpenTask) -> None:
    if task.timeout_seconds:
        due = run.now + 1000 * task.timeout_seconds
        task.timeout_timer = run.start_timer(frame, TimerKind.TASK_TIMEOUT, due, task.task)
    if task.heartbeat_seconds:
        due = run.now + 1000 * task.heartbeat_seconds
        task.heartbeat_timer = run.start_timer(frame, TimerKind.HEARTBEAT, due, task.task)


def _role(run: Run, frame: Frame, state: TaskState) -> Json:
    if state.credentials is None:
        return None
    credentials = state.credentials(field_scope(run, frame))
    return credentials.get("RoleArn") if isinstance(credentials, dict) else None


def _resource(frame: Frame) -> Resource:
    state = frame.current
    assert isinstance(state, TaskState)
    return state.resource


def _kind(resource: Resource) -> Details:
    return {"resourceType": resource.history_type, "resource": resource.history_resource}


def _seconds(run: Run, frame: Frame, field: FieldValue | None) -> int:
    return 0 if field is None else integer(run, frame, field, least=1)
