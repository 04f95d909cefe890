"""A thread that speaks to the broker for an event loop: kombu blocks, the engine must not.

Messages gather while one batch is being published. When the broker is away, everything that waits is told so at once. It must
not know what the messages mean.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import kombu
from kombu.exceptions import KombuError

from stepwell.engine.errors import TargetUnavailableError

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
MAX_BATCH: Final = 500

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A message for one queue. `body` is JSON text."""

    queue: str
    body: bytes
    headers: dict[str, object]
    properties: dict[str, object] = field(default_factory=dict)


_Waiting = tuple[Message, "asyncio.Future[None]", asyncio.AbstractEventLoop]


def connect(url: str, options: dict[str, object] | None = None) -> Any:
    """A connection to a broker, not yet opened, whose every wait has an end."""
    if urlsplit(url).scheme in ("redis", "rediss", "unix", "redis+socket", "sentinel"):
        limits: dict[str, object] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
    elif urlsplit(url).scheme in ("amqp", "amqps", "pyamqp"):
        limits = {"confirm_publish": True, "read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    else:
        limits = {}
    url = url.replace("unix://", "redis+socket://", 1) if url.startswith("unix://") else url
    return kombu.Connection(url, connect_timeout=CONNECT_SECONDS, transport_options={**limits, **(options or {})})


def broker_errors(connection: Any) -> tuple[type[BaseException], ...]:
    """What a broker's being away looks like."""
    return (OSError, KombuError, *connection.connection_errors, *connection.channel_errors)


def release(connection: Any) -> None:
    """Let go of a connection, in whatever state it is."""
    with suppress(Exception):
        connection.release()


class Publisher:
    """Publishes from a thread of its own. `start` and `close` belong to the loop's thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._producer: Any = None
        self._declared: set[str] = set()

    async def publish(self, message: Message) -> None:
        """Returns when the broker has the message. Raises `TargetUnavailableError`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stepwell-publisher", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._queue.put((message, done, loop))
        await done

    async def close(self) -> None:
        """Publish what is waiting, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(thread.join, ANSWER_SECONDS)

    # ------------------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ending = [first], False
            with suppress(queue.Empty):
                while len(batch) < MAX_BATCH:
                    more = self._queue.get_nowait()
                    if more is None:
                        ending = True
                        break
                    batch.append(more)
            self._tell(batch, self._publish([message for message, _, _ in batch]))
            if ending:
                break
        release(self._connection)

    def _publish(self, messages: list[Message]) -> list[str | None]:
        """For each message why it was not published, or None. One that the broker refuses does not hold up those behind it."""
        told: list[str | None] = []
        for message in messages:
            connected = False
            try:
                if self._producer is None:
                    self._connect()
                connected = True
                self._send(message)
                told.append(None)
            except Exception as error:  # noqa: BLE001 - a driver may raise anything; the thread must live and all must hear
                release(self._connection)
                self._connection = self._producer = None
                told.append(f"{type(error).__name__}: {error}")
                if not connected:
                    told += [told[-1]] * (len(messages) - len(told))
                    break
        return told

    def _connect(self) -> None:
        self._connection = connect(self._url)
        self._producer = kombu.Producer(self._connection.channel(), auto_declare=False)
        self._declared.clear()

    def _send(self, message: Message) -> None:
        if message.queue not in self._declared:
            self._declare(message.queue)
        self._producer.publish(
            message.body,
            exchange="",
            routing_key=message.queue,
            content_type="application/json",
            content_encoding="utf-8",
            headers=message.headers,
            retry=False,
            **message.properties,
        )

    def _declare(self, name: str) -> None:
        """See that the queue is there; one that is keeps its own arguments (priorities, say)."""
        if self._connection.transport.driver_type == "amqp":
            with self._connection.channel() as channel:
                try:
                    kombu.Queue(name, channel=channel).queue_declare(passive=True)
                except self._connection.channel_errors:
                    with self._connection.channel() as another:
                        kombu.Queue(name, durable=True, channel=another).queue_declare()
        self._declared.add(name)

    @staticmethod
    def _tell(batch: list[_Waiting], told: list[str | None]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], str | None]]] = {}
        for (_, done, loop), why in zip(batch, told, strict=True):
            by_loop.setdefault(loop, []).append((done, why))

        def settle(waiting: list[tuple[asyncio.Future[None], str | None]]) -> None:
            for done, why in waiting:
                if done.done():
                    continue
                if why is None:
                    done.set_result(None)
                else:
                    done.set_exception(TargetUnavailableError(f"The broker did not take the message ({why})."))

        for loop, waiting in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, waiting)
