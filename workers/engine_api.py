"""How a worker process speaks to the engine: three POSTs over one kept connection a thread. It must not know Celery."""

from __future__ import annotations

import http.client
import os
import threading
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.workers.settings import api_key, engine_url

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 15.0


class EngineUnreachableError(Exception):
    """No usable answer: the engine is away or overloaded. Asking again is safe."""


class EngineRefusedError(Exception):
    """The engine answers, and does not accept what was said; asking again does not help."""


class EngineApi:
    """The engine's API for workers. May be used from several threads; survives a fork."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._url = urlsplit(url or engine_url())
        self._headers = {"Content-Type": "application/json"}
        if key := (key or api_key()):
            self._headers["Authorization"] = f"Bearer {key}"
        self._local = threading.local()

    def claim(self, claim: Claim) -> ClaimAnswer:
        """Ask for a task, or say that it is alive."""
        try:
            return msgspec.json.decode(self._post("/v1/workers/claim", claim), type=ClaimAnswer)
        except msgspec.MsgspecError as error:
            raise EngineRefusedError(f"{self._place} answered a claim with what is no answer: {error}") from None

    def report_outcome(self, outcome: Outcome) -> None:
        """Report how a task ended; returns when that is durable, or known to be of no interest any more."""
        self._post("/v1/workers/outcome", outcome)

    def report_worker(self, report: WorkerReport) -> None:
        """Say that this process lives."""
        self._post("/v1/workers/report", report)

    @property
    def _place(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc}"

    def _post(self, path: str, message: Claim | Outcome | WorkerReport) -> bytes:
        body = msgspec.json.encode(message)
        kept = self._kept()
        if kept is not None:
            try:
                return self._exchange(kept, path, body)
            except (http.client.HTTPException, OSError):
                kept.close()  # most likely the server closed it while it was idle; once more, on a new one
        try:
            return self._exchange(self._open(), path, body)
        except (http.client.HTTPException, OSError) as error:
            self._local.kept = 0, None
            raise EngineUnreachableError(f"{self._place}: {str(error) or type(error).__name__}") from None

    def _exchange(self, connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
        connection.request("POST", self._url.path + path, body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise EngineUnreachableError(f"{self._place} answered {answer.status}")
        if answer.status >= 300:
            hint = " Is STEPWELL_API_KEY right?" if answer.status in (401, 403) else ""
            said = content[:300].decode(errors="replace")
            raise EngineRefusedError(f"{self._place} answered {answer.status} to {path}.{hint} It said: {said}")
        return content

    def _kept(self) -> http.client.HTTPConnection | None:
        pid, connection = getattr(self._local, "kept", (0, None))
        return connection if pid == os.getpid() else None

    def _open(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT_SECONDS)
        self._local.kept = os.getpid(), connection
        return connection
