"""One execution in memory: the machine driven by hand, by a script of a test or by `stepwell run`. Nothing is kept.

`LocalExecution` holds the position, the history and what is open (tasks, timers); whoever drives it decides what happens next
and when. It reads no clock, waits for nothing and performs nothing, so a 30-day Wait takes no time. It must not know targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias, assert_never

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy, SeedSource
from stepwell.engine.errors import StepwellError
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document, Json, write
from stepwell.engine.limits import MAX_EXPRESS_SECONDS
from stepwell.engine.machine import events
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
from stepwell.engine.machine.decisions import Decision
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, Workflow
from stepwell.engine.machine.transition import transition
from stepwell.engine.ports import TaskRequest
from stepwell.engine.query.scope import Heavy
from stepwell.engine.runtime.expressions import carry_out_apart
from stepwell.engine.runtime.local_maps import ReadItems, no_reader, run_map
from stepwell.engine.runtime.task_requests import first_request

DEFAULT_REGION: Final = "us-east-1"
DEFAULT_ACCOUNT: Final = "000000000000"


class StuckError(StepwellError):
    """The execution waits for what nobody will do: no timer runs, and its open tasks have no one to perform them."""


class CountedSeeds:
    """Seeds drawn from a number: the same number, the same run."""

    def __init__(self, start: int = 0) -> None:
        self._next = start

    def seed(self) -> int:
        self._next += 1
        return int.from_bytes(hashlib.blake2b(self._next.to_bytes(16, "big"), digest_size=16).digest(), "big")


class Numbered(NamedTuple):
    """A history event and its id."""

    id: int
    event: HistoryEvent


@dataclass(frozen=True, slots=True)
class Applied:
    """One call of `transition`: with these, a run can be replayed exactly."""

    event: Event
    now: int
    seed: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """What a scripted world says of a task: its result."""

    value: Json


@dataclass(frozen=True, slots=True)
class Failed:
    """What a scripted world says of a task: its error. `stage` as in `events.TaskFailed`."""

    error: str | None = None
    cause: str | None = None
    stage: str = "run"


@dataclass(frozen=True, slots=True)
class Silent:
    """What a scripted world says of a task: nothing. It stays open until it times out or somebody answers."""


Answer: TypeAlias = Succeeded | Failed | Silent


class World(Protocol):
    """Who performs tasks in `LocalExecution.run`."""

    def __call__(self, task: ScheduleTask) -> Answer: ...


class Script:
    """A world of answers given out in order, state by state; the last of a state's answers is given again and again."""

    def __init__(self, answers: Mapping[str, Answer | Sequence[Answer]]) -> None:
        self._answers = {
            state: [given] if isinstance(given, Succeeded | Failed | Silent) else list(given)
            for state, given in answers.items()
        }
        self.calls: list[ScheduleTask] = []

    def __call__(self, task: ScheduleTask) -> Answer:
        self.calls.append(task)
        waiting = self._answers.get(task.state)
        if not waiting:
            raise StuckError(f"The script has no answer for the state {task.state!r} ({task.resource.text}).")
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def count(self, state: str) -> int:
        """How often a state's task was performed."""
        return sum(task.state == state for task in self.calls)


