"""What a tested state computes: carried out in a thread beside the event loop, and ended when it takes too long.

The ItemSelector of a Map is evaluated for each of its items, which may be some ten thousand. In an execution they are many
steps; here nothing is in between, so the engine's own work has to go on beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import Context
from typing import Final, TypeAlias

from stepwell.engine.limits import TEST_STATE_COMPUTING_SECONDS
from stepwell.engine.machine.single_state import StateTest
from stepwell.engine.ports import Evaluate
from stepwell.engine.query import effort
from stepwell.engine.query.jsonata import Evaluation, Outcome, Outcomes
from stepwell.engine.query.scope import Heavy
from stepwell.engine.service import refusals

THREADS: Final = 2

MakeTest: TypeAlias = Callable[[Heavy, Callable[[], None]], StateTest]
"""Makes the same test any number of times, of what carries out heavy expressions and what is called before each item."""


class Computing:
    """The threads in which tested states compute. Those that find none free wait for one."""

    def __init__(self, evaluate: Evaluate, seconds: float = TEST_STATE_COMPUTING_SECONDS) -> None:
        self._evaluate = evaluate
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="state-tests")

    def of(self, make: MakeTest) -> Computed:
        """What a test computes; nothing is begun yet."""
        return Computed(make, self._evaluate, self._threads, self._seconds)


class Computed:
    """What one test computes. Heavy expressions of it are carried out once, however often it begins anew."""

    def __init__(self, make: MakeTest, evaluate: Evaluate, threads: ThreadPoolExecutor, seconds: float) -> None:
        self._make = make
        self._evaluate = evaluate
        self._threads = threads
        self._seconds = seconds
        self._outcomes = Outcomes()

    async def after(self, steps: Sequence[Callable[[StateTest], None]]) -> StateTest:
        """The test after these steps, all of them. Raises `ServiceError` where they take too long, and what they raise."""
        loop = asyncio.get_running_loop()
        work = _Work(loop, self._evaluate)
        self._outcomes = Outcomes(self._outcomes.holds, work.carry_out)

        def take() -> StateTest:
            effort.apart()
            test = self._make(self._outcomes, work.pause)
            for step in steps:
                step(test)
            return test

        try:
            async with asyncio.timeout(self._seconds):
                return await loop.run_in_executor(self._threads, Context().run, take)
        except TimeoutError:
            raise refusals.invalid(
                f"The data flow of this state takes longer than {self._seconds:g} s, after which its test was ended. Test it "
                "with fewer items, or with expressions that do less"
            ) from None
        finally:
            work.stop()


class _Work:
    """The thread's way to the event loop, and the event loop's way to end what the thread does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, evaluate: Evaluate) -> None:
        self._loop = loop
        self._evaluate = evaluate
        self._stopped = False
        self._waiting: Future[Outcome] | None = None

    def carry_out(self, evaluation: Evaluation) -> Outcome:
        """In the thread: have an evaluation carried out, and wait for it."""
        self.pause()
        self._waiting = asyncio.run_coroutine_threadsafe(self._asked(evaluation), self._loop)
        if self._stopped:  # meanwhile
            self._waiting.cancel()
        return self._waiting.result()

    async def _asked(self, evaluation: Evaluation) -> Outcome:
        return await self._evaluate(evaluation)

    def pause(self) -> None:
        """In the thread: end, if nobody waits for it any more."""
        if self._stopped:
            raise CancelledError

    def stop(self) -> None:
        """In the event loop: let the thread end as soon as it can."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
