"""Error names that do not exist, and entries of Retry and Catch that an earlier entry leaves nothing to match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json
from stepwell.engine.states_errors import ErrorName

_RESERVED: Final = "States."
_OPEN_FAMILY: Final = "States.Http."
"""Errors of HTTP tasks, such as States.Http.StatusCode.429."""
_KNOWN: Final = frozenset(name.value for name in ErrorName if name.startswith(_RESERVED))


def check_error_names(report: Report, machine: Machine) -> None:
    """Look at every ErrorEquals."""
    for state in machine.states:
        for field, code in (
            ("Retry", DiagnosticCode.UNREACHABLE_RETRIER),
            ("Catch", DiagnosticCode.UNREACHABLE_CATCHER),
        ):
            if field in state.fields:
                _check_entries(report, state, field, code)


def _check_entries(report: Report, state: StateAt, field: str, code: DiagnosticCode) -> None:
    seen: dict[str, int] = {}
    for index, (entry, place) in enumerate(state.entries(field)):
        listed = entry.get("ErrorEquals")
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        for position, name in enumerate(listed if isinstance(listed, list) else ()):
            _check_known(report, name, ((place, "ErrorEquals"), position))
        taken = {name: first for name in names if (first := _taken_by(name, seen)) is not None}
        if names and len(taken) == len(set(names)):
            first = max(taken.values())
            report.warn(
                place,
                f"Nothing reaches this entry of {field}: entry {first} and those before it match every error it names",
                code,
                hint=f"Put it before entry {first}, or remove it. The first entry that matches an error is used.",
            )
        for name in names:
            seen.setdefault(name, index)


def _taken_by(name: str, seen: Mapping[str, int]) -> int | None:
    """The entry before that matches an error of this name, where one surely does."""
    if name in seen:
        return seen[name]
    if ErrorName.ALL in seen and name not in (ErrorName.DATA_LIMIT_EXCEEDED, ErrorName.RUNTIME):
        return seen[ErrorName.ALL]
    # States.TaskFailed matches every error but States.Timeout; of the reserved ones this is sure of too few to be said.
    if ErrorName.TASK_FAILED in seen and not name.startswith(_RESERVED):
        return seen[ErrorName.TASK_FAILED]
    return None


def _check_known(report: Report, name: Json, place: Place) -> None:
    if not isinstance(name, str) or not name.startswith(_RESERVED) or name in _KNOWN:
        return
    if name.startswith(_OPEN_FAMILY) or "${" in name:
        return
    near = report.nearest(name, _KNOWN)
    report.warn(
        place,
        f"There is no error '{name[:80]}'; names that begin with 'States.' are the language's own",
        DiagnosticCode.UNKNOWN_ERROR_NAME,
        hint=f"Did you mean '{near}'?" if near else "Give errors of your own names that do not begin with 'States.'.",
    )
