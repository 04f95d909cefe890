"""What the Resource field of a Task can name: parsed once into a `Resource`.

Knows the forms of resource names, not what their targets do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class TargetKind(StrEnum):
    """Which target runs a task: the one list. `targets.registry` has one target for each."""

    FUNCTION = "function"
    ACTIVITY = "activity"
    CELERY = "celery"
    HTTP = "http"
    SERVICE = "service"


class IntegrationPattern(StrEnum):
    """When a service integration is done: at its answer, when the job it started ends, or when a token comes back."""

    REQUEST_RESPONSE = ""
    SYNC = ".sync"
    SYNC_2 = ".sync:2"
    WAIT_FOR_TASK_TOKEN = ".waitForTaskToken"


@dataclass(frozen=True, slots=True)
class Resource:
    """A parsed Resource.

    `name` is the function, activity or Celery task name, or the URL; `service` and `action` are the parts of a service
    integration ARN (`lambda`, `invoke`). `plain_function` marks a function ARN written directly as the Resource: its
    history has LambdaFunction* events and its result is the function's own, without envelope.
    """

    text: str
    kind: TargetKind
    name: str = ""
    service: str = ""
    action: str = ""
    pattern: IntegrationPattern = IntegrationPattern.REQUEST_RESPONSE
    plain_function: bool = False

    @property
    def has_token(self) -> bool:
        """Whether there is a `$$.Task.Token`: the outcome comes later, from outside."""
        polled_or_claimed = self.kind in (TargetKind.ACTIVITY, TargetKind.CELERY)
        return polled_or_claimed or self.pattern is not IntegrationPattern.REQUEST_RESPONSE

    @property
    def history_type(self) -> str:
        """`resourceType` in history events."""
        return self.service or self.kind.value

    @property
    def history_resource(self) -> str:
        """`resource` in history events."""
        return f"{self.action}{self.pattern.value}" if self.action else self.name[:80]


_SERVICE: Final = re.compile(
    r"arn:aws(?:-[a-z-]+)?:states:[^:]*:[^:]*:(?P<service>aws-sdk:[a-zA-Z0-9]+|[a-zA-Z0-9_-]+):(?P<action>[a-zA-Z0-9]+)"
    r"(?P<pattern>\.sync:2|\.sync|\.waitForTaskToken)?"
)
_NO_SERVICES: Final = frozenset({"stateMachine", "execution", "express", "mapRun"})
"""What stands in place of a service in ARNs of Step Functions' own things, none of which a task can name."""

_FUNCTION: Final = re.compile(
    r"arn:aws(?:-[a-z-]+)?:lambda:[^:]*:[^:]*:function:(?P<name>[A-Za-z0-9-_.]+(?::[A-Za-z0-9-_$.]+)?)"
)
_ACTIVITY: Final = re.compile(r"arn:aws(?:-[a-z-]+)?:states:[^:]*:[^:]*:activity:(?P<name>.{1,80})", re.DOTALL)
_CELERY: Final = re.compile(r"celery:(?P<name>[A-Za-z0-9_.:/-]+)(?:\?[A-Za-z0-9_.=&%+-]*)?")


@lru_cache(maxsize=1024)
def parse_resource(text: str) -> Resource | None:
    """Parse a Resource; None where it is of no known form."""
    if match := _ACTIVITY.fullmatch(text):
        return Resource(text, TargetKind.ACTIVITY, name=text)
    if match := _FUNCTION.fullmatch(text):
        return Resource(text, TargetKind.FUNCTION, name=match["name"], service="", plain_function=True)
    if (match := _SERVICE.fullmatch(text)) and match["service"] not in _NO_SERVICES:
        pattern = IntegrationPattern(match["pattern"] or "")
        service, action = match["service"], match["action"]
        kind = {("lambda", "invoke"): TargetKind.FUNCTION, ("http", "invoke"): TargetKind.HTTP}.get(
            (service, action), TargetKind.SERVICE
        )
        return Resource(text, kind, service=service, action=action, pattern=pattern)
    if match := _CELERY.fullmatch(text):
        return Resource(text, TargetKind.CELERY, name=match["name"])
    if text.startswith(("https://", "http://")):
        return Resource(text, TargetKind.HTTP, name=text, service="http", action="invoke")
    return None
