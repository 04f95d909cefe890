"""What is wrong with a definition: one `Diagnostic` a finding, and the error that carries them.

Codes, order of fields and texts are those of ValidateStateMachineDefinition. It must not know how a finding is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from stepwell.engine.errors import StepwellError
from stepwell.engine.limits import MAX_DIAGNOSTICS


class Severity(StrEnum):
    """An ERROR refuses the definition; a WARNING does not."""

    ERROR = "ERROR"
    WARNING = "WARNING"


class DiagnosticCode(StrEnum):
    """The codes of ValidateStateMachineDefinition (API model, `ValidateStateMachineDefinitionCode`), plus Stepwell's own.

    AWS's codes are in capitals with underscores; Stepwell's own are in small letters with hyphens, but for two older ones.
    `codes.EXPLANATIONS` has a line about each.
    """

    INVALID_JSON_DESCRIPTION = "INVALID_JSON_DESCRIPTION"
    MISSING_DESCRIPTION = "MISSING_DESCRIPTION"
    SCHEMA_VALIDATION_FAILED = "SCHEMA_VALIDATION_FAILED"
    INVALID_RESOURCE = "INVALID_RESOURCE"
    MISSING_END_STATE = "MISSING_END_STATE"
    MISSING_TRANSITION_TARGET = "MISSING_TRANSITION_TARGET"
    DUPLICATE_STATE_NAME = "DUPLICATE_STATE_NAME"
    INVALID_STATE_NAME = "INVALID_STATE_NAME"
    DUPLICATE_LABEL_NAME = "DUPLICATE_LABEL_NAME"
    INVALID_LABEL_NAME = "INVALID_LABEL_NAME"
    TOO_DEEPLY_NESTED = "TOO_DEEPLY_NESTED"
    STATE_MACHINE_NAME_EMPTY = "STATE_MACHINE_NAME_EMPTY"
    STATE_MACHINE_NAME_INVALID = "STATE_MACHINE_NAME_INVALID"
    STATE_MACHINE_NAME_TOO_LONG = "STATE_MACHINE_NAME_TOO_LONG"
    STATE_MACHINE_NAME_ALREADY_EXISTS = "STATE_MACHINE_NAME_ALREADY_EXISTS"
    NO_DOLLAR = "NO_DOLLAR"
    NO_PATH = "NO_PATH"
    PASS_RESULT_IS_STATIC = "PASS_RESULT_IS_STATIC"
    STEPWELL_ONLY_RESOURCE = "STEPWELL_ONLY_RESOURCE"
    """A Resource that runs on Stepwell and that AWS refuses."""
    STEPWELL_PLACEHOLDER = "STEPWELL_PLACEHOLDER"
    """A `${...}` left for a deployment tool to fill in."""
    INVALID_YAML = "invalid-yaml"
    UNREADABLE = "unreadable"
    UNASSIGNED_VARIABLE = "unassigned-variable"
    UNREADABLE_VARIABLE = "unreadable-variable"
    IMPOSSIBLE_PATH = "impossible-path"
    IGNORED_PATH_END = "ignored-path-end"
    ODD_NAME = "odd-name"
    UNKNOWN_ERROR_NAME = "unknown-error-name"
    UNREACHABLE_RETRIER = "unreachable-retrier"
    UNREACHABLE_CATCHER = "unreachable-catcher"
    UNREACHABLE_RULE = "unreachable-rule"
    HEARTBEAT_TOO_LONG = "heartbeat-too-long"
    DISTRIBUTED_ONLY_FIELD = "distributed-only-field"
    NO_EXECUTION_TYPE = "no-execution-type"
    NO_CSV_HEADERS = "no-csv-headers"
    UNUSED_FIELD = "unused-field"
    UNBOUNDED_TASK = "unbounded-task"
    TOKEN_NOT_TOLD = "token-not-told"
    UNKNOWN_INTEGRATION = "unknown-integration"
    UNSUPPORTED_SERVICE = "unsupported-service"
    WRONG_PARAMETERS = "wrong-parameters"
    NOT_COMPUTED = "not-computed"
    FAILING_CALL = "failing-call"
    NO_WAY_OUT = "no-way-out"
    SECRET = "secret-in-definition"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    `location` is AWS's: `/States/X/Next`, array indexes in brackets (`/States/X/Choices[0]/Variable`), or the source text of
    a syntax error; None where AWS names none. `pointer` is the same place as an RFC 6901 JSON pointer; `line` and `column`
    (from 1) are set where the text was at hand. `hint` says what to do about it.
    """

    code: DiagnosticCode
    message: str
    location: str | None = None
    severity: Severity = Severity.ERROR
    pointer: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message} at {self.location or 'null'}"


class DefinitionError(StepwellError):
    """A definition that is refused. Carries every finding, errors first in the order found."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(definition_error_text(self.diagnostics))


def definition_error_text(diagnostics: Iterable[Diagnostic]) -> str:
    """AWS's text of a refused definition: `CODE: message at location`, joined by a comma, errors only, the first hundred."""
    errors = (finding for finding in diagnostics if finding.severity is Severity.ERROR)
    return ", ".join(str(finding) for finding in islice(errors, MAX_DIAGNOSTICS))
