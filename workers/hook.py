"""The hook that makes the tasks of a Celery app Stepwell's too: `install(app)`.

A message with Stepwell's header is claimed before its task runs, and the task's outcome is reported. A message without it
passes untouched. Early acknowledgement, retries, time limits and lost processes stay Celery's; what they mean for the claim
is decided here.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from celery import signals
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from kombu.utils.imports import symbol_by_name

from stepwell.engine.messages import TASK_HEADER, Outcome, TaskEnvelope
from stepwell.workers.broker import ResultsPublisher
from stepwell.workers.claims import Claims, deliver, found_family, key_of
from stepwell.workers.engine_api import EngineApi, EngineRefusedError, EngineUnreachableError
from stepwell.workers.results import cause_text, error_name, failure_text, result_text

_HOOKED: Final = "_stepwell_hooked"
_INSTALLED: Final = "_stepwell_hook"
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningTask:
    """The Stepwell task that runs now: what `current_task()` returns."""

    envelope: TaskEnvelope
    claims: Claims

    @property
    def execution_arn(self) -> str:
        return self.envelope.execution_arn

    @property
    def state_name(self) -> str:
        return self.envelope.state

    @property
    def attempt(self) -> int:
        """0 for the first attempt at the state; a Retry of the state machine counts up."""
        return self.envelope.attempt

    @property
    def idempotency_key(self) -> str:
        """The same if this very attempt is delivered twice. Give it to the services this task calls."""
        return self.envelope.idempotency_key

    @property
    def step_id(self) -> str:
        """The same over all attempts at this state."""
        return self.envelope.step_id

    def heartbeat(self) -> bool:
        """Tell the engine that the task is alive. False: nobody waits for its outcome any more, it may stop."""
        return self.claims.beat(self.envelope)


_current: ContextVar[RunningTask | None] = ContextVar("stepwell_task", default=None)


def current_task() -> RunningTask | None:
    """The Stepwell task that runs now, in the task's own thread; None in a task that no state machine sent."""
    return _current.get()


def heartbeat() -> bool:
    """A sign of life, for states with HeartbeatSeconds. True: go on (also outside of a Stepwell task)."""
    running = _current.get()
    return True if running is None else running.heartbeat()


def install(app: Any, *, url: str | None = None, api_key: str | None = None) -> None:
    """Hook Stepwell into a Celery app, where the app is made: `stepwell.workers.install(app)`.

    `url` and `api_key` name the engine's API; STEPWELL_URL and STEPWELL_API_KEY by default. Its tasks are hooked when a worker
    of the app starts; in other processes nothing happens.
    """
    if getattr(app, _INSTALLED, None) is not None:
        return
    hook = Hook(app, url, api_key)
    setattr(app, _INSTALLED, hook)
    signals.worker_init.connect(hook.on_worker_init, weak=False)


