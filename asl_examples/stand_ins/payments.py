"""A payment service: charges and refunds over HTTP, with an API key and idempotency keys, as the real ones have them.

The card decides what happens: `tok_visa` is charged, `tok_declined` is declined (402), `tok_busy` meets a busy service (503) at the
first attempt. A repeated Idempotency-Key gets the first answer again, and nobody is charged twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

API_KEY = "stand-in-payments-key"


@dataclass
class Payments:
    """The books: charges by id, and the answers given by idempotency key."""

    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    seen_steps: set[str] = field(default_factory=set)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [
            web.post("/payments/v1/charges", self.charge),
            web.get("/payments/v1/charges", self.list),
            web.post("/payments/v1/refunds", self.refund),
        ]

    async def charge(self, request: web.Request) -> web.Response:
        """Charge a card."""
        body = await request.json()
        step = request.headers.get("Stepwell-Step-Id", "")
        if body["source"] == "tok_busy" and step not in self.seen_steps:
            self.seen_steps.add(step)
            return _refusal(503, "service_busy", "Try again in a moment.", {"Retry-After": "1"})
        return self._once(request, lambda: self._charge(body))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a charge; a charge can be refunded once."""
        body = await request.json()
        return self._once(request, lambda: self._refund(body))

    async def list(self, request: web.Request) -> web.Response:
        """All charges, for whoever wants to check the books."""
        return web.json_response({"data": list(self.charges.values())}) if _has_key(request) else _unauthorized()

    def _once(self, request: web.Request, act: Any) -> web.Response:
        if not _has_key(request):
            return _unauthorized()
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return _refusal(400, "idempotency_key_missing", "Send an Idempotency-Key.")
        if key not in self.answers:
            self.answers[key] = act()
        status, answer = self.answers[key]
        return web.json_response(answer, status=status)

    def _charge(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["source"] == "tok_declined":
            return 402, _error("card_declined", "The card was declined by its bank.")
        charge = {
            "id": f"ch_{len(self.charges) + 1:06d}",
            "amount": body["amount"],
            "currency": body["currency"],
            "order_id": body["order_id"],
            "status": "succeeded",
        }
        self.charges[charge["id"]] = charge
        return 200, charge

    def _refund(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        charge = self.charges.get(body["charge"])
        if charge is None:
            return 404, _error("no_such_charge", f"There is no charge {body['charge']}.")
        charge["status"] = "refunded"
        return 200, {"charge": charge["id"], "amount": charge["amount"], "status": "refunded"}


def _has_key(request: web.Request) -> bool:
    return request.headers.get("X-Api-Key") == API_KEY


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_error(code, message), status=status, headers=headers)


def _unauthorized() -> web.Response:
    return _refusal(401, "unauthorized", "X-Api-Key is missing or wrong.")
