"""`@task`: a function of one argument, the state's input, made a Celery task of Stepwell's own app. Loads Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from stepwell.workers.app import app

F = TypeVar("F", bound=Callable[..., Any])


@overload
def task(name: F) -> Any: ...


@overload
def task(name: str | None = None, **options: Any) -> Callable[[F], Any]: ...


def task(name: F | str | None = None, **options: Any) -> Any:
    """Make a task: `@task` (its name is `module.function`) or `@task("orders.charge")`; `options` are Celery's.

    A state machine calls it by `"Resource": "celery:orders.charge"`.
    """
    if callable(name):
        return app.task(name)
    return app.task(name=name, **options)
