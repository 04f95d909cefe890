"""What each code of a finding means, in a line: the one list. The documentation's table is made of it, and SARIF's rules are.

It must not know how a finding is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode

EXPLANATIONS: Final[Mapping[DiagnosticCode, str]] = {
    DiagnosticCode.INVALID_JSON_DESCRIPTION: "The text is no JSON.",
    DiagnosticCode.MISSING_DESCRIPTION: "There is no definition.",
    DiagnosticCode.SCHEMA_VALIDATION_FAILED: "A field is missing, unknown, of the wrong type, or has a value the language does not allow.",
    DiagnosticCode.INVALID_RESOURCE: "Nothing can run this Resource.",
    DiagnosticCode.MISSING_END_STATE: "No state ends the machine, branch or processor.",
    DiagnosticCode.MISSING_TRANSITION_TARGET: "A transition leads to no state, or no transition leads to a state.",
    DiagnosticCode.DUPLICATE_STATE_NAME: "Two states of the machine have the same name.",
    DiagnosticCode.INVALID_STATE_NAME: "A state's name is empty or too long.",
    DiagnosticCode.DUPLICATE_LABEL_NAME: "Two Map states have the same Label.",
    DiagnosticCode.INVALID_LABEL_NAME: "A Label is empty, too long, or has a character it may not have.",
    DiagnosticCode.TOO_DEEPLY_NESTED: "The definition is nested more deeply than is accepted.",
    DiagnosticCode.STATE_MACHINE_NAME_EMPTY: "The machine's name is empty.",
    DiagnosticCode.STATE_MACHINE_NAME_INVALID: "The machine's name has a character it may not have.",
    DiagnosticCode.STATE_MACHINE_NAME_TOO_LONG: "The machine's name is too long.",
    DiagnosticCode.STATE_MACHINE_NAME_ALREADY_EXISTS: "There is a machine of this name.",
    DiagnosticCode.INVALID_YAML: "The text is no YAML, or YAML that has no form in JSON.",
    DiagnosticCode.UNREADABLE: "The file cannot be read.",
    DiagnosticCode.STEPWELL_ONLY_RESOURCE: "The Resource runs on Stepwell only; an error with `--target aws`.",
    DiagnosticCode.NO_DOLLAR: "A template's value looks like a path, and its name does not end with `.$`: it is handed on as text.",
    DiagnosticCode.NO_PATH: "A field's value looks like a path, and its name does not end with `Path`: it is taken as text.",
    DiagnosticCode.PASS_RESULT_IS_STATIC: "Result of a Pass has a field ending with `.$`, which is not computed.",
    DiagnosticCode.STEPWELL_PLACEHOLDER: "A `${...}` stands where a deployment tool is still to put a value; rules for it are not checked.",
    DiagnosticCode.UNASSIGNED_VARIABLE: "A variable is read, and no state on any way there assigns it.",
    DiagnosticCode.UNREADABLE_VARIABLE: "A variable's name has a hyphen: no expression can read it. An error with `--target aws`.",
    DiagnosticCode.IMPOSSIBLE_PATH: "A path or expression reads what can never be there.",
    DiagnosticCode.IGNORED_PATH_END: "A path ends with a bracket that opens nothing; it is read without.",
    DiagnosticCode.ODD_NAME: "A name after a dot has a quote or bracket in it: a bracket before it is missing.",
    DiagnosticCode.UNKNOWN_ERROR_NAME: "ErrorEquals names a `States.` error that does not exist.",
    DiagnosticCode.UNREACHABLE_RETRIER: "Earlier entries of Retry match every error that this one names.",
    DiagnosticCode.UNREACHABLE_CATCHER: "Earlier entries of Catch match every error that this one names.",
    DiagnosticCode.UNREACHABLE_RULE: "An earlier choice rule matches whenever this one does.",
    DiagnosticCode.HEARTBEAT_TOO_LONG: "HeartbeatSeconds is not smaller than TimeoutSeconds.",
    DiagnosticCode.DISTRIBUTED_ONLY_FIELD: "An inline Map has a field that only Distributed Maps use.",
    DiagnosticCode.NO_EXECUTION_TYPE: "A Distributed Map has no ExecutionType, which AWS's guide says it must.",
    DiagnosticCode.NO_CSV_HEADERS: "Nothing says what the columns of a CSV object are called.",
    DiagnosticCode.UNUSED_FIELD: "A field is not used, because of what another one says.",
    DiagnosticCode.UNBOUNDED_TASK: "A task waits for an activity worker or a task token, and nothing bounds how long.",
    DiagnosticCode.TOKEN_NOT_TOLD: "A task waits for its task token, and hands it to nobody.",
    DiagnosticCode.UNKNOWN_INTEGRATION: "AWS has no service integration of this name or pattern.",
    DiagnosticCode.UNSUPPORTED_SERVICE: "Stepwell does not carry out this service of AWS. Not with `--target aws`.",
    DiagnosticCode.WRONG_PARAMETERS: "A service integration is called without a parameter it needs, or with one it does not have.",
    DiagnosticCode.NOT_COMPUTED: "A text looks like a path or an expression, and is none in this place: it is handed on as text.",
    DiagnosticCode.FAILING_CALL: "An intrinsic function's literal arguments make it fail every time.",
    DiagnosticCode.NO_WAY_OUT: "A loop that no way leads out of.",
    DiagnosticCode.SECRET: "A key, token or password is written into the definition.",
}
"""In the order of the documentation: what refuses a definition, AWS's warnings, Stepwell's own."""

WARNINGS: Final = tuple(EXPLANATIONS)[list(EXPLANATIONS).index(DiagnosticCode.NO_DOLLAR) :]
"""The codes that warn. They can be ignored; what refuses a definition cannot. INVALID_RESOURCE can be either."""

IGNORABLE: Final = frozenset({*WARNINGS, DiagnosticCode.INVALID_RESOURCE})
