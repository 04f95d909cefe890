"""Service integrations that do not exist, or that nothing carries out where the machine is to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.integrations import INTEGRATIONS, KNOWN, REQUIRED
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resource_rules import Target
from stepwell.engine.asl.resources import IntegrationPattern, Resource, TargetKind, parse_resource
from stepwell.engine.jsontypes import Json

_SDK: Final = "aws-sdk:"
_OWN: Final = frozenset({("http", "invoke", IntegrationPattern.WAIT_FOR_TASK_TOKEN)})
"""What Stepwell has and AWS has not."""


def check_integrations(report: Report, machine: Machine, target: Target) -> None:
    """Look at the Resource of every Task, ItemReader and ResultWriter, and at what it is given."""
    for state in machine.states:
        _check_parameters(report, state)
        text = state.fields.get("Resource")
        resource = parse_resource(text) if state.type == "Task" and isinstance(text, str) and "${" not in text else None
        if resource is None or not resource.action or not resource.text.startswith("arn:"):
            continue
        if target is Target.STEPWELL and (resource.service, resource.action, resource.pattern) in _OWN:
            continue
        if not _check_exists(report, state, resource) and target is Target.STEPWELL:
            _check_carried_out(report, state, resource)


def _check_exists(report: Report, state: StateAt, resource: Resource) -> bool:
    """Note an integration that AWS does not have; whether one was noted."""
    if resource.service.startswith(_SDK):
        service = resource.service.removeprefix(_SDK)
        if service == service.lower() and resource.action[0].islower():
            return False
        right = f"{_SDK}{service.lower()}:{resource.action[0].lower()}{resource.action[1:]}"
        _warn(
            report, state, "names of services are in small letters there, and actions begin with one", f"Write {right}."
        )
        return True
    actions = INTEGRATIONS.get(resource.service)
    if actions is None:
        near = report.nearest(resource.service, INTEGRATIONS)
        guess = f"Did you mean '{near}'?" if near else f"Other actions of AWS are called as {_SDK}<service>:<action>."
        _warn(report, state, f"there is no service '{resource.service}'", guess)
    elif resource.action not in actions:
        near = report.nearest(resource.action, actions)
        guess = f"Did you mean '{near}'?" if near else f"It has {', '.join(actions)}; others are called by {_SDK}."
        _warn(report, state, f"'{resource.service}' has no action '{resource.action}'", guess)
    elif resource.pattern not in actions[resource.action]:
        known = ", ".join(
            f"'{one.value}'" for one in IntegrationPattern if one.value and one in actions[resource.action]
        )
        there = f"It can end with {known}." if known else "Write it without."
        _warn(
            report, state, f"'{resource.service}:{resource.action}' cannot be called with '{resource.pattern}'", there
        )
    else:
        return False
    return True


def _warn(report: Report, state: StateAt, why: str, hint: str) -> None:
    text = str(state.fields["Resource"])[:200]
    report.warn(
        (state.place, "Resource"),
        f"AWS has no integration '{text}': {why}",
        DiagnosticCode.UNKNOWN_INTEGRATION,
        hint=hint,
    )


def _check_carried_out(report: Report, state: StateAt, resource: Resource) -> None:
    if resource.kind is TargetKind.SERVICE:
        report.warn(
            (state.place, "Resource"),
            f"Stepwell does not carry out '{resource.service}:{resource.action}': the task fails with States.Runtime",
            DiagnosticCode.UNSUPPORTED_SERVICE,
            hint="Call the service through arn:aws:states:::http:invoke, a function or a Celery task. "
            "If the machine is to run on AWS, check it with --target aws.",
        )


def _check_parameters(report: Report, state: StateAt) -> None:
    holders = [(state.fields, state.place)] if state.type == "Task" else []
    if state.type == "Map":
        parts = ((name, state.fields.get(name)) for name in ("ItemReader", "ResultWriter"))
        holders += [(part, (state.place, name)) for name, part in parts if isinstance(part, dict)]
    for holder, place in holders:
        text = holder.get("Resource")
        resource = (
            parse_resource(text) if isinstance(text, str) and text.startswith("arn:") and "${" not in text else None
        )
        if resource is not None and resource.action:
            _check_given(report, holder, place, f"{resource.service}:{resource.action}", state.language)


def _check_given(report: Report, holder: Mapping[str, Json], place: Place, call: str, language: QueryLanguage) -> None:
    """Without the field, the whole input is what is given."""
    field = "Arguments" if language is QueryLanguage.JSONATA else "Parameters"
    given = holder.get(field)
    if not isinstance(given, dict) or is_open(given):
        return
    names = given if language is QueryLanguage.JSONATA else [name.removesuffix(".$") for name in given]
    missing = [name for name in REQUIRED.get(call, ()) if name not in names]
    if missing:
        report.warn(
            (place, field),
            f"'{call}' cannot do without {' and '.join(missing)}",
            DiagnosticCode.WRONG_PARAMETERS,
            hint=f"Add {', '.join(missing)} to {field}.",
        )
    known = KNOWN.get(call)
    for written, name in zip(given, names, strict=True):
        if known is not None and name not in known:
            near = report.nearest(name, known)
            report.warn(
                (place, field),
                f"'{call}' has no parameter '{name[:80]}'",
                DiagnosticCode.WRONG_PARAMETERS,
                hint=f"Did you mean '{near}'?" if near else f"It has {', '.join(known)}.",
                at=((place, field), written),
            )
