"""Refusals as RFC 9457 problem documents: the one table from code to HTTP status, and the members they carry."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from stepwell.api.http import PROBLEM, Reply
from stepwell.engine.asl.diagnostics import Diagnostic, Severity
from stepwell.engine.service.refusals import ErrorCode, ServiceError

STATUS: Final[dict[ErrorCode, int]] = {
    ErrorCode.ACCESS_DENIED: 403,
    ErrorCode.ACTIVITY_DOES_NOT_EXIST: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.EXECUTION_ALREADY_EXISTS: 409,
    ErrorCode.EXECUTION_DOES_NOT_EXIST: 404,
    ErrorCode.EXECUTION_NOT_REDRIVABLE: 409,
    ErrorCode.INTERNAL_FAILURE: 500,
    ErrorCode.INVALID_SIGNATURE: 401,
    ErrorCode.MISSING_AUTHENTICATION_TOKEN: 401,
    ErrorCode.REQUEST_TOO_LARGE: 413,
    ErrorCode.RESOURCE_NOT_FOUND: 404,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
    ErrorCode.STATE_MACHINE_ALREADY_EXISTS: 409,
    ErrorCode.STATE_MACHINE_DELETING: 409,
    ErrorCode.STATE_MACHINE_DOES_NOT_EXIST: 404,
    ErrorCode.TASK_DOES_NOT_EXIST: 404,
    ErrorCode.TASK_TIMED_OUT: 409,
    ErrorCode.UNRECOGNIZED_CLIENT: 401,
}
"""Codes that are not here are 400: the request itself is wrong."""

_HEADERS: Final = {
    401: ((b"www-authenticate", b'Bearer realm="stepwell"'),),
    503: ((b"retry-after", b"1"),),
}
MAX_DIAGNOSTICS: Final = 1_000
"""Findings that one answer shows: a definition of a megabyte can give a hundred thousand."""

_encoder: Final = msgspec.json.Encoder()


def refusal(error: ServiceError, request_id: str) -> Reply:
    """The problem document of a refusal."""
    status = STATUS.get(error.code, 400)
    document: dict[str, Any] = {
        "type": f"urn:stepwell:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": str(error),
        "requestId": request_id,
    }
    for name in ("pointer", "line", "column"):
        if (place := getattr(error, name)) is not None:
            document[name] = place
    if error.reason is not None:
        document["reason"] = error.reason
    if error.resource_name is not None:
        document["resource"] = error.resource_name
    if error.diagnostics:
        document["diagnostics"] = diagnostics(error.diagnostics)
        first = next((d for d in error.diagnostics if d.severity is Severity.ERROR), error.diagnostics[0])
        document.update(
            {
                k: v
                for k, v in (("pointer", first.pointer), ("line", first.line), ("column", first.column))
                if v is not None
            }
        )
    return Reply(status, _encoder.encode(document), PROBLEM, _HEADERS.get(status, ()))


def plain(status: int, detail: str, request_id: str) -> Reply:
    """The problem document of a refusal that comes from routing: an unknown path, a method that is not allowed."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": ErrorCode.UNKNOWN_OPERATION,
        "detail": detail,
        "requestId": request_id,
    }
    return Reply(status, _encoder.encode(document), PROBLEM)


def diagnostics(findings: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """The findings about a definition, errors first where there are too many to show all."""
    if len(findings) > MAX_DIAGNOSTICS:
        findings = sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)
    return [diagnostic(finding) for finding in findings[:MAX_DIAGNOSTICS]]


def diagnostic(finding: Diagnostic) -> dict[str, Any]:
    """A finding about a definition. `pointer`, `line` and `column` say where in the definition it is."""
    document: dict[str, Any] = {
        "severity": finding.severity,
        "code": finding.code,
        "message": finding.message,
        "location": finding.location,
        "pointer": finding.pointer,
        "line": finding.line,
        "column": finding.column,
        "hint": finding.hint,
    }
    return {name: value for name, value in document.items() if value is not None}
