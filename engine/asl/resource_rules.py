"""What is wrong with the Resource of a Task, for the place where the machine is to run.

It must not know which functions or tasks exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stepwell.engine.asl.celery_resources import parse_route
from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.placeholders import PLACEHOLDER, is_open_arn, left_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resources import IntegrationPattern, TargetKind, parse_resource
from stepwell.engine.jsontypes import Json


class Target(StrEnum):
    """Where a machine is to run. Stepwell's own resource schemes are valid on Stepwell only."""

    STEPWELL = "stepwell"
    AWS = "aws"


@dataclass(frozen=True, slots=True)
class Policy:
    """`runnable`: a Resource that nothing could run is an error, not a warning."""

    target: Target
    express: bool
    runnable: bool


OWN_SCHEMES: Final = ("celery:", "https://", "http://", "llm:", "vector:")
"""Resource schemes of Stepwell that AWS does not have."""

_SYNC: Final = frozenset({IntegrationPattern.SYNC, IntegrationPattern.SYNC_2})
_FUNCTION_PREFIX: Final = re.compile(r"arn:aws[a-z-]*:lambda:")
_MACHINE: Final = re.compile(r"arn:aws[a-z-]*:states:[^:]*:[^:]*:stateMachine:")
_START_IT: Final = (
    "A state machine is started by the Resource arn:aws:states:::states:startExecution.sync:2, with its ARN as "
    "StateMachineArn."
)
_KNOWN_FORMS: Final = (
    "A Resource is a function ARN, an activity ARN, a service integration such as arn:aws:states:::lambda:invoke, "
    "celery:<task name> or an https:// URL."
)


READERS: Final = ("arn:aws:states:::s3:getObject", "arn:aws:states:::s3:listObjectsV2")
WRITERS: Final = ("arn:aws:states:::s3:putObject",)
"""What an ItemReader and a ResultWriter can name: the one list, with the partition of most regions."""

_PARTITION: Final = re.compile(r"arn:aws(?:-[a-z-]+)?:states:[^:]*:[^:]*:")


def check_storage(report: Report, value: Json, place: Place, policy: Policy, known: tuple[str, ...]) -> None:
    """Note what is wrong with the Resource of an ItemReader or ResultWriter, which can name `known` alone."""
    if not isinstance(value, str) or not value or "${" in value or is_open_arn(value):
        check_resource(report, value, place, policy)
    elif _PARTITION.sub("arn:aws:states:::", value) not in known:
        _unknown(report, value, place, policy, hint=f"It can be {' or '.join(known)}.")


def check_resource(report: Report, value: Json, place: Place, policy: Policy) -> None:
    """Note what is wrong with a Resource."""
    if not isinstance(value, str):
        if not left_open(report, value, place):
            report.error(place, "Expected value of type String")
    elif not value:
        report.error(place, "Value cannot be empty")
    elif "${" in value:
        _check_placeholder(report, value, place, policy)
    elif is_open_arn(value) and not policy.runnable:
        _warn_of_placeholder(report, value, place)
    elif left_open(report, value, place):
        return
    elif value.startswith(OWN_SCHEMES) and policy.target is Target.AWS:
        scheme = value.partition(":")[0]
        report.error(
            place,
            f"The resource provided {value} runs on Stepwell only",
            DiagnosticCode.STEPWELL_ONLY_RESOURCE,
            hint=f"AWS has no '{scheme}:' resources; use a Lambda function, an activity or a service integration there.",
        )
    else:
        _check_form(report, value, place, policy)


def _check_placeholder(report: Report, value: str, place: Place, policy: Policy) -> None:
    if "${" in PLACEHOLDER.sub("", value):
        report.error(place, f"The substitution in '{value}' is not closed", DiagnosticCode.INVALID_RESOURCE)
    elif policy.runnable:
        report.error(
            place,
            f"The resource provided {value} has a substitution that nobody has filled in",
            DiagnosticCode.INVALID_RESOURCE,
            hint="Let your deployment tool substitute ${...} before it creates the state machine.",
        )
    else:
        _warn_of_placeholder(report, value, place)


def _warn_of_placeholder(report: Report, value: str, place: Place) -> None:
    report.warn(
        place,
        f"The resource provided {value} has a substitution that is still to be filled in",
        DiagnosticCode.STEPWELL_PLACEHOLDER,
    )


def _check_form(report: Report, value: str, place: Place, policy: Policy) -> None:
    resource = parse_resource(value)
    if _MACHINE.match(value):
        _unknown(report, value, place, policy, hint=_START_IT)
    elif resource is None or (resource.service.startswith("aws-sdk:") and resource.pattern in _SYNC):
        _unknown(report, value, place, policy)
    elif resource.kind is TargetKind.CELERY:
        _check_route(report, value, place)
    elif policy.express:
        if resource.kind is TargetKind.ACTIVITY:
            report.error(place, "Express state machine does not support Activity ARN")
        elif resource.pattern in _SYNC:
            # `.sync:2` is named `.sync` here, and the other message ends with a blank: both as on AWS.
            report.error(place, "Express state machine does not support '.sync' service integration")
        elif resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN:
            report.error(place, "Express state machine does not support '.waitForTaskToken' service integration ")


def _check_route(report: Report, value: str, place: Place) -> None:
    try:
        parse_route(value, default_queue="")
    except ValueError as error:
        report.error(place, str(error), DiagnosticCode.INVALID_RESOURCE)


def _unknown(report: Report, value: str, place: Place, policy: Policy, hint: str = _KNOWN_FORMS) -> None:
    message = (
        f"The resource provided {value} is not recognized. The value is not a valid resource ARN, "
        "or the resource is not available in this region."
    )
    if policy.runnable or policy.target is Target.AWS or _FUNCTION_PREFIX.match(value):
        report.error(place, message, hint=hint)
    else:
        report.warn(place, message, DiagnosticCode.INVALID_RESOURCE, hint=hint)
