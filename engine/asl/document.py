"""A definition as a file holds it: JSON, with substitutions still to be made, or YAML; and everything that can be said about it.

The way in for tools. What a server is sent is JSON and is judged by `validate`, as AWS judges it. It must not know files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode, Severity
from stepwell.engine.asl.lints import run_lints
from stepwell.engine.asl.lints.secrets import hide, secret_values, secrets_in_text
from stepwell.engine.asl.placeholders import quote_unquoted
from stepwell.engine.asl.resource_rules import Target
from stepwell.engine.asl.scanner import LineIndex
from stepwell.engine.asl.source import read_definition, value_offsets
from stepwell.engine.asl.validate import MachineType, check_definition
from stepwell.engine.jsontypes import Json, place_of

if TYPE_CHECKING:
    from stepwell.engine.asl.templates import Embedded, Nested

BYTE_ORDER_MARK: Final = "\ufeff"


class Syntax(StrEnum):
    """How a definition is written down."""

    JSON = "json"
    YAML = "yaml"


@dataclass(slots=True)
class Document:
    """A definition that could be read. `text` has no byte order mark, and substitutions that stood without quotes in quotes."""

    text: str
    value: Json
    syntax: Syntax
    _places: Mapping[str, tuple[int, int]] | None = None

    def place(self, pointer: str) -> tuple[int, int]:
        """Line and column of what a JSON pointer points to, or of the nearest place around it that is written down."""
        if self._places is None:
            lines = LineIndex(self.text)
            self._places = {one: lines.position(offset) for one, offset in value_offsets(self.text).items()}
        while pointer and pointer not in self._places:
            pointer = pointer.rpartition("/")[0]
        return self._places.get(pointer, (1, 1))

    def exact_place(self, pointer: str) -> tuple[int, int] | None:
        """Line and column of what a JSON pointer points to; None if that is not written down."""
        place = self.place(pointer)
        return place if self._places is not None and pointer in self._places else None

    def placed(self, finding: Diagnostic) -> Diagnostic:
        """A finding with its line and column."""
        if finding.pointer is None or finding.line is not None:
            return finding
        line, column = self.place(finding.pointer)
        return replace(finding, line=line, column=column)


def read_document(text: str | bytes, syntax: Syntax = Syntax.JSON, *, templates: bool = False) -> Document:
    """Read a definition; with `templates`, or a deployment template. Raises `DefinitionError` for what cannot be read, with advice."""
    try:
        document = _read(text, syntax)
    except DefinitionError as error:
        from stepwell.engine.asl.advice import advised  # most texts can be read

        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        raise DefinitionError(advised(one, plain, json=syntax is Syntax.JSON) for one in error.diagnostics) from None
    if not templates and _is_template(document.value):
        raise DefinitionError([_IS_TEMPLATE])
    return document


def _read(text: str | bytes, syntax: Syntax) -> Document:
    if syntax is Syntax.YAML:
        return _read_yaml(text)
    try:
        value = read_definition(text)
    except DefinitionError:
        return _with_open_values(text)
    return Document(_plain(text), value, Syntax.JSON)


class Examined(NamedTuple):
    """What was found in a text, by line, and what must not be shown of it. `document` is None for what could not be read."""

    findings: list[Diagnostic]
    secrets: frozenset[str]
    document: Document | None


def examine(
    text: str | bytes,
    *,
    syntax: Syntax = Syntax.JSON,
    target: Target | str = Target.STEPWELL,
    machine_type: MachineType | str = MachineType.STANDARD,
    ignore: Collection[str] = (),
    templates: bool = False,
    runnable: bool = False,
) -> Examined:
    """Everything there is to say about a definition's text: what AWS refuses or warns of, and what is allowed and hardly meant.

    `ignore` has codes of warnings to leave out. No finding has a secret in it. With `templates`, the text may be a deployment
    template: then the definitions in it are examined, each as a machine of its own type, and there is no document. With
    `runnable`, what a server refuses because nothing could run it is an error, not a warning.
    """
    document = None
    try:
        document = read_document(text, syntax, templates=templates)
    except DefinitionError as error:
        return refused(text, error)
    else:
        if _is_template(document.value):
            return _examine_template(document, Target(target), ignore)
        report = check_definition(document.value, Target(target), MachineType(machine_type), runnable=runnable)
        run_lints(report, document.value, Target(target))
        secrets = secret_values(document.value)
        findings = [document.placed(one) for one in report.findings if not _is_ignored(one, ignore)]
        findings.sort(key=lambda one: (one.line or 0, one.column or 0, one.severity is Severity.WARNING))
    return Examined([_without(one, secrets) for one in findings] if secrets else findings, secrets, document)


def refused(text: str | bytes, error: DefinitionError) -> Examined:
    """What is to be shown of a text that was refused."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    secrets = secrets_in_text(plain[: limits.MAX_DEFINITION_BYTES])
    return Examined([_without(one, secrets) for one in error.diagnostics], secrets, None)


def _is_template(value: Json) -> bool:
    if not isinstance(value, dict) or "StartAt" in value or "States" in value:
        return False
    from stepwell.engine.asl.templates import is_template  # takes a while to load, and most documents are none

    return is_template(value)


