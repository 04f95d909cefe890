"""Dispatch: tasks that are durable are handed to their targets, and outcomes come back as events.

A task is dispatched after the commit that made it READY, and again by whoever takes its shard over: at least once. The
outcome of a dispatch is insistent work: it is applied until its fate is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final, Protocol

from stepwell.engine import ids
from stepwell.engine.asl.resources import TargetKind, parse_resource
from stepwell.engine.errors import StepwellError, StoreUnavailableError, TargetUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import chunks
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.ports import OpenTaskRow, RuntimeStore, TargetResult, TaskRequest
from stepwell.engine.runtime.executor import Executor
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.hot import History, Hot, Work, tasks_of
from stepwell.engine.runtime.task_requests import first_request
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.telemetry import TASK_OUTCOMES, TASKS_SENT, Counts

log = logging.getLogger(__name__)

MAX_DELIVERIES: Final = 5
RETRY_SECONDS: Final = (0.2, 0.5, 1, 2, 5, 10)
READ_AT_ONCE: Final = 16
OVERDUE_MS: Final = {False: 20_000, True: 60_000}
"""How long a task may wait before it is dispatched once more, by whether it lies in a broker; each time twice as long."""


class Targets(Protocol):
    """What carries tasks out: `targets.registry.TargetRegistry`."""

    async def perform(self, request: TaskRequest) -> TargetResult: ...


class Dispatcher:
    """Hands tasks to targets. One asyncio task for each that the engine itself waits for."""

    def __init__(
        self,
        store: RuntimeStore,
        executor: Executor,
        targets: Targets,
        may_act: Callable[[], bool],
        now: Callable[[], int],
        metrics: Counts,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._executor = executor
        self._targets = targets
        self._may_act = may_act
        self._now = now
        self._running: dict[tuple[ExecutionId, int], asyncio.Task[None]] = {}
        self._sent: list[tuple[ExecutionId, int]] = []
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._seen: dict[tuple[ExecutionId, int], tuple[int, int]] = {}
        self.activity_ready = asyncio.Event()
        """Set whenever an activity task becomes ready; pollers wait on it."""

    async def close(self) -> None:
        """Stop waiting for targets; what they do is found again after a restart."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def scheduled(self, hot: Hot, command: ScheduleTask) -> None:
        """A task has become durable."""
        reach("before_dispatch")
        if command.resource.kind is TargetKind.ACTIVITY:
            self.activity_ready.set()
            return
        self._launch(
            first_request(
                hot.state.info,
                hot.id,
                command,
                idempotency_key=ids.idempotency_key(hot.id, command.entry, command.attempt),
                step_id=ids.step_id(hot.id, command.entry),
                claim_key=ids.claim_key(command.secret) if command.secret else "",
                traceparent=hot.trace_header,
            )
        )

    def cancelled(self, id: ExecutionId, task: int) -> None:
        """A task's outcome is no longer wanted."""
        running = self._running.pop((id, task), None)
        if running is not None:
            running.cancel()

    def taken_up(self, rows: Sequence[OpenTaskRow]) -> None:
        """Dispatch tasks of shards that were taken over, or of commits that were never answered. What this node has scheduled
        itself meanwhile is left out: it was dispatched after its commit, or is about to be.
        """
        for row in rows:
            hot = self._executor.hot(row.execution)
            if self._executor.owns(row.execution) and (hot is None or row.task in hot.inherited):
                self.again(row, row.delivery + 2)

    def again(self, row: OpenTaskRow, delivery: int) -> None:
        """Dispatch a task that was found open in the store, unless that is under way or it has been closed since."""
        if row.kind is TargetKind.ACTIVITY:
            self.activity_ready.set()
        elif not self._under_way(row):
            self._spawn((row.execution, row.task), self._perform_again(row, delivery))

    def _under_way(self, row: OpenTaskRow) -> bool:
        running = self._running.get((row.execution, row.task))
        return running is not None and not running.done()

    def overdue(self, rows: Sequence[OpenTaskRow]) -> None:
        """Dispatch what nobody has started for long: the effects of a commit that was never answered, a message the broker
        lost. `rows` are all tasks that wait; a second copy of a claimed task is refused, so one too many does no harm.
        """
        now = self._now()
        seen, self._seen = self._seen, {}
        for row in rows:
            key = (row.execution, row.task)
            since, times = seen.get(key, (now, 0))
            patience = OVERDUE_MS[row.kind is TargetKind.CELERY] * 2 ** min(times, 6)
            if not self._under_way(row) and now - since >= patience:
                log.warning("a task that nobody started is sent again", extra={"execution": row.execution.hex()})
                self.again(row, row.delivery + 1)
                since, times = now, times + 1
            self._seen[key] = (since, times)

    async def _perform_again(self, row: OpenTaskRow, delivery: int) -> None:
        pause = 0.1
        while self._may_act():
            try:
                async with self._reading:
                    request = await self._request_of(row, delivery)
            except StoreUnavailableError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            if request is not None:
                self._metrics.count(TASKS_SENT, request.resource.kind)
                await self._perform(request)
            return

    async def _request_of(self, row: OpenTaskRow, delivery: int) -> TaskRequest | None:
        stored = await self._store.load(row.execution)
        if stored is None or row.task not in tasks_of(stored):
            return None
        history = History()
        for data in await self._store.chunks_with(row.execution, [row.scheduled_event]):
            history.add(chunks.decode(data))
        resource = parse_resource(row.resource)
        assert resource is not None, "a resource that was stored was parsed before"
        return TaskRequest(
            execution=row.execution,
            execution_arn=stored.arn,
            machine_name=stored.machine_name,
            task=row.task,
            state=row.state,
            attempt=row.attempt,
            delivery=delivery,
            resource=resource,
            payload=history.payload(row.scheduled_event),
            idempotency_key=ids.idempotency_key(row.execution, row.entry, row.attempt),
            step_id=ids.step_id(row.execution, row.entry),
            claim_key=ids.claim_key(row.secret) if row.secret else "",
            timeout_seconds=row.timeout_seconds,
            heartbeat_seconds=row.heartbeat_seconds,
            traceparent=stored.trace_header,
        )

    def _launch(self, request: TaskRequest) -> None:
        self._metrics.count(TASKS_SENT, request.resource.kind)
        self._spawn((request.execution, request.task), self._perform(request))

    def _spawn(self, key: tuple[ExecutionId, int], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None) if self._running.get(key) is task else None)

    async def _perform(self, request: TaskRequest) -> None:
        try:
            result = await carry_out(self._targets, request, self._may_act)
        except TargetUnavailableError:
            return  # whoever owns the execution by now has it done
        reach("after_dispatch")
        if result is None:  # it went to a broker, and its outcome comes back by another way
            self._sent.append((request.execution, request.task))
        else:
            self._metrics.count(TASK_OUTCOMES, type(result).__name__)
            durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._executor.apply(request.execution, Work(result, insistent=True, future=durable))
            # Until then the task is under way: found open in the store, it must not be done once more.
            with suppress(StepwellError):  # whoever owns the execution by now has it done
                await durable

    async def flush_sent(self) -> None:
        """Write down which tasks have been handed to the broker."""
        sent, self._sent = self._sent, []
        if sent:
            try:
                await self._store.mark_sent(sent, self._now())
            except StoreUnavailableError:
                self._sent = sent + self._sent


