"""Tasks made with Stepwell's own decorator, for people who have no Celery app."""

from __future__ import annotations

from typing import Any

from stepwell.workers import task


@task("orders.charge")
def charge(order: Any) -> Any:
    return {"charged": order["total"]}


@task
def plain(event: Any) -> Any:
    return event
