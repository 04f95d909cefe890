"""The client of Stepwell's REST API: one connection, JSON in and out, refusals as messages. Standard library alone.

It must not know what the commands do with what it brings.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from stepwell import __version__
from stepwell.cli.failures import ExitCode, Failure
from stepwell.engine.settings import Settings

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
PAGE: Final = 100
_ADVICE: Final = (
    (
        re.compile(r"^This operation is not supported by this type of state machine\.$"),
        "Express executions have no history and no Map Runs, and none is stopped or redriven; `stepwell status` shows how they ended.",
    ),
    (
        re.compile(r"^Execution Does Not Exist: '[^':]+:[^':]+'\.$"),
        "An Express execution is called by its id or its ARN, not MACHINE:NAME.",
    ),
)
"""What to do, added to the words of AWS for what was refused."""
LONGEST_WAIT: Final = 300
"""What the server lets a request wait at most, in seconds."""


class Client:
    """A server of Stepwell. Requests raise `Failure`: code 2 where it cannot be reached, 1 where it refuses."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url
        self._parts = urlsplit(url)
        self._headers = {"Accept": "application/json", "User-Agent": f"stepwell-cli/{__version__}"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    def from_environment(cls) -> Client:
        """The server that the settings name."""
        settings = Settings.load(os.environ)
        return cls(settings.url, settings.api_key)

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = ANSWER_SECONDS) -> Any:
        return self.request("GET", path, query=query, patience=patience)

    def post(
        self, path: str, body: Any = None, query: Mapping[str, Any] | None = None, *, patience: float = ANSWER_SECONDS
    ) -> Any:
        return self.request("POST", path, {} if body is None else body, query, patience=patience)

    def put(self, path: str, body: Any) -> Any:
        return self.request("PUT", path, body)

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def pages(self, path: str, query: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Any]:
        """The items of a listing, page after page, at most `limit` of them."""
        left = limit
        after: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, {**(query or {}), "limit": size, "after": after})
            yield from page["items"]
            after = page.get("next")
            if left is not None:
                left -= len(page["items"])
            if after is None:
                return

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        *,
        patience: float = ANSWER_SECONDS,
    ) -> Any:
        """Make a request; the JSON of its answer (None where it has none). `body` bytes are JSON text already."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = self._parts.path + path + (f"?{urlencode(given)}" if given else "")
        data = body if isinstance(body, bytes | None) else json.dumps(body, ensure_ascii=False).encode()
        headers = {**self._headers, "Content-Type": "application/json"} if data is not None else self._headers
        status, answer = self._exchange(method, target, data, headers, patience)
        value = self._read(answer) if answer else None
        if status >= 400:
            if not isinstance(value, dict):
                raise Failure(f"What answers at {self.url} says {status}. Is it Stepwell?", code="Refused")
            raise refused(status, value)
        return value

    def _read(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise Failure(
                f"What answers at {self.url} is no Stepwell server. Set STEPWELL_URL.",
                ExitCode.UNUSABLE,
                code="NoServer",
            ) from None

    def _exchange(
        self, method: str, target: str, data: bytes | None, headers: Mapping[str, str], patience: float
    ) -> tuple[int, bytes]:
        """Send a request; once more on a fresh connection when a kept one has been closed in the meantime."""
        if self._connection is not None and self._connection.sock is None:  # the last answer said that it is closed
            self.close()
        fresh = self._connection is None
        try:
            connection = self._connect(patience)
            connection.request(method, target, data, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            if fresh or method == "POST":
                raise self._unreachable(error) from None
            return self._exchange(method, target, data, headers, patience)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None

    def _connect(self, patience: float) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(host, port, timeout=CONNECT_SECONDS)
            self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.settimeout(patience)
        return self._connection

    def _unreachable(self, error: Exception) -> Failure:
        match error:
            case ConnectionRefusedError():
                reason = "nothing listens there"
            case http.client.RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
                reason = "it hung up"
            case TimeoutError():
                reason = "it did not answer in time"
            case ssl.SSLCertVerificationError():
                reason = "its certificate is not trusted"
            case OSError(strerror=str(text)):
                reason = text
            case _:
                reason = type(error).__name__
        return Failure(
            f"No Stepwell server can be reached at {self.url}: {reason}. Start one with `stepwell up`, "
            "or name the one you mean in STEPWELL_URL.",
            ExitCode.UNUSABLE,
            code="Unreachable",
        )

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


def refused(status: int, problem: Mapping[str, Any]) -> Failure:
    """What a server refused, from its problem document."""
    text = str(problem.get("detail") or problem.get("title") or f"The server answered {status}.")
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    code = str(problem.get("code") or "Refused")
    text += next((f" {advice}" for said, advice in _ADVICE if said.search(text)), "")
    if status == 401:
        text += " Name your key in STEPWELL_API_KEY; `stepwell keys create` makes one."
    usable = ExitCode.UNUSABLE if status in (401, 403, 503) else ExitCode.FAILED
    details = {"status": status} | ({"diagnostics": problem["diagnostics"]} if "diagnostics" in problem else {})
    return Failure(text, usable, code=code, details=details)


def part(text: str) -> str:
    """A name or ARN as one part of a path."""
    return quote(text, safe=":")


def reference(text: str) -> str:
    """How an execution is named in a path: its id, its ARN, or `machine/name`."""
    return quote(text, safe=":/")
