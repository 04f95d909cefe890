"""A reporting API that takes its time: a report is ordered, then asked for until it is there (on the `polls`-th time)."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Reports:
    """The reports ordered so far, and how often each was asked for."""

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [web.post("/reports", self.order), web.get("/reports/{id}", self.show)]

    async def order(self, request: web.Request) -> web.Response:
        """Order a report; the same Idempotency-Key orders it once."""
        body = await request.json()
        key = request.headers.get("Idempotency-Key") or f"none-{len(self.reports)}"
        id = self.by_key.setdefault(key, f"rep-{len(self.reports) + 1}")
        self.reports.setdefault(id, {"month": body["month"], "polls": int(body.get("polls", 1)), "asked": 0})
        return web.json_response({"id": id, "status": "running"}, status=202)

    async def show(self, request: web.Request) -> web.Response:
        """How the report stands."""
        id = request.match_info["id"]
        report = self.reports.get(id)
        if report is None:
            return web.json_response({"error": f"There is no report {id}."}, status=404)
        report["asked"] += 1
        year, month = map(int, report["month"].split("-"))
        answer: dict[str, Any] = {"id": id, "status": "running", "rows": None, "problem": None}
        if not 1 <= month <= 12:
            answer |= {"status": "failed", "problem": f"There is no month {report['month']}."}
        elif report["asked"] >= report["polls"]:
            answer |= {"status": "done", "rows": calendar.monthrange(year, month)[1]}
        return web.json_response(answer)
