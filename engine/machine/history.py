"""History events: the closed list of AWS's event types, and the compact record in which Stepwell keeps one.

An event's id is not stored: the events of an execution are numbered 1, 2, 3, ... without gaps, and a chunk knows its first.
At most one member of each event type holds user data; it is kept apart as `data`, as raw JSON text, so that writing an
event never escapes or re-parses it. `api` turns a record into AWS's shape by the table below.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from stepwell.engine.asl.states import StateType

Details = dict[str, Any]
"""Members of an event's details but for user data. (`Any` and not `Json`: msgspec cannot read a recursive alias.)"""


NO_DATA: Final = msgspec.Raw(b"null")


class HistoryEvent(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One event: `previous` is previousEventId, `timestamp` milliseconds since the epoch, `data` raw JSON text.

    `data` means something only for the types that carry user data (`EventShape.payload`); see `payload`.
    """

    type: str
    previous: int
    timestamp: int
    details: Details | None = None
    data: msgspec.Raw = NO_DATA

    @property
    def payload(self) -> msgspec.Raw | None:
        """The user data the event carries, as JSON text; None for a type that carries none."""
        return self.data if EVENT_SHAPES[self.type].payload is not None else None


class EventShape(NamedTuple):
    """How AWS shows an event type: the name of its details member (None: it has none) and of the member with user data.

    `companion` names the {truncated} member that goes with the data; `empty` says that details appear even when empty.
    """

    details: str | None
    payload: str | None = None
    companion: str | None = None
    empty: bool = True


def _entered() -> EventShape:
    return EventShape("stateEnteredEventDetails", "input", "inputDetails")


def _exited() -> EventShape:
    return EventShape("stateExitedEventDetails", "output", "outputDetails")


EVENT_SHAPES: Final[dict[str, EventShape]] = {
    "ActivityFailed": EventShape("activityFailedEventDetails"),
    "ActivityScheduleFailed": EventShape("activityScheduleFailedEventDetails"),
    "ActivityScheduled": EventShape("activityScheduledEventDetails", "input", "inputDetails"),
    "ActivityStarted": EventShape("activityStartedEventDetails"),
    "ActivitySucceeded": EventShape("activitySucceededEventDetails", "output", "outputDetails"),
    "ActivityTimedOut": EventShape("activityTimedOutEventDetails"),
    "ChoiceStateEntered": _entered(),
    "ChoiceStateExited": _exited(),
    "EvaluationFailed": EventShape("evaluationFailedEventDetails"),
    "ExecutionAborted": EventShape("executionAbortedEventDetails"),
    "ExecutionFailed": EventShape("executionFailedEventDetails"),
    "ExecutionRedriven": EventShape("executionRedrivenEventDetails"),
    "ExecutionStarted": EventShape("executionStartedEventDetails", "input", "inputDetails"),
    "ExecutionSucceeded": EventShape("executionSucceededEventDetails", "output", "outputDetails"),
    "ExecutionTimedOut": EventShape("executionTimedOutEventDetails"),
    "FailStateEntered": _entered(),
    "LambdaFunctionFailed": EventShape("lambdaFunctionFailedEventDetails"),
    "LambdaFunctionScheduleFailed": EventShape("lambdaFunctionScheduleFailedEventDetails"),
    "LambdaFunctionScheduled": EventShape("lambdaFunctionScheduledEventDetails", "input", "inputDetails"),
    "LambdaFunctionStartFailed": EventShape("lambdaFunctionStartFailedEventDetails"),
    "LambdaFunctionStarted": EventShape(None),
    "LambdaFunctionSucceeded": EventShape("lambdaFunctionSucceededEventDetails", "output", "outputDetails"),
    "LambdaFunctionTimedOut": EventShape("lambdaFunctionTimedOutEventDetails"),
    "MapIterationAborted": EventShape("mapIterationAbortedEventDetails"),
    "MapIterationFailed": EventShape("mapIterationFailedEventDetails"),
    "MapIterationStarted": EventShape("mapIterationStartedEventDetails"),
    "MapIterationSucceeded": EventShape("mapIterationSucceededEventDetails"),
    "MapRunAborted": EventShape(None),
    "MapRunFailed": EventShape("mapRunFailedEventDetails"),
    "MapRunRedriven": EventShape("mapRunRedrivenEventDetails"),
    "MapRunStarted": EventShape("mapRunStartedEventDetails"),
    "MapRunSucceeded": EventShape(None),
    "MapStateAborted": EventShape(None),
    "MapStateEntered": _entered(),
    "MapStateExited": _exited(),
    "MapStateFailed": EventShape(None),
    "MapStateStarted": EventShape("mapStateStartedEventDetails"),
    "MapStateSucceeded": EventShape(None),
    "ParallelStateAborted": EventShape(None),
    "ParallelStateEntered": _entered(),
    "ParallelStateExited": _exited(),
    "ParallelStateFailed": EventShape(None),
    "ParallelStateStarted": EventShape(None),
    "ParallelStateSucceeded": EventShape(None),
    "PassStateEntered": _entered(),
    "PassStateExited": _exited(),
    "SucceedStateEntered": _entered(),
    "SucceedStateExited": _exited(),
    "TaskFailed": EventShape("taskFailedEventDetails"),
    "TaskScheduled": EventShape("taskScheduledEventDetails", "parameters"),
    "TaskStartFailed": EventShape("taskStartFailedEventDetails"),
    "TaskStarted": EventShape("taskStartedEventDetails"),
    "TaskStateAborted": EventShape(None),
    "TaskStateEntered": _entered(),
    "TaskStateExited": _exited(),
    "TaskSubmitFailed": EventShape("taskSubmitFailedEventDetails"),
    "TaskSubmitted": EventShape("taskSubmittedEventDetails", "output", "outputDetails"),
    "TaskSucceeded": EventShape("taskSucceededEventDetails", "output", "outputDetails"),
    "TaskTimedOut": EventShape("taskTimedOutEventDetails"),
    "WaitStateAborted": EventShape(None),
    "WaitStateEntered": _entered(),
    "WaitStateExited": _exited(),
}
"""All history event types of the Step Functions API and their shapes (botocore service model, stepfunctions 2016-11-23)."""

ENTERED: Final[dict[StateType, str]] = {type_: f"{type_}StateEntered" for type_ in StateType}
EXITED: Final[dict[StateType, str]] = {
    type_: f"{type_}StateExited" for type_ in StateType if type_ is not StateType.FAIL
}
ABORTED: Final[dict[StateType, str]] = {
    type_: f"{type_}StateAborted" for type_ in (StateType.TASK, StateType.WAIT, StateType.MAP, StateType.PARALLEL)
}

TERMINAL: Final = frozenset({"ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"})
"""Event types that end an execution (until it is redriven)."""
