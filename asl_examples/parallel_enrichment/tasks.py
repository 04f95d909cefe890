"""A Celery task that sums up what a customer bought."""

from __future__ import annotations

from typing import Any

from celery import shared_task

PURCHASES = {"C-7": [200, 450, 600]}


@shared_task(name="parallel_enrichment.sum_up_purchases")
def sum_up_purchases(request: dict[str, Any]) -> dict[str, int]:
    """How many purchases there are, and their sum."""
    amounts = PURCHASES.get(request["customer_id"], [])
    return {"count": len(amounts), "total": sum(amounts)}
