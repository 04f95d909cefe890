"""The error names of the States Language and the exception that carries one through the interpreter.

The one list of reserved `States.*` names (ASL specification, appendix A, and AWS's guide), plus Stepwell's own.
"""

from __future__ import annotations

from enum import StrEnum

from stepwell.engine.errors import StepwellError


class ErrorName(StrEnum):
    """Reserved error names. Names of a user's own errors are free text and not listed here."""

    ALL = "States.ALL"
    BRANCH_FAILED = "States.BranchFailed"
    DATA_LIMIT_EXCEEDED = "States.DataLimitExceeded"
    EXCEED_TOLERATED_FAILURE_THRESHOLD = "States.ExceedToleratedFailureThreshold"
    HEARTBEAT_TIMEOUT = "States.HeartbeatTimeout"
    HTTP_SOCKET = "States.Http.Socket"
    INTRINSIC_FAILURE = "States.IntrinsicFailure"
    ITEM_READER_FAILED = "States.ItemReaderFailed"
    NO_CHOICE_MATCHED = "States.NoChoiceMatched"
    PARAMETER_PATH_FAILURE = "States.ParameterPathFailure"
    PERMISSIONS = "States.Permissions"
    QUERY_EVALUATION_ERROR = "States.QueryEvaluationError"
    RESULT_PATH_MATCH_FAILURE = "States.ResultPathMatchFailure"
    RESULT_WRITER_FAILED = "States.ResultWriterFailed"
    RUNTIME = "States.Runtime"
    TASK_FAILED = "States.TaskFailed"
    TIMEOUT = "States.Timeout"
    WORKER_LOST = "Stepwell.WorkerLost"
    ENGINE_LOST = "Stepwell.EngineLost"
    EGRESS_DENIED = "Stepwell.EgressDenied"
    CONNECTION_NOT_FOUND = "Events.ConnectionResource.NotFound"
    CONNECTION_INVALID = "Events.ConnectionResource.InvalidConnectionState"
    CONNECTION_UNAUTHORIZED = "Events.ConnectionResource.AuthorizationFailed"


class StatesError(StepwellError):
    """An error in the States Language's sense: `error` names it, `cause` explains it; Retry and Catch can match it.

    `location` is the field whose JSONata could not be evaluated ("Output/total")."""

    def __init__(self, error: str, cause: str | None = None, location: str | None = None) -> None:
        super().__init__(f"{error}: {cause}" if cause else error)
        self.error = error
        self.cause = cause
        self.location = location
