"""An engine node: the parts of the runtime put together, behind the `ports.Runtime` that the use-cases ask.

What concerns an execution whose shard this node owns is done in memory and answered when its commit is known. What concerns
another's is written down for its owner (inbox row), and answered from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import NotOwnerError, StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, TaskToken, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Finish, ScheduleTask, StartTimer, Status, TimerKind
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.messages import WORKER_LEASE_SECONDS, Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import (
    ActivityTask,
    CommandAnswer,
    CommandOutcome,
    MachineStore,
    NewExecution,
    RuntimeStore,
    StartAnswer,
    StartOutcome,
    StartRequest,
    StoredExecution,
    TaskAnswer,
)
from stepwell.engine.runtime.commit import Committer
from stepwell.engine.runtime.dispatch import MAX_DELIVERIES, Dispatcher, Targets, undeliverable
from stepwell.engine.runtime.executor import Effects, Executor
from stepwell.engine.runtime.hot import History, Hot, Work
from stepwell.engine.runtime.leases import Leases
from stepwell.engine.runtime.timers import Timers

log = logging.getLogger(__name__)

BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""Beyond this much waiting to be committed, new work is refused with 503 until it has drained."""
MACHINES_CACHED: Final = 2_000


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine node is told. `owns_shards` is False for a node that only takes requests (`stepwell api`)."""

    node: UUID
    region: str = "us-east-1"
    address: str | None = None
    lease_ttl_ms: int = 10_000
    owns_shards: bool = True
    poll_least: float = 0.05
    poll_most: float = 1.0


Listen = Callable[[asyncio.Event], Awaitable[None]]


class Engine(Effects):
    """One engine node. `open` it before use, `close` it after."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        machines: MachineStore,
        targets: Targets,
        clock: Clock,
        seeds: SeedSource,
        options: EngineOptions,
        listen: Listen | None = None,
    ) -> None:
        self._store = store
        self._machines = machines
        self._clock = clock
        self._seeds = seeds
        self._options = options
        self._listen = listen
        self._compiled: dict[tuple[int, int], StateMachine] = {}
        self._waiting: dict[ExecutionId, list[asyncio.Future[bool]]] = {}
        self._inbox_wake = asyncio.Event()
        self._inbox_seen: set[int] = set()
        self._background: list[asyncio.Task[None]] = []
        self.committer = Committer(store, options.node)
        self.executor = Executor(store, self.committer, self._machine, clock, seeds, self, region=options.region)
        self.dispatcher = Dispatcher(store, self.executor, targets, self._may_act, clock.now_ms)
        self.timers = Timers(store, clock, lambda: self.executor.owned, self._fire)
        self.leases = Leases(
            store, options.node, clock, address=options.address, ttl_ms=options.lease_ttl_ms,
            taken=self._taken, lost=self.executor.drop_shards,
        )  # fmt: skip

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take shards over and begin."""
        self.committer.start()
        if not self._options.owns_shards:
            return
        await self.leases.start()
        self.timers.start()
        self._background = [
            asyncio.create_task(self._poll_inbox(), name="inbox"),
            asyncio.create_task(self._rescue(), name="rescue"),
        ]
        if self._listen is not None:
            self._background.append(asyncio.create_task(self._hear(self._listen), name="listen"))

    async def close(self) -> None:
        """Stop taking work, finish what is being committed, give the shards back."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.dispatcher.close()
        await self.timers.close()
        await self.executor.close()
        await self.committer.close()
        if self._options.owns_shards:
            await self.leases.close()

    def _may_act(self) -> bool:
        return self.leases.valid

    @property
    def ready(self) -> bool:
        """Whether this node can take requests."""
        return not self._options.owns_shards or self.leases.valid

    async def _machine(self, key: int, revision: int) -> StateMachine:
        machine = self._compiled.get((key, revision))
        if machine is None:
            stored = await self._machines.revision(key, revision)
            if stored is None:
                raise StepwellError("The definition this execution was started with is not in the store.")
            machine = parse_definition(stored.definition)
            self._remember(key, revision, machine)
        return machine

    def _remember(self, key: int, revision: int, machine: StateMachine) -> None:
        if len(self._compiled) >= MACHINES_CACHED:
            self._compiled.pop(next(iter(self._compiled)))
        self._compiled[(key, revision)] = machine

    # -- effects of commits ----------------------------------------------------------------------------------------

    def task_scheduled(self, hot: Hot, command: ScheduleTask) -> None:
        self.dispatcher.scheduled(hot, command)

    def task_cancelled(self, hot: Hot, task: int) -> None:
        self.dispatcher.cancelled(hot.id, task)

    def timer_started(self, hot: Hot, command: StartTimer) -> None:
        self.timers.add(hot.id, command.timer, command.due_at)

    def finished(self, hot: Hot, finish: Finish) -> None:
        for future in self._waiting.pop(hot.id, ()):
            if not future.done():
                future.set_result(True)

    # -- taking shards over ----------------------------------------------------------------------------------------

    async def _taken(self, shards: set[int]) -> None:
        """Shards are ours now: go on with what their last owner left."""
        self.executor.owned |= shards
        for row in await self._store.open_tasks(sorted(shards)):
            if not row.started:
                await self.dispatcher.again(row, row.delivery + 1)
        await self.timers.scan_now()
        self._inbox_wake.set()

    def _fire(self, id: ExecutionId, timer: int) -> None:
        if not self._may_act() or not self.executor.owns(id):
            return
        hot = self.executor.hot(id)
        known = hot.state.timers.get(timer) if hot is not None else None
        if known is not None and known.kind is not TimerKind.HEARTBEAT:
            self.executor.apply(id, Work(events.TimerFired(timer), insistent=True))
        else:
            self._background.append(asyncio.create_task(self._fire_cold(id, timer)))

    async def _fire_cold(self, id: ExecutionId, timer: int) -> None:
        """Fire a timer of an execution that is not in memory, or a heartbeat's, which may have been heard in the meantime."""
        with suppress(StepwellError):
            hot = await self.executor.read(id)
            known = hot.state.timers.get(timer) if hot is not None else None
            if hot is None or known is None:
                return
            if known.kind is TimerKind.HEARTBEAT:
                frame = hot.state.frames.get(known.frame)
                task = frame.task.task if frame is not None and frame.task is not None else 0
                heard = max(hot.heartbeats.get(task, 0), await self._store.last_heartbeat(id, task))
                seconds = _heartbeat_seconds(hot, known.frame)
                if heard and heard + 1000 * seconds > self._clock.now_ms():
                    self.timers.add(id, timer, heard + 1000 * seconds)
                    return
            self.executor.apply(id, Work(events.TimerFired(timer), insistent=True))

    async def _poll_inbox(self) -> None:
        """Apply what other nodes have written down for us. NOTIFY only shortens the wait."""
        pause = self._options.poll_least
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._inbox_wake.wait(), pause)
            self._inbox_wake.clear()
            try:
                rows = await self._store.inbox(sorted(self.executor.owned), 1000) if self.executor.owned else []
            except StoreUnavailableError as error:
                log.warning("the inbox cannot be read", extra={"reason": str(error)})
                pause = self._options.poll_most
                continue
            fresh = [row for row in rows if row.id not in self._inbox_seen]
            for row in fresh:
                self._inbox_seen.add(row.id)
                self._apply_inbox(row.execution, row.event, row.id)
            await self.dispatcher.flush_sent()
            pause = self._options.poll_least if fresh else min(pause * 1.5, self._options.poll_most)

    def _apply_inbox(self, id: ExecutionId, event: events.Event, row: int) -> None:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._inbox_done(done, row))
        stored = isinstance(event, events.TaskSucceeded | events.TaskFailed)
        if isinstance(event, events.TaskStarted):
            hot = self.executor.hot(id)
            if hot is not None and event.worker is not None:
                hot.claims.setdefault(event.task, "")
        self.executor.apply(id, Work(event, inbox=row, outcome_stored=stored, future=future))

    def _inbox_done(self, future: asyncio.Future[bool], row: int) -> None:
        self._inbox_seen.discard(row)
        if not future.cancelled() and future.exception() is not None:
            log.warning("an inbox row will be tried again", extra={"row": row, "reason": str(future.exception())})

    async def _hear(self, listen: Listen) -> None:
        while True:
            with suppress(StoreUnavailableError):
                await listen(self._inbox_wake)
            await asyncio.sleep(1)

    async def _rescue(self) -> None:
        """Redeliver tasks whose worker died."""
        while True:
            await asyncio.sleep(5)
            self._background = [task for task in self._background if not task.done()]
            if not self._may_act() or not self.executor.owned:
                continue
            try:
                await self._rescue_once()
            except StoreUnavailableError as error:
                log.warning("lost tasks cannot be read", extra={"reason": str(error)})

    async def _rescue_once(self) -> None:
        lost = await self._store.lost_tasks(sorted(self.executor.owned))
        again = [row for row in lost if row.delivery + 1 < MAX_DELIVERIES]
        for row in lost:
            hot = self.executor.hot(row.execution)
            if hot is not None:
                hot.claims.pop(row.task, None)
            if row.delivery + 1 >= MAX_DELIVERIES:
                self.executor.apply(row.execution, Work(undeliverable(row.task, row.delivery + 1), insistent=True))
        if again:
            await self._store.requeue_tasks([(row.execution, row.task) for row in again])
            for row in again:
                log.warning("a worker was lost; its task is sent again", extra={"execution": row.execution.hex()})
                await self.dispatcher.again(row, row.delivery + 2)

    # -- ports.Runtime: executions ---------------------------------------------------------------------------------

    async def start(self, request: StartRequest) -> StartAnswer:
        """See `ports.Runtime.start`."""
        if self.committer.backlog_bytes > BACKLOG_BYTES:
            raise StoreUnavailableError("The engine is catching up with the database; ask again.")
        machine = request.machine
        compiled = self._compiled.get((machine.key, machine.revision))
        if compiled is None:
            compiled = parse_definition(machine.definition)
            self._remember(machine.key, machine.revision, compiled)
        name, arn, id = self._identify(request)
        now = self._clock.now_ms()
        info = ExecutionInfo(
            id=id, arn=arn, name=name, machine_arn=machine.arn, machine_name=machine.name, role_arn=machine.role_arn,
            started_at=now, region=arn.split(":", 4)[3], version_arn=request.version_arn, alias_arn=request.alias_arn,
        )  # fmt: skip
        new = NewExecution(
            machine_key=machine.key, revision=machine.revision, name=name, arn=arn, started_at=now,
            trace_header=request.trace_header, version_arn=request.version_arn, alias_arn=request.alias_arn,
        )  # fmt: skip
        begun: bool | None = False
        if self.executor.owns(id) and self.leases.valid:
            event = events.Started(msgspec.Raw(request.input.text))
            future = self.executor.begin(info, new, compiled, event)
            begun = await future if future is not None else False
        else:
            begun = await self._store.post_start(id, new, request.input)
        if begun:
            return StartAnswer(outcome=StartOutcome.STARTED, id=id, arn=arn, name=name, started_at=now)
        return await self._exists(id, request)

    def _identify(self, request: StartRequest) -> tuple[str, str, ExecutionId]:
        """Name, ARN and id of a new execution; an unnamed one is named so that its shard is ours, where we have any."""
        if request.name is not None:
            arn = ids.execution_arn(request.machine.arn, request.name)
            return request.name, arn, ids.execution_id(arn)
        entropy = Entropy(self._seeds.seed())
        owned = self.executor.owned
        tries = 64
        while True:
            name = str(entropy.uuid4())
            arn = ids.execution_arn(request.machine.arn, name)
            id = ids.execution_id(arn)
            tries -= 1
            if not owned or shard_of(id) in owned or not tries:
                return name, arn, id

    async def _exists(self, id: ExecutionId, request: StartRequest) -> StartAnswer:
        """The name is taken: is it the same start again?"""
        stored = await self._store.load(id)
        if stored is None:
            raise StoreUnavailableError("The execution could not be started just now; ask again.")
        same = stored.status is Status.RUNNING and await self._input_of(stored) == request.input.text
        return StartAnswer(
            outcome=StartOutcome.EXISTS_SAME if same else StartOutcome.EXISTS_OTHER,
            id=id, arn=stored.arn, name=stored.name, started_at=stored.started_at,
        )  # fmt: skip

    async def _input_of(self, stored: StoredExecution) -> bytes | None:
        if stored.rev == 0:
            return None
        data = stored.first_chunk or (stored.chunks[0] if stored.chunks else None)
        if data is None:
            return None
        history = History()
        history.add(chunks.decode(data))
        return history.payload(1).text

    async def wait(self, id: ExecutionId, timeout_ms: int) -> bool:
        """See `ports.Runtime.wait`."""
        deadline = self._clock.monotonic() + timeout_ms / 1000
        pause = self._options.poll_least
        while True:
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(id, []).append(future)
            try:
                stored = await self._store.status(id)
                if stored is None or stored is not Status.RUNNING:
                    return stored is not None
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return False
                ours = self.executor.owns(id)
                with suppress(TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(future), min(left, 5.0 if ours else pause))
                pause = min(pause * 1.5, self._options.poll_most)
            finally:
                waiting = self._waiting.get(id)
                if waiting is not None and future in waiting:
                    waiting.remove(future)
                    if not waiting:
                        self._waiting.pop(id, None)

    async def stop(self, id: ExecutionId, error: str | None, cause: str | None) -> CommandAnswer:
        """See `ports.Runtime.stop`."""
        await self._command(id, events.StopRequested(error, cause), lambda stored: stored.status is not Status.RUNNING)
        stored = await self._store.load(id)
        if stored is None:
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        return CommandAnswer(CommandOutcome.DONE, stored.stopped_at or self._clock.now_ms())

    async def redrive(self, id: ExecutionId, client_token: str | None = None) -> CommandAnswer:
        """See `ports.Runtime.redrive`."""
        stored = await self._store.load(id)
        if stored is None:
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        if client_token is not None and stored.redrive_token == client_token and stored.redriven_at:
            return CommandAnswer(CommandOutcome.DONE, stored.redriven_at)
        if stored.status in (Status.RUNNING, Status.SUCCEEDED):
            reason = f"Execution is {stored.status} and cannot be redriven"
            return CommandAnswer(CommandOutcome.NOT_ALLOWED, reason=reason)
        count = stored.redrive_count
        event = events.Redriven(client_token)
        await self._command(id, event, lambda now: now.redrive_count > count)
        stored = await self._store.load(id)
        if stored is None or stored.redrive_count == count:
            return CommandAnswer(CommandOutcome.NOT_ALLOWED, reason="Another command came first")
        return CommandAnswer(CommandOutcome.DONE, stored.redriven_at or self._clock.now_ms())

    async def _command(self, id: ExecutionId, event: events.Event, done: Callable[[StoredExecution], bool]) -> None:
        """Have the owner apply a command: here, or by its inbox, waiting until the store shows it."""
        if self.executor.owns(id) and self.leases.valid:
            with suppress(NotOwnerError):
                await self.executor.ask(id, event)
                return
        await self._store.post(id, event)
        deadline = self._clock.monotonic() + 30
        pause = self._options.poll_least
        while self._clock.monotonic() < deadline:
            stored = await self._store.load(id)
            if stored is None or done(stored):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self._options.poll_most)
        raise StoreUnavailableError("The execution's owner has not answered; the command stays written down for it.")

    # -- ports.Runtime: tasks --------------------------------------------------------------------------------------

    async def complete_task(self, token: TaskToken, output: Document) -> TaskAnswer:
        """See `ports.Runtime.complete_task`."""
        return await self._outcome(token, events.TaskSucceeded(token.task, msgspec.Raw(output.text)))

    async def fail_task(self, token: TaskToken, error: str | None, cause: str | None) -> TaskAnswer:
        """See `ports.Runtime.fail_task`."""
        return await self._outcome(token, events.TaskFailed(token.task, error, cause))

    async def _outcome(self, token: TaskToken, event: events.TaskSucceeded | events.TaskFailed) -> TaskAnswer:
        if self.executor.owns(token.execution) and self.leases.valid:
            with suppress(NotOwnerError):
                hot = await self.executor.read(token.execution)
                if hot is None:
                    return TaskAnswer.INVALID
                frame = hot.state.tasks.get(token.task)
                if frame is None or frame.task is None:
                    return TaskAnswer.TIMED_OUT
                if frame.task.secret != token.secret:
                    return TaskAnswer.INVALID
                changed = await self.executor.ask(token.execution, event)
                return TaskAnswer.ACCEPTED if changed else TaskAnswer.TIMED_OUT
        return await self._store.post_outcome(token.execution, token.task, token.secret, event)

    async def heartbeat(self, token: TaskToken) -> TaskAnswer:
        """See `ports.Runtime.heartbeat`. Written at most once a second for a task whose owner this is."""
        now = self._clock.now_ms()
        if self.executor.owns(token.execution) and self.leases.valid:
            hot = await self.executor.read(token.execution)
            if hot is None:
                return TaskAnswer.INVALID
            frame = hot.state.tasks.get(token.task)
            if frame is None or frame.task is None:
                return TaskAnswer.TIMED_OUT
            if frame.task.secret != token.secret:
                return TaskAnswer.INVALID
            last = hot.heartbeats.get(token.task, 0)
            hot.heartbeats[token.task] = now
            if now - last < 1000:
                return TaskAnswer.ACCEPTED
        return await self._store.post_heartbeat(token.execution, token.task, token.secret, now)

    async def next_activity_task(self, activity_arn: str, worker: str | None, wait_ms: int) -> ActivityTask | None:
        """See `ports.Runtime.next_activity_task`."""
        deadline = self._clock.monotonic() + wait_ms / 1000
        pause = self._options.poll_least
        while True:
            ready = self.dispatcher.activity_ready
            ready.clear()
            taken = await self._store.take_activity_task(activity_arn, worker)
            if taken is not None:
                id, task, secret, scheduled = taken
                self._inbox_wake.set()
                history = History()
                for data in await self._store.chunks_with(id, [scheduled]):
                    history.add(chunks.decode(data))
                return ActivityTask(ids.task_token(id, task, secret), history.payload(scheduled))
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return None
            with suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), min(left, pause))
            pause = min(pause * 1.5, self._options.poll_most)

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """See `ports.Runtime.claim`."""
        id = ExecutionId(bytes.fromhex(claim.execution))
        if self.executor.owns(id) and self.leases.valid:
            with suppress(NotOwnerError):
                return await self._claim_here(id, claim)
        granted = await self._store.post_claim(id, claim.task, claim.key, claim.worker, claim.name)
        return ClaimAnswer(granted, None if granted else "The task is closed, or another worker runs it.")

    async def _claim_here(self, id: ExecutionId, claim: Claim) -> ClaimAnswer:
        hot = await self.executor.read(id)
        frame = hot.state.tasks.get(claim.task) if hot is not None else None
        if hot is None or frame is None or frame.task is None:
            return ClaimAnswer(False, "The task is closed.")
        if ids.claim_key(frame.task.secret) != claim.key:
            return ClaimAnswer(False, "The key does not belong to this task.")
        holder = hot.claims.get(claim.task)
        if holder == claim.worker:
            return ClaimAnswer(True)
        if holder is not None or frame.task.started:
            granted = await self._store.post_claim(id, claim.task, claim.key, claim.worker, claim.name)
            return ClaimAnswer(granted, None if granted else "Another worker runs this task.")
        hot.claims[claim.task] = claim.worker
        changed = await self.executor.ask(id, events.TaskStarted(claim.task, claim.name))
        return ClaimAnswer(changed, None if changed else "The task is closed.")

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        """See `ports.Runtime.report_outcome`."""
        id = ExecutionId(bytes.fromhex(outcome.execution))
        event: events.TaskSucceeded | events.TaskFailed
        if outcome.output is not None:
            event = events.TaskSucceeded(outcome.task, outcome.output)
        else:
            event = events.TaskFailed(outcome.task, outcome.error, outcome.cause)
        if self.executor.owns(id) and self.leases.valid:
            with suppress(NotOwnerError):
                hot = await self.executor.read(id)
                frame = hot.state.tasks.get(outcome.task) if hot is not None else None
                if frame is None or frame.task is None:
                    return TaskAnswer.TIMED_OUT
                if ids.claim_key(frame.task.secret) != outcome.key:
                    return TaskAnswer.INVALID
                changed = await self.executor.ask(id, event)
                return TaskAnswer.ACCEPTED if changed else TaskAnswer.TIMED_OUT
        secret = await self._store.task_secret(id, outcome.task)
        if secret is None:
            return TaskAnswer.TIMED_OUT
        if ids.claim_key(secret) != outcome.key:
            return TaskAnswer.INVALID
        return await self._store.post_outcome(id, outcome.task, secret, event)

    async def report_worker(self, report: WorkerReport) -> None:
        """See `ports.Runtime.report_worker`."""
        await self._store.report_worker(report, WORKER_LEASE_SECONDS)


def _heartbeat_seconds(hot: Hot, frame_id: int) -> int:
    frame = hot.state.frames.get(frame_id)
    task = frame.task if frame is not None else None
    return task.heartbeat_seconds if task is not None else 0
