"""Checking definitions and showing the findings: each with its line and a caret under the place.

It must not import click: see `cli.main`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stepwell.engine.asl.diagnostics import Diagnostic, DiagnosticCode, Severity
from stepwell.engine.limits import MAX_DEFINITION_BYTES

SHOWN_FINDINGS = 50
SHOWN_COLUMNS = 100
_COLOURS = {"bold": "1", "grey": "90", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class UnreadableError(Exception):
    """A file that cannot be read; says why."""


@dataclass(slots=True)
class Checked:
    """What was found in one file."""

    name: str
    text: bytes = b""
    findings: list[Diagnostic] = field(default_factory=list)
    unreadable: str | None = None

    def fails(self, strict: bool) -> bool:
        return self.unreadable is not None or any(strict or one.severity is Severity.ERROR for one in self.findings)

    def as_json(self, strict: bool) -> dict[str, object]:
        found: dict[str, object] = {"file": self.name, "valid": not self.fails(strict)}
        if self.unreadable is not None:
            return {**found, "unreadable": self.unreadable}
        return {**found, "diagnostics": [diagnostic_json(one) for one in self.findings]}


def check(
    files: Sequence[str],
    *,
    as_json: bool = False,
    target: str = "stepwell",
    machine_type: str = "STANDARD",
    strict: bool = False,
) -> int:
    """Check files, show what was found, and return the exit code: 0 for no errors, 1 for errors, 2 for an unreadable file."""
    results = [check_file(file, target, machine_type) for file in files]
    if as_json:
        import json

        valid = not any(result.fails(strict) for result in results)
        sys.stdout.write(json.dumps({"valid": valid, "files": [one.as_json(strict) for one in results]}) + "\n")
    else:
        paint = Paint()
        for result in results:
            stream = sys.stdout if result.unreadable is None else sys.stderr
            stream.writelines(f"{line}\n" for line in result_lines(result, paint))
    if any(result.unreadable is not None for result in results):
        return 2
    return int(any(result.fails(strict) for result in results))


def check_file(name: str, target: str = "stepwell", machine_type: str = "STANDARD") -> Checked:
    """Check one file (`-` is stdin)."""
    from stepwell.engine.asl.validate import validate

    try:
        text, size = read_definition_file(name)
    except UnreadableError as error:
        return Checked(name, unreadable=str(error))
    if size > len(text):
        message = f"The definition has {size} bytes; at most {MAX_DEFINITION_BYTES} are accepted"
        return Checked(name, text, [Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, message)])
    findings = validate(text, target=target, machine_type=machine_type)
    return Checked(name, text, sorted(findings, key=lambda one: (one.line or 0, one.column or 0)))


def read_definition_file(name: str) -> tuple[bytes, int]:
    """The bytes of a definition's file and its size; of one that is too long to be one, only the beginning."""
    try:
        if name == "-":
            text = sys.stdin.buffer.read(4 * MAX_DEFINITION_BYTES)
            size = len(text)
        else:
            with Path(name).open("rb") as file:
                text = file.read(MAX_DEFINITION_BYTES + 1)
                size = max(len(text), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise UnreadableError(f"{shown(name)} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UnreadableError(f"{shown(name)} is not the name of a file.") from None
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError(f"{shown(name)} is in UTF-16; save it as UTF-8.")
    return text, size


def result_lines(result: Checked, paint: Paint | None = None) -> Iterator[str]:
    """What is said of one file."""
    paint = paint or Paint()
    if result.unreadable is not None:
        yield paint(result.unreadable, "red")
        return
    name = shown(result.name)
    if not result.findings:
        yield f"{paint('✓', 'green')} {name}"
        return
    lines = Lines(result.text)
    for finding in result.findings[:SHOWN_FINDINGS]:
        yield from finding_lines(name, finding, lines, paint)
    if len(result.findings) > SHOWN_FINDINGS:
        yield f"... and {len(result.findings) - SHOWN_FINDINGS} more (--json shows all of them)"
    errors = sum(one.severity is Severity.ERROR for one in result.findings)
    warnings = len(result.findings) - errors
    counts = [counted(errors, "error")] * bool(errors) + [counted(warnings, "warning")] * bool(warnings)
    yield f"{paint('✗', 'red') if errors else paint('!', 'yellow')} {name}: {', '.join(counts)}"


def finding_lines(name: str, finding: Diagnostic, lines: Lines, paint: Paint) -> Iterator[str]:
    """A finding for people: what and where, the line it is in with a caret, what to do about it."""
    colour = "red" if finding.severity is Severity.ERROR else "yellow"
    kind = paint(finding.severity.lower(), colour)
    place = ":".join(str(part) for part in (name, finding.line, finding.column) if part is not None)
    message = shown(finding.message.partition("\n at [Source")[0], 2000)
    yield f"{paint(place, 'bold')}: {kind}: {message} {paint(f'[{finding.code}]', 'grey')}"
    line = lines.line(finding.line) if finding.line is not None else None
    if line is not None:
        text, caret = window(line, finding.column or 1)
        number = f"{finding.line} |"
        yield f"  {paint(number, 'grey')} {text}"
        yield f"  {paint(number[-1].rjust(len(number)), 'grey')} {' ' * caret}{paint('^', colour)}"
    if finding.location and finding.location.startswith("/") and finding.location != "/":
        yield f"  at {shown(finding.location)}"
    if finding.hint:
        yield f"  {paint('hint:', 'cyan')} {shown(finding.hint)}"


class Paint:
    """Colours, where stdout is a terminal that shows them."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._on else text


class Lines:
    """The lines of a text, found when first asked for. Columns count characters, as diagnostics do."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._lines: list[str] | None = None

    def line(self, number: int) -> str | None:
        if self._lines is None:
            self._lines = self._text.decode("utf-8-sig", "replace").split("\n")
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
    return f"{before}{shown(text)}{after}".rstrip(), at - start + len(before)


def shown(text: str, most: int = 300) -> str:
    """Text of unknown origin made fit for a terminal: one line, no control characters, not too long."""
    plain = "".join(char if char.isprintable() else "·" for char in text[:most])
    return plain + ("…" if len(text) > most else "")


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
