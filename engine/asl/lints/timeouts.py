"""Heartbeats that no time-out leaves time for, and tasks that wait for someone outside and would wait for years."""

from __future__ import annotations

from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.report import Report
from stepwell.engine.asl.resources import IntegrationPattern, TargetKind, parse_resource

_BOUNDS: Final = ("TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath")


def check_timeouts(report: Report, machine: Machine) -> None:
    """Look at the times of every Task."""
    machine_ends = "TimeoutSeconds" in machine.definition
    for state in machine.states:
        if state.type == "Task":
            _check_heartbeat(report, state)
            if not machine_ends and not any(field in state.fields for field in _BOUNDS):
                _check_bound(report, state)


def _check_heartbeat(report: Report, state: StateAt) -> None:
    heartbeat, timeout = state.fields.get("HeartbeatSeconds"), state.fields.get("TimeoutSeconds")
    if type(heartbeat) is int and type(timeout) is int and heartbeat >= timeout:
        report.warn(
            (state.place, "HeartbeatSeconds"),
            f"HeartbeatSeconds ({heartbeat}) is not smaller than TimeoutSeconds ({timeout}): no heartbeat is ever missed",
            DiagnosticCode.HEARTBEAT_TOO_LONG,
            hint="The specification wants it smaller; several times smaller is usual.",
        )


def _check_bound(report: Report, state: StateAt) -> None:
    text = state.fields.get("Resource")
    resource = parse_resource(text) if isinstance(text, str) and "${" not in text else None
    if resource is None:
        return
    if resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN:
        whom = "its task token comes back"
    elif resource.kind is TargetKind.ACTIVITY:
        whom = "a worker takes it and answers"
    else:
        return
    report.warn(
        state.place,
        f"Nothing bounds this task: it waits until {whom}, for years if nobody does",
        DiagnosticCode.UNBOUNDED_TASK,
        hint="Give it TimeoutSeconds or HeartbeatSeconds, or the machine TimeoutSeconds.",
    )