class Hook:
    """The hook of one app."""

    def __init__(self, app: Any, url: str | None, api_key: str | None) -> None:
        self._app = app
        self._url = url
        self._api_key = api_key
        self._lock = threading.Lock()
        self._pid = 0
        self._claims: Claims | None = None
        self._engine: EngineApi | None = None
        self._publisher = ResultsPublisher(app)

    # ---------------------------------------------------------------------------------------------- in every process

    def _here(self) -> tuple[Claims, EngineApi]:
        """Claims and API of this very process: a forked one makes its own."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()
        with self._lock:
            if self._pid != os.getpid() or self._claims is None or self._engine is None:
                self._engine = EngineApi(self._url, self._api_key)
                self._claims = Claims(self._engine)
                self._pid = os.getpid()
            return self._claims, self._engine

    def _report(self, outcome: Outcome) -> None:
        deliver(outcome, self._publisher.publish, self._here()[1])

    # ------------------------------------------------------------------------------------------------ when tasks run

    def run(self, task: Any, envelope: TaskEnvelope, body: Callable[[], Any]) -> Any:
        """Claim, run, report. Raises what the task raises; `Ignore` when the copy is to be dropped."""
        claims, _ = self._here()
        request = task.request
        if not claims.take(envelope, name=request.hostname, retries=request.retries or 0):
            raise Ignore
        mark = _current.set(RunningTask(envelope, claims))
        # A retry publishes its copy with these headers: who holds the claim goes with it.
        request.headers[TASK_HEADER] = write_envelope(msgspec.structs.replace(envelope, holder=claims.worker))
        try:
            value = body()
        except Retry:
            claims.hand_on(envelope, (request.retries or 0) + 1)
            raise
        except (Ignore, Reject) as error:
            message = (
                f"The task raised celery.exceptions.{type(error).__name__}, which gives the state machine no result. "
                "Raise another error, or return a result."
            )
            self._report(_failed(envelope, type(error).__name__, message, request.id))
            claims.finish(envelope)
            raise
        except Exception as error:
            cause = cause_text(error, request.id)
            self._report(_outcome(envelope, error=error_name(error), cause=cause, worker=claims.worker))
            claims.finish(envelope)
            raise
        else:
            self._report(_success(envelope, value, request.id, claims.worker))
            claims.finish(envelope)
            return value
        finally:
            _current.reset(mark)

    # ------------------------------------------------------------------------------------------- when a worker starts

    def on_worker_init(self, sender: Any = None, **_: object) -> None:
        """Before the pool forks: hook every task there is."""
        if sender is None or sender.app is not self._app:
            return
        found_family()
        for task in list(self._app.tasks.values()):
            if not task.name.startswith("celery."):
                self._hook(task)
        signals.task_revoked.connect(self.on_revoked, weak=False)

    def _hook(self, task: Any) -> None:
        cls = type(task)
        if _HOOKED in cls.__dict__:
            return
        original, hook = cls.__call__, self

        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            envelope = None if self.request.called_directly else read_envelope(self.request.headers)
            running = _current.get()
            if envelope is None or (running is not None and key_of(running.envelope) == key_of(envelope)):
                return original(self, *args, **kwargs)
            return hook.run(self, envelope, functools.partial(original, self, *args, **kwargs))

        cls.__call__ = call
        cls.Request = _watched(cls.Request, self)
        setattr(cls, _HOOKED, True)

    # ------------------------------------------------------------------------------------- in the parent of processes

    def on_revoked(self, sender: Any = None, request: Any = None, **_: object) -> None:
        """Somebody revoked the task at the broker."""
        envelope = read_envelope(getattr(request, "headers", None))
        if envelope is not None:
            message = "The Celery task was revoked."
            self._in_background(self._report, _failed(envelope, TaskRevokedError.__name__, message, request.id))

    def on_timeout(self, request: Any, envelope: TaskEnvelope, seconds: float) -> None:
        """The hard time limit: the process was killed, and can say nothing."""
        message = f"The task ran longer than its hard time limit of {seconds:g} seconds."
        self._in_background(self._report, _failed(envelope, TimeLimitExceeded.__name__, message, request.id))

    def on_lost(self, pid: int | None) -> None:
        """The process of a task died: its lease ends now, and the engine delivers the task again."""
        if pid is not None:
            self._in_background(self._end_lease, pid)

    def _end_lease(self, pid: int) -> None:
        try:
            self._here()[0].report(ended_pid=pid)
        except (EngineUnreachableError, EngineRefusedError) as error:
            _log.warning("The engine was not told that process %d is gone: %s. It will find out.", pid, error)

    @staticmethod
    def _in_background(work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, name="stepwell-outcome", daemon=True).start()


def _watched(base: Any, hook: Hook) -> Any:
    """Celery's Request (the parent's view of a task), telling the hook of what the task's own process cannot."""
    base = symbol_by_name(base)

    class WatchedRequest(base):  # type: ignore[misc]
        def on_timeout(self, soft: Any, timeout: Any) -> None:
            super().on_timeout(soft, timeout)
            envelope = None if soft else read_envelope(self.request_dict)
            if envelope is not None:
                hook.on_timeout(self, envelope, timeout)

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
            if _is_lost(exc_info.exception) and read_envelope(self.request_dict) is not None:
                hook.on_lost(self.worker_pid)
            return super().on_failure(exc_info, *args, **kwargs)

    return WatchedRequest


def _is_lost(error: BaseException) -> bool:
    return isinstance(getattr(error, "exc", error), WorkerLostError | SystemExit | KeyboardInterrupt)


def read_envelope(headers: Any) -> TaskEnvelope | None:
    """The envelope in a message's headers; None where there is none, or none that can be read."""
    text = headers.get(TASK_HEADER) if headers else None
    if not isinstance(text, str | bytes):
        return None
    try:
        return msgspec.json.decode(text, type=TaskEnvelope)
    except msgspec.MsgspecError as error:
        _log.error(
            "A message carries a header '%s' that cannot be read: %s. Its task runs, unreported.", TASK_HEADER, error
        )
        return None


def write_envelope(envelope: TaskEnvelope) -> str:
    """The header's text."""
    return msgspec.json.encode(envelope).decode()


def _success(envelope: TaskEnvelope, value: Any, request_id: str, worker: str) -> Outcome:
    try:
        text = result_text(value)
    except Exception as error:  # noqa: BLE001 - also what a user's own object raises while it is written
        return _outcome(envelope, error=error_name(error), cause=cause_text(error, request_id), worker=worker)
    if envelope.around is not None:
        text = envelope.around[0].encode() + text + envelope.around[1].encode()
    return _outcome(envelope, output=msgspec.Raw(text), worker=worker)


def _failed(envelope: TaskEnvelope, error: str, message: str, request_id: str) -> Outcome:
    return _outcome(envelope, error=error, cause=failure_text(error, message, request_id))


def _outcome(envelope: TaskEnvelope, **what: Any) -> Outcome:
    return Outcome(envelope.execution, envelope.task, envelope.key, **what)
