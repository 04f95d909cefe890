"""The functions of the order: pricing and shipping."""

from __future__ import annotations

from typing import Any

from stepwell.workers import function

PRICES = {"lamp": 4900, "chair": 12900, "desk": 39900}
COUPONS = {"TENOFF": 10}


class CarrierRefused(Exception):
    """No carrier takes this shipment."""


@function("price-order")
def price_order(event: dict[str, Any]) -> dict[str, Any]:
    """The total in cents, after the coupon."""
    total = sum(PRICES[item["sku"]] * item["quantity"] for item in event["items"])
    total -= total * COUPONS.get(event["coupon"] or "", 0) // 100
    return {"total": total, "currency": "EUR"}


@function("book-shipment")
def book_shipment(event: dict[str, Any]) -> dict[str, Any]:
    """Choose a carrier."""
    if event["address"]["country"] == "AQ":
        raise CarrierRefused("No carrier delivers to Antarctica.")
    return {"carrier": "Parcel Express" if event["address"]["country"] == "DE" else "World Mail"}
