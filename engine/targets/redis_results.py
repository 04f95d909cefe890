"""Reading the results queue from a Redis or Valkey, many outcomes a round trip, in the engine's own loop.

What kombu's transport does one message at a time: move it aside, hand it out, forget it when it is acknowledged. Each consumer
moves outcomes to a list of its own and keeps a key alive beside it; when that key is gone, any other consumer puts the list back.
It must not know what an outcome is.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from redis import asyncio as redis
from redis.exceptions import RedisError

from stepwell.engine.messages import RESULTS_QUEUE

MAX_BATCH: Final = 200
LISTEN_SECONDS: Final = 1.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 3.0
CONSUMERS: Final = f"{RESULTS_QUEUE}.consumers"

_TAKE: Final = """
local taken = {}
for i = 1, tonumber(ARGV[1]) do
    local one = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
    if not one then break end
    taken[i] = one
end
return taken
"""
_PUT_BACK: Final = """
local one = redis.call('LPOP', KEYS[1])
while one do
    redis.call('RPUSH', KEYS[2], one)
    one = redis.call('LPOP', KEYS[1])
end
"""

Store = Callable[[Sequence[bytes]], Awaitable[Sequence[bool]]]

_log: Final = logging.getLogger(__name__)


class _Properties(msgspec.Struct):
    body_encoding: str = ""


class _Envelope(msgspec.Struct):
    """What kombu pushes: the body is base64 as a rule."""

    body: str
    properties: _Properties = msgspec.field(default_factory=_Properties)


def redis_url(url: str) -> str | None:
    """The broker's URL as redis clients read it; None where the broker is no single Redis."""
    scheme, _, rest = url.partition("://")
    if scheme in ("redis", "rediss") and "," not in rest and ";" not in rest:
        return url
    if scheme in ("unix", "redis+socket"):
        return f"unix://{rest.replace('virtual_host=', 'db=')}"
    return None


class RedisResults:
    """Consumes in a task of the loop. `store` says of each body of a batch whether it is done with."""

    def __init__(self, url: str, store: Store, *, alive_seconds: int) -> None:
        self._url = url
        self._store = store
        self._alive_seconds = alive_seconds
        id = os.urandom(8).hex()
        self._id = id
        self._taken = f"{RESULTS_QUEUE}.taken:{id}"
        self._alive = f"{RESULTS_QUEUE}.alive:{id}"
        self._next_look = 0.0
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to consume; a broker that is away is tried again."""
        self._ending.clear()
        self._task = asyncio.create_task(self._run(), name="results")

    async def close(self) -> None:
        """Finish the batch at hand, if it can be done soon, and end; what is left goes back to the queue."""
        self._ending.set()
        task, self._task = self._task, None
        if task is not None:
            _, unfinished = await asyncio.wait([task], timeout=CLOSE_SECONDS)
            for one in unfinished:
                one.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause, said = FIRST_PAUSE, ""
        while not self._ending.is_set():
            client = redis.Redis.from_url(
                self._url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS
            )
            try:
                await self._put_back(client, self._id)
                while not self._ending.is_set():
                    await self._round(client)
                    pause, said = FIRST_PAUSE, ""
                await self._leave(client)
                return
            except (RedisError, OSError, TimeoutError) as error:
                text = f"{type(error).__name__}: {error}"
                if text != said:
                    said = text
                    _log.warning("Outcomes of Celery tasks cannot be read: the broker cannot be reached (%s).", text)
            except asyncio.CancelledError:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._leave(client)
                raise
            except Exception:  # noqa: BLE001 - whatever it was, outcomes must go on being read
                _log.exception("reading outcomes failed")
            finally:
                await client.aclose()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _round(self, client: Any) -> None:
        """Wait for an outcome, take those beside it, store them, forget them."""
        await self._stay_alive(client)
        taken = await client.eval(_TAKE, 2, RESULTS_QUEUE, self._taken, MAX_BATCH)
        if not taken:
            first = await client.brpoplpush(RESULTS_QUEUE, self._taken, timeout=LISTEN_SECONDS)
            if first is None:
                return
            taken = [first]
        await self._settle(client, taken)

    async def _stay_alive(self, client: Any) -> None:
        """From time to time, say that we live, and look for those who do not any more."""
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return
        async with client.pipeline(transaction=False) as pipe:
            pipe.sadd(CONSUMERS, self._id)
            pipe.set(self._alive, 1, px=int(self._alive_seconds * 1000))
            await pipe.execute()
        await self._look_for_the_dead(client)
        self._next_look = now + self._alive_seconds / 4

    async def _settle(self, client: Any, taken: list[bytes]) -> None:
        storing = asyncio.ensure_future(self._store([_body(raw) for raw in taken]))
        try:
            while not storing.done():
                await asyncio.wait([storing], timeout=self._alive_seconds / 3)
                if not storing.done():
                    await client.set(self._alive, 1, px=int(self._alive_seconds * 1000))
        finally:
            storing.cancel()
        back = [raw for raw, done in zip(taken, await storing, strict=True) if not done]
        async with client.pipeline(transaction=True) as pipe:
            pipe.delete(self._taken)
            if back:
                pipe.lpush(RESULTS_QUEUE, *back)
            await pipe.execute()
        if back:
            await asyncio.sleep(FIRST_PAUSE)

    async def _look_for_the_dead(self, client: Any) -> None:
        for raw in await client.smembers(CONSUMERS):
            id = raw.decode()
            if id != self._id and not await client.exists(f"{RESULTS_QUEUE}.alive:{id}"):
                await self._put_back(client, id)
                await client.srem(CONSUMERS, id)

    async def _leave(self, client: Any) -> None:
        try:
            await self._put_back(client, self._id)
            await client.delete(self._alive)
            await client.srem(CONSUMERS, self._id)
        except (RedisError, OSError, TimeoutError) as error:
            _log.info("What was being stored stays aside until another engine finds it: %s", error)

    @staticmethod
    async def _put_back(client: Any, id: str) -> None:
        """Return what a consumer had taken to the end of the queue that is read next."""
        await client.eval(_PUT_BACK, 2, f"{RESULTS_QUEUE}.taken:{id}", RESULTS_QUEUE)


def _body(raw: bytes) -> bytes:
    """The body within kombu's envelope; nothing where there is none, which no outcome is."""
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        return (
            base64.b64decode(envelope.body) if envelope.properties.body_encoding == "base64" else envelope.body.encode()
        )
    except (msgspec.MsgspecError, ValueError):
        return b""
