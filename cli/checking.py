"""Checking definitions and showing the findings: each with its line and a caret under the place.

It must not import click: see `cli.main`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.cli.definition_files import UnreadableError, files_of, is_yaml, printable, read_definition_file
from stepwell.cli.validate_settings import SettingsError, ValidateSettings, read_settings
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode, Severity
from stepwell.engine.limits import MAX_DEFINITION_BYTES

if TYPE_CHECKING:
    from stepwell.engine.jsontypes import Json

FORMATS = ("text", "json", "sarif", "github")
SHOWN_FINDINGS = 50
SHOWN_COLUMNS = 100
SHOWN_LINES = 20
SHOWN_HINT_CHARS = 1000
_LINE_END = re.compile(r"\r\n|\n|\r")
_COLOURS = {"bold": "1", "grey": "90", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(slots=True)
class Checked:
    """What was found in one file. `value` is the definition where it could be read; `secrets` are not to be shown."""

    name: str
    text: bytes = b""
    findings: list[Diagnostic] = field(default_factory=list)
    unreadable: str | None = None
    value: Json = None
    yaml: bool = False
    secrets: frozenset[str] = frozenset()

    def fails(self, strict: bool) -> bool:
        return self.unreadable is not None or any(strict or one.severity is Severity.ERROR for one in self.findings)

    def count(self, severity: Severity) -> int:
        return sum(one.severity is severity for one in self.findings)

    def as_json(self, strict: bool) -> dict[str, object]:
        found: dict[str, object] = {"file": self.name, "valid": not self.fails(strict)}
        if self.unreadable is not None:
            return {**found, "unreadable": self.unreadable}
        return {**found, "diagnostics": [diagnostic_json(one) for one in self.findings]}


def check(names: Sequence[str], format: str = "text", settings: ValidateSettings | None = None) -> int:
    """Check the files that `names` lead to, show what was found, and return the exit code.

    0: no errors; 1: errors; 2: a file that cannot be read, or settings that cannot be used.
    """
    if settings is None:
        try:
            settings = read_settings(Path.cwd())
        except SettingsError as error:
            sys.stderr.write(f"Error: {error}\n")
            return 2
    results = [check_file(file, settings, templates=True) for file in files_of(names, templates=True)]
    if format == "text":
        paint = Paint()
        for result in results:
            stream = sys.stdout if result.unreadable is None else sys.stderr
            stream.writelines(f"{line}\n" for line in result_lines(result, paint))
        if len(results) > 1:
            sys.stdout.write(f"{_total(results)}\n")
    else:
        from stepwell.cli.finding_formats import written

        sys.stdout.write(written(results, format, settings.strict))
    if any(result.unreadable is not None for result in results):
        return 2
    return int(any(result.fails(settings.strict) for result in results))


def _total(results: Sequence[Checked]) -> str:
    errors = sum(result.count(Severity.ERROR) for result in results)
    warnings = sum(result.count(Severity.WARNING) for result in results)
    unreadable = sum(result.unreadable is not None for result in results)
    found = [counted(errors, "error"), counted(warnings, "warning")]
    return f"{len(results)} files: {', '.join(found + [f'{unreadable} not readable'] * bool(unreadable))}"


def check_file(
    name: str, settings: ValidateSettings | None = None, *, templates: bool = False, runnable: bool = False
) -> Checked:
    """Check one file (`-` is stdin); with `templates`, the definitions in one that is a deployment template; with `runnable`,
    as the server does that is to run it.
    """
    from stepwell.engine.asl.document import Syntax, examine

    settings = settings or ValidateSettings()
    try:
        text, size = read_definition_file(name)
    except UnreadableError as error:
        return Checked(name, unreadable=str(error))
    if size > len(text):
        message = f"The definition has {size} bytes; at most {MAX_DEFINITION_BYTES} are accepted"
        return Checked(name, text, [Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, message)])
    yaml = is_yaml(name, text)
    try:
        found = examine(
            text,
            syntax=Syntax.YAML if yaml else Syntax.JSON,
            target=settings.target,
            machine_type=settings.type,
            ignore=settings.ignore,
            templates=templates,
            runnable=runnable,
        )
    except ImportError:
        return Checked(name, unreadable="YAML is read by ruamel.yaml: install stepwell[server].")
    value = None if found.document is None else found.document.value
    return Checked(name, text, found.findings, value=value, yaml=yaml, secrets=found.secrets)


def refused(name: str, text: bytes, error: DefinitionError) -> Checked:
    """What is to be shown of a file whose definition was refused."""
    from stepwell.engine.asl.document import refused as examined

    found = examined(text, error)
    return Checked(name, text, found.findings, secrets=found.secrets)


def result_lines(result: Checked, paint: Paint | None = None) -> Iterator[str]:
    """What is said of one file."""
    paint = paint or Paint()
    if result.unreadable is not None:
        yield paint(result.unreadable, "red")
        return
    name = printable(result.name)
    if not result.findings:
        yield f"{paint('✓', 'green')} {name}"
        return
    lines = Lines(result.text, result.secrets)
    open_values = [one for one in result.findings if one.code is DiagnosticCode.STEPWELL_PLACEHOLDER]
    more_open = open_values[1:]
    told_together = {id(one) for one in more_open}
    findings = [one for one in result.findings if id(one) not in told_together]
    for finding in findings[:SHOWN_FINDINGS]:
        yield from finding_lines(name, finding, lines, paint)
        if more_open and finding is open_values[0]:
            yield f"  and {len(more_open)} more to be filled in: {_lines_of(more_open)}"
    if len(findings) > SHOWN_FINDINGS:
        yield f"... and {len(findings) - SHOWN_FINDINGS} more (--json shows all of them)"
    errors, warnings = result.count(Severity.ERROR), result.count(Severity.WARNING)
    counts = [counted(errors, "error")] * bool(errors) + [counted(warnings, "warning")] * bool(warnings)
    yield f"{paint('✗', 'red') if errors else paint('!', 'yellow')} {name}: {', '.join(counts)}"


def _lines_of(findings: Sequence[Diagnostic]) -> str:
    """The lines that findings are in, the first of them where there are many."""
    numbers = list(dict.fromkeys(one.line for one in findings if one.line is not None))
    shown = ", ".join(str(number) for number in numbers[:SHOWN_LINES])
    return f"{'line' if len(numbers) == 1 else 'lines'} {shown}{', …' if len(numbers) > SHOWN_LINES else ''}"


def finding_lines(name: str, finding: Diagnostic, lines: Lines, paint: Paint) -> Iterator[str]:
    """A finding for people: what and where, the line it is in with a caret, what to do about it."""
    colour = "red" if finding.severity is Severity.ERROR else "yellow"
    kind = paint(finding.severity.lower(), colour)
    place = ":".join(str(part) for part in (name, finding.line, finding.column) if part is not None)
    message = printable(finding.message.partition("\n at [Source")[0], 2000)
    yield f"{paint(place, 'bold')}: {kind}: {message} {paint(f'[{finding.code}]', 'grey')}"
    line = lines.line(finding.line) if finding.line is not None else None
    if line is not None:
        text, caret = window(line, finding.column or 1)
        number = f"{finding.line} |"
        yield f"  {paint(number, 'grey')} {text}"
        yield f"  {paint(number[-1].rjust(len(number)), 'grey')} {' ' * columns_of(text[:caret])}{paint('^', colour)}"
    if finding.location and finding.location.startswith("/") and finding.location != "/":
        yield f"  at {printable(finding.location)}"
    if finding.hint:
        yield f"  {paint('hint:', 'cyan')} {printable(finding.hint, SHOWN_HINT_CHARS)}"


class Paint:
    """Colours, where stdout is a terminal that shows them."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._on else text


