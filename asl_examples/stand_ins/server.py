"""All stand-ins in one server, so that one port is enough."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from asl_examples.stand_ins.approvals import Approvals
from asl_examples.stand_ins.chat import Chat
from asl_examples.stand_ins.payments import Payments
from asl_examples.stand_ins.reports import Reports

DEFAULT_PORT = 8090
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
"""What the inputs of the examples say. Where the stand-ins listen elsewhere, replace it there."""


@dataclass
class StandIns:
    """The services; start them once, in the event loop that runs them."""

    payments: Payments = field(default_factory=Payments)
    approvals: Approvals = field(default_factory=Approvals)
    reports: Reports = field(default_factory=Reports)
    chat: Chat = field(default_factory=Chat)
    url: str = DEFAULT_URL
    _runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """The services as one web application."""
        app = web.Application()
        for service in (self.payments, self.approvals, self.reports, self.chat):
            app.add_routes(service.routes())
        return app

    async def start(self, port: int = 0) -> str:
        """Listen on loopback; the URL to put in the place of `DEFAULT_URL`."""
        self._runner = web.AppRunner(self.application())
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
