"""The query of a Celery Resource: `celery:orders.charge?queue=gold&priority=5&call=kwargs`.

It must not know brokers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

SCHEME: Final = "celery:"
MAX_PRIORITY: Final = 255
CALLS: Final = ("payload", "kwargs", "args")
_QUEUE: Final = re.compile(r"[A-Za-z0-9_.:/@-]{1,200}")
_RESERVED: Final = ("_kombu", "amq.", "celery-task-meta-", "stepwell.", "unacked")
"""What brokers, Celery and the engine keep under such names is no queue of tasks. A message for it would fail for ever, and
those sent beside it with it."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a task's message goes and how the task is called."""

    queue: str
    priority: int | None = None
    call: str = "payload"


def parse_route(resource: str, default_queue: str) -> Route:
    """Read the query of a Resource; `default_queue` is for one that names none. Raises `ValueError`, which says what is not understood and what would be."""
    queue, priority, call = default_queue, None, "payload"
    for name, value in parse_qsl(resource.partition("?")[2], keep_blank_values=True):
        if name == "queue" and _QUEUE.fullmatch(value) and not value.startswith(_RESERVED):
            queue = value
        elif name == "priority" and value.isascii() and value.isdigit() and int(value) <= MAX_PRIORITY:
            priority = int(value)
        elif name == "call" and value in CALLS:
            call = value
        else:
            raise ValueError(
                f"'{name}={value}' in the Resource '{resource}' is not understood: give queue=<name>, "
                f"priority=<0 to {MAX_PRIORITY}> or call=<{', '.join(CALLS)}>."
            )
    return Route(queue, priority, call)