class Lines:
    """The lines of a text, found when first asked for. Columns count characters, as diagnostics do."""

    def __init__(self, text: bytes, secrets: frozenset[str] = frozenset()) -> None:
        self._text = text
        self._secrets = secrets
        self._lines: list[str] | None = None

    def line(self, number: int) -> str | None:
        if self._lines is None:
            text = self._text.decode("utf-8-sig", "replace")
            if self._secrets:
                from stepwell.engine.asl.lints.secrets import hide_in_source

                text = hide_in_source(text, self._secrets)
            self._lines = _LINE_END.split(text)
        return self._lines[number - 1] if 1 <= number <= len(self._lines) else None


def window(line: str, column: int) -> tuple[str, int]:
    """The part of a line around a column (from 1) that fits, and where the caret goes under it (from 0)."""
    at = min(column - 1, len(line))
    first = len(line) - len(line.lstrip())
    start = min(first, at)
    if at - start > SHOWN_COLUMNS - 30:
        start = at - 40
    text = line[start : start + SHOWN_COLUMNS]
    before = "…" if start > first else ""
    after = "…" if start + SHOWN_COLUMNS < len(line.rstrip()) else ""
    return f"{before}{printable(text)}{after}".rstrip(), at - start + len(before)


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide character, none for a mark over another."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def diagnostic_json(finding: Diagnostic) -> dict[str, object]:
    """A finding for machines."""
    found = {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "message": finding.message,
        "location": finding.location,
        "pointer": finding.pointer,
        "line": finding.line,
        "column": finding.column,
        "hint": finding.hint,
    }
    return {name: value for name, value in found.items() if value is not None}
