"""The load: clients that start executions over HTTP, each as soon as its last one was answered.

`wrk` where it is installed, else a client of our own in a process of its own (`python -m bench.load ...`), which costs a few
times as much CPU. Either way the client's CPU is known apart from the server's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from bench.figures import Load

BODY: Final = b'{"input":{"a":1}}'
WRK_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["content-type"] = "application/json"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nFIGURES {"requests":%%d,"errors":%%d,"seconds":%%f,"p50_ms":%%f,"p99_ms":%%f}\\n',
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def drive(url: str, clients: int, seconds: float, *, tool: str | None = None) -> Load:
    """Have `clients` connections POST to `url` for about `seconds`. `tool` is `wrk` or `python`; None: the best there is."""
    chosen = tool or ("wrk" if shutil.which("wrk") else "python")
    if chosen == "wrk":
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(WRK_SCRIPT % BODY.decode())
            script.flush()
            command = [
                "wrk",
                "-t1",
                f"-c{clients}",
                f"-d{max(1, round(seconds))}s",
                "--timeout=60s",
                "-s",
                script.name,
                url,
            ]
            said, cpu = _run(command)
        told = said.rpartition("FIGURES ")[2]
    else:
        told, cpu = _run([sys.executable, "-m", "bench.load", url, str(clients), str(seconds)])
    return Load(**json.loads(told), cpu_seconds=cpu, tool=chosen)


def _run(command: Sequence[str]) -> tuple[str, float]:
    """What a command printed, and the CPU seconds it took."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, cwd=Path(__file__).parent.parent)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read().decode()
    if process.returncode != 0:
        raise SystemExit(f"The load generator failed: {' '.join(command)}\n{said}")
    return said, used.ru_utime + used.ru_stime


# ---------------------------------------------------------------------------------------------------- our own generator


class Client(asyncio.Protocol):
    """One keep-alive connection. It knows just enough of HTTP/1.1: status, Content-Length, and no chunks."""

    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self._request = request
        self._until = until
        self._latencies = latencies
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.errors = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        if self._sent < self._until:
            self._transport.write(self._request)
            return
        self.done.set_result(None)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = head.find(b"content-length:")
        size = int(head[length + 15 :].split(b"\r\n", 1)[0]) if length >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        self._buffer = b""
        if head[9:10] == b"2":
            self._latencies.append(time.perf_counter() - self._sent)
        else:
            self.errors += 1
        self._send()


async def generate(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Drive the load from this process."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    request = (
        f"POST {target} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    latencies: list[float] = []
    begun = time.perf_counter()
    loop = asyncio.get_running_loop()
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    clients = [
        (await loop.create_connection(lambda: Client(request, begun + seconds, latencies), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - begun
    latencies.sort()
    return {
        "requests": len(latencies),
        "errors": sum(client.errors for client in clients),
        "seconds": elapsed,
        "p50_ms": 1000 * latencies[len(latencies) // 2] if latencies else 0.0,
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)] if latencies else 0.0,
    }


if __name__ == "__main__":
    import uvloop

    json.dump(uvloop.run(generate(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), sys.stdout)
