"""A ledger of effects outside the engine: an HTTP server that writes down every call a task makes, and answers as it is told.

HTTP tasks call it themselves, functions and Celery tasks report to it. It knows only what a service in the world would know:
the idempotency key, who calls for which execution and state, and in which order.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Effect:
    """One call. `delivery` and `worker` are known where a worker says them, `trace` where the call carries a traceparent."""

    number: int
    state: str
    execution: str
    key: str
    attempt: int | None
    delivery: int | None
    worker: str | None
    at: float
    trace: str | None = None


class Ledger:
    """Records effects, from a thread of its own. Told by state: hold answers back, or fail a number of times."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._effects: list[Effect] = []
        self._answered: Counter[str] = Counter()
        self._held: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._closing = False
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="ledger", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def effects(self) -> list[Effect]:
        """All so far, in order."""
        with self._changed:
            return list(self._effects)

    def of(self, state: str) -> list[Effect]:
        """The effects of one state."""
        return [effect for effect in self.effects if effect.state == state]

    def keys(self, state: str) -> Counter[str]:
        """How often each idempotency key of a state was seen."""
        return Counter(effect.key for effect in self.of(state))

    # -- what it is told ---------------------------------------------------------------------------------------------

    def hold(self, state: str) -> None:
        """Write down, but do not answer before `release`."""
        with self._changed:
            self._held.add(state)

    def release(self, state: str) -> None:
        with self._changed:
            self._held.discard(state)
            self._changed.notify_all()

    def fail(self, state: str, times: int = 1) -> None:
        """Answer the next calls with 500; the effect has happened all the same."""
        with self._changed:
            self._failures[state] += times

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[list[Effect]], object], deadline: float = DEADLINE) -> list[Effect]:
        """Wait until a condition of the effects holds; fail, showing them, when time is up first."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._effects), deadline):
                raise AssertionError(f"not within {deadline:g} s: {self._effects}")
            return list(self._effects)

    def wait_for_count(self, state: str, count: int, deadline: float = DEADLINE) -> list[Effect]:
        """Wait until a state has had so many effects; those."""
        self.wait_for(lambda effects: sum(effect.state == state for effect in effects) >= count, deadline)
        return self.of(state)

    def wait_until_answered(self, state: str, count: int, deadline: float = DEADLINE) -> None:
        """Wait until so many calls of a state have been answered, whether or not anybody has read that."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._answered[state] >= count, deadline):
                raise AssertionError(f"not within {deadline:g} s: {self._answered}")

    # -- being called ------------------------------------------------------------------------------------------------

    def record(
        self, state: str, key: str, call: dict[str, Any], trace: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Write a call down; the status and body to answer with, once they may be given."""
        with self._changed:
            number = len(self._effects) + 1
            execution = str(call.get("execution", ""))
            effect = Effect(
                number,
                state,
                execution,
                key,
                call.get("attempt"),
                call.get("delivery"),
                call.get("worker"),
                time.time(),
                trace,
            )
            self._effects.append(effect)
            self._changed.notify_all()
            self._changed.wait_for(lambda: state not in self._held or self._closing)
            if self._failures[state]:
                self._failures[state] -= 1
                return 500, {"error": "as the test told"}
        return 200, {"number": number}

    def answered(self, state: str) -> None:
        """An answer has been sent."""
        with self._changed:
            self._answered[state] += 1
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)


def report(url: str, state: str, key: str, **call: Any) -> Any:
    """Tell the ledger at `url` of an effect, from a function or a Celery task; returns its answer once it gives one."""
    request = urllib.request.Request(
        f"{url}/effects/{state}",
        json.dumps(call).encode(),
        {"Idempotency-Key": key, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers are killed on purpose: a connection that breaks is no news."""


def _handler(ledger: Ledger) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            state = self.path.removeprefix("/effects/")
            status, body = ledger.record(
                state, self.headers.get("Idempotency-Key", ""), call, self.headers.get("traceparent")
            )
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            ledger.answered(state)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read the effects, not a log."""

    return Handler
