"""An inbox for approvals: keeps what people are asked, and the task token with which to answer Stepwell.

`GET /approvals/requests` lists what is open. Who decides sends the decision to Stepwell (SendTaskSuccess with the token).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Approvals:
    """The inbox. `asked` is set whenever something comes in."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [web.post("/approvals/requests", self.ask), web.get("/approvals/requests", self.list)]

    async def ask(self, request: web.Request) -> web.Response:
        """Put a question into somebody's inbox. The same Idempotency-Key is the same question."""
        key = request.headers.get("Idempotency-Key", "")
        known = next((each for each in self.requests if key and each["key"] == key), None)
        if known is None:
            known = {**await request.json(), "number": len(self.requests) + 1, "key": key}
            self.requests.append(known)
            self.asked.set()
        return web.json_response({"number": known["number"]}, status=202)

    async def list(self, request: web.Request) -> web.Response:
        """Everything asked; `?execution=NAME` for that of one execution."""
        wanted = request.query.get("execution")
        return web.json_response([each for each in self.requests if wanted in (None, each.get("execution"))])
