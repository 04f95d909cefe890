"""Threads that run synchronous functions: few for quick ones, more as soon as work has to wait.

A thread is added when work has waited a moment, not when it arrives: quick functions stay on a few warm threads (handing the
interpreter lock around is what costs), blocking ones get threads up to the limit within some milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

PATIENCE_SECONDS: Final = 0.002

Work = Callable[[], None]


class ThreadCrew:
    """Runs work in daemon threads, at most `limit` of them. `submit` belongs to the loop's thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._size = 0
        self._taken = 0
        self._watching = False

    def submit(self, work: Work) -> None:
        """Run `work` in some thread, in order of arrival. It must not raise."""
        self._queue.put(work)
        if not self._size:
            self._add(1)
        elif not self._watching and self._size < self._limit:
            self._watch()

    def _watch(self) -> None:
        self._watching = True
        asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._look, self._taken)

    def _look(self, taken_before: int) -> None:
        self._watching = False
        waiting = self._queue.qsize()
        if not waiting:
            return
        if self._taken - taken_before < waiting:  # at this pace the queue takes longer than our patience
            self._add(min(waiting, self._size, self._limit - self._size))
        if self._size < self._limit:
            self._watch()

    def _add(self, count: int) -> None:
        for _ in range(count):
            self._size += 1
            threading.Thread(target=self._serve, name=f"function-{self._size}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            work = self._queue.get()
            self._taken += 1  # a lost increment between threads only makes the crew look slower than it is
            work()
