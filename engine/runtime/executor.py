"""The executor: advances the executions of the shards this node owns, one step of each in flight, and makes every step durable.

An event comes in, `transition` is applied, what came of it goes to the committer, and only when the commit is known do
effects follow: tasks are dispatched, timers are armed, callers are answered. Whenever the store refuses a step or its fate
is unknown, the execution is dropped from memory and read back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock, SeedSource
from stepwell.engine.errors import ExpressionsUnavailableError, NotOwnerError, StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import (
    CancelTask,
    CancelTimer,
    CloseTask,
    Command,
    Finish,
    ScheduleTask,
    StartTimer,
    Status,
)
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState
from stepwell.engine.machine.transition import DEFAULT_SLICE
from stepwell.engine.ports import (
    CommitEntry,
    Evaluate,
    NewExecution,
    RuntimeStore,
    evaluate_here,
)
from stepwell.engine.query.jsonata import Evaluation, Outcome
from stepwell.engine.runtime.batch import MAX_TRIES, Batch, apply_waiting
from stepwell.engine.runtime.commit import Committer, Fate
from stepwell.engine.runtime.entries import may_be_overtaken, precedence, step_entry, stop_first
from stepwell.engine.runtime.hot import Attempt, Hot, Work, revive
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.room import Room
from stepwell.engine.telemetry import DEAD_LETTERS, EXECUTIONS_ENDED, EXECUTIONS_STARTED, Counts

log = logging.getLogger(__name__)

MAX_HOT: Final = 20_000
"""Idle executions kept in memory; beyond it the longest unused are dropped and read back when needed."""
READ_TRIES: Final = 10

ONLY_START: Final = Slice(events=1)
"""A slice in which an execution does not get beyond its ExecutionStarted event."""

Machines = Callable[[int, int, str | None], Awaitable[StateMachine]]
"""Gives the compiled definition of (machine key, revision), or of the processor of the Map state in it that is named."""


class Effects:
    """What follows a commit. The engine fills these in."""

    def task_scheduled(self, hot: Hot, command: ScheduleTask) -> None: ...

    def task_cancelled(self, hot: Hot, task: int) -> None: ...

    def timer_started(self, hot: Hot, command: StartTimer) -> None: ...

    def finished(self, hot: Hot, finish: Finish) -> None: ...

    def posted(self, receivers: Sequence[ExecutionId]) -> None:
        """Others have been told something, in their inboxes."""

    def refused(self) -> None:
        """A step was void: perhaps because of something that waits in the inbox."""

    def unsure(self, shard: int) -> None:
        """Nobody knows whether a commit took effect, so what should follow it may have to be found in the store."""


class Executor:
    """Advances executions. All methods run on the event loop's thread."""

    def __init__(
        self,
        store: RuntimeStore,
        committer: Committer,
        identity: Identity,
        machines: Machines,
        clock: Clock,
        seeds: SeedSource,
        effects: Effects,
        *,
        region: str,
        metrics: Counts,
        evaluate: Evaluate = evaluate_here,
    ) -> None:
        self._carry_out_elsewhere = evaluate
        self._metrics = metrics
        self._store = store
        self._committer = committer
        self._identity = identity
        self._machines = machines
        self._clock = clock
        self._seeds = seeds
        self._effects = effects
        self._region = region
        self._hot: OrderedDict[ExecutionId, Hot] = OrderedDict()
        self._loading: dict[ExecutionId, list[Work]] = {}
        self._evaluating: dict[ExecutionId, asyncio.Future[None]] = {}
        self._room = Room()
        """Expressions whose outcomes nobody needs any more once their execution is to be stopped."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.owned: set[int] = set()
        self.generation = 0
        """Counts how often something was forgotten because it may be behind the store; what was being read then may be, too."""

    # -- coming in -------------------------------------------------------------------------------------------------

    def owns(self, id: ExecutionId) -> bool:
        """Whether this node owns the execution's shard."""
        return shard_of(id) in self.owned

    def hot(self, id: ExecutionId) -> Hot | None:
        """The execution, if it is in memory."""
        return self._hot.get(id)

    def begin(
        self, info: ExecutionInfo, new: NewExecution, machine: StateMachine, event: events.Started
    ) -> asyncio.Future[bool] | None:
        """Start a new execution. The future is True once it is durable, False if its name is taken; None if it is known here."""
        id = ExecutionId(info.id)
        if id in self._hot or id in self._loading:
            return None
        hot = Hot(id, shard_of(id), 0, ExecutionState(info), machine, new.machine_key, new.revision, new.trace_header)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        hot.works.append(Work(event, future=future))
        self._keep(hot)
        self._run(hot, new)
        return future

    def adopt(self, hot: Hot, work: Work) -> bool:
        """Take the first step of an execution that has just been written; False if it is known here."""
        if hot.id in self._hot or hot.id in self._loading or not self.owns(hot.id):
            return False
        hot.works.append(work)
        self._keep(hot)
        self._run(hot)
        return True

    def apply(self, id: ExecutionId, work: Work) -> None:
        """Apply an event to an execution, reading it from the store if need be."""
        if shard_of(id) not in self.owned:
            self._give_up(work, NotOwnerError("Another node owns this execution now."))
            return
        hot = self._hot.get(id)
        if hot is not None:
            hot.works.append(work)
            if not hot.busy:
                self._run(hot)
            return
        waiting = self._loading.get(id)
        if waiting is not None:
            waiting.append(work)
            if isinstance(work.event, events.StopRequested) and id in self._evaluating:
                self._evaluating[id].cancel()
            return
        self._loading[id] = [work]
        self._spawn(self._load(id))

    def ask(self, id: ExecutionId, event: events.Event, *, worker: str | None = None) -> asyncio.Future[bool]:
        """As `apply`, with a future that tells whether the event changed anything, once that is durable."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.apply(id, Work(event, future=future, worker=worker))
        return future

    async def read(self, id: ExecutionId) -> Hot | None:
        """The execution in memory, read from the store if need be; None if there is none.

        While it is `busy` it is ahead of the store: what it does not have any more may be back if the commit fails.
        """
        for _ in range(READ_TRIES):
            hot = self._hot.get(id)
            if hot is not None:
                return hot
            await self.ask(id, events.Continued())
            if id not in self._hot and await self._store.status(id) is None:
                return None
        raise StoreUnavailableError("The execution could not be read just now; ask again.")

    def drop_shards(self, shards: set[int]) -> None:
        """Forget everything of shards that are no longer ours."""
        self.owned -= shards
        self.generation += 1
        for id in [id for id in self._hot if shard_of(id) in shards]:
            self._drop(self._hot[id], NotOwnerError("Another node owns this execution now."))

    def drop_all(self, error: StepwellError) -> None:
        """Forget every idle execution, as after a reconnect that may have gone back in time."""
        for hot in list(self._hot.values()):
            if not hot.busy:
                self._drop(hot, error)

    async def close(self) -> None:
        """Stop what is being read."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- reading back ----------------------------------------------------------------------------------------------

    async def _load(self, id: ExecutionId) -> None:
        delay = 0.05
        hot: Hot | None = None
        while True:
            try:
                await self._identity.settled()
                generation = self.generation
                hot = await self._revive(id)
                if generation == self.generation or shard_of(id) not in self.owned:
                    break
            except StoreUnavailableError as error:
                works = self._loading[id]
                for work in [work for work in works if not work.insistent]:
                    works.remove(work)
                    self._give_up(work, error)
                if not works or shard_of(id) not in self.owned:
                    del self._loading[id]
                    for work in works:
                        self._give_up(work, error)
                    return
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            except Exception as error:
                log.exception("an execution cannot be read back", extra={"execution": id.hex()})
                for work in self._loading.pop(id):
                    self._give_up(work, StepwellError(f"The execution cannot be read back: {type(error).__name__}."))
                return
        works = self._loading.pop(id)
        if shard_of(id) not in self.owned:
            for work in works:
                self._give_up(work, NotOwnerError("Another node owns this execution now."))
            return
        if hot is None:
            for work in works:
                self._settle(work, changed=False)
            return
        if works[0].attempt is None:
            hot.works.extend(works)
        else:  # they came before what is found in the store
            hot.works.extendleft(reversed(works))
        self._keep(hot)
        self._run(hot)

    async def _revive(self, id: ExecutionId) -> Hot | None:
        stored = await self._store.load(id)
        if stored is None:
            return None
        machine = await self._machines(stored.machine_key, stored.revision, stored.processor)
        state, last_now = await revive(self._store, stored, machine, self._region)
        hot = Hot(
            id, shard_of(id), stored.rev, state, machine, stored.machine_key, stored.revision, stored.trace_header,
            redrive_token=stored.redrive_token, map_run=stored.map_run, map_item=stored.map_item, inherited=tuple(state.tasks),
        )  # fmt: skip
        hot.unsnapped = len(stored.chunks)
        hot.last_now = last_now
        if stored.status is Status.RUNNING and state.ready:
            hot.continues = True
            hot.works.append(Work(events.Continued(), insistent=True))
        return hot

    def _keep(self, hot: Hot) -> None:
        self._hot[hot.id] = hot
        if len(self._hot) > MAX_HOT:
            for id, old in self._hot.items():
                if not old.busy and not old.works:
                    del self._hot[id]
                    break

    # -- advancing -------------------------------------------------------------------------------------------------

    def _run(self, hot: Hot, new: NewExecution | None = None, slice: Slice = DEFAULT_SLICE) -> None:
        """Apply waiting events and hand the step to the committer."""
        if hot.state.next_event == 1:
            self._start_first(hot)
        stop_first(hot.works)
        batch = apply_waiting(hot, self._clock, self._seeds, slice)
        if batch.failed is not None:
            self._not_applied(hot, new, batch)
            return
        commands, done = batch.commands, batch.done
        if not batch.applied and not batch.inbox and new is None:
            for work, _ in done:
                self._settle(work, changed=False)
            if hot.works:
                self._run(hot)
            return
        entry = step_entry(hot, new, batch)
        hot.busy = True
        if batch.more:
            hot.works.appendleft(Work(events.Continued(), insistent=True))
        self._committer.submit(entry, lambda fate, why: self._told(hot, entry, commands, done, fate, why))

    def _not_applied(self, hot: Hot, new: NewExecution | None, batch: Batch) -> None:
        assert batch.failed is not None
        work, error = batch.failed
        if batch.evaluation is None:
            self._broken(hot, work, batch.done, error)
            return
        works = [*(other for other, _ in batch.done), work]
        self._put_off(hot, new, works, hot.last_now, batch.seeds, batch.evaluation)

    def _put_off(
        self,
        hot: Hot,
        new: NewExecution | None,
        works: list[Work],
        now: int,
        seeds: list[int],
        evaluation: Evaluation,
    ) -> None:
        """The last of `works` came to an expression that needs more than it may use here. The position is spoilt: it is read back
        once the outcome is known, and the same events are applied as they were before. Meanwhile the others go on.
        """
        if new is not None:  # let it be durable first: whoever started it need not wait for its expressions
            hot.state = ExecutionState(hot.state.info)
            hot.works.extendleft(reversed(works))
            self._run(hot, new, ONLY_START)
            return
        for work, seed in zip(works, seeds, strict=True):
            if work.attempt is None:
                work.attempt = Attempt(now, seed)
            work.attempt.now = now
        works += hot.works
        hot.works.clear()
        self._forget(hot)
        if hot.id in self._hot or hot.id in self._loading:
            for work in works:
                self.apply(hot.id, work)
            return
        self._loading[hot.id] = works
        self._spawn(self._evaluate(hot.id, works[len(seeds) - 1], evaluation))

    async def _evaluate(self, id: ExecutionId, work: Work, evaluation: Evaluation) -> None:
        """Have an expression carried out elsewhere, and apply again what came to it; or go on without, if a stop comes first, or if
        there is no room for it in line: it is come to once more when there may be."""
        carried = asyncio.ensure_future(self._carried_out(id, work, evaluation))
        del evaluation  # it holds all the data that the expression reads
        if may_be_overtaken(work):
            self._evaluating[id] = carried
        try:
            await carried
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise
        finally:
            self._evaluating.pop(id, None)
        await self._load(id)

    async def _carried_out(self, id: ExecutionId, work: Work, evaluation: Evaluation) -> None:
        """Note what came of an expression; or wait until there may be room for it, with nothing of it in hand."""
        outcome: Outcome | None = None
        if self.owns(id):
            try:
                outcome = await self._carry_out_elsewhere(evaluation)
            except ExpressionsUnavailableError as error:
                log.warning("an expression waits to be evaluated", extra={"execution": id.hex(), "reason": str(error)})
        if outcome is None:
            del evaluation
            await self._room.wait(lambda: self.owns(id))
            return
        self._room.freed()
        assert work.attempt is not None  # what was put off has one
        work.attempt.outcomes.add(evaluation, outcome)

    def _start_first(self, hot: Hot) -> None:
        """Nothing happens to an execution before its start. What came from the inbox without that is read again after it, and
        not consumed as something that changes nothing.
        """
        works = sorted(hot.works, key=lambda work: not isinstance(work.event, events.Started))
        hot.works.clear()
        starts = bool(works) and isinstance(works[0].event, events.Started)
        for work in works:
            if starts or work.inbox is None:
                hot.works.append(work)
            else:
                self._give_up(work, StoreUnavailableError("The execution has not taken its first step."))

    def _broken(self, hot: Hot, work: Work, done: list[tuple[Work, bool]], error: Exception) -> None:
        """The interpreter itself failed: a bug. The execution ends as States.Runtime rather than being stuck for ever."""
        log.error("the interpreter failed", exc_info=error, extra={"execution": hot.id.hex()})
        works = [other for other, _ in done] + list(hot.works)
        self._hot.pop(hot.id, None)
        poison = isinstance(work.event, events.Poisoned)
        if hot.rev == 0 or poison:
            for other in [work, *works]:
                self._give_up(other, StepwellError(f"The execution cannot be advanced: {type(error).__name__}."))
            return
        cause = f"The interpreter failed on this execution: {type(error).__name__}."
        work = Work(events.Poisoned(cause), inbox=work.inbox, future=work.future, insistent=True)
        for other in [work, *works]:
            self.apply(hot.id, other)

    # -- after the commit ------------------------------------------------------------------------------------------

    def _told(
        self, hot: Hot, entry: CommitEntry, commands: list[Command], done: list[tuple[Work, bool]], fate: Fate, why: str
    ) -> None:
        hot.busy = False
        if fate is Fate.COMMITTED:
            hot.rev += 1
            if self._hot.get(hot.id) is not hot:
                self._outrun(hot.id)
            if entry.new is not None:
                self._metrics.count(EXECUTIONS_STARTED)
            if entry.dead_letter is not None:
                self._metrics.count(DEAD_LETTERS)
            self._carry_out(hot, commands)
            self._effects.posted([receiver for receiver, _ in entry.posts])
            for work, changed in done:
                if work.worker is not None and isinstance(work.event, events.TaskStarted):
                    changed = changed and work.event.task in hot.state.tasks  # else it was closed in the same step
                self._settle(work, changed=changed)
            if hot.state.status is not Status.RUNNING and not hot.works:
                self._forget(hot)
            elif hot.works:
                self._run(hot)
            return
        self._forget(hot)
        if fate is Fate.UNKNOWN:
            self._effects.unsure(hot.shard)
        works = [work for work, _ in done] + list(hot.works)
        hot.works.clear()
        if entry.new is not None:
            self._not_begun(works[: len(done)], hot, fate, why)
            works = works[len(done) :]  # came meanwhile, for the execution that had the name before, if there is one
            if fate is not Fate.UNKNOWN and not works:
                return
        if fate is Fate.UNKNOWN:
            self.drop_all(StoreUnavailableError(why))
        if fate is Fate.POISON and entry.new is None:
            works.insert(0, Work(events.Poisoned(f"The result of a step could not be written: {why}"), insistent=True))
        self._again(hot, works, fate, why)

    def _not_begun(self, works: list[Work], hot: Hot, fate: Fate, why: str) -> None:
        """Answer a start that did not happen, or of which nobody knows."""
        error = StoreUnavailableError(
            why or "The database could not be reached; the start may or may not have happened."
        )
        for work in works:
            if fate is Fate.VOID and self.owns(hot.id):
                self._settle(work, changed=False)
            else:
                self._give_up(work, error)

    def _again(self, hot: Hot, works: list[Work], fate: Fate, why: str) -> None:
        """Read the execution back and apply again what must not be lost; its revision tells whether the commit happened.

        What comes from the inbox goes first, outcomes before all: they are durable already, and may be why the step was void.
        """
        if fate is Fate.VOID:
            works.sort(key=precedence)
            self._effects.refused()
        loop = asyncio.get_running_loop()
        for work in works:
            work.tries += 1
            if isinstance(work.event, events.Continued) and work.future is None:
                continue  # reading the execution back finds what is ready to go on
            if (work.insistent and work.tries < MAX_TRIES) or (fate is Fate.VOID and work.tries < 3):
                if work.tries < 3:
                    self.apply(hot.id, work)
                else:  # what stands in its way has to be read from the inbox first
                    loop.call_later(min(0.01 * 1.5**work.tries, 1.0), self.apply, hot.id, work)
            else:
                self._give_up(work, StoreUnavailableError(why or "The database could not be reached; ask again."))
        if hot.id not in self._loading and hot.id not in self._hot:
            self.apply(hot.id, Work(events.Continued(), insistent=True))

    def _carry_out(self, hot: Hot, commands: list[Command]) -> None:
        closed = {command.task for command in commands if isinstance(command, CloseTask | CancelTask)}
        gone = {command.timer for command in commands if isinstance(command, CancelTimer)}
        for command in commands:
            match command:
                case ScheduleTask() if command.task not in closed:
                    self._effects.task_scheduled(hot, command)
                case StartTimer() if command.timer not in gone:
                    self._effects.timer_started(hot, command)
                case CancelTask():
                    self._effects.task_cancelled(hot, command.task)
                case Finish():
                    self._metrics.count(EXECUTIONS_ENDED, command.status)
                    self._effects.finished(hot, command)
                case _:
                    pass

    def _outrun(self, id: ExecutionId) -> None:
        """A step was committed after its execution had been dropped: what was read back since may be from before."""
        self.generation += 1
        other = self._hot.get(id)
        if other is not None and not other.busy:  # a busy one will be refused for its revision
            self._forget(other)
        if self.owns(id):
            self.apply(id, Work(events.Continued(), insistent=True))

    def _forget(self, hot: Hot) -> None:
        """Drop it from memory, unless it was dropped before and read back since."""
        if self._hot.get(hot.id) is hot:
            del self._hot[hot.id]

    def _drop(self, hot: Hot, error: StepwellError) -> None:
        self._forget(hot)
        for work in hot.works:
            self._give_up(work, error)
        hot.works.clear()

    @staticmethod
    def _settle(work: Work, *, changed: bool) -> None:
        if work.future is not None and not work.future.done():
            work.future.set_result(changed)

    @staticmethod
    def _give_up(work: Work, error: StepwellError) -> None:
        if work.future is not None and not work.future.done():
            work.future.set_exception(error)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
