"""The runtime without durability: the real interpreter over the memory store, one step at a time, in the calling task.

For tests of what stands above the runtime. Tasks wait until the test (or an activity worker) answers them; timers do not run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId, TaskToken, execution_arn, execution_id, express_arn, shard_of, task_token
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import events
from stepwell.engine.machine.chunks import Chunk, encode
from stepwell.engine.machine.commands import Finish, ScheduleTask, Status
from stepwell.engine.machine.replay import all_here
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, Workflow
from stepwell.engine.machine.transition import transition
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import (
    ActivityTask,
    CommandAnswer,
    CommandOutcome,
    CommitEntry,
    ExpressStart,
    ExpressView,
    NewDeadLetter,
    NewExecution,
    StartAnswer,
    StartOutcome,
    StartRequest,
    TaskAnswer,
    Waited,
)
from stepwell.engine.store.memory import MemoryDatabase
from stepwell.engine.store.memory_express import MemoryExpress


@dataclass(slots=True)
class _Execution:
    machine: StateMachine
    state: ExecutionState
    input: bytes
    rev: int = 0
    stopped_at: int | None = None
    tasks: dict[int, bytes] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryRuntime:
    """Fills the `Runtime` protocol. `away` makes every call raise, as when Postgres is away."""

    database: MemoryDatabase
    clock: Clock
    seeds: SeedSource
    away: bool = False
    claims: list[Claim] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    reports: list[WorkerReport] = field(default_factory=list)
    executions: dict[ExecutionId, _Execution] = field(default_factory=dict)
    queues: dict[str, deque[ActivityTask]] = field(default_factory=dict)
    machines: dict[str, StateMachine] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    polling: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, request: StartRequest) -> StartAnswer:
        self._check()
        machine = request.machine
        name = request.name or str(Entropy(self.seeds.seed()).uuid4())
        arn = execution_arn(machine.arn, name)
        id = execution_id(arn)
        there = self.executions.get(id)
        if there is not None:
            same = there.state.status is Status.RUNNING and there.input == request.input.text
            outcome = StartOutcome.EXISTS_SAME if same else StartOutcome.EXISTS_OTHER
            started = there.state.info.started_at
            return StartAnswer(outcome=outcome, id=id, arn=arn, name=name, started_at=started)
        now = self.clock.now_ms()
        info = ExecutionInfo(id, arn, name, machine.arn, machine.name, machine.role_arn, now)
        model = self.machines.get(machine.definition)
        if model is None:
            model = self.machines[machine.definition] = parse_definition(machine.definition)
        execution = self.executions[id] = _Execution(model, ExecutionState(info), request.input.text)
        new = NewExecution(
            machine_key=machine.key,
            revision=machine.revision,
            name=name,
            arn=arn,
            started_at=now,
            trace_header=request.trace_header,
        )
        await self._apply(id, execution, events.Started(msgspec.Raw(request.input.text)), new)
        return StartAnswer(outcome=StartOutcome.STARTED, id=id, arn=arn, name=name, started_at=now)

    async def start_express(self, request: StartRequest) -> StartAnswer:
        """Runs to its end at once, as `run_express`."""
        view = await self.run_express(request)
        machine = request.machine
        start = ExpressStart(
            id=view.id, arn=view.arn, name=view.name, machine_key=machine.key, revision=machine.revision,
            machine_arn=machine.arn, machine_name=machine.name, role_arn=machine.role_arn, input=request.input,
            started_at=view.started_at, attempt=1, trace_header=request.trace_header,
        )  # fmt: skip
        await self.express.begin(None, [start])
        await self.express.end([replace(view, attempt=1)])
        return StartAnswer(
            outcome=StartOutcome.STARTED, id=view.id, arn=view.arn, name=view.name, started_at=view.started_at
        )

    async def wait_express(self, id: ExecutionId, timeout_ms: int) -> ExpressView | None:
        self._check()
        return await self.express.describe(id)

    @property
    def express(self) -> MemoryExpress:
        return MemoryExpress(self.database, self.clock, {})

    async def run_express(self, request: StartRequest) -> ExpressView:
        """Runs to its end at once: a machine whose tasks would have to be answered raises."""
        self._check()
        machine, entropy = request.machine, Entropy(self.seeds.seed())
        name = request.name or str(entropy.uuid4())
        arn = express_arn(machine.arn, name, entropy.uuid4())
        now = self.clock.now_ms()
        info = ExecutionInfo(
            execution_id(arn),
            arn,
            name,
            machine.arn,
            machine.name,
            machine.role_arn,
            now,
            workflow=Workflow.EXPRESS_SYNC,
        )
        state = ExecutionState(info)
        step = transition(
            parse_definition(machine.definition), state, events.Started(msgspec.Raw(request.input.text)), now, entropy
        )
        finish = next(command for command in step.commands if isinstance(command, Finish))
        return ExpressView(
            id=execution_id(arn), arn=arn, name=name, machine_arn=machine.arn, machine_name=machine.name,
            machine_key=machine.key, revision=machine.revision, status=finish.status, started_at=now,
            stopped_at=finish.stopped_at, error=finish.error, cause=finish.cause, trace_header=request.trace_header,
            input=state.input, output=finish.output,
        )  # fmt: skip

    async def wait(self, id: ExecutionId, timeout_ms: int) -> Waited:
        self._check()
        execution = self.executions.get(id)
        if execution is None:
            return Waited(False)
        if not execution.ended.is_set() and timeout_ms:
            try:
                await asyncio.wait_for(execution.ended.wait(), timeout_ms / 1000)
            except TimeoutError:
                return Waited(False)
        return Waited(execution.ended.is_set())

    async def stop(self, id: ExecutionId, error: str | None, cause: str | None) -> CommandAnswer:
        self._check()
        execution = self.executions.get(id)
        if execution is None:
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        if execution.state.status is Status.RUNNING:
            await self._apply(id, execution, events.StopRequested(error, cause))
        return CommandAnswer(CommandOutcome.DONE, execution.stopped_at or 0)

    async def redrive(self, id: ExecutionId, client_token: str | None = None) -> CommandAnswer:
        self._check()
        execution = self.executions.get(id)
        if execution is None:
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        if client_token is not None and client_token in execution.tokens:
            return CommandAnswer(CommandOutcome.DONE, execution.tokens[client_token])
        if execution.state.status in (Status.RUNNING, Status.SUCCEEDED):
            return CommandAnswer(CommandOutcome.NOT_ALLOWED)
        execution.stopped_at = None
        execution.ended.clear()
        await self._apply(id, execution, events.Redriven(client_token))
        if client_token is not None:
            execution.tokens[client_token] = execution.state.redriven_at
        return CommandAnswer(CommandOutcome.DONE, execution.state.redriven_at)

    async def complete_task(self, token: TaskToken, output: Document) -> TaskAnswer:
        return await self._settle(token, events.TaskSucceeded(token.task, msgspec.Raw(output.text)))

    async def fail_task(self, token: TaskToken, error: str | None, cause: str | None) -> TaskAnswer:
        return await self._settle(token, events.TaskFailed(token.task, error, cause))

    async def heartbeat(self, token: TaskToken) -> TaskAnswer:
        return self._standing(token)

    async def next_activity_task(self, activity_arn: str, worker: str | None, wait_ms: int) -> ActivityTask | None:
        self._check()
        queue = self.queues.setdefault(activity_arn, deque())
        async with self.arrived:
            self.polling.set()
            try:
                await asyncio.wait_for(self.arrived.wait_for(lambda: bool(queue)), wait_ms / 1000)
            except TimeoutError:
                return None
            return queue.popleft()

    async def claim(self, claim: Claim) -> ClaimAnswer:
        self._check()
        self.claims.append(claim)
        return ClaimAnswer(granted=True)

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        self._check()
        self.outcomes.append(outcome)
        return TaskAnswer.ACCEPTED

    async def report_worker(self, report: WorkerReport) -> None:
        self._check()
        self.reports.append(report)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailableError("Postgres is away.")

    def _standing(self, token: TaskToken) -> TaskAnswer:
        self._check()
        execution = self.executions.get(token.execution)
        if execution is None:
            return TaskAnswer.NOT_FOUND
        secret = execution.tasks.get(token.task)
        if secret is None:
            return TaskAnswer.TIMED_OUT
        return TaskAnswer.ACCEPTED if secret == token.secret else TaskAnswer.INVALID

    async def _settle(self, token: TaskToken, event: events.Event) -> TaskAnswer:
        answer = self._standing(token)
        if answer is TaskAnswer.ACCEPTED:
            execution = self.executions[token.execution]
            del execution.tasks[token.task]
            await self._apply(token.execution, execution, event)
        return answer

    async def _apply(
        self, id: ExecutionId, execution: _Execution, event: events.Event, new: NewExecution | None = None
    ) -> None:
        now = self.clock.now_ms()
        step = transition(execution.machine, execution.state, event, now, Entropy(self.seeds.seed()), heavy=all_here)
        state = execution.state = step.state
        made, commands = step.events, step.commands
        first = step.first_event
        while step.more:
            step = transition(
                execution.machine, state, events.Continued(), now, Entropy(self.seeds.seed()), heavy=all_here
            )
            state = execution.state = step.state
            made, commands = made + step.events, commands + step.commands
        letter = None
        for command in commands:
            if isinstance(command, ScheduleTask):
                execution.tasks[command.task] = command.secret
                if command.resource.kind is TargetKind.ACTIVITY:
                    task = ActivityTask(task_token(id, command.task, command.secret), command.payload)
                    self.queues.setdefault(command.resource.name, deque()).append(task)
            elif isinstance(command, Finish):
                execution.stopped_at = command.stopped_at
                execution.tasks.clear()
                if command.status is not Status.SUCCEEDED:
                    letter = NewDeadLetter(
                        kind="execution", state=command.state, attempt=0, error=command.error, cause=command.cause
                    )
        entry = CommitEntry(
            id=id,
            shard=shard_of(id),
            rev=execution.rev,
            new=new,
            status=state.status,
            stopped_at=execution.stopped_at,
            first_event=first,
            last_event=state.next_event - 1,
            chunk=encode(Chunk(first, made, None, [])),
            full_snapshot=False,
            redrive_count=state.redrive_count,
            redriven_at=state.redriven_at or None,
            dead_letter=letter,
        )
        assert self.database.commit(entry, now)
        execution.rev += 1
        if state.status is not Status.RUNNING:
            execution.ended.set()
        async with self.arrived:
            self.arrived.notify_all()
