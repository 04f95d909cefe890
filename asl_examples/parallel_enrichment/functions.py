"""Two sources of facts about a customer."""

from __future__ import annotations

from typing import Any

from stepwell.workers import function

REGIONS = {"10": "Berlin", "20": "Hamburg", "80": "Munich"}
SCORES = {"C-7": 712}


class ScoreUnknown(Exception):
    """Nobody has a score of this customer."""


@function("find-region")
def find_region(event: dict[str, Any]) -> dict[str, str]:
    """The region of a postcode."""
    return {"region": REGIONS.get(event["postcode"][:2], "elsewhere")}


@function("credit-score")
async def credit_score(event: dict[str, Any]) -> dict[str, Any]:
    """The credit score; async, as a function that asks a service would be."""
    score = SCORES.get(event["customer_id"])
    if score is None:
        raise ScoreUnknown(f"There is no score of {event['customer_id']}.")
    return {"score": score, "band": "good" if score >= 670 else "fair"}
