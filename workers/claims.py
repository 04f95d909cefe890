"""The claims of this process: asking for a task before it runs, living by a lease meanwhile, reporting how it ended.

A process is one worker to the engine: its incarnation is made at its start, its lease is renewed by a report every few
seconds, and what it holds is delivered to others when the lease runs out. It must not know Celery.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID, uuid5

from stepwell.engine.messages import REPORT_SECONDS, Claim, Outcome, TaskEnvelope, WorkerReport
from stepwell.workers.engine_api import EngineApi, EngineRefusedError, EngineUnreachableError

CLAIM_PATIENCE_SECONDS: Final = 300.0
"""How long a task is held back while the engine cannot be asked. Then its message is dropped, and the engine sends it again."""
OUTCOME_PATIENCE_SECONDS: Final = 3600.0
LONGEST_PAUSE: Final = 5.0
_MOST_REMEMBERED: Final = 1_000

_log: Final = logging.getLogger(__name__)
_family: UUID | None = None


def found_family() -> UUID:
    """The id that a worker's processes have in common; made in the parent, before it forks."""
    global _family  # noqa: PLW0603 - one a process, as the process itself
    if _family is None:
        _family = UUID(bytes=os.urandom(16), version=4)
    return _family


def incarnation(pid: int) -> str:
    """The worker id of a process of this family: its parent can name it too."""
    return str(uuid5(found_family(), str(pid)))


def key_of(envelope: TaskEnvelope) -> str:
    """The name of a task in reports."""
    return f"{envelope.execution}/{envelope.task}"


class Claims:
    """What one process has claimed."""

    def __init__(self, engine: EngineApi, *, report_seconds: float = REPORT_SECONDS) -> None:
        self._engine = engine
        self._report_seconds = report_seconds
        self.worker = incarnation(os.getpid())
        self._running: set[str] = set()
        self._handed_on: dict[str, int] = {}
        self._finished: dict[str, int] = {}
        self._lock = threading.Lock()
        self._reporter: threading.Thread | None = None
        self._warned = False

    def take(self, envelope: TaskEnvelope, *, name: str | None = None, retries: int = 0) -> bool:
        """Claim a task: True if this process is to run it now. Blocks while the engine cannot be asked.

        The engine answers a worker's second claim like its first, as the first answer may have been lost; so this process
        sees to it that it runs no second copy beside or after the first.
        """
        key = key_of(envelope)
        with self._lock:
            if key in self._running or retries < self._handed_on.get(key, 0):
                return False
            if envelope.delivery <= self._finished.get(key, 0):
                return False  # its outcome may still be on its way, and the engine would grant it to us again
            self._running.add(key)
            self._start_reporting()
        claim = Claim(envelope.execution, envelope.task, envelope.key, self.worker, name, envelope.holder)
        granted = False
        try:
            granted = self._ask(claim)
        finally:
            if not granted:
                with self._lock:
                    self._running.discard(key)
        if granted:
            with self._lock:
                self._handed_on.pop(key, None)
        return granted

    def _ask(self, claim: Claim) -> bool:
        for _ in _attempts(CLAIM_PATIENCE_SECONDS, f"claim task {claim.task} of execution {claim.execution}"):
            try:
                answer = self._engine.claim(claim)
            except EngineUnreachableError as error:
                _log.warning("Cannot ask for a task: %s. Trying on.", error)
                continue
            except EngineRefusedError as error:
                _log.error("The engine refuses this worker: %s", error)
                return False
            if not answer.granted:
                _log.info(
                    "Dropped a copy of task %d of execution %s: %s",
                    claim.task,
                    claim.execution,
                    answer.reason or "taken",
                )
            return answer.granted
        return False

    def beat(self, envelope: TaskEnvelope) -> bool:
        """Say that a task is alive; False if nobody waits for its outcome any more."""
        claim = Claim(envelope.execution, envelope.task, envelope.key, self.worker, heartbeat=True)
        try:
            return self._engine.claim(claim).granted
        except EngineUnreachableError as error:
            _log.warning("A heartbeat was not delivered: %s", error)
            return True

    def finish(self, envelope: TaskEnvelope) -> None:
        """The task has run here, and its outcome is reported."""
        with self._lock:
            self._running.discard(key_of(envelope))
            _remember(self._finished, key_of(envelope), envelope.delivery)

    def hand_on(self, envelope: TaskEnvelope, retries: int) -> None:
        """Celery retries the task: the claim stays this worker's until the copy with so many retries is claimed."""
        with self._lock:
            self._running.discard(key_of(envelope))
            _remember(self._handed_on, key_of(envelope), retries)

    def report(self, *, ended_pid: int | None = None) -> None:
        """Renew the lease, or end that of a process of this family that is gone."""
        with self._lock:
            running = sorted(self._running | self._handed_on.keys())
        host = socket.gethostname()
        if ended_pid is not None:
            self._engine.report_worker(WorkerReport(incarnation(ended_pid), host, ended_pid, ended=True))
        else:
            self._engine.report_worker(WorkerReport(self.worker, host, os.getpid(), running=running))

    def _start_reporting(self) -> None:
        if self._reporter is None:
            self._try_report()  # before the first claim: the engine must know the worker it grants a task to
            self._reporter = threading.Thread(target=self._keep_reporting, name="stepwell-report", daemon=True)
            self._reporter.start()

    def _keep_reporting(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._report_seconds):
            self._try_report(locked=False)

    def _try_report(self, *, locked: bool = True) -> None:
        try:
            if locked:
                self._engine.report_worker(WorkerReport(self.worker, socket.gethostname(), os.getpid()))
            else:
                self.report()
            self._warned = False
        except (EngineUnreachableError, EngineRefusedError) as error:
            if not self._warned:
                self._warned = True
                _log.warning("This worker's report did not reach the engine: %s", error)


def _remember(memory: dict[str, int], key: str, value: int) -> None:
    """Keep the newest entries only: the older ones matter to nobody any more."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _MOST_REMEMBERED:
        del memory[next(iter(memory))]


def deliver(outcome: Outcome, publish: Callable[[Outcome], None], engine: EngineApi) -> None:
    """Report an outcome by the broker, or where that fails by the engine's API, until one has it.

    `publish` raises nothing but `OSError` for a broker that is away.
    """
    what = f"report the outcome of task {outcome.task} of execution {outcome.execution}"
    for _ in _attempts(OUTCOME_PATIENCE_SECONDS, what):
        try:
            return publish(outcome)
        except OSError as error:
            _log.warning("Cannot report an outcome by the broker: %s. Asking the engine's API.", error)
        try:
            return engine.report_outcome(outcome)
        except EngineUnreachableError as error:
            _log.warning("Cannot report an outcome by the API either: %s. Trying on.", error)
        except EngineRefusedError as error:
            _log.error("The engine does not take an outcome: %s", error)
            return None
    return None


def _attempts(patience: float, what: str) -> Iterator[None]:
    """Attempts with growing pauses, until time is up."""
    until = time.monotonic() + patience
    pause = 0.1
    while True:
        yield
        left = until - time.monotonic()
        if left <= 0:
            _log.error("Gave up trying to %s.", what)
            return
        time.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE)
