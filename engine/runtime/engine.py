"""An engine node: the parts of the runtime put together, and what goes on in it without being asked.

Taking shards over, applying what other nodes have written down for us, firing timers, rescuing tasks of dead workers. What
callers ask of it is in `runtime.requests`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock, SeedSource
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, node_tag, shard_of
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Finish, ScheduleTask, StartTimer, TimerKind
from stepwell.engine.machine.map_events import MAP_RUN_EVENTS
from stepwell.engine.machine.map_run import child_machine
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState
from stepwell.engine.map_ports import ItemSource, MapRunStore, NewChild, StoredMapRun
from stepwell.engine.ports import (
    Evaluate,
    ExecutionView,
    ExpressStore,
    MachineStore,
    RuntimeStore,
    evaluate_here,
)
from stepwell.engine.runtime.commit import Committer
from stepwell.engine.runtime.dispatch import MAX_DELIVERIES, Dispatcher, Targets, undeliverable
from stepwell.engine.runtime.executor import Effects, Executor
from stepwell.engine.runtime.express import Express
from stepwell.engine.runtime.express_log import ExpressLog
from stepwell.engine.runtime.hot import Hot, Work
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.leases import Leases
from stepwell.engine.runtime.map_runs import MapRuns, NoStorage
from stepwell.engine.runtime.once import OnceTasks
from stepwell.engine.runtime.timers import Timers
from stepwell.engine.telemetry import Counts, NoMetrics

log = logging.getLogger(__name__)

BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""Beyond this much waiting to be committed, new work is refused with 503 until it has drained."""
MACHINES_CACHED: Final = 2_000
INBOX_ROWS: Final = 1_000
"""Messages read at a time."""
FORGOTTEN_MS: Final = 60_000
"""How long an outcome may be on its way from a worker that lives."""
STILL_BUSY_MS: Final = 50
"""How soon a timer is looked at again that an execution may have lost in a step which is being committed."""


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
    express_bytes: int = 256 * 1024 * 1024
    express_drain_seconds: float = 5.0
    express_keep: bool = True
    reveal_secrets: bool = False


Listen = Callable[[asyncio.Event], Awaitable[None]]


