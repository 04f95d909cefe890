"""Booking invoices, a batch at a time."""

from __future__ import annotations

from typing import Any

from stepwell.workers import function


class InvalidInvoice(Exception):
    """An invoice that cannot be booked."""


@function("book-invoices")
def book_invoices(event: dict[str, Any]) -> dict[str, Any]:
    """Book a batch, all or none."""
    for invoice in event["invoices"]:
        if invoice["amount"] <= 0:
            raise InvalidInvoice(f"{invoice['id']} has the amount {invoice['amount']}.")
    amounts = [invoice["amount"] for invoice in event["invoices"]]
    return {"number": event["number"], "booked": len(amounts), "total": sum(amounts), "aside": []}


@function("add-up-batches")
def add_up_batches(event: list[dict[str, Any]]) -> dict[str, Any]:
    """The totals over all batches."""
    return {
        "batches": len(event),
        "booked": sum(batch["booked"] for batch in event),
        "total": sum(batch["total"] for batch in event),
        "aside": [id for batch in event for id in batch["aside"]],
    }
