"""Express executions: run in this node's memory from start to end, nothing of their steps is written.

The same interpreter as for Standard executions; its commands are carried out at once. Who may start one, and what of it is kept,
is for others to say (`express_log`, `requests`): here it is advanced, its tasks are handed to targets, its timers run, and workers
that claim its tasks are answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import ExpressionsUnavailableError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document, write
from stepwell.engine.limits import MAX_EXPRESS_SECONDS
from stepwell.engine.machine import events
from stepwell.engine.machine.chunks import AppliedEvent
from stepwell.engine.machine.commands import (
    CancelMapRun,
    CancelTask,
    CancelTimer,
    CloseTask,
    Command,
    Finish,
    MarkTaskStarted,
    RedriveMapRun,
    ScheduleTask,
    StartMapRun,
    StartTimer,
    Status,
    TimerKind,
)
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, Workflow, forget_delta
from stepwell.engine.machine.transition import DEFAULT_SLICE, Step, transition
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome
from stepwell.engine.ports import Evaluate, ExpressStart, ExpressView, TaskAnswer, TaskRequest, evaluate_here
from stepwell.engine.query.jsonata import Evaluation, OverBudgetError
from stepwell.engine.query.jsonata import Outcome as EvaluationOutcome
from stepwell.engine.runtime.batch import timed
from stepwell.engine.runtime.dispatch import Targets, carry_out
from stepwell.engine.runtime.hot import Attempt
from stepwell.engine.runtime.rewind import Rewind, needs_rewind
from stepwell.engine.runtime.task_requests import first_request
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.telemetry import EXPRESS_BYTES, EXPRESS_ENDED, EXPRESS_RUNNING, TASK_OUTCOMES, TASKS_SENT, Counts

log = logging.getLogger(__name__)

RUN_BYTES: Final = 4_096
"""What an execution takes in memory beside its data, about."""
CHILDREN_SHARE: Final = 0.75
"""How much of the memory the children of Map Runs may take."""


@dataclass(slots=True, eq=False)
class _Task:
    """An open task: the call of its target, where one is under way, and the worker that has claimed it."""

    command: ScheduleTask
    call: asyncio.Task[None] | None = None
    worker: str | None = None
    heard: int = 0


@dataclass(slots=True, eq=False)
class Run:
    """One run of an Express execution. `attempt` is as in `ports.ExpressView`; `ended` is told how it ended. `child`: a Map Run has
    begun it, for the `redrives`th time after its first."""

    id: ExecutionId
    machine_key: int
    revision: int
    machine: StateMachine
    state: ExecutionState
    attempt: int
    trace_header: str | None
    ended: asyncio.Future[ExpressView]
    works: deque[Event] = field(default_factory=deque)
    tasks: dict[int, _Task] = field(default_factory=dict)
    timers: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    steps: Counter[bytes] = field(default_factory=Counter)
    step_keys: dict[int, bytes] = field(default_factory=dict)
    last_now: int = 0
    waiting: bool = False
    """It is in the event loop's queue to go on."""
    child: bool = False
    redrives: int = 0
    rewind: Rewind | None = None
    again: Attempt | None = None
    """How the next event is to be applied, which was applied before."""
    held: int = 0
    written: int = 0
    """Bytes of data that went through it since `held` was reckoned."""


