"""The consumer of the results queue: makes each outcome durable first, then acknowledges it to the broker.

Outcomes gather while a batch is being made durable. One that cannot be stored now goes back to the broker and comes again. A
Redis is read in batches by `redis_results`, any other broker by kombu in a thread. It must not know what an outcome does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

import kombu
import msgspec

from stepwell.engine.errors import StepwellError
from stepwell.engine.messages import RESULTS_QUEUE, Outcome
from stepwell.engine.ports import TaskAnswer
from stepwell.engine.targets.broker import broker_errors, connect, release
from stepwell.engine.targets.redis_results import RedisResults, redis_url

MAX_BATCH: Final = 200
VISIBILITY_SECONDS: Final = 60
"""How soon an outcome whose consumer died is given to another (Redis; AMQP does it at once)."""
LISTEN_SECONDS: Final = 1.0
"""How long a wait for an outcome lasts before the thread looks whether it is to end."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0

OnOutcome = Callable[[Outcome], Awaitable[TaskAnswer]]

_log: Final = logging.getLogger(__name__)


class ResultsConsumer:
    """Consumes outcomes from the broker. `start` and `close` belong to the loop that `on_outcome` runs on.

    `visibility_seconds`: how soon the outcomes of a consumer that died are given to another.
    """

    def __init__(self, url: str, on_outcome: OnOutcome, *, visibility_seconds: int = VISIBILITY_SECONDS) -> None:
        storing = _Storing(on_outcome)
        plain = redis_url(url)
        self._way: RedisResults | KombuResults = (
            KombuResults(url, storing, visibility_seconds=visibility_seconds)
            if plain is None
            else RedisResults(plain, storing.store, alive_seconds=visibility_seconds)
        )

    async def start(self) -> None:
        """Begin to consume; a broker that is away is tried again."""
        await self._way.start()

    async def close(self) -> None:
        """Stop consuming."""
        await self._way.close()


class _Storing:
    """Makes a batch of outcomes durable, and says of each whether it is done with."""

    def __init__(self, on_outcome: OnOutcome) -> None:
        self._on_outcome = on_outcome

    async def store(self, bodies: Sequence[bytes]) -> list[bool]:
        return list(await asyncio.gather(*(self._store_one(body) for body in bodies)))

    async def _store_one(self, body: bytes) -> bool:
        try:
            outcome = msgspec.json.decode(body, type=Outcome)
            if len(bytes.fromhex(outcome.execution)) != 16:
                raise ValueError("its execution is no id")
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error("Dropped a message on %s that is no outcome: %s", RESULTS_QUEUE, error)
            return True
        try:
            answer = await self._on_outcome(outcome)
        except StepwellError as error:
            _log.warning("An outcome cannot be stored now: %s", error)
            return False
        except Exception:  # noqa: BLE001 - whatever it was, the outcome must not be lost
            _log.exception("storing an outcome failed; it will be tried again")
            return False
        if answer is not TaskAnswer.ACCEPTED:
            _log.info("An outcome of task %d of execution %s came late: %s", outcome.task, outcome.execution, answer)
        return True


class KombuResults:
    """Consumes in a thread of its own, by any broker that kombu knows."""

    def __init__(self, url: str, storing: _Storing, *, visibility_seconds: int = VISIBILITY_SECONDS) -> None:
        self._url = url
        self._storing = storing
        self._visibility = visibility_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._batch: list[Any] = []

    async def start(self) -> None:
        """Begin to consume; a broker that is away is tried again."""
        self._loop = asyncio.get_running_loop()
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="stepwell-results", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the batch at hand, and end."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, 30.0)

    # ------------------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        pause, said = FIRST_PAUSE, ""
        while not self._ending.is_set():
            connection = connect(self._url, self._options())
            try:
                with connection.channel() as channel:
                    self._consume(connection, channel)
            except broker_errors(connection) as error:
                text = f"{type(error).__name__}: {error}"
                if text != said:
                    said = text
                    _log.warning("Outcomes of Celery tasks cannot be read: the broker cannot be reached (%s).", text)
            except Exception:  # noqa: BLE001 - a driver may raise anything; outcomes must go on being read
                _log.exception("reading outcomes failed")
            finally:
                release(connection)
            self._ending.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _options(self) -> dict[str, object]:
        """Redis keeps what was not acknowledged under keys that all consumers share; ours are our own, so that our short
        time-out makes no message of a user's come twice."""
        if not self._url.startswith(("redis", "unix")):
            return {}
        return {
            "visibility_timeout": self._visibility,
            "unacked_key": f"{RESULTS_QUEUE}.unacked",
            "unacked_index_key": f"{RESULTS_QUEUE}.unacked_index",
            "unacked_mutex_key": f"{RESULTS_QUEUE}.unacked_mutex",
            "unacked_mutex_expire": self._visibility,
        }

    def _consume(self, connection: Any, channel: Any) -> None:
        channel.basic_qos(0, MAX_BATCH, False)
        queue = kombu.Queue(RESULTS_QUEUE, durable=True)
        with kombu.Consumer(channel, [queue], on_message=self._batch.append, accept=["json"]):
            while not self._ending.is_set():
                self._batch.clear()
                self._gather(connection)
                if self._batch and not self._settle(list(self._batch)):
                    self._ending.wait(FIRST_PAUSE)

    def _gather(self, connection: Any) -> None:
        """Wait for one message, take those that are there beside it."""
        wait = LISTEN_SECONDS
        with suppress(TimeoutError):
            while len(self._batch) < MAX_BATCH:
                connection.drain_events(timeout=wait)
                wait = 0.0005

    def _settle(self, batch: list[Any]) -> bool:
        """Store a batch, then acknowledge what was stored; the rest goes back. False: something went back."""
        stored = self._store(batch)
        for message, done in zip(batch, stored, strict=True):
            if done:
                message.ack()
            else:
                message.requeue()
        return all(stored)

    def _store(self, batch: list[Any]) -> list[bool]:
        assert self._loop is not None
        try:
            done: Future[list[bool]] = asyncio.run_coroutine_threadsafe(
                self._storing.store([_bytes(message.body) for message in batch]), self._loop
            )
        except RuntimeError:  # the loop is closed
            return [False] * len(batch)
        while True:
            try:
                return done.result(timeout=LISTEN_SECONDS)
            except TimeoutError:
                if self._ending.is_set() and done.cancel():
                    return [False] * len(batch)


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)
