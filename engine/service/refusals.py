"""Why a use-case refuses a request: one exception, a closed list of codes, and the text of each refusal.

Codes are the names of the Step Functions API's exceptions; texts are AWS's own where they are known. What is wrong with a
request is said here and nowhere else, so that REST, the wire protocol and the command line say the same. It must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from stepwell.engine.asl.diagnostics import Diagnostic, definition_error_text
from stepwell.engine.errors import JsonTextError, StepwellError
from stepwell.engine.jsontypes import Fault


class ErrorCode(StrEnum):
    """The exceptions of the Step Functions API that Stepwell raises, and the common ones of AWS's protocol."""

    ACTIVITY_DOES_NOT_EXIST = "ActivityDoesNotExist"
    CONFLICT = "ConflictException"
    EXECUTION_ALREADY_EXISTS = "ExecutionAlreadyExists"
    EXECUTION_DOES_NOT_EXIST = "ExecutionDoesNotExist"
    EXECUTION_NOT_REDRIVABLE = "ExecutionNotRedrivable"
    INVALID_ARN = "InvalidArn"
    INVALID_DEFINITION = "InvalidDefinition"
    INVALID_ENCRYPTION_CONFIGURATION = "InvalidEncryptionConfiguration"
    INVALID_EXECUTION_INPUT = "InvalidExecutionInput"
    INVALID_LOGGING_CONFIGURATION = "InvalidLoggingConfiguration"
    INVALID_NAME = "InvalidName"
    INVALID_OUTPUT = "InvalidOutput"
    INVALID_TOKEN = "InvalidToken"
    MISSING_REQUIRED_PARAMETER = "MissingRequiredParameter"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    STATE_MACHINE_ALREADY_EXISTS = "StateMachineAlreadyExists"
    STATE_MACHINE_DELETING = "StateMachineDeleting"
    STATE_MACHINE_DOES_NOT_EXIST = "StateMachineDoesNotExist"
    STATE_MACHINE_TYPE_NOT_SUPPORTED = "StateMachineTypeNotSupported"
    TASK_DOES_NOT_EXIST = "TaskDoesNotExist"
    TASK_TIMED_OUT = "TaskTimedOut"
    VALIDATION = "ValidationException"
    # Of the protocol, not of an operation:
    ACCESS_DENIED = "AccessDeniedException"
    INTERNAL_FAILURE = "InternalFailure"
    INVALID_SIGNATURE = "InvalidSignatureException"
    MISSING_AUTHENTICATION_TOKEN = "MissingAuthenticationToken"
    REQUEST_TOO_LARGE = "RequestEntityTooLargeException"
    SERIALIZATION = "SerializationException"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    UNKNOWN_OPERATION = "UnknownOperationException"
    UNRECOGNIZED_CLIENT = "UnrecognizedClientException"


class ValidationReason(StrEnum):
    """`reason` of a ValidationException."""

    MAP_RUN_COMPLETED = "CANNOT_UPDATE_COMPLETED_MAP_RUN"
    LABELED_ARN = "API_DOES_NOT_SUPPORT_LABELED_ARNS"
    MISSING_REQUIRED_PARAMETER = "MISSING_REQUIRED_PARAMETER"


class ServiceError(StepwellError):
    """A request that is refused: `code` says what kind of refusal, the message what is wrong.

    `resource_name` and `reason` are extra members some exceptions carry; `diagnostics` come with a refused definition;
    `pointer` is the place in the request (RFC 6901), where it is one; `line` and `column` the place in the text of that member,
    or of the whole request, where that text cannot be read.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        reason: ValidationReason | None = None,
        resource_name: str | None = None,
        diagnostics: Sequence[Diagnostic] = (),
        pointer: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.resource_name = resource_name
        self.diagnostics = tuple(diagnostics)
        self.pointer = pointer
        self.line = line
        self.column = column


def invalid(message: str, *, reason: ValidationReason | None = None, pointer: str | None = None) -> ServiceError:
    """A request that breaks a rule which has no exception of its own."""
    return ServiceError(ErrorCode.VALIDATION, message, reason=reason, pointer=pointer)


def constraint(member: str, value: str, rule: str) -> str:
    """One breach of a constraint of the API model, in AWS's words. `value` is shown as it stands (quoted by the caller)."""
    return f"Value {value} at '{member}' failed to satisfy constraint: Member must {rule}"


