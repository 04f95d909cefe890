"""A task without an app of its own: Stepwell's worker runs it."""

from __future__ import annotations

from typing import Any

from stepwell.workers import current_task, task


@task("somebody_elses_app.tell_customer")
def tell_customer(invoice: dict[str, Any]) -> dict[str, Any]:
    """Word the letter. `current_task()` knows the key to give to a mail service, so that no letter is sent twice."""
    running = current_task()
    total = (invoice["net"] + invoice["vat"]) / 100
    return {
        "letter": f"Dear {invoice['customer']}, please pay {total:.2f} {invoice['currency']}.",
        "has_key": running is None or bool(running.idempotency_key),
    }
