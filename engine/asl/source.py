"""The text of a definition: JSON read strictly, the errors of it told as AWS tells them, and where each value stands.

The fast path is `jsontypes.read`; the scanner runs only to explain a refusal or to find lines and columns. It must not know
what a definition means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NoReturn

from stepwell.engine import jsontypes, limits
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode
from stepwell.engine.asl.scanner import TOO_DEEP, LineIndex, Scanner, SyntaxFault, syntax_diagnostic
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json

_STRING_OR_KEY: Final = re.compile(r'"(?:[^"\\]|\\.)*+"([ \t\r\n]*:)?', re.DOTALL)


def read_definition(text: str | bytes) -> Json:
    """The JSON value of a definition's text.

    Raises `DefinitionError` for what is too long, no JSON, nested too deeply, or has a field twice.
    """
    if len(text) > limits.MAX_DEFINITION_BYTES or _utf8_length(text) > limits.MAX_DEFINITION_BYTES:
        raise DefinitionError([_too_long(text)])
    if isinstance(text, bytes) and text.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    if not text.strip():
        raise DefinitionError(
            [Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, "Definition must be a valid JSON object")]
        )
    try:
        value = jsontypes.read(text)
    except JsonTextError as error:
        explain(text, str(error))
    plain = text.decode() if isinstance(text, bytes) else text
    keys = count_keys(value)
    if keys is None or keys != sum(1 for match in _STRING_OR_KEY.finditer(plain) if match[1]):
        explain(text, "The definition is nested too deeply or has a field twice.")
    return value


def count_keys(value: Json) -> int | None:
    """How many fields all objects of a document have together; None for one nested more deeply than definitions may be."""
    keys = 0
    level: list[Json] = [value]
    for _ in range(limits.MAX_DEFINITION_DEPTH + 1):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                keys += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return keys
        level = below
    return None


def too_deep() -> Diagnostic:
    """The finding about a definition for which `count_keys` gives None."""
    return Diagnostic(DiagnosticCode.TOO_DEEPLY_NESTED, TOO_DEEP, "/")


def explain(text: str | bytes, fallback: str) -> NoReturn:
    """Raise the `DefinitionError` that tells what is wrong with a text; `fallback` is said where the scanner finds nothing."""
    try:
        plain = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        message = f"Invalid UTF-8 byte 0x{error.object[error.start]:02x} at offset {error.start}"
        line, column = jsontypes.place_of(error.object, error.start)
        finding = Diagnostic(DiagnosticCode.INVALID_JSON_DESCRIPTION, message, line=line, column=column)
        raise DefinitionError([finding]) from None
    try:
        Scanner(plain).scan()
    except SyntaxFault as fault:
        raise DefinitionError([syntax_diagnostic(plain, fault)]) from None
    raise DefinitionError([Diagnostic(DiagnosticCode.INVALID_JSON_DESCRIPTION, fallback)])


def with_positions(diagnostics: Iterable[Diagnostic], text: str | bytes) -> list[Diagnostic]:
    """The diagnostics with `line` and `column` of the place each points to; the nearest enclosing one where it is absent."""
    findings = list(diagnostics)
    if not any(finding.pointer is not None for finding in findings):
        return findings
    try:
        plain = (text.decode() if isinstance(text, bytes) else text).removeprefix("\ufeff")
        offsets = value_offsets(plain)
    except (UnicodeDecodeError, DefinitionError):
        return findings
    lines = LineIndex(plain)
    placed = []
    for finding in findings:
        if finding.pointer is None:
            placed.append(finding)
            continue
        pointer = finding.pointer
        while pointer not in offsets and pointer:
            pointer = pointer.rpartition("/")[0]
        line, column = lines.position(offsets.get(pointer, 0))
        placed.append(replace(finding, line=line, column=column))
    return placed


def value_offsets(text: str) -> dict[str, int]:
    """JSON pointer -> offset: of the key for a member of an object, of the value for an array item and the root.

    Raises `DefinitionError` for text that is no JSON.
    """
    scanner = Scanner(text, keep_offsets=True)
    try:
        scanner.scan()
    except SyntaxFault as fault:
        raise DefinitionError([syntax_diagnostic(text, fault)]) from None
    return scanner.offsets


def _utf8_length(text: str | bytes) -> int:
    if isinstance(text, bytes) or text.isascii():
        return len(text)
    return len(text.encode("utf-8", "surrogatepass"))


def _too_long(text: str | bytes) -> Diagnostic:
    unit = "bytes" if isinstance(text, bytes) else "characters"
    return Diagnostic(
        DiagnosticCode.SCHEMA_VALIDATION_FAILED,
        f"The definition has {len(text)} {unit}; at most {limits.MAX_DEFINITION_BYTES} bytes are accepted",
    )
