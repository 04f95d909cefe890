"""The engine's API for workers, as small and as honest as can be: real messages, one claim a task, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import TaskAnswer

KEY = "worker-key"
DEADLINE = 60.0


class EngineStandIn:
    """Tasks, their claims and outcomes. `refuse` makes it answer 503."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holders: dict[tuple[str, int], str] = {}
        self.claims: list[Claim] = []
        self.refused: list[Claim] = []
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.by_http: list[Outcome] = []
        self.reports: list[WorkerReport] = []
        self.refuse = False
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = stand_in.answer(self.path, self.headers["Authorization"], body)
                content = b"" if answer is None else msgspec.json.encode(answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, authorization: str | None, body: bytes) -> tuple[int, Any]:
        if authorization != f"Bearer {KEY}":
            return 401, {"title": "no"}
        with self.changed:
            if self.refuse:
                return 503, None
            try:
                if path == "/v1/workers/claim":
                    return 200, self._claim(msgspec.json.decode(body, type=Claim))
                if path == "/v1/workers/outcome":
                    outcome = msgspec.json.decode(body, type=Outcome)
                    self.by_http.append(outcome)
                    return 200, {"answer": self._settle(outcome)}
                if path == "/v1/workers/report":
                    self.reports.append(msgspec.json.decode(body, type=WorkerReport))
                    return 204, None
                return 404, None
            finally:
                self.changed.notify_all()

    def _claim(self, claim: Claim) -> ClaimAnswer:
        self.claims.append(claim)
        task = claim.execution, claim.task
        holder = self.holders.get(task)
        if task in self.outcomes or (holder is not None and holder not in (claim.worker, claim.holder)):
            self.refused.append(claim)
            return ClaimAnswer(False, "taken")
        self.holders[task] = claim.worker
        return ClaimAnswer(True)

    def _settle(self, outcome: Outcome) -> TaskAnswer:
        first = self.outcomes.setdefault((outcome.execution, outcome.task), outcome)
        return TaskAnswer.ACCEPTED if first is outcome else TaskAnswer.TIMED_OUT

    async def on_outcome(self, outcome: Outcome) -> TaskAnswer:
        """What the consumer of the results queue is given."""
        with self.changed:
            try:
                return self._settle(outcome)
            finally:
                self.changed.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until it holds, looking whenever something was said."""
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE), "nothing came in time"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
