"""The functions of the fault tests, run by function hosts."""

from __future__ import annotations

from typing import Any

from stepwell.workers import FunctionContext, function
from tests.support.ledger import report


@function("ledger-effect")
def effect(payload: dict[str, Any], context: FunctionContext) -> Any:
    """Report one effect of a state to the ledger."""
    report(
        payload["ledger"],
        context.state_name,
        context.idempotency_key,
        execution=context.execution_arn,
        attempt=context.attempt,
    )
    return {"done": payload.get("item")}