@dataclass(slots=True)
class LocalExecution:
    """One execution of a machine, driven by its methods. Times are milliseconds since the epoch and never go back.

    `history` holds the events with their ids; `scheduled` every task there was, `decisions` which ways it went; `open_tasks` and
    `timers` what the machine waits for; `finish` how it ended (None: it has not). `on_events` is told the events of each step as they come.
    """

    machine: StateMachine
    now: int
    seeds: SeedSource = field(default_factory=CountedSeeds)
    name: str = "local"
    machine_name: str = "Local"
    region: str = DEFAULT_REGION
    on_events: Callable[[Sequence[Numbered]], None] | None = None
    heavy: Heavy = carry_out_apart
    read_items: ReadItems = no_reader
    state: ExecutionState = field(init=False)
    history: list[Numbered] = field(init=False, default_factory=list)
    applied: list[Applied] = field(init=False, default_factory=list)
    decisions: list[Decision] = field(init=False, default_factory=list)
    scheduled: list[ScheduleTask] = field(init=False, default_factory=list)
    open_tasks: dict[int, ScheduleTask] = field(init=False, default_factory=dict)
    timers: dict[int, StartTimer] = field(init=False, default_factory=dict)
    map_runs: dict[int, StartMapRun] = field(init=False, default_factory=dict)
    due_map_runs: dict[int, int] = field(init=False, default_factory=dict)
    children: list[LocalExecution] = field(init=False, default_factory=list)
    """The child executions of its Map Runs."""
    finish: Finish | None = field(init=False, default=None)
    _heard: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        machine_arn = f"arn:aws:states:{self.region}:{DEFAULT_ACCOUNT}:stateMachine:{self.machine_name}"
        arn = ids.execution_arn(machine_arn, self.name)
        self.state = ExecutionState(
            ExecutionInfo(
                id=ids.execution_id(arn),
                arn=arn,
                name=self.name,
                machine_arn=machine_arn,
                machine_name=self.machine_name,
                role_arn=f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/local",
                started_at=self.now,
                region=self.region,
            )
        )

    # -- what happens to it ----------------------------------------------------------------------------------------

    def start(self, input: Document = EMPTY_OBJECT) -> None:
        """Begin with this input."""
        self.apply(events.Started(msgspec.Raw(input.text)))

    def succeed(self, task: int, value: Json) -> None:
        """A task has a result."""
        self.apply(events.TaskSucceeded(task, msgspec.Raw(write(value))))

    def fail(self, task: int, error: str | None = None, cause: str | None = None, stage: str = "run") -> None:
        """A task has failed."""
        self.apply(events.TaskFailed(task, error, cause, stage))

    def heartbeat(self, task: int) -> None:
        """A task's worker is alive."""
        self._heard[task] = self.now

    def stop(self, error: str | None = None, cause: str | None = None) -> None:
        """Somebody stops it."""
        self.apply(events.StopRequested(error, cause))

    def redrive(self) -> None:
        """Let it go on from where it failed."""
        self.apply(events.Redriven())

    def apply(self, event: Event) -> None:
        """Apply an event now, and let the machine run on until it waits or has ended."""
        more = True
        while more:
            seed = self.seeds.seed()
            self.applied.append(Applied(event, self.now, seed))
            step = transition(self.machine, self.state, event, self.now, Entropy(seed), heavy=self.heavy)
            self.state = step.state
            fresh = [Numbered(step.first_event + index, one) for index, one in enumerate(step.events)]
            self.history += fresh
            self.decisions += step.decisions
            for command in step.commands:
                self._carry_out(command)
            if self.state.status is Status.RUNNING:
                self.finish = None
            if fresh and self.on_events is not None:
                self.on_events(fresh)
            event, more = events.Continued(), step.more

    def _carry_out(self, command: Command) -> None:
        match command:
            case ScheduleTask():
                self.scheduled.append(command)
                self.open_tasks[command.task] = command
            case CancelTask() | CloseTask():
                self.open_tasks.pop(command.task, None)
                self._heard.pop(command.task, None)
            case StartTimer():
                self.timers[command.timer] = command
            case CancelTimer():
                self.timers.pop(command.timer, None)
            case StartMapRun():
                self.map_runs[command.number] = command
                self.due_map_runs[command.number] = 0
            case RedriveMapRun():
                self.due_map_runs[command.number] = command.redrives
            case CancelMapRun():
                self.due_map_runs.pop(command.number, None)
            case Finish():
                self.finish = command
            case MarkTaskStarted():
                pass
            case _:
                assert_never(command)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def next_due(self) -> int | None:
        """When the next timer is due."""
        return min((timer.due_at for timer in self.timers.values()), default=None)

    def advance(self, until: int) -> None:
        """Let time pass up to a moment: timers due by then fire, each at its own moment, in order."""
        while (due := self.next_due) is not None and due <= until and self.finish is None:
            self.now = max(self.now, due)
            self._fire(min((one for one in self.timers.values() if one.due_at == due), key=lambda one: one.timer))
        self.now = max(self.now, until)

    def _fire(self, timer: StartTimer) -> None:
        if timer.kind is TimerKind.HEARTBEAT and timer.task is not None and timer.task in self._heard:
            command = self.open_tasks[timer.task]
            assert command.heartbeat_seconds is not None
            due = self._heard.pop(timer.task) + 1000 * command.heartbeat_seconds
            if due > self.now:
                self.timers[timer.timer] = StartTimer(timer.timer, timer.kind, due, timer.task)
                return
        self.apply(events.TimerFired(timer.timer))

    # -- whole runs ------------------------------------------------------------------------------------------------

    def run(self, world: World, *, input: Document | None = None, until: int | None = None) -> Finish | None:
        """Start it (where `input` is given) and drive it to its end: tasks are answered at once, waits take no time.

        With `until` it goes no further than that moment, and None is returned if it has not ended by then. Raises
        `StuckError` where it waits for what will not come.
        """
        if input is not None:
            self.start(input)
        asked: set[int] = set()
        while self.finish is None:
            if self.due_map_runs:
                self.run_map_run(world)
                continue
            task = next((number for number in sorted(self.open_tasks) if number not in asked), None)
            if task is not None:
                asked.add(task)
                match world(self.open_tasks[task]):
                    case Succeeded(value):
                        self.succeed(task, value)
                    case Failed(error, cause, stage):
                        self.fail(task, error, cause, stage)
                    case Silent():
                        pass
                continue
            due = self.next_due
            if due is None:
                raise StuckError(f"The execution waits for {self.waits_for}, and no timer runs.")
            if until is not None and due > until:
                self.now = max(self.now, until)
                return None
            self.advance(due)
        return self.finish

    def run_map_run(self, world: World) -> None:
        """Run the first Map Run that waits, to its end. Its children live in the same world."""
        number = min(self.due_map_runs)
        redrives = self.due_map_runs.pop(number)

        def run_child(machine: StateMachine, info: ExecutionInfo, input: Document) -> Finish:
            child = self.child(machine, info, self.now)
            finish = child.run(world, input=input)
            assert finish is not None
            self.now = child.now
            return finish

        command, info = self.map_runs[number], self.state.info
        self.apply(
            run_map(
                command, self.machine, info, run_child, now=self.now, seed=self.seeds.seed(), redrives=redrives,
                read=self.read_items, heavy=self.heavy,
            )
        )  # fmt: skip

    def child(self, machine: StateMachine, info: ExecutionInfo, now: int) -> LocalExecution:
        """A child execution of one of its Map Runs, not yet started."""
        child = LocalExecution(machine, now, self.seeds, info.name, region=self.region)
        deadline = now + 1000 * MAX_EXPRESS_SECONDS if info.workflow is Workflow.EXPRESS else None
        child.state = ExecutionState(msgspec.structs.replace(info, started_at=now, deadline=deadline))
        self.children.append(child)
        return child

    def request(self, task: ScheduleTask) -> TaskRequest:
        """A task as targets are asked for it."""
        info = self.state.info
        return first_request(
            info,
            ids.ExecutionId(info.id),
            task,
            idempotency_key=ids.idempotency_key(info.id, task.entry, task.attempt),
            step_id=ids.step_id(info.id, task.entry),
        )

    @property
    def waits_for(self) -> str:
        """What it waits for beside its timers, for people."""
        states = sorted({task.state for task in self.open_tasks.values()})
        return f"an answer to {', '.join(map(repr, states))}" if states else "nothing"
