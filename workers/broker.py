"""Publishing outcomes to the results queue over a connection of our own, confirmed by the broker. Knows kombu, not Celery's tasks."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any, Final

import kombu
import msgspec

from stepwell.engine.messages import RESULTS_QUEUE, Outcome

CONNECT_SECONDS: Final = 5.0


class ResultsPublisher:
    """One connection a process, made when first needed; safe for threads, and after a fork."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._pid = 0
        self._connection: Any = None
        self._producer: Any = None

    def publish(self, outcome: Outcome) -> None:
        """Publish; returns when the broker has it. Raises `OSError` when it does not."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._connection, self._producer = os.getpid(), threading.Lock(), None, None
        with self._lock:
            try:
                self._send(msgspec.json.encode(outcome))
            except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the outcome must not be lost
                self._forget()
                raise OSError(f"{type(error).__name__}: {error}") from None

    def _send(self, body: bytes) -> None:
        if self._producer is None:
            options = {**(self._app.conf.broker_transport_options or {}), "confirm_publish": True}
            self._connection = connection = self._app.connection_for_write(transport_options=options)
            connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
            channel = connection.default_channel
            kombu.Queue(RESULTS_QUEUE, durable=True, channel=channel).declare()
            self._producer = kombu.Producer(channel)
        self._producer.publish(
            body,
            exchange="",
            routing_key=RESULTS_QUEUE,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            retry=False,
        )

    def _forget(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it is broken; whatever closing it says is of no use
                connection.release()
