"""Findings for other programs: JSON, SARIF 2.1.0 for code scanners, and the annotations of GitHub's workflows.

It must not import click: see `cli.main`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from stepwell import __version__
from stepwell.cli.checking import Checked
from stepwell.cli.definition_files import STDIN
from stepwell.engine.asl.codes import EXPLANATIONS
from stepwell.engine.asl.diagnostics import Diagnostic, DiagnosticCode, Severity

SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning"}
_IN_MESSAGES: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTIES: Final = {**_IN_MESSAGES, ord(":"): "%3A", ord(","): "%2C"}


def written(results: Sequence[Checked], format: str, strict: bool) -> str:
    """All results in one of the formats but text, with a line end."""
    if format == "github":
        return "".join(f"{line}\n" for result in results for line in github_lines(result))
    if format == "sarif":
        return json.dumps(sarif(results), indent=2) + "\n"
    valid = not any(result.fails(strict) for result in results)
    return json.dumps({"valid": valid, "files": [one.as_json(strict) for one in results]}) + "\n"


def github_lines(result: Checked) -> Iterable[str]:
    """One command a finding: `::error file=..,line=..,col=..,title=..::message`."""
    if result.unreadable is not None:
        yield _command("error", {"file": result.name, "title": DiagnosticCode.UNREADABLE}, result.unreadable)
    for finding in result.findings:
        properties = {"file": result.name, "line": finding.line, "col": finding.column, "title": finding.code.value}
        yield _command(_COMMANDS[finding.severity], properties, _sentence(finding))


def _command(name: str, properties: Mapping[str, object], message: str) -> str:
    given = ",".join(
        f"{key}={str(value).translate(_IN_PROPERTIES)}" for key, value in properties.items() if value is not None
    )
    return f"::{name} {given}::{message.translate(_IN_MESSAGES)}"


def sarif(results: Sequence[Checked]) -> dict[str, Any]:
    """A SARIF log with one run. Files that cannot be read are notifications of a run that did not succeed."""
    used = [code for code in EXPLANATIONS if any(one.code is code for result in results for one in result.findings)]
    rules = [{"id": code.value, "shortDescription": {"text": EXPLANATIONS[code]}} for code in used]
    unreadable = [result for result in results if result.unreadable is not None]
    notifications = [
        {
            "level": "error",
            "message": {"text": one.unreadable},
            "locations": [{"physicalLocation": _artifact(one.name)}],
        }
        for one in unreadable
    ]
    invocation = {"executionSuccessful": not unreadable, "toolExecutionNotifications": notifications}
    driver = {"name": "Stepwell", "semanticVersion": __version__, "rules": rules}
    found = [
        _sarif_result(result.name, finding, used.index(finding.code))
        for result in results
        for finding in result.findings
    ]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": found,
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _sarif_result(name: str, finding: Diagnostic, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = _artifact(name)
    if finding.line is not None:
        place["region"] = {"startLine": finding.line, "startColumn": finding.column or 1}
    location: dict[str, Any] = {"physicalLocation": place}
    if finding.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.pointer}]
    return {
        "ruleId": finding.code.value,
        "ruleIndex": rule,
        "level": _COMMANDS[finding.severity],
        "message": {"text": _sentence(finding)},
        "locations": [location],
    }


def _artifact(name: str) -> dict[str, Any]:
    path = "stdin" if name == STDIN else name.replace("\\", "/")
    uri = quote(path, safe="/", errors="surrogateescape")
    return {"artifactLocation": {"uri": f"file://{uri}" if uri.startswith("/") else uri}}


def _sentence(finding: Diagnostic) -> str:
    text = finding.message.partition("\n at [Source")[0]
    return f"{text.rstrip(' .')}. {finding.hint}" if finding.hint else text.rstrip()
