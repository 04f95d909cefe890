"""What operations answer: the engine's records in the shapes of the API model. Absent members are left out."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from stepwell.engine.asl.diagnostics import Diagnostic
from stepwell.engine.asl.variable_references import variable_references
from stepwell.engine.ids import labelled_machine
from stepwell.engine.jsontypes import spaced, write
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import EVENT_SHAPES, HistoryEvent
from stepwell.engine.machine.map_run import Tally
from stepwell.engine.map_ports import MapRunView
from stepwell.engine.ports import ActivityRecord, ExecutionView, ExpressView, MachineRecord, Revision
from stepwell.engine.service.redriving import Redrivability
from stepwell.engine.service.state_machines import DEFAULT_LOGGING, DEFAULT_TRACING, config_of
from stepwell.engine.service.state_tests import InspectionLevel, StateTestResult

Answer: TypeAlias = dict[str, Any]


def seconds(milliseconds: int) -> float:
    """A timestamp as the wire has it: seconds since the epoch with a millisecond fraction."""
    return milliseconds / 1000


def machine(record: MachineRecord, *, data: bool) -> Answer:
    """DescribeStateMachine."""
    answer: Answer = {
        "stateMachineArn": record.arn,
        "name": record.name,
        "status": record.status,
        "definition": record.definition if data else "{}",
        "roleArn": record.role_arn,
        "type": record.type,
        "creationDate": seconds(record.created_at),
        **_configuration(record),
        **(_references(record.definition) if data else {}),
    }
    if record.revision_id is not None:
        answer["revisionId"] = record.revision_id
    if record.description:
        answer["description"] = record.description
    return answer


def _configuration(record: MachineRecord) -> Answer:
    answer: Answer = {
        "loggingConfiguration": config_of(record.logging, DEFAULT_LOGGING),
        "tracingConfiguration": config_of(record.tracing, DEFAULT_TRACING),
    }
    if record.encryption is not None:
        answer["encryptionConfiguration"] = config_of(record.encryption, None)
    return answer


def _references(definition: str) -> Answer:
    references = variable_references(definition)
    return {"variableReferences": references} if references else {}


def machine_for_execution(
    view: ExecutionView, revision: Revision, record: MachineRecord | None, *, data: bool
) -> Answer:
    """DescribeStateMachineForExecution."""
    answer: Answer = {
        "stateMachineArn": view.machine_arn,
        "name": view.machine_name,
        "definition": revision.definition if data else "{}",
        "roleArn": revision.role_arn,
        "updateDate": seconds(revision.updated_at),
    }
    if data:
        answer.update(_references(revision.definition))
    if record is not None:
        answer.update(_configuration(record))
    if revision.revision_id is not None:
        answer["revisionId"] = revision.revision_id
    return answer


def machine_item(record: MachineRecord) -> Answer:
    """An item of ListStateMachines."""
    return {
        "stateMachineArn": record.arn,
        "name": record.name,
        "type": record.type,
        "creationDate": seconds(record.created_at),
    }


PENDING_REDRIVE: Final = "PENDING_REDRIVE"
"""The status that children of a Map Run show while they wait to be redriven."""


def execution_item(view: ExecutionView) -> Answer:
    """An item of ListExecutions."""
    answer: Answer = {
        "executionArn": view.arn,
        "stateMachineArn": view.machine_arn,
        "name": view.name,
        "status": PENDING_REDRIVE if view.pending_redrive else view.status.value,
        "startDate": seconds(view.started_at),
        "redriveCount": view.redrive_count,
    }
    if view.stopped_at is not None:
        answer["stopDate"] = seconds(view.stopped_at)
    if view.redriven_at is not None:
        answer["redriveDate"] = seconds(view.redriven_at)
    if view.map_run_arn is not None:
        answer["mapRunArn"] = view.map_run_arn
    if view.version_arn is not None:
        answer["stateMachineVersionArn"] = view.version_arn
    if view.alias_arn is not None:
        answer["stateMachineAliasArn"] = view.alias_arn
    return answer


def _tally(tally: Tally, written: int, pending_redrive: int) -> Answer:
    return {
        "pending": tally.pending - pending_redrive,
        "running": tally.running,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "timedOut": tally.timed_out,
        "aborted": tally.aborted,
        "total": tally.total,
        "resultsWritten": written,
        "pendingRedrive": pending_redrive,
    }


def child_item(view: ExecutionView) -> Answer:
    """An item of ListExecutions of a Map Run."""
    answer = execution_item(view)
    if view.item_count is not None:
        answer["itemCount"] = view.item_count
    return answer


def map_run_item(view: MapRunView) -> Answer:
    """An item of ListMapRuns."""
    answer: Answer = {
        "executionArn": view.execution_arn,
        "mapRunArn": view.arn,
        "stateMachineArn": labelled_machine(view.arn)[0],
        "startDate": seconds(view.started_at),
    }
    if view.stopped_at is not None:
        answer["stopDate"] = seconds(view.stopped_at)
    return answer


def map_run(view: MapRunView) -> Answer:
    """DescribeMapRun."""
    progress = view.progress
    answer: Answer = {
        "mapRunArn": view.arn,
        "executionArn": view.execution_arn,
        "status": view.status.value,
        "startDate": seconds(view.started_at),
        "maxConcurrency": view.max_concurrency,
        "toleratedFailurePercentage": view.tolerated_percentage,
        "toleratedFailureCount": view.tolerated_count,
        "itemCounts": _tally(progress.items, progress.items_written, view.pending_redrive_items),
        "executionCounts": _tally(progress.executions, progress.results_written, view.pending_redrive),
    }
    if view.stopped_at is not None:
        answer["stopDate"] = seconds(view.stopped_at)
    if progress.redrives:
        answer["redriveCount"] = progress.redrives
    if view.redriven_at is not None:
        answer["redriveDate"] = seconds(view.redriven_at)
    return answer


def execution(view: ExecutionView, redrive: Redrivability) -> Answer:
    """DescribeExecution."""
    answer = execution_item(view)
    answer["redriveStatus"] = redrive.status.value
    if redrive.reason is not None:
        answer["redriveStatusReason"] = redrive.reason
    if view.input is not None:
        answer["input"] = view.input.text.decode()
        answer["inputDetails"] = {"included": True}
    if view.output is not None:
        answer["output"] = view.output.text.decode()
        answer["outputDetails"] = {"included": True}
    if view.error is not None and view.status is not Status.TIMED_OUT:  # AWS names no error for a time-out
        answer["error"] = view.error
    if view.cause is not None:
        answer["cause"] = view.cause
    if view.trace_header is not None:
        answer["traceHeader"] = view.trace_header
    return answer


BILLED_STEP_MS: Final = 100
BILLED_STEP_MB: Final = 64


def sync_execution(view: ExpressView, *, data: bool) -> Answer:
    """StartSyncExecution. What AWS would bill is told in its steps of time and memory; memory is not measured."""
    stopped_at = view.stopped_at if view.stopped_at is not None else view.started_at
    steps = max(1, -(-(stopped_at - view.started_at) // BILLED_STEP_MS))
    answer: Answer = {
        "executionArn": view.arn,
        "stateMachineArn": view.machine_arn,
        "name": view.name,
        "startDate": seconds(view.started_at),
        "stopDate": seconds(stopped_at),
        "status": view.status.value,
        "inputDetails": {"included": data},
        "outputDetails": {"included": data},
        "billingDetails": {
            "billedMemoryUsedInMB": BILLED_STEP_MB,
            "billedDurationInMilliseconds": steps * BILLED_STEP_MS,
        },
    }
    if data and view.input is not None:
        answer["input"] = view.input.text.decode()
    if data and view.output is not None:
        answer["output"] = view.output.text.decode()
    if view.error is not None and view.status is not Status.TIMED_OUT:
        answer["error"] = view.error
    if view.cause is not None:
        answer["cause"] = view.cause
    if view.trace_header is not None:
        answer["traceHeader"] = view.trace_header
    return answer


def event(id: int, event: HistoryEvent, *, data: bool) -> Answer:
    """An event of GetExecutionHistory; without `data` input and output are left out."""
    answer: Answer = {
        "timestamp": seconds(event.timestamp),
        "type": event.type,
        "id": id,
        "previousEventId": event.previous,
    }
    shape = EVENT_SHAPES[event.type]
    if shape.details is None:
        return answer
    details: Answer = dict(event.details) if event.details else {}
    if "assignedVariables" in details:
        if data:
            details["assignedVariablesDetails"] = {"truncated": False}
        else:
            del details["assignedVariables"]
    if event.payload is not None and shape.payload is not None and data:
        details[shape.payload] = bytes(event.payload).decode()
        if shape.companion is not None:
            details[shape.companion] = {"truncated": False}
    if details or shape.empty:
        answer[shape.details] = details
    return answer


def state_test(result: StateTestResult) -> Answer:
    """TestState. What is inspected is spelt for people to read: with spaces, on one line."""
    outcome = result.outcome
    answer: Answer = {"status": outcome.status.value}
    if outcome.output is not None:
        answer["output"] = outcome.output.text.decode()
    members = {"error": outcome.error, "cause": outcome.cause, "nextState": outcome.next}
    answer |= {name: value for name, value in members.items() if value is not None}
    if result.level is InspectionLevel.INFO:
        return answer
    facts = result.facts()
    if "variables" in facts:
        facts["variables"] = spaced(write(facts["variables"]))
    answer["inspectionData"] = {arrow.value: spaced(value.text) for arrow, value in outcome.values.items()} | facts
    return answer


def activity(record: ActivityRecord) -> Answer:
    """An item of ListActivities."""
    return {"activityArn": record.arn, "name": record.name, "creationDate": seconds(record.created_at)}


def diagnostic(finding: Diagnostic) -> Answer:
    """An item of ValidateStateMachineDefinition."""
    answer: Answer = {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "message": finding.message,
    }
    if finding.location is not None:
        answer["location"] = finding.location
    return answer