def constraints_broken(breaches: Sequence[str], *, pointer: str | None = None) -> ServiceError:
    """A request that breaks constraints of the API model."""
    noun = "error" if len(breaches) == 1 else "errors"
    return invalid(f"{len(breaches)} validation {noun} detected: {'; '.join(breaches)}", pointer=pointer)


def invalid_arn(why: str) -> ServiceError:
    return ServiceError(ErrorCode.INVALID_ARN, f"Invalid Arn: '{why}'")


def invalid_name(name: str) -> ServiceError:
    return ServiceError(ErrorCode.INVALID_NAME, f"Invalid Name: '{name}'")


def invalid_token() -> ServiceError:
    return ServiceError(ErrorCode.INVALID_TOKEN, "Invalid Token: 'Invalid token'")


def invalid_definition(diagnostics: Sequence[Diagnostic]) -> ServiceError:
    text = definition_error_text(diagnostics)
    return ServiceError(
        ErrorCode.INVALID_DEFINITION, f"Invalid State Machine Definition: '{text}'", diagnostics=diagnostics
    )


def invalid_input(why: JsonTextError) -> ServiceError:
    message = f"Invalid State Machine Execution Input: '{why}'"
    return ServiceError(ErrorCode.INVALID_EXECUTION_INPUT, message, pointer="/input", line=why.line, column=why.column)


def invalid_output(why: JsonTextError) -> ServiceError:
    return ServiceError(
        ErrorCode.INVALID_OUTPUT, f"Invalid Output: '{why}'", pointer="/output", line=why.line, column=why.column
    )


def unreadable(what: str, fault: Fault, *, pointer: str | None = None) -> ServiceError:
    """A request, or the member of one that `pointer` names, whose text is no JSON."""
    return ServiceError(
        ErrorCode.SERIALIZATION, f"{what}: {fault}", pointer=pointer, line=fault.line, column=fault.column
    )


def machine_does_not_exist(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.STATE_MACHINE_DOES_NOT_EXIST, f"State Machine Does Not Exist: '{arn}'")


def machine_already_exists(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.STATE_MACHINE_ALREADY_EXISTS, f"State Machine Already Exists: '{arn}'")


def machine_deleting(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.STATE_MACHINE_DELETING, f"State Machine is being deleted: '{arn}'")


def machine_type_not_supported() -> ServiceError:
    return ServiceError(
        ErrorCode.STATE_MACHINE_TYPE_NOT_SUPPORTED, "This operation is not supported by this type of state machine"
    )


def not_for_express_children() -> ServiceError:
    return ServiceError(
        ErrorCode.STATE_MACHINE_TYPE_NOT_SUPPORTED,
        "This operation is not supported by this type of state machine: Express child executions have no history, and are stopped"
        " and redriven with the execution that started their Map Run",
    )


def execution_does_not_exist(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.EXECUTION_DOES_NOT_EXIST, f"Execution Does Not Exist: '{arn}'")


def execution_already_exists(arn: str) -> ServiceError:
    message = f"Execution Already Exists: '{arn}'"
    return ServiceError(ErrorCode.EXECUTION_ALREADY_EXISTS, message, resource_name=arn)


def execution_not_redrivable(reason: str) -> ServiceError:
    return ServiceError(ErrorCode.EXECUTION_NOT_REDRIVABLE, reason)


def activity_does_not_exist(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.ACTIVITY_DOES_NOT_EXIST, f"Activity Does Not Exist: '{arn}'")


def task_does_not_exist() -> ServiceError:
    return ServiceError(ErrorCode.TASK_DOES_NOT_EXIST, "Task Does Not Exist: 'Provided task does not exist'")


def task_timed_out() -> ServiceError:
    return ServiceError(ErrorCode.TASK_TIMED_OUT, "Task Timed Out: 'Provided task does not exist anymore'")


def no_such_resource(arn: str) -> ServiceError:
    return ServiceError(ErrorCode.RESOURCE_NOT_FOUND, f"Resource not found: '{arn}'", resource_name=arn)


def not_found(kind: str, name: str) -> ServiceError:
    """A resource of Stepwell's own (a dead letter, function, connection or key) that is not there."""
    message = f"{kind} Does Not Exist: '{name}'"
    return ServiceError(ErrorCode.RESOURCE_NOT_FOUND, message, resource_name=name)
