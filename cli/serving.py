"""Server processes: the listening socket, uvicorn, the servers brought along, and the worker child that ends with its parent.

What is served is put together by `cli.assembly`. One process serves; nothing here forks workers of the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stepwell
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.settings import Settings

if TYPE_CHECKING:
    from stepwell.cli.assembly import Node

log = logging.getLogger(__name__)

STOP_SECONDS = 15.0
"""How long the worker child is given to finish what it runs."""
DRAIN_SECONDS = 5
"""How long open requests are given when the server is asked to stop."""
BACKLOG = 2048
GC_THRESHOLDS = (10_000, 20, 50)
"""Objects made before each generation of the garbage collector is gone through. Python's own make a server pause too often."""


# ------------------------------------------------------------------------------------------------- servers brought along


@contextmanager
def servers(settings: Settings, *, broker: bool = True) -> Iterator[Settings]:
    """The settings with a database and a broker in them: those named, else embedded ones, used until the end of the block."""
    if settings.database_url is not None and (settings.broker_url is not None or not broker):
        yield settings
        return
    from stepwell.cli.embedded.postgres import EmbeddedPostgres
    from stepwell.cli.embedded.valkey import EmbeddedValkey

    with ExitStack() as life:
        if settings.database_url is None:
            handle = life.enter_context(EmbeddedPostgres(settings.data_dir / "postgres").acquire())
            settings = replace(settings, database_url=handle.url)
        if settings.broker_url is None and broker:
            handle = life.enter_context(EmbeddedValkey(settings.data_dir / "valkey").acquire())
            settings = replace(settings, broker_url=handle.url)
        yield settings


def prepare_data_dir(settings: Settings) -> Settings:
    """The settings with an absolute data directory."""
    return replace(settings, data_dir=settings.data_dir.expanduser().absolute())


# ------------------------------------------------------------------------------------------------------------- listening


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises `ConfigurationError` that says what is in the way."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(f"The host {host!r} to listen on is not known: {error.strerror}.") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}. "
            "Choose another one with --port (0 takes a free one)."
        ) from None
    bound.set_inheritable(False)
    return bound


def url_of(host: str, bound: socket.socket) -> str:
    """The URL of what listens there, as it is reached from this machine."""
    port = bound.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"


async def serve_http(app: Any, bound: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Serve an ASGI application on a socket until `stop` is set. `on_ready` is called when requests are taken."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are the whole process's affair

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, date_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS, backlog=BACKLOG, proxy_headers=False,
    )  # fmt: skip
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]), name="http")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


@asynccontextmanager
async def stop_event() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


async def serve_api(
    node: Node, settings: Settings, bound: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Serve a node's API on a socket."""
    from stepwell.api.app import ApiSettings, create_app
    from stepwell.api.auth import is_loopback

    reached = not settings.open and not is_loopback(settings.host)
    asked = ApiSettings(allowed_hosts=settings.allowed_hosts, never_open=reached)
    app = create_app(node.services, asked, metrics=node.metrics)
    spare_collector()
    await serve_http(app, bound, stop, on_ready)


def spare_collector() -> None:
    """Put what stays for good (modules, compiled machines) out of the garbage collector's way.

    Going through it takes some 50 ms, in which no request is answered; under load that happened every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def refuse_open_bind(node: Node, settings: Settings) -> None:
    """Refuse to be reached by other machines while anybody may do anything, unless that is what is wanted."""
    from stepwell.api.auth import check_bind

    if not settings.open:
        check_bind(settings.host, await node.services.api_keys.any())


class Health:
    """An ASGI application for a node without API: /healthz, /readyz and /metrics."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, body, kind = await self._answer(scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str) -> tuple[int, bytes, str]:
        match path:
            case "/healthz":
                return 200, b'{"status":"ok"}', "application/json"
            case "/readyz":
                missing = await self._node.ready()
                told = {"status": "ready"} if missing is None else {"status": "not ready", "detail": missing}
                return 200 if missing is None else 503, json.dumps(told).encode(), "application/json"
            case "/metrics":
                body, kind = self._node.metrics.render()
                return 200, body, kind
        return 404, b'{"detail":"There is nothing here."}', "application/json"


# ---------------------------------------------------------------------------------------------------------- worker child


class WorkerChild:
    """A `stepwell worker` of our own. It ends when it is told, and when we are gone however we went."""

    def __init__(
        self, settings: Settings, url: str, *, concurrency: int | None = None, api_key: str | None = None
    ) -> None:
        self._closed = False
        reading, self._lifeline = os.pipe()
        environment = {
            **os.environ,
            "STEPWELL_URL": url,
            "STEPWELL_BROKER_URL": settings.broker_url or "",
            "STEPWELL_QUEUE": settings.default_queue,
            "STEPWELL_LOG_LEVEL": "debug" if settings.log_level == "debug" else "warning",
            "PYTHONPATH": os.pathsep.join(filter(None, [package_path(), os.environ.get("PYTHONPATH", "")])),
        }
        if api_key is not None:
            environment["STEPWELL_API_KEY"] = api_key
        command = [sys.executable, "-m", "stepwell.cli.main", "worker", "--lifeline", str(reading)]
        command += ["--app", settings.celery_app] if settings.celery_app else []
        command += ["--concurrency", str(concurrency)] if concurrency else []
        self.process = subprocess.Popen(  # noqa: S603 -- ourselves
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), pass_fds=[reading],
            start_new_session=True,
        )  # fmt: skip
        os.close(reading)

    async def watch(self, stop: asyncio.Event) -> None:
        """Say so when it ends by itself."""
        code = await asyncio.to_thread(self.process.wait)
        if not stop.is_set():
            log.error("The worker ended with code %d; Celery tasks wait until one is started again.", code)

    async def close(self) -> None:
        """Ask it to finish what it runs; end it when that takes too long. Once it is closed, nothing is done."""
        if self._closed:
            return
        self._closed = True
        if self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                await asyncio.to_thread(self.process.wait)
        os.close(self._lifeline)


def package_path() -> str:
    """Where a child finds the package that we run from."""
    return str(Path(stepwell.__file__).absolute().parent.parent)


def end_with(lifeline: int) -> None:
    """Ask this process to stop when the other end of a pipe is closed, and end it when it does not."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(STOP_SECONDS)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    os.set_inheritable(lifeline, False)
    threading.Thread(target=wait, name="lifeline", daemon=True).start()