class Engine(Effects):
    """One engine node. `open` it before use, `close` it after."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        express: ExpressStore,
        machines: MachineStore,
        targets: Targets,
        clock: Clock,
        seeds: SeedSource,
        options: EngineOptions,
        listen: Listen | None = None,
        metrics: Counts | None = None,
        evaluate: Evaluate = evaluate_here,
        map_store: MapRunStore | None = None,
        items: ItemSource | None = None,
    ) -> None:
        self.metrics = metrics = metrics or NoMetrics()
        self._store = store
        self.express_store = express
        self.identity = Identity(store, options.node, seeds)
        self._machines = machines
        self._clock = clock
        self._seeds = seeds
        self._options = options
        self._listen = listen
        self._compiled: dict[tuple[int, int, str | None], StateMachine] = {}
        self._waiting: dict[ExecutionId, list[asyncio.Future[ExecutionView]]] = {}
        self._opened = 0.0
        self._inbox_wake = asyncio.Event()
        self._inbox_seen: set[int] = set()
        self._inbox_held = False
        self._forgotten: set[ExecutionId] = set()
        """Who is to be told again of what came before that which is just being read: it must not come first."""
        self._unsure: set[int] = set()
        self._taking_up: set[int] = set()
        self._unsure_wake = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self.committer = Committer(store, self.identity, clock, metrics)
        self.executor = Executor(
            store, self.committer, self.identity, self.machine, clock, seeds, self, region=options.region,
            metrics=metrics, evaluate=evaluate,
        )  # fmt: skip
        self.once = OnceTasks(targets, reveals=options.reveal_secrets)
        self.dispatcher = Dispatcher(store, self.executor, targets, self._may_act, clock.now_ms, metrics)
        self.express = Express(
            targets=targets, clock=clock, seeds=seeds, region=options.region, node=node_tag(options.address),
            most_bytes=options.express_bytes, may_act=self._may_act, metrics=metrics, evaluate=evaluate,
        )  # fmt: skip
        self.express_log = ExpressLog(
            store=express, identity=self.identity, express=self.express, machines=self.machine, clock=clock,
            may_act=self._may_act, keep=options.express_keep, metrics=metrics,
        )  # fmt: skip
        self.timers = Timers(store, clock, lambda: self.executor.owned, self._fire, metrics)
        self.leases = Leases(
            store, self.identity, clock, address=options.address, ttl_ms=options.lease_ttl_ms,
            taken=self._taken, lost=self._lost, lapsed=self.express_log.lapsed, unsettled=self._unsettled,
            metrics=metrics,
        )  # fmt: skip
        self.map_runs = (
            MapRuns(map_store, self, self.identity, clock, seeds, items or NoStorage(), evaluate, self.express)
            if map_store is not None
            else None
        )

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take shards over and begin."""
        self._opened = self._clock.monotonic()
        self.committer.start()
        if not self._options.owns_shards:
            return
        await self.leases.start()
        self.express_log.start()
        self.timers.start()
        self._background = [
            asyncio.create_task(self._poll_inbox(), name="inbox"),
            asyncio.create_task(self._rescue(), name="rescue"),
            asyncio.create_task(self._resume(), name="resume"),
        ]
        if self._listen is not None:
            self._background.append(asyncio.create_task(self._hear(self._listen), name="listen"))

    async def close(self) -> None:
        """Stop taking work, finish what is being committed, give the shards back."""
        await self.express.drain(self._options.express_drain_seconds)
        if self.map_runs is not None:
            await self.map_runs.settle(self._options.express_drain_seconds)
        await self.express_log.close(self._options.express_drain_seconds)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        uncounted: set[int] = set()
        if self.map_runs is not None:
            uncounted = self.map_runs.uncounted()
            await self.map_runs.close()
        await self.dispatcher.close()
        await self.timers.close()
        await self.executor.close()
        await self.committer.close()
        if self._options.owns_shards:
            await self.leases.close(uncounted)

    def _may_act(self) -> bool:
        return self.leases.valid

    may_act = _may_act

    @property
    def performs(self) -> bool:
        """Whether this node runs executions, and does not only take requests."""
        return self._options.owns_shards

    @property
    def ready(self) -> bool:
        """Whether this node can take requests."""
        return not self._options.owns_shards or self.leases.valid

    async def machine(self, key: int, revision: int, processor: str | None = None) -> StateMachine:
        """The compiled definition of a revision, or of the processor of the Map state in it that is named."""
        machine = self._compiled.get((key, revision, processor))
        if machine is None and processor is not None:
            machine = child_machine(await self.machine(key, revision), processor)
            self._remember(key, revision, processor, machine)
        elif machine is None:
            stored = await self._machines.revision(key, revision)
            if stored is None:
                raise StepwellError("The definition this execution was started with is not in the store.")
            machine = parse_definition(stored.definition)
            self._remember(key, revision, None, machine)
        return machine

    def _remember(self, key: int, revision: int, processor: str | None, machine: StateMachine) -> None:
        if len(self._compiled) >= MACHINES_CACHED:
            self._compiled.pop(next(iter(self._compiled)))
        self._compiled[(key, revision, processor)] = machine

    # -- effects of commits ----------------------------------------------------------------------------------------

    def task_scheduled(self, hot: Hot, command: ScheduleTask) -> None:
        self.dispatcher.scheduled(hot, command)

    def task_cancelled(self, hot: Hot, task: int) -> None:
        self.dispatcher.cancelled(hot.id, task)

    def timer_started(self, hot: Hot, command: StartTimer) -> None:
        self.timers.add(hot.id, command.timer, command.due_at)

    def finished(self, hot: Hot, finish: Finish) -> None:
        waiting = self._waiting.pop(hot.id, ())
        if not waiting:
            return
        view = hot.ended_view(finish)
        for future in waiting:
            if not future.done():
                future.set_result(view)

    def posted(self, receivers: Sequence[ExecutionId]) -> None:
        if not receivers:
            return
        if any(self.executor.owns(receiver) for receiver in receivers):
            self._inbox_wake.set()
        if not all(self.executor.owns(receiver) for receiver in receivers):
            self._background.append(asyncio.create_task(self._store.hint_all()))

    def adopt(self, info: ExecutionInfo, machine: StateMachine, child: NewChild, run: StoredMapRun, row: int) -> None:
        if not self.executor.owns(child.id):
            return
        hot = Hot(
            child.id, shard_of(child.id), 0, ExecutionState(info), machine, run.machine_key, run.revision,
            map_run=run.id, map_item=child.number,
        )  # fmt: skip
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._inbox_done(done, child.id, row))
        work = Work(events.Started(msgspec.Raw(child.input)), inbox=row, future=future)
        self._inbox_seen.add(row)
        if not self.executor.adopt(hot, work):
            self._inbox_seen.discard(row)

    def consumed(self, row: int) -> None:
        self._inbox_seen.discard(row)
        if self._inbox_held:  # there is room for what waits in the store
            self._inbox_wake.set()

    def forgotten(self, receiver: ExecutionId, row: int) -> None:
        self._inbox_seen.discard(row)
        self._forgotten.add(receiver)

    @contextmanager
    def watching(self, id: ExecutionId) -> Iterator[asyncio.Future[ExecutionView]]:
        """A future that is set when the execution ends on this node."""
        future: asyncio.Future[ExecutionView] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(future)
        try:
            yield future
        finally:
            waiting = self._waiting.get(id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[id]

    def wake_inbox(self) -> None:
        """There is something in the inbox."""
        self._inbox_wake.set()

    # -- taking shards over ----------------------------------------------------------------------------------------

    async def _taken(self, shards: set[int], given: set[int]) -> None:
        """Shards are ours now: go on with what their last owner left, while the lease goes on being renewed."""
        self.executor.owned |= shards
        if self.map_runs is not None:
            self.map_runs.given(given)
        self._unsure |= shards
        self._unsure_wake.set()

    def _lost(self, shards: set[int]) -> None:
        self.executor.drop_shards(shards)
        if self.map_runs is not None:
            self.map_runs.drop_shards(shards)

    def _unsettled(self) -> set[int]:
        """Shards that are not to be given back yet, lest nobody counts what their last owner's end has cost."""
        uncounted = self.map_runs.uncounted() if self.map_runs is not None else set()
        return self._unsure | self._taking_up | uncounted

    def unsure(self, shard: int) -> None:
        self._unsure.add(shard)
        self._unsure_wake.set()

    def refused(self) -> None:
        self._inbox_wake.set()

    async def _resume(self) -> None:
        """Find in the store what should follow commits that were not ours or not answered: tasks to dispatch, timers."""
        while True:
            await self._unsure_wake.wait()
            self._unsure_wake.clear()
            shards, self._unsure = self._unsure, set()
            self._taking_up = shards
            try:
                await self.identity.settled()  # else a task could be sent again that is just being closed
                self.dispatcher.taken_up(await self._store.open_tasks(sorted(shards & self.executor.owned)))
                await self.timers.scan_now()
                if self.map_runs is not None:
                    await self.map_runs.take(sorted(shards & self.executor.owned))
            except StoreUnavailableError as error:
                log.warning("shards cannot be taken up yet", extra={"reason": str(error)})
                self._unsure |= shards
                self._unsure_wake.set()
                await asyncio.sleep(1)
            self._taking_up = set()
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
            if hot is None:
                return
            if known is None:
                if hot.busy:  # what has taken it is not durable yet, or is another start under this name
                    self.timers.add(id, timer, self._clock.now_ms() + STILL_BUSY_MS)
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
            with suppress(TimeoutError):  # asyncio.wait_for would swallow a cancellation that comes with the wake-up
                async with asyncio.timeout(pause):
                    await self._inbox_wake.wait()
            self._inbox_wake.clear()
            # What is being applied while we read may be gone, and must not be applied twice.
            under_way = set(self._inbox_seen)
            self._forgotten.clear()
            generation = self.executor.generation
            try:
                await self.identity.settled()  # else a commit of unknown fate may consume what we read
                held = self.map_runs.crowded() if self.map_runs is not None else []
                self._inbox_held = bool(held)
                shards = sorted(self.executor.owned)
                rows = await self._store.inbox(shards, INBOX_ROWS, under_way, held) if shards else []
            except StoreUnavailableError as error:
                log.warning("the inbox cannot be read", extra={"reason": str(error)})
                pause = self._options.poll_most
                continue
            if generation != self.executor.generation:  # another owner may have consumed them meanwhile
                self._inbox_wake.set()
                continue
            for row in rows:
                if row.execution in self._forgotten:
                    self._inbox_wake.set()
                    continue
                self._inbox_seen.add(row.id)
                if isinstance(row.event, MAP_RUN_EVENTS):
                    if self.map_runs is not None:
                        self.map_runs.deliver(row.execution, row.event, row.id)
                else:
                    self._apply_inbox(row.execution, row.event, row.id)
            await self.dispatcher.flush_sent()
            pause = self._options.poll_least if rows else min(pause * 1.5, self._options.poll_most)

    def _apply_inbox(self, id: ExecutionId, event: events.Event, row: int) -> None:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._inbox_done(done, id, row))
        self.executor.apply(id, Work(event, inbox=row, future=future))

    def _inbox_done(self, future: asyncio.Future[bool], id: ExecutionId, row: int) -> None:
        self._inbox_seen.discard(row)
        if not future.cancelled() and future.exception() is not None:
            self.forgotten(id, row)
            log.warning("an inbox row will be tried again", extra={"row": row, "reason": str(future.exception())})

    async def _hear(self, listen: Listen) -> None:
        while True:
            with suppress(StoreUnavailableError):
                await listen(self._inbox_wake)
            await asyncio.sleep(1)

    async def _rescue(self) -> None:
        """Redeliver tasks whose worker died, and those nobody started."""
        while True:
            await asyncio.sleep(5)
            self._background = [task for task in self._background if not task.done()]
            if not self._may_act() or not self.executor.owned:
                continue
            try:
                await self._rescue_once()
            except StoreUnavailableError as error:
                log.warning("lost tasks cannot be read", extra={"reason": str(error)})

    def _forgotten_before(self) -> int:
        """Tasks started before this moment must be known to their live worker, or its word of the outcome was lost. A node that
        has only begun gives the outcomes that waited for it time to come in.
        """
        if self._clock.monotonic() - self._opened < FORGOTTEN_MS / 1000:
            return 0
        return self._clock.now_ms() - FORGOTTEN_MS

    async def _rescue_once(self) -> None:
        forgotten_before = self._forgotten_before()
        lost = await self._store.lost_tasks(sorted(self.executor.owned), forgotten_before)
        again = [row for row in lost if row.delivery + 1 < MAX_DELIVERIES]
        for row in lost:
            if row.delivery + 1 >= MAX_DELIVERIES:
                self.executor.apply(row.execution, Work(undeliverable(row.task, row.delivery + 1), insistent=True))
        if again:
            taken = {(row.execution, row.task) for row in again}
            with suppress(StoreUnavailableError):  # if nobody knows, send them all: a claim will tell
                taken = await self._store.requeue_tasks(
                    [(row.execution, row.task, row.worker or "") for row in again], forgotten_before
                )
            for row in again:
                if (row.execution, row.task) not in taken:
                    continue
                log.warning("a worker was lost; its task is sent again", extra={"execution": row.execution.hex()})
                self.dispatcher.again(row, row.delivery + 2)
        self.dispatcher.overdue(await self._store.open_tasks(sorted(self.executor.owned)))


def _heartbeat_seconds(hot: Hot, frame_id: int) -> int:
    frame = hot.state.frames.get(frame_id)
    task = frame.task if frame is not None else None
    return task.heartbeat_seconds if task is not None else 0
