"""The Celery tasks of the warehouse. They are ordinary tasks: nothing in them knows of state machines."""

from __future__ import annotations

from typing import Any

from celery import shared_task

STOCK = {"lamp": 100, "chair": 40, "desk": 3}


class OutOfStock(Exception):
    """There are not enough goods."""


@shared_task(name="order_processing.reserve_goods")
def reserve_goods(request: dict[str, Any]) -> dict[str, Any]:
    """Put the goods aside, all or none."""
    short = [item["sku"] for item in request["items"] if item["quantity"] > STOCK[item["sku"]]]
    if short:
        raise OutOfStock(f"Not enough of: {', '.join(short)}")
    return {"reservation_id": f"R-{request['order_id']}", "items": request["items"]}


@shared_task(name="order_processing.release_goods")
def release_goods(request: dict[str, Any]) -> dict[str, Any]:
    """Put the goods back. Doing it twice does no harm."""
    return {"released": request["reservation"]["reservation_id"]}