async def carry_out(targets: Targets, request: TaskRequest, wanted: Callable[[], bool]) -> TargetResult:
    """Have a task done, trying on for as long as its target is away and it is `wanted`; then raises `TargetUnavailableError`."""
    attempt = 0
    while wanted():
        try:
            return await targets.perform(request)
        except TargetUnavailableError as error:
            delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
            log.warning("a target is away", extra={"resource": _loggable(request), "reason": str(error)})
            attempt += 1
            await asyncio.sleep(delay)
        except StepwellError as error:
            return TaskFailed(request.task, ErrorName.RUNTIME, str(error))
        except Exception as error:
            log.exception("a target failed", extra={"resource": _loggable(request)})
            cause = f"The target of {request.resource.text} failed: {type(error).__name__}."
            return TaskFailed(request.task, ErrorName.RUNTIME, cause)
    raise TargetUnavailableError("This node may not act for the execution any more.")


def undeliverable(request_task: int, deliveries: int) -> TaskFailed:
    """The outcome of a task whose workers died too often."""
    cause = f"The worker that ran this task was lost, {deliveries} times in a row."
    return TaskFailed(request_task, ErrorName.WORKER_LOST, cause)


def _loggable(request: TaskRequest) -> str:
    """The resource without its query, which is where URLs carry keys."""
    return request.resource.text.partition("?")[0]
