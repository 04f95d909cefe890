"""The Celery app of the fault tests: tasks that tell the ledger what they do. Run by worker processes, not by tests."""

from __future__ import annotations

import os
from typing import Any

from stepwell.workers import current_task, task
from stepwell.workers.app import app
from tests.support.ledger import report

__all__ = ["app"]


@task("ledger.effect")
def effect(payload: dict[str, Any]) -> Any:
    """Report one effect of a state, under the task's own idempotency key; the ledger may hold the answer back."""
    running = current_task()
    assert running is not None
    report(
        payload["ledger"],
        running.state_name,
        running.idempotency_key,
        execution=running.execution_arn,
        attempt=running.attempt,
        delivery=running.envelope.delivery,
        worker=f"{running.claims.worker}/{os.getpid()}",
    )
    return {"done": payload.get("item")}
