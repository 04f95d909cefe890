"""Task: has one unit of work done by a target, and takes its outcome.

Three families of history events tell of it, as on AWS: LambdaFunction* for a function ARN, Activity* for an activity, Task*
for everything else.
"""

from __future__ import annotations

from enum import StrEnum

from stepwell.engine.asl.resources import IntegrationPattern, Resource, TargetKind
from stepwell.engine.asl.states import FieldValue, TaskState
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import MAX_CAUSE_LENGTH, MAX_ERROR_LENGTH, MAX_PAYLOAD_BYTES
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import MarkTaskStarted, ScheduleTask, TimerKind
from stepwell.engine.machine.dataflow import effective_input, finish_state, integer
from stepwell.engine.machine.failure import details_of, fail, fail_evaluation
from stepwell.engine.machine.history import Details
from stepwell.engine.machine.run import Run, data_limit
from stepwell.engine.machine.snapshot import Frame, OpenTask, Phase
from stepwell.engine.states_errors import ErrorName, StatesError


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


def run_task(run: Run, frame: Frame) -> None:
    """Run the body of a Task state: schedule the task."""
    state = frame.current
    assert isinstance(state, TaskState)
    resource = state.resource
    needs_token = resource.kind in CLAIMED or resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN
    number = run.state.next_task
    task = OpenTask(number, run.entropy.bytes16() if needs_token else b"")
    frame.task = task
    try:
        payload = effective_input(run, frame)
        timeout = _seconds(run, frame, state.timeout_seconds)
        heartbeat = _seconds(run, frame, state.heartbeat_seconds)
        if len(payload.text) > MAX_PAYLOAD_BYTES:
            raise data_limit(state.name)
        credentials = state.credentials(run.scope(frame, payload.value)) if state.credentials is not None else None
    except BaseException:
        frame.task = None
        raise
    run.state.next_task = number + 1
    run.state.tasks[number] = frame
    _emit_scheduled(run, frame, resource, payload, timeout, heartbeat, credentials)
    frame.phase = Phase.TASK
    run.touch(frame)
    if timeout is not None:
        task.timeout_timer = run.start_timer(frame, TimerKind.TASK_TIMEOUT, run.now + 1000 * timeout, number)
    if heartbeat is not None:
        task.heartbeat_seconds = heartbeat
        task.heartbeat_timer = run.start_timer(frame, TimerKind.HEARTBEAT, run.now + 1000 * heartbeat, number)
    run.commands.append(
        ScheduleTask(
            number, state.name, frame.entered_event, frame.attempts, resource, payload, task.secret, frame.last_event, heartbeat, timeout
        )
    )
    if resource.kind not in CLAIMED:
        run.started.append(frame)


CLAIMED = frozenset({TargetKind.ACTIVITY, TargetKind.CELERY})
"""Targets whose workers say themselves when they start; the others start as soon as the schedule is committed."""


def task_started(run: Run, frame: Frame, worker: str | None) -> None:
    """The task runs now."""
    task, state = frame.task, frame.current
    assert task is not None and isinstance(state, TaskState)
    if task.started:
        return
    task.started = True
    family = family_of(state.resource)
    details: Details | None = None
    if family is Family.TASK:
        details = _kind(state.resource)
    elif family is Family.ACTIVITY:
        details = {"workerName": worker} if worker is not None else {}
    run.emit_next(frame, f"{family}Started", details)
    run.touch(frame)


def worker_started(run: Run, frame: Frame, event: events.TaskStarted) -> None:
    """A worker has taken the task."""
    assert frame.task is not None
    if not frame.task.started:
        run.commands.append(MarkTaskStarted(event.task, event.worker))
    task_started(run, frame, event.worker)


def task_submitted(run: Run, frame: Frame, event: events.TaskSubmitted) -> None:
    """The service has taken the request; the outcome is still to come."""
    state = frame.current
    assert isinstance(state, TaskState)
    run.emit_next(frame, "TaskSubmitted", _kind(state.resource), Document.trusted(bytes(event.output)))
    run.touch(frame)


def task_succeeded(run: Run, frame: Frame, event: events.TaskSucceeded) -> None:
    """The task has a result."""
    state = frame.current
    assert isinstance(state, TaskState)
    result = Document.trusted(bytes(event.output))
    resource = state.resource
    if len(result.text) > MAX_PAYLOAD_BYTES:
        error = data_limit(resource.text if resource.plain_function else resource.history_type)
        _emit_outcome(run, frame, "Failed", details_of(error.error, error.cause))
        fail(run, frame, error.error, error.cause)
        return
    family = family_of(resource)
    run.emit_next(frame, f"{family}Succeeded", _kind(resource) if family is Family.TASK else None, result)
    run.close_task(frame)
    try:
        finish_state(run, frame, result, state.next)
    except StatesError as error:
        fail_evaluation(run, frame, error)


_STAGES = {"schedule": "ScheduleFailed", "start": "StartFailed", "submit": "SubmitFailed", "run": "Failed"}


def task_failed(run: Run, frame: Frame, event: events.TaskFailed) -> None:
    """The task has failed; `stage` tells how far it had come."""
    error = event.error[:MAX_ERROR_LENGTH] if event.error is not None else None
    cause = event.cause[:MAX_CAUSE_LENGTH] if event.cause is not None else None
    _emit_outcome(run, frame, _STAGES[event.stage], details_of(error, cause))
    fail(run, frame, error, cause)


def task_timed_out(run: Run, frame: Frame, error: ErrorName) -> None:
    """The task has not come to its end, or not sent its heartbeat, in time."""
    run.close_task(frame, cancel=True)
    _emit_outcome(run, frame, "TimedOut", details_of(ErrorName.TIMEOUT, None))
    fail(run, frame, error, None)


def _emit_outcome(run: Run, frame: Frame, suffix: str, details: Details) -> None:
    state = frame.current
    assert isinstance(state, TaskState)
    family = family_of(state.resource)
    if family is Family.TASK:
        details = {**_kind(state.resource), **details}
        if suffix == "ScheduleFailed":  # the Task family has no such event
            suffix = "StartFailed"
    elif suffix == "SubmitFailed":
        suffix = "Failed"
    run.emit_next(frame, f"{family}{suffix}", details)


def _emit_scheduled(
    run: Run,
    frame: Frame,
    resource: Resource,
    payload: Document,
    timeout: int | None,
    heartbeat: int | None,
    credentials: object,
) -> None:
    family = family_of(resource)
    details: Details = (
        {**_kind(resource), "region": run.state.info.region} if family is Family.TASK else {"resource": resource.text}
    )
    if timeout is not None:
        details["timeoutInSeconds"] = timeout
    if heartbeat is not None and family is not Family.FUNCTION:
        details["heartbeatInSeconds"] = heartbeat
    if isinstance(credentials, dict) and "RoleArn" in credentials and family is not Family.ACTIVITY:
        details["taskCredentials"] = {"roleArn": credentials["RoleArn"]}
    run.emit_next(frame, f"{family}Scheduled", details, payload)


def _kind(resource: Resource) -> Details:
    return {"resourceType": resource.history_type, "resource": resource.history_resource}


def _seconds(run: Run, frame: Frame, field: FieldValue | None) -> int | None:
    return None if field is None else integer(run, frame, field, least=1)
