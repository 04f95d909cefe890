"""The engine's records as REST shows them: camelCase members, RFC 3339 times, user data as JSON (not as text)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from stepwell.engine.ids import express_child, labelled_machine
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import EVENT_SHAPES, HistoryEvent
from stepwell.engine.machine.map_run import Tally
from stepwell.engine.map_ports import MapRunView
from stepwell.engine.ports import (
    ActivityRecord,
    AnyExecutionView,
    ConnectionRecord,
    DeadLetter,
    ExecutionView,
    ExpressView,
    FunctionRecord,
    MachineRecord,
    StartAnswer,
)
from stepwell.engine.service.redriving import Redrivability
from stepwell.engine.service.state_machines import DEFAULT_LOGGING, DEFAULT_TRACING, config_of
from stepwell.engine.service.state_tests import InspectionLevel, StateTestResult

View: TypeAlias = dict[str, Any]


def time(milliseconds: int | None) -> str | None:
    """A time as RFC 3339 in UTC, with milliseconds."""
    if milliseconds is None:
        return None
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Under load the same few seconds are shown thousands of times."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def raw(document: Document | None) -> msgspec.Raw | None:
    """User data, passed on as the text it is."""
    return None if document is None else msgspec.Raw(document.text)


def _present(view: View) -> View:
    return {name: value for name, value in view.items() if value is not None}


def state_test(result: StateTestResult) -> View:
    """What came of testing a state."""
    outcome = result.outcome
    view: View = {
        "status": outcome.status.value,
        "output": raw(outcome.output),
        "error": outcome.error,
        "cause": outcome.cause,
        "nextState": outcome.next,
    }
    if result.level is not InspectionLevel.INFO:
        view["inspectionData"] = {arrow.value: raw(value) for arrow, value in outcome.values.items()} | result.facts()
    return _present(view)


def started(answer: StartAnswer, machine: str, trace: str | None) -> View:
    """A start that is durable."""
    return _present(
        {
            "id": answer.id.hex(),
            "arn": answer.arn,
            "name": answer.name,
            "stateMachine": machine,
            "status": "RUNNING",
            "startedAt": time(answer.started_at),
            "traceHeader": trace,
        }
    )


def _any_execution(view: AnyExecutionView) -> View:
    return {
        "id": view.id.hex() if express_child(view.arn) is None else view.arn,  # nothing lies under that key
        "arn": view.arn,
        "name": view.name,
        "stateMachine": view.machine_name,
        "stateMachineArn": view.machine_arn,
        "revision": view.revision,
        "status": view.status.value,
        "startedAt": time(view.started_at),
        "stoppedAt": time(view.stopped_at),
        "input": raw(view.input),
        "output": raw(view.output),
        "error": view.error,
        "cause": view.cause,
        "traceHeader": view.trace_header,
    }


def execution(view: ExecutionView, redrive: Redrivability | None = None) -> View:
    """An execution; input and output where they were asked for."""
    shown = _present(
        {
            **_any_execution(view),
            "events": view.last_event,
            "redriveCount": view.redrive_count,
            "redrivenAt": time(view.redriven_at),
            "mapRun": view.map_run_arn,
            "items": view.item_count,
        }
    )
    if redrive is not None:
        shown["redriveStatus"] = redrive.status.value
        if redrive.reason is not None:
            shown["redriveStatusReason"] = redrive.reason
    return shown


def express(view: ExpressView) -> View:
    """An execution of an Express state machine."""
    return _present({**_any_execution(view), "type": "EXPRESS", "attempt": view.attempt or None})


def map_run(view: MapRunView) -> View:
    """A Map Run."""
    progress = view.progress
    return _present(
        {
            "arn": view.arn,
            "execution": view.execution_arn,
            "stateMachineArn": labelled_machine(view.arn)[0],
            "status": view.status.value,
            "startedAt": time(view.started_at),
            "stoppedAt": time(view.stopped_at),
            "maxConcurrency": view.max_concurrency,
            "toleratedFailureCount": view.tolerated_count,
            "toleratedFailurePercentage": view.tolerated_percentage,
            "error": progress.error if view.status is Status.FAILED else None,
            "cause": progress.cause if view.status is Status.FAILED else None,
            "redriveCount": progress.redrives,
            "redrivenAt": time(view.redriven_at),
            "items": _tally(progress.items),
            "executions": _tally(progress.executions),
        }
    )


def _tally(tally: Tally) -> View:
    return {
        "pending": tally.pending,
        "running": tally.running,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "timedOut": tally.timed_out,
        "aborted": tally.aborted,
        "total": tally.total,
    }


def event(id: int, event: HistoryEvent) -> View:
    """A history event; `details` are AWS's, with input, output and parameters as JSON."""
    shape = EVENT_SHAPES[event.type]
    details: View = dict(event.details) if event.details else {}
    variables = details.get("assignedVariables")
    if isinstance(variables, dict):
        details["assignedVariables"] = {
            name: msgspec.Raw(text.encode()) for name, text in variables.items() if isinstance(text, str)
        }
    if event.payload is not None and shape.payload is not None:
        details[shape.payload] = event.payload
    return {
        "id": id,
        "type": event.type,
        "previousId": event.previous,
        "timestamp": time(event.timestamp),
        "details": details,
    }


def machine(record: MachineRecord, *, definition: bool = True) -> View:
    """A state machine at its newest revision."""
    shown: View = {
        "arn": record.arn,
        "name": record.name,
        "type": record.type,
        "status": record.status,
        "description": record.description,
        "revision": record.revision,
        "revisionId": record.revision_id,
        "createdAt": time(record.created_at),
        "updatedAt": time(record.updated_at),
    }
    if definition:
        shown |= {
            "roleArn": record.role_arn,
            "definition": msgspec.Raw(record.definition.encode()),
            "loggingConfiguration": config_of(record.logging, DEFAULT_LOGGING),
            "tracingConfiguration": config_of(record.tracing, DEFAULT_TRACING),
        }
    return _present(shown)


def activity(record: ActivityRecord) -> View:
    """An activity."""
    return {"arn": record.arn, "name": record.name, "createdAt": time(record.created_at)}


def dead_letter(letter: DeadLetter) -> View:
    """A dead letter; its input where it was asked for."""
    return _present(
        {
            "id": letter.id,
            "kind": letter.kind,
            "status": letter.status.value,
            "execution": letter.execution.hex(),
            "executionArn": letter.execution_arn,
            "stateMachine": letter.machine_name,
            "stateMachineArn": letter.machine_arn,
            "state": letter.state,
            "attempt": letter.attempt,
            "error": letter.error,
            "cause": letter.cause,
            "input": raw(letter.input),
            "at": time(letter.at),
            "closedAt": time(letter.closed_at),
            "redriveCount": letter.redrive_count,
        }
    )


def function(record: FunctionRecord) -> View:
    """A function of the registry."""
    return {
        "name": record.name,
        "kind": record.kind.value,
        "target": record.target,
        "options": msgspec.Raw(record.options.encode()),
        "createdAt": time(record.created_at),
    }


def connection(record: ConnectionRecord) -> View:
    """A connection without its secrets."""
    return {
        "arn": record.arn,
        "name": record.name,
        "authorizationType": record.auth,
        "authParameters": msgspec.Raw(record.settings.encode()),
        "createdAt": time(record.created_at),
    }
