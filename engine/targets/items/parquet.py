"""Items of a Parquet object: a JSON object for each row, one page of rows in memory at a time. Needs `stepwell[parquet]`.

Pages are decoded in helper processes (`parquet_process`), each of which the system holds to 512 MiB: neither what an object says of
itself nor the library that reads it can be relied on. There are a few helpers for all objects that are being read; one that loses its
helper to another begins again at the row it has come to.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import msgspec

from stepwell.engine.helper_processes import receive, send, start
from stepwell.engine.targets.items import parquet_process
from stepwell.engine.targets.items.parquet_process import DONE, FAULT, LARGE, NEXT, OPEN, PAGE, PAGE_SECONDS, READ
from stepwell.engine.targets.items.stream import too_large
from stepwell.engine.targets.objects import ObjectError, RandomAccess, in_thread, later_in_thread

HELPERS: Final = 3
MEMORY_BYTES: Final = 512 * 1024 * 1024
START_SECONDS: Final = 30.0
_ENVIRONMENT: Final = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve much more than they use, in which no limit could strike
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(slots=True, eq=False)
class _Reading:
    """One object that is being read; `row` is the next one."""

    access: RandomAccess
    name: str
    row: int


class _Helper:
    """One helper process, started when it is first needed and again after its death."""

    def __init__(self) -> None:
        self.reading: _Reading | None = None
        self.started = False
        """Whether there may be a process to end."""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def page(self, reading: _Reading) -> list[bytes]:
        """The next rows of an object, none at its end. For a thread; raises `ObjectError`."""
        with self._lock:
            try:
                channel = self._running(reading)
                goes_on = self.reading is reading
                self.reading = reading
                ask = NEXT if goes_on else OPEN + msgspec.msgpack.encode((reading.access.size, reading.row))
                return _page(channel, reading, ask)
            except BaseException:
                self._end()  # it waits for an answer, is not to be relied on, or has gone
                raise

    def stop(self) -> None:
        """End the process, whatever it is at, from any thread; it is not started again."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process and wait for that."""
        self.stop()
        with self._lock:
            self._end()

    def _running(self, reading: _Reading) -> socket.socket:
        if self._channel is not None:
            return self._channel
        try:
            if self._stopped:
                raise OSError("the reading is given up")
            self.started = True
            self._process, self._channel = start(parquet_process.__name__, str(MEMORY_BYTES), environment=_ENVIRONMENT)
            if self._stopped:
                raise OSError("the reading is given up")
            self._channel.settimeout(START_SECONDS)
            ready = receive(self._channel)
        except OSError as error:
            raise ObjectError(
                f"{reading.name} cannot be read: no process to decode Parquet can be started: {error}."
            ) from None
        if ready == FAULT:
            raise ObjectError("This engine cannot read Parquet: install `stepwell[parquet]`.")
        if ready is None:
            raise ObjectError(
                f"{reading.name} cannot be read: the process to decode Parquet ended when it was started."
            )
        self._channel.settimeout(2 * PAGE_SECONDS)  # other processes want the processor, too
        return self._channel

    def _end(self) -> None:
        self.reading = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None


def _page(channel: socket.socket, reading: _Reading, ask: bytes) -> list[bytes]:
    """Ask for a page, and give what is read for it meanwhile."""
    what = f"{reading.name} cannot be read as Parquet"
    try:
        send(channel, ask)
        while (frame := receive(channel)) is not None and frame.startswith(READ):
            at, length = msgspec.msgpack.decode(frame[1:], type=tuple[int, int])
            send(channel, reading.access.read_range(at, length))
    except TimeoutError:
        raise ObjectError(f"{what}: decoding its rows from number {reading.row} on takes too long.") from None
    except OSError:
        frame = None
    if frame is None:
        raise ObjectError(
            f"{what}: decoding its rows from number {reading.row} on takes more than {MEMORY_BYTES >> 20} MiB of memory or "
            f"{PAGE_SECONDS} s of the processor, or makes the decoder fail. Write smaller row groups, pages and values."
        )
    if frame == DONE:
        return []
    if frame == LARGE:
        raise too_large(reading.name)
    if frame.startswith(FAULT):
        raise ObjectError(f"{what}: {frame[1:].decode()}")
    texts = msgspec.msgpack.decode(frame.removeprefix(PAGE), type=list[bytes])
    reading.row += len(texts)
    return texts


class Decoders:
    """The helpers of a node, which run as long as some object is being read."""

    def __init__(self, most: int = HELPERS) -> None:
        self._free: list[_Helper] = [_Helper() for _ in range(most)]
        """Those that no page is being decoded by; the one that was used last is the last."""
        self._turns = asyncio.Semaphore(most)
        self._readings = 0
        self._closing: set[Future[object]] = set()

    async def rows(self, access: RandomAccess, first: int, name: str) -> AsyncIterator[tuple[bytes, int]]:
        """The rows from a number on, each with the number of the next one. Raises `ObjectError`."""
        reading = _Reading(access, name, first)
        number = first
        try:
            while page := await self._page(reading):
                for text in page:
                    number += 1
                    yield text, number
        finally:
            for helper in self._free:
                if helper.reading is reading:
                    helper.reading = None

    async def _page(self, reading: _Reading) -> list[bytes]:
        async with self._turns:
            helper = self._chosen(reading)
            self._free.remove(helper)
            try:
                page = await in_thread(helper.page, reading)
            except asyncio.CancelledError:
                # Its thread still works with it, and ends soon, for the process does.
                self._close(helper)
                self._free.insert(0, _Helper())
                raise
            except BaseException:
                self._free.insert(0, helper)
                raise
            self._free.append(helper)
            return page

    def _chosen(self, reading: _Reading) -> _Helper:
        """The helper that reads this object already, else one that has a process and nothing to read, else one that has been used
        least lately: the first are those that have no process."""
        own = next((one for one in self._free if one.reading is reading), None)
        return own or next((one for one in self._free if one.started and one.reading is None), self._free[0])

    def begin(self) -> None:
        """Objects are going to be read, until as many times `end` has been called."""
        self._readings += 1

    def end(self) -> None:
        """Objects have been read; with the last ones the helpers end."""
        self._readings -= 1
        if not self._readings:
            ended, self._free = self._free, [_Helper() for _ in self._free]
            for helper in ended:
                self._close(helper)

    async def close(self) -> None:
        """Wait for the helpers that are being ended."""
        for closing in tuple(self._closing):
            await asyncio.wrap_future(closing)

    def _close(self, helper: _Helper) -> None:
        if helper.started:
            helper.stop()
            closing = later_in_thread(helper.close)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