def _examine_template(document: Document, target: Target, ignore: Collection[str]) -> Examined:
    from stepwell.engine.asl.templates import embedded_definitions

    findings: list[Diagnostic] = []
    # A text that holds a definition is looked into by itself, or all of it would be covered.
    secrets = frozenset(one for one in secret_values(document.value) if not one.lstrip().startswith("{"))
    definitions = list(embedded_definitions(document.value))
    for embedded in definitions:
        if embedded.text is None:
            report = check_definition(embedded.value, target, MachineType(embedded.machine_type))
            run_lints(report, embedded.value, target)
            found = report.findings
        else:
            inner = examine(embedded.text, target=target, machine_type=embedded.machine_type)
            secrets |= inner.secrets
            found = inner.findings
        nested = _nested_in(document, embedded)
        kept = (_in_template(one, embedded) for one in found if not _is_ignored(one, ignore))
        findings.extend(_placed_in_template(one, document, embedded, nested) for one in kept if one is not None)
    if not definitions:
        findings.append(_NO_DEFINITION)
    findings.sort(key=lambda one: (one.line or 0, one.column or 0, one.severity is Severity.WARNING))
    return Examined([_without(one, secrets) for one in findings] if secrets else findings, secrets, None)


_NO_DEFINITION: Final = Diagnostic(
    DiagnosticCode.MISSING_DESCRIPTION,
    "The template holds no definition of a state machine",
    severity=Severity.WARNING,
    line=1,
    column=1,
    hint="Definition and DefinitionString of state machines in Resources are looked for, and definition of stateMachines in "
    "stepFunctions. A definition in a file of its own is checked by naming that file.",
)


_IS_TEMPLATE: Final = Diagnostic(
    DiagnosticCode.SCHEMA_VALIDATION_FAILED,
    "It is a deployment template and no definition",
    line=1,
    column=1,
    hint="Give the definition a file of its own. What stands in a template is checked by: stepwell validate",
)


def _nested_in(document: Document, embedded: Embedded) -> Nested | None:
    from stepwell.engine.asl.templates import Nested

    for pointer in embedded.places:
        begins = document.exact_place(pointer)
        if begins is not None and embedded.text is not None:
            return Nested(document.text, begins, embedded.text)
    return None


def _in_template(finding: Diagnostic, embedded: Embedded) -> Diagnostic | None:
    """A finding as it is where a template fills substitutions in; None for one that is none then."""
    from stepwell.engine.asl.templates import unfilled

    if finding.code is not DiagnosticCode.STEPWELL_PLACEHOLDER:
        return finding
    left = unfilled(finding.message, embedded.filled)
    if not left:
        return None
    return replace(
        finding,
        message=f"DefinitionSubstitutions has no '{left[0][:80]}'",
        hint="Only what stands there is substituted; anything else of the form ${...} is left as it is.",
    )


def _placed_in_template(
    finding: Diagnostic, document: Document, embedded: Embedded, nested: Nested | None
) -> Diagnostic:
    location = finding.location if finding.location and finding.location.startswith("/") else ""
    location = f"{embedded.pointer}{location}".rstrip("/")
    if embedded.text is None:
        pointer = f"{embedded.pointer}{finding.pointer or ''}"
        return document.placed(replace(finding, location=location, pointer=pointer))
    line, column = document.place(embedded.pointer)
    if nested is not None:
        line, column = nested.place(finding.line, finding.column, embedded.text)
    return replace(finding, location=location, pointer=embedded.pointer, line=line, column=column)


def _is_ignored(finding: Diagnostic, ignore: Collection[str]) -> bool:
    return finding.severity is Severity.WARNING and finding.code in ignore


def _without(finding: Diagnostic, secrets: frozenset[str]) -> Diagnostic:
    location, hint = finding.location, finding.hint
    return replace(
        finding,
        message=hide(finding.message, secrets),
        location=None if location is None else hide(location, secrets),
        hint=None if hint is None else hide(hint, secrets),
    )


def _plain(text: str | bytes) -> str:
    return (text.decode() if isinstance(text, bytes) else text).removeprefix(BYTE_ORDER_MARK)


def _with_open_values(text: str | bytes) -> Document:
    """JSON which is none before `${Name}` outside of strings is substituted. Raises what reading raised if it is none then."""
    try:
        plain = _plain(text)
    except UnicodeDecodeError:
        plain = ""
    quoted = quote_unquoted(plain) if "${" in plain and len(plain) <= limits.MAX_DEFINITION_BYTES else plain
    if quoted == plain:
        read_definition(text)
    return Document(quoted, read_definition(quoted), Syntax.JSON)


def _read_yaml(text: str | bytes) -> Document:
    from stepwell.engine.asl.yaml_source import read_yaml

    if len(text) > limits.MAX_DEFINITION_BYTES:
        unit = "bytes" if isinstance(text, bytes) else "characters"
        message = f"The definition has {len(text)} {unit}; at most {limits.MAX_DEFINITION_BYTES} bytes are accepted"
        raise DefinitionError([Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, message)])
    try:
        plain = _plain(text)
    except UnicodeDecodeError as error:
        message = f"Invalid UTF-8 byte 0x{error.object[error.start]:02x} at offset {error.start}"
        line, column = place_of(error.object, error.start)
        raise DefinitionError([Diagnostic(DiagnosticCode.INVALID_YAML, message, line=line, column=column)]) from None
    value, places = read_yaml(plain)
    return Document(plain, value, Syntax.YAML, places)
