"""Expressions that need more than they may use in the engine's process: carried out in helper processes, within hard limits.

A helper gets one evaluation at a time, one second and 256 MiB. If it takes longer it is killed; if it dies (out of memory,
a stack overflow, a fault of the library) that is the evaluation's error and nothing else's. It must not know executions.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import signal
import socket
import subprocess
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

import msgspec

from stepwell.engine import limits
from stepwell.engine.errors import ExpressionsUnavailableError
from stepwell.engine.helper_processes import receive, send, start
from stepwell.engine.query.evaluation import Evaluation, Outcome, key_of
from stepwell.engine.runtime import expression_process

log = logging.getLogger(__name__)

HELPERS: Final = 2
START_SECONDS: Final = 10.0
"""How long a helper may take to start; only then does the time of the evaluation count."""
REMEMBERED: Final = 1_000
"""Expressions remembered for having struck a limit."""
MAX_WAITING_BYTES: Final = 64 << 20
"""Sources and data of all that waits for a helper."""

_SECONDS: Final = f"{limits.JSONATA_SECONDS:g} s"
_MEBIBYTES: Final = f"{limits.JSONATA_MEMORY_BYTES >> 20} MiB"
TOOK_TOO_LONG: Final = Outcome(
    code="D1012",
    message=f"The evaluation takes longer than {_SECONDS} and was ended. Look for a recursion or a regular expression that "
    "does not come to an end, and do heavy work in a task",
    limit=True,
)
TOOK_TOO_MUCH: Final = Outcome(
    code="D1011",
    message=f"The evaluation needs more than {_MEBIBYTES} of memory, or recurses too deeply, and was ended. Look for "
    "strings, arrays or objects that grow without end, and do heavy work in a task",
    limit=True,
)
_ENVIRONMENT: Final = {
    "RUST_BACKTRACE": "0",
    # The library's allocator would reserve 1 GiB at once, in which no limit on address space could strike.
    "MIMALLOC_ARENA_RESERVE": "16MiB",
}


class Helper:
    """One helper process, started when it is first needed and again after its death. Not for two threads at once."""

    def __init__(self, seconds: float = limits.JSONATA_SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._stopped = False
        self._decoder = msgspec.json.Decoder(Outcome)

    def carry_out(self, evaluation: Evaluation) -> Outcome:
        """Evaluate; blocks for `seconds` and the start of the process at most. Raises OSError if none can be started."""
        try:
            return self._carry_out(evaluation)
        except BaseException:
            self.kill()  # what it may still say would be taken for the answer to the next evaluation
            raise

    def _carry_out(self, evaluation: Evaluation) -> Outcome:
        process, channel = self._running()
        try:
            answer = _ask(channel, msgspec.json.encode(evaluation), self._seconds)
        except TimeoutError:
            self.kill()
            return TOOK_TOO_LONG
        except OSError:
            answer = None
        if answer is not None:
            return _explained(self._decoder.decode(answer))
        # It died over this. Whether of memory or of the depth of its stack, the system does not tell.
        out_of_time = process.wait() == -signal.SIGXCPU
        self.kill()
        return TOOK_TOO_LONG if out_of_time else TOOK_TOO_MUCH

    def stop(self) -> None:
        """End the process, whatever it is at, from any thread; it is not started again."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the process and forget it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None

    def _running(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._process is not None and self._channel is not None and self._process.poll() is None:
            return self._process, self._channel
        self.kill()
        if self._stopped:
            raise OSError("the node is being stopped")
        self._process, ours = start(
            expression_process.__name__,
            f"{self._seconds}",
            f"{limits.JSONATA_MEMORY_BYTES}",
            environment=_ENVIRONMENT,
        )
        self._channel = ours
        ours.settimeout(START_SECONDS)
        if receive(ours) is None:
            raise OSError("the process that evaluates expressions ended as soon as it was started")
        return self._process, ours


def _ask(channel: socket.socket, frame: bytes, seconds: float) -> bytes | None:
    deadline = time.monotonic() + seconds
    channel.settimeout(seconds)
    send(channel, frame)
    channel.settimeout(max(deadline - time.monotonic(), 0.001))
    return receive(channel)


def _explained(outcome: Outcome) -> Outcome:
    """A limit of the library's, in words that say what to do. The depth of calls is an error that JSONata itself knows."""
    if not outcome.limit or outcome.code == "D1011" or outcome.steps:  # else it has been said
        return outcome
    if outcome.code == "D1012":
        return TOOK_TOO_LONG
    message = f"{(outcome.message or '').rstrip('.')}. Look for strings, arrays or objects that grow without end"
    return Outcome(code=outcome.code, message=message, limit=True)


@dataclass(slots=True, eq=False)
class _Asked:
    evaluation: Evaluation
    key: bytes
    answer: asyncio.Future[Outcome]
    number: int
    """Its place in line."""

    @property
    def size(self) -> int:
        return len(self.evaluation.source) + len(self.evaluation.document)


class Expressions:
    """The helpers of a node. Evaluations wait in line; equal ones that wait or run are carried out once.

    Expressions that have struck a limit before leave one helper to the others, so that they hold up none but each other.
    """

    def __init__(self, helpers: int = HELPERS) -> None:
        self._helpers = [Helper() for _ in range(helpers)]
        self._idle = list(self._helpers)
        self._most_struck = max(helpers - 1, 1)
        self._threads = ThreadPoolExecutor(helpers, thread_name_prefix="expressions")
        self._waiting: deque[_Asked] = deque()
        self._waiting_struck: deque[_Asked] = deque()
        """Those of which is known that their expressions have struck a limit."""
        self._waiting_bytes = 0
        self._numbers = count()
        self._asked: dict[bytes, _Asked] = {}
        self._struck: OrderedDict[str, None] = OrderedDict()
        self._struck_busy = 0
        self._closed = False

    async def carry_out(self, evaluation: Evaluation) -> Outcome:
        """Evaluate. Raises `ExpressionsUnavailableError` if no helper can be started, or too much waits for one."""
        if self._closed:
            raise ExpressionsUnavailableError("The node is being stopped.")
        key = key_of(evaluation)
        asked = self._asked.get(key)
        if asked is None:
            asked = _Asked(evaluation, key, asyncio.get_running_loop().create_future(), next(self._numbers))
            if self._waiting_bytes and self._waiting_bytes + asked.size > MAX_WAITING_BYTES:
                raise ExpressionsUnavailableError("Too many expressions wait to be evaluated.")
            self._asked[key] = asked
            self._waiting.append(asked)
            self._waiting_bytes += asked.size
            self._hand_out()
        return await asyncio.shield(asked.answer)

    async def close(self) -> None:
        """End the helpers; what waits gets `ExpressionsUnavailableError`."""
        self._closed = True
        for helper in self._helpers:
            helper.stop()
        for asked in (*self._waiting, *self._waiting_struck):
            self._answer(asked, ExpressionsUnavailableError("The node is being stopped."))
        self._waiting.clear()
        self._waiting_struck.clear()
        self._waiting_bytes = 0
        await asyncio.to_thread(self._threads.shutdown)
        for helper in self._helpers:
            helper.kill()

    def _hand_out(self) -> None:
        while self._idle and (asked := self._next()) is not None:
            helper = self._idle.pop()
            struck = asked.evaluation.source in self._struck
            self._struck_busy += struck
            done = asyncio.get_running_loop().run_in_executor(self._threads, helper.carry_out, asked.evaluation)
            done.add_done_callback(partial(self._done, asked, helper, struck))

    def _next(self) -> _Asked | None:
        """Who is next: the first in line, or the first whose expression has not struck a limit while those that have use all the
        helpers they may."""
        while self._waiting and self._waiting[0].evaluation.source in self._struck:
            self._waiting_struck.append(self._waiting.popleft())
        lines = [self._waiting, self._waiting_struck] if self._struck_busy < self._most_struck else [self._waiting]
        ahead = min((line for line in lines if line), key=lambda line: line[0].number, default=None)
        if ahead is None:
            return None
        asked = ahead.popleft()
        self._waiting_bytes -= asked.size
        return asked

    def _done(self, asked: _Asked, helper: Helper, struck: bool, done: asyncio.Future[Outcome]) -> None:
        self._idle.append(helper)
        self._struck_busy -= struck
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            log.error("an expression could not be evaluated", exc_info=error)
            self._answer(asked, ExpressionsUnavailableError("No process to evaluate expressions could be started."))
        else:
            outcome = done.result()
            if outcome.limit:
                self._struck[asked.evaluation.source] = None
                self._struck.move_to_end(asked.evaluation.source)
                if len(self._struck) > REMEMBERED:
                    self._struck.popitem(last=False)
            self._answer(asked, outcome)
        if not self._closed:
            self._hand_out()

    def _answer(self, asked: _Asked, outcome: Outcome | Exception) -> None:
        del self._asked[asked.key]
        if asked.answer.done():
            return
        if isinstance(outcome, Outcome):
            asked.answer.set_result(outcome)
        else:
            asked.answer.set_exception(outcome)
            asked.answer.exception()  # it may be that nobody waits any more


class _Own:
    """The helper of a process that evaluates without an event loop."""

    lock = threading.Lock()
    helper: Helper | None = None


def carry_out_apart(evaluation: Evaluation) -> Outcome:
    """Evaluate in a helper process and wait for it: for callers without an event loop, in any thread."""
    with _Own.lock:
        if _Own.helper is None:
            _Own.helper = Helper()
            atexit.register(_Own.helper.kill)
        try:
            return _Own.helper.carry_out(evaluation)
        except OSError as error:
            raise ExpressionsUnavailableError(
                f"No process to evaluate expressions could be started: {error}."
            ) from None


async def carry_out_in_thread(evaluation: Evaluation) -> Outcome:
    """As `carry_out_apart`, for callers with an event loop that have no `Expressions`."""
    return await asyncio.to_thread(carry_out_apart, evaluation)
