"""An event loop in virtual time: asyncio without sockets, threads or waiting, the same run for the same seed.

Time jumps to the next timer whenever nothing is ready. Every callback belongs to a **process**, named by a context variable
that tasks and timers inherit: a process can be killed (what it had planned never happens, no `finally` runs) or paused
(it happens later, all at once), which is how a node dies at any `await`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROCESS: contextvars.ContextVar[int] = contextvars.ContextVar("process", default=0)
WORLD = 0
"""The process that never dies: the store, the network, the outside."""


MOST_STEPS = 200_000


class DeadlockError(Exception):
    """Nothing is ready and no timer is set, but the main task is not done."""


class BusyError(Exception):
    """Something runs round and round."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in order of their time, then of their making."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[tuple[asyncio.Handle, int]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, int]] = []
        self._made = 0
        self._dead: set[int] = set()
        self._paused: dict[int, list[asyncio.Handle]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._running = False
        self.steps = 0
        self.problems: list[dict[str, Any]] = []

    # -- processes -------------------------------------------------------------------------------------------------

    def kill(self, process: int) -> None:
        """The process is gone: nothing of it runs any more."""
        self._dead.add(process)
        self._paused.pop(process, None)

    def pause(self, process: int) -> None:
        """The process stands still (SIGSTOP)."""
        self._paused.setdefault(process, [])

    def resume(self, process: int) -> None:
        """The process goes on with all that has become due meanwhile."""
        self._ready.extend((handle, process) for handle in self._paused.pop(process, ()))

    def alive(self, process: int) -> bool:
        """Whether the process is there and not paused."""
        return process not in self._dead and process not in self._paused

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done."""
        asyncio.events._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._running = False
            self._bury()
            asyncio.events._set_running_loop(None)

    def run_dry(self) -> None:
        """Run until nothing is ready and no timer is set."""
        asyncio.events._set_running_loop(self)
        self._running = True
        self.steps = 0
        try:
            with suppress(DeadlockError):
                while self._ready or self._timers:
                    self._step()
        finally:
            self._running = False
            asyncio.events._set_running_loop(None)

    def _step(self) -> None:
        while self._timers and (not self._ready or self._timers[0][0] <= self._now):
            when, _, timer, process = heapq.heappop(self._timers)
            if timer.cancelled() or process in self._dead:
                continue
            self._now = max(self._now, when)
            self._ready.append((timer, process))
        if not self._ready:
            raise DeadlockError
        handle, process = self._ready.popleft()
        if handle.cancelled() or process in self._dead:
            return
        if process in self._paused:
            self._paused[process].append(handle)
            return
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise BusyError(f"after {self.steps} callbacks at {self._now:.3f} there is no end: {handle!r}")
        handle._run()

    def bury(self) -> None:
        """Nothing of what is left will run any more, nor is anybody told of it."""
        self._bury()
        self._tasks.clear()

    def _bury(self) -> None:
        """Close what is left, so that nothing runs after the end."""
        heard = logging.root.manager.disable
        logging.disable()  # whatever a killed coroutine still wants to say
        for task in self._tasks:
            if not task.done():
                try:
                    coroutine = task.get_coro()
                    assert coroutine is not None
                    coroutine.close()
                except (RuntimeError, Exception):  # noqa: BLE001
                    continue
        logging.disable(heard)
        self._ready.clear()
        self._timers.clear()

    # -- what asyncio asks of a loop -------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((handle, self._process(context)))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle, self._process(context)))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    @staticmethod
    def _process(context: contextvars.Context | None) -> int:
        return PROCESS.get() if context is None else context.get(PROCESS, WORLD)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)  # kept to the end: a killed task must not be collected in the middle of the run
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)


def spawn(process: int, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run a coroutine as part of a process."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    return asyncio.get_running_loop().create_task(coroutine, context=context)


def world_context() -> contextvars.Context:
    """The context of what belongs to no process that can die."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, WORLD)
    return context