class Express:
    """The Express executions of this node. All methods run on the event loop's thread."""

    def __init__(
        self,
        *,
        targets: Targets,
        clock: Clock,
        seeds: SeedSource,
        region: str,
        node: str,
        most_bytes: int,
        may_act: Callable[[], bool],
        metrics: Counts,
        evaluate: Evaluate = evaluate_here,
    ) -> None:
        self._carry_out_elsewhere = evaluate
        self._evaluating: set[asyncio.Task[None]] = set()
        self._targets = targets
        self._clock = clock
        self._seeds = seeds
        self._region = region
        self.node = node
        self._most_bytes = most_bytes
        self._may_act = may_act
        self.metrics = metrics
        self._runs: dict[ExecutionId, Run] = {}
        self._closing = False
        self.held = 0
        """Bytes that the executions here hold, about."""
        self.kept = 0
        """Bytes of executions that are not running yet, or no longer, and wait to be written."""
        self.doubtful = False
        """There was a time without a lease: asynchronous executions stand still until it is known which are still this node's."""

    # -- coming and going ------------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many executions run here."""
        return len(self._runs)

    @property
    def closing(self) -> bool:
        """Whether this node takes in no more, since it is shutting down."""
        return self._closing

    def full(self, more: int = 0) -> bool:
        """Whether there is no room for an execution with so many bytes of input."""
        return self._closing or self.held + self.kept + more + RUN_BYTES > self._most_bytes

    def has_room_for_child(self, data: int) -> bool:
        """Whether another child of a Map Run with so many bytes of input may be begun: of those there are always more, so they leave
        room for what callers start. One that takes more than that is run when nothing else is."""
        if self._closing:
            return False
        taken = self.held + self.kept
        return taken == 0 or taken + RUN_BYTES + data <= self._most_bytes * CHILDREN_SHARE

    def admit(self, input: Document) -> None:
        """Raises `StoreUnavailableError` when there is no room here now."""
        if self._closing:
            raise StoreUnavailableError("This node is shutting down; ask again.")
        if self.full(len(input.text)):
            raise StoreUnavailableError(
                "The Express executions that run here hold as much memory as they may; ask again."
            )

    def run(self, start: ExpressStart, machine: StateMachine, *, child: bool = False, redrives: int = 0) -> Run:
        """Begin to run an execution; `child` and `redrives` are as in `Run`."""
        again = child or start.attempt > 1
        begun = self._clock.now_ms() if again else start.started_at  # each run has its whole time
        seconds = min(MAX_EXPRESS_SECONDS, machine.timeout_seconds or MAX_EXPRESS_SECONDS)
        info = ExecutionInfo(
            id=start.id, arn=start.arn, name=start.name, machine_arn=start.machine_arn, machine_name=start.machine_name,
            role_arn=start.role_arn, started_at=start.started_at, region=start.arn.split(":", 4)[3] or self._region,
            version_arn=start.version_arn, alias_arn=start.alias_arn, deadline=begun + 1000 * seconds,
            workflow=Workflow.EXPRESS if start.attempt else Workflow.EXPRESS_SYNC,
        )  # fmt: skip
        run = Run(
            start.id, start.machine_key, start.revision, machine, ExecutionState(info), start.attempt, start.trace_header,
            asyncio.get_running_loop().create_future(), child=child, redrives=redrives,
            rewind=Rewind(machine, info) if needs_rewind(machine) else None,
        )  # fmt: skip
        self._runs[run.id] = run
        self._hold(run, RUN_BYTES + len(start.input.text))
        self.metrics.change(EXPRESS_RUNNING, 1)
        self._apply(run, events.Started(msgspec.Raw(start.input.text)))
        return run

    def known(self, id: ExecutionId) -> Run | None:
        """The execution, if it runs here."""
        return self._runs.get(id)

    def drop(self, run: Run) -> None:
        """Stop running an execution that is another node's now; nobody is told how it ends."""
        self._leave(run)
        run.ended.cancel()

    async def drain(self, seconds: float) -> None:
        """Take in no more, and wait until what runs here has ended, so long at most. What has not is dropped."""
        self._closing = True
        if self._runs and seconds > 0:
            await asyncio.wait([run.ended for run in self._runs.values()], timeout=seconds)
        for run in list(self._runs.values()):
            self._leave(run)
            if not run.ended.done():
                run.ended.set_exception(StoreUnavailableError("The node that ran the execution was shut down."))
                run.ended.exception()  # nobody may be waiting for it

    def asynchronous(self) -> list[Run]:
        """The executions here that have rows of their own, by which another node may run them."""
        return [run for run in self._runs.values() if run.attempt and not run.child]

    def resume(self, asked: list[Run], still: dict[ExecutionId, int]) -> None:
        """Go on with what had to stand still while this node had no lease. Of those `asked` about, what is not `still` its, by
        attempt, is dropped; what began meanwhile is its own."""
        self.doubtful = False
        for run in asked:
            if self._runs.get(run.id) is run and still.get(run.id) != run.attempt:
                self.drop(run)
        for run in self.asynchronous():
            self._schedule(run)

    # -- advancing -------------------------------------------------------------------------------------------------

    def _apply(self, run: Run, event: Event) -> None:
        run.works.append(event)
        if not run.waiting:
            self._advance(run)

    def _schedule(self, run: Run) -> None:
        """Let it go on after others have had their turn."""
        if run.works and not run.waiting:
            run.waiting = True
            asyncio.get_running_loop().call_soon(self._go_on, run)

    def _go_on(self, run: Run) -> None:
        run.waiting = False
        if self._runs.get(run.id) is run:
            self._advance(run)

    def _advance(self, run: Run) -> None:
        """Apply what has happened, up to the end of a slice."""
        more = False
        while run.works and not more:
            if self._stands_still(run):
                return
            event = run.works.popleft()
            attempt = run.again or Attempt(max(self._clock.now_ms(), run.last_now), self._seeds.seed())
            run.again, run.last_now = None, attempt.now
            outcomes = attempt.outcomes.anew() if attempt.outcomes.holds else None
            try:
                slice = timed(DEFAULT_SLICE, self._clock)
                step = transition(run.machine, run.state, event, attempt.now, Entropy(attempt.seed), slice, outcomes)
            except OverBudgetError as error:
                self._put_off(run, event, attempt, error.evaluation)
                return
            except Exception as error:  # whatever it is, this execution must end and the others go on
                log.exception("the interpreter failed", extra={"execution": run.id.hex()})
                cause = f"The interpreter failed on this execution: {type(error).__name__}."
                self._end(run, Finish(Status.FAILED, attempt.now, error=ErrorName.RUNTIME, cause=cause))
                return
            forget_delta(run.state)
            if run.rewind is not None:
                known = [] if outcomes is None else outcomes.holds
                applied = AppliedEvent(event, attempt.now, attempt.seed, step.first_event, known, step.cut)
                run.rewind.noted(run.state, applied)
            finish = self._carry_out(run, step.commands)
            if finish is not None:
                self._end(run, finish)
                return
            self._reckon(run, step)
            if run.held > self._most_bytes // 2:
                cause = f"The execution holds more data at once ({run.held} bytes) than an Express execution may here."
                self._end(run, Finish(Status.FAILED, run.last_now, error=ErrorName.DATA_LIMIT_EXCEEDED, cause=cause))
                return
            more = step.more
        if more and not run.works:
            run.works.append(events.Continued())
        self._schedule(run)

    def _stands_still(self, run: Run) -> bool:
        """Whether another node may be running it by now. See `resume`; a child is dropped with the Map Run's shard."""
        return run.attempt > 0 and (not self._may_act() or (self.doubtful and not run.child))

    def _put_off(self, run: Run, event: Event, attempt: Attempt, evaluation: Evaluation) -> None:
        """An expression needs more than it may use here: apply the event as it was applied, once its outcome is known."""
        run.waiting = True
        run.works.appendleft(event)
        run.again = attempt
        evaluating = asyncio.create_task(self._evaluate(run, attempt, evaluation))
        self._evaluating.add(evaluating)
        evaluating.add_done_callback(self._evaluating.discard)

    async def _evaluate(self, run: Run, attempt: Attempt, evaluation: Evaluation) -> None:
        outcome: EvaluationOutcome | None = None
        while outcome is None and self._runs.get(run.id) is run:
            try:
                outcome = await self._carry_out_elsewhere(evaluation)
            except ExpressionsUnavailableError as error:
                log.warning(
                    "an expression waits to be evaluated", extra={"execution": run.id.hex(), "reason": str(error)}
                )
                await asyncio.sleep(1)
        if outcome is not None and self._runs.get(run.id) is run:
            assert run.rewind is not None
            attempt.outcomes.add(evaluation, outcome)
            run.state = run.rewind.position()
            self._go_on(run)

    def _carry_out(self, run: Run, commands: list[Command]) -> Finish | None:
        closed = {command.task for command in commands if isinstance(command, CloseTask | CancelTask)}
        finish: Finish | None = None
        for command in commands:
            match command:
                case ScheduleTask():
                    if command.task not in closed:
                        self._dispatch(run, command)
                case CloseTask() | CancelTask():
                    task = run.tasks.pop(command.task, None)
                    if task is not None and task.call is not None:
                        task.call.cancel()
                case StartTimer():
                    self._arm(run, command)
                case CancelTimer():
                    timer = run.timers.pop(command.timer, None)
                    if timer is not None:
                        timer.cancel()
                case Finish():
                    finish = command
                case MarkTaskStarted() | StartMapRun() | RedriveMapRun() | CancelMapRun():
                    pass  # Express state machines have no Distributed Map
        return finish

    def _end(self, run: Run, finish: Finish) -> None:
        self._leave(run)
        self.metrics.count(EXPRESS_ENDED, finish.status)
        if not run.ended.done():
            run.ended.set_result(view_of(run, finish))

    def _leave(self, run: Run) -> None:
        if self._runs.pop(run.id, None) is None:
            return
        for timer in run.timers.values():
            timer.cancel()
        for task in run.tasks.values():
            if task.call is not None:
                task.call.cancel()
        run.timers.clear()
        run.tasks.clear()
        run.works.clear()
        self._hold(run, 0)
        self.metrics.change(EXPRESS_RUNNING, -1)

    # -- memory ----------------------------------------------------------------------------------------------------

    def _hold(self, run: Run, bytes: int) -> None:
        self.held += bytes - run.held
        run.held, run.written = bytes, 0
        self.metrics.set(EXPRESS_BYTES, self.held)

    def _reckon(self, run: Run, step: Step) -> None:
        """Reckon anew what it holds once as much data has gone through it: not at each step, which would take long in a wide Map."""
        run.written += 64 * len(step.events) + sum(len(memoryview(e.payload)) for e in step.events if e.payload)
        rewind = run.rewind
        if rewind is not None:
            run.written += rewind.grown
        if run.written <= run.held:
            return
        state = run.state
        documents = [state.input, *(task.command.payload for task in run.tasks.values())]
        documents += [frame.data for frame in state.frames.values()]
        documents += rewind.documents if rewind is not None else ()
        size = RUN_BYTES + RUN_BYTES // 8 * len(state.frames)
        size += sum({id(document): len(document.text) for document in documents}.values())  # many are one and the same
        size += sum(len(write(frame.variables)) for frame in state.frames.values() if frame.variables)
        size += 200 * len(run.step_keys) + (rewind.held if rewind is not None else 0)
        self._hold(run, size)

    # -- timers ----------------------------------------------------------------------------------------------------

    def _arm(self, run: Run, command: StartTimer) -> None:
        delay = max(0, command.due_at - self._clock.now_ms()) / 1000
        run.timers[command.timer] = asyncio.get_running_loop().call_later(delay, self._fire, run, command)

    def _fire(self, run: Run, command: StartTimer) -> None:
        if run.timers.pop(command.timer, None) is None:
            return
        if command.due_at > self._clock.now_ms():  # the loop's clock is ahead of the engine's
            self._arm(run, command)
            return
        task = run.tasks.get(command.task) if command.task is not None else None
        if command.kind is TimerKind.HEARTBEAT and task is not None and task.heard:
            due_at = task.heard + 1000 * (task.command.heartbeat_seconds or 0)
            if due_at > self._clock.now_ms():
                self._arm(run, StartTimer(command.timer, command.kind, due_at, command.task))
                return
        self._apply(run, events.TimerFired(command.timer))

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _dispatch(self, run: Run, command: ScheduleTask) -> None:
        task = run.tasks[command.task] = _Task(command)
        self.metrics.count(TASKS_SENT, command.resource.kind)
        task.call = asyncio.create_task(self._perform(run, self._request(run, command)))

    async def _perform(self, run: Run, request: TaskRequest) -> None:
        result = await carry_out(self._targets, request, lambda: True)
        task = run.tasks.get(request.task)
        if task is None:
            return
        task.call = None
        if result is not None:  # else its outcome comes by another way
            self.metrics.count(TASK_OUTCOMES, type(result).__name__)
            self._apply(run, result)

    def _request(self, run: Run, command: ScheduleTask) -> TaskRequest:
        step = self._step_key(run, command)
        return first_request(
            run.state.info,
            run.id,
            command,
            idempotency_key=blake2b(_attempt(run, command), digest_size=16, key=step).hexdigest(),
            step_id=step.hex(),
            claim_key=ids.express_claim_key(self.node, command.secret) if command.secret else "",
            traceparent=run.trace_header,
        )

    @staticmethod
    def _step_key(run: Run, command: ScheduleTask) -> bytes:
        """The same for all attempts at one entry of a state; and, when the execution is run again, for the same call of the same
        state: which of several equal ones it is does not matter, so they are counted. (Event ids would not do: in a second run
        the branches of a Parallel may come in another order.)
        """
        known = run.step_keys.get(command.entry)
        if known is None:
            call = blake2b(command.payload.text, digest_size=16, key=blake2b(command.state.encode()).digest()).digest()
            run.steps[call] += 1
            known = blake2b(b"%d" % run.steps[call] + call, digest_size=16, key=run.id).digest()
            run.step_keys[command.entry] = known
        return known

    # -- workers ---------------------------------------------------------------------------------------------------

    def _claimed(self, execution: str, number: int, key: str) -> tuple[Run, _Task] | None:
        run = self._runs.get(ExecutionId(bytes.fromhex(execution)))
        task = run.tasks.get(number) if run is not None else None
        if run is None or task is None or ids.express_claim_key(self.node, task.command.secret) != key:
            return None
        return run, task

    def claim(self, claim: Claim) -> ClaimAnswer:
        """A worker wants to run a task, or says that one it runs is alive."""
        found = self._claimed(claim.execution, claim.task, claim.key)
        if found is None:
            return ClaimAnswer(False, "The task is closed.")
        run, task = found
        if claim.heartbeat:
            task.heard = self._clock.now_ms()
            return ClaimAnswer(True)
        if task.worker is not None and task.worker not in (claim.worker, claim.holder):
            return ClaimAnswer(False, "Another worker runs the task.")
        fresh, task.worker = task.worker is None, claim.worker
        if fresh:
            self._apply(run, events.TaskStarted(claim.task, claim.name))
        return ClaimAnswer(True)

    def workers(self) -> set[str]:
        """The worker processes that have claimed tasks here."""
        return {task.worker for run in self._runs.values() for task in run.tasks.values() if task.worker is not None}

    def workers_lost(self, lost: set[str]) -> None:
        """Worker processes are gone: what they had claimed has failed. Whether it is tried again, Retry says."""
        for run in list(self._runs.values()):
            for number, task in list(run.tasks.items()):
                if task.worker in lost and number in run.tasks:
                    log.warning("a worker was lost; its task has failed", extra={"execution": run.id.hex()})
                    cause = "The worker that ran this task was lost."
                    self._apply(run, events.TaskFailed(number, ErrorName.WORKER_LOST, cause))

    def report(self, outcome: Outcome) -> TaskAnswer:
        """A worker reports how a task ended."""
        found = self._claimed(outcome.execution, outcome.task, outcome.key)
        if found is None:
            return TaskAnswer.TIMED_OUT
        run, _ = found
        if outcome.output is not msgspec.UNSET:
            self._apply(run, events.TaskSucceeded(outcome.task, outcome.output))
        else:
            self._apply(run, events.TaskFailed(outcome.task, outcome.error, outcome.cause))
        return TaskAnswer.ACCEPTED


def _attempt(run: Run, command: ScheduleTask) -> bytes:
    """Which attempt at a step this is: another one for a retry, and after a redrive."""
    return b"%d/%d" % (run.redrives, command.attempt) if run.redrives else b"%d" % command.attempt


def view_of(run: Run, finish: Finish) -> ExpressView:
    """A run that has ended."""
    info = run.state.info
    return ExpressView(
        id=run.id, arn=info.arn, name=info.name, machine_arn=info.machine_arn, machine_name=info.machine_name,
        machine_key=run.machine_key, revision=run.revision, status=finish.status, started_at=info.started_at,
        stopped_at=finish.stopped_at, attempt=run.attempt, error=finish.error, cause=finish.cause,
        trace_header=run.trace_header, input=run.state.input, output=finish.output,
    )  # fmt: skip
