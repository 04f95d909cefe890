"""The worker side: `@function` and the function host; `@task`, claiming and reporting for Celery. Knows the engine's messages alone.

Names are loaded when they are first used: importing this package loads neither Celery nor anything of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.workers.functions import FunctionContext, function
    from stepwell.workers.hook import current_task, heartbeat, install
    from stepwell.workers.sdk import task

_PLACES = {
    "FunctionContext": "stepwell.workers.functions",
    "function": "stepwell.workers.functions",
    "current_task": "stepwell.workers.hook",
    "heartbeat": "stepwell.workers.hook",
    "install": "stepwell.workers.hook",
    "task": "stepwell.workers.sdk",
}

__all__ = ["FunctionContext", "current_task", "function", "heartbeat", "install", "task"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
