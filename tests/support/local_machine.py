"""An execution in memory: drives `transition` with a virtual clock, a scripted world and no store.

What the machine asks for is kept (open tasks, timers), what a store would keep is kept as well (chunks of history and
deltas), so that a test can crash the execution after any step and go on from what was written.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.machine import chunks, events
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
)
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.replay import all_here
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, fold, full_delta, restore, take_delta
from stepwell.engine.machine.transition import DEFAULT_SLICE, Step, transition
from stepwell.engine.query.scope import Heavy
from stepwell.engine.runtime.local_maps import ReadItems, no_reader, run_map

START = 1_767_323_045_678
"""2026-01-02T03:04:05.678Z: where virtual time begins."""

World = Callable[[ScheduleTask], Iterable[Event]]
"""What happens to a task once it is scheduled: the events to come, in their order."""


def silent(task: ScheduleTask) -> Iterable[Event]:
    """A world that never answers."""
    return ()


def raw(value: Json) -> msgspec.Raw:
    """A value as events carry it."""
    return msgspec.Raw(write(value))


def succeeds(value: Json) -> World:
    """A world in which every task starts and succeeds with the value."""
    return lambda task: (events.TaskSucceeded(task.task, raw(value)),)


def fails(error: str, cause: str | None = None) -> World:
    """A world in which every task fails."""
    return lambda task: (events.TaskFailed(task.task, error, cause),)


def info_of(machine_name: str = "Machine", name: str = "run-1", *, started_at: int = START) -> ExecutionInfo:
    """An execution's fixed data."""
    arn = f"arn:aws:states:us-east-1:000000000000:execution:{machine_name}:{name}"
    return ExecutionInfo(
        id=ids.execution_id(arn),
        arn=arn,
        name=name,
        machine_arn=f"arn:aws:states:us-east-1:000000000000:stateMachine:{machine_name}",
        machine_name=machine_name,
        role_arn="arn:aws:iam::000000000000:role/stepwell",
        started_at=started_at,
    )


class LocalMachine:
    """One execution. `seen` are the history events, `finish` is how it ended."""

    def __init__(
        self,
        definition: StateMachine | Mapping[str, Any] | str,
        input: str = "{}",
        *,
        world: World = silent,
        info: ExecutionInfo | None = None,
        slice: Slice = DEFAULT_SLICE,
        crash_always: bool = False,
        full_every: int = 0,
        heavy: Heavy = all_here,
        first_seed: int = 1,
    ) -> None:
        """With `crash_always` the state is read back after each commit; each `full_every`th commit writes the whole position."""
        self.machine = definition if isinstance(definition, StateMachine) else parse_definition(definition)
        self.info = info or info_of()
        self.state = ExecutionState(self.info)
        self.now = self.info.started_at
        self.world = world
        self.slice = slice
        self.commit_steps = True
        self.crash_always = crash_always
        self.full_every = full_every
        self.heavy = heavy
        self.first_seed = first_seed
        self.seen: list[HistoryEvent] = []
        self.chunks: list[bytes] = []
        self.applied: list[chunks.AppliedEvent] = []
        self.finish: Finish | None = None
        self.finishes: list[Finish] = []
        self.tasks: dict[int, ScheduleTask] = {}
        self.started: list[int] = []
        self.map_runs: list[StartMapRun] = []
        self.cancelled: list[int] = []
        self.children: list[LocalMachine] = []
        self.read_items: ReadItems = no_reader
        self.timers: dict[int, int] = {}
        self.coming: deque[Event] = deque()
        self.commands: list[list[Command]] = []
        self._written = self._applied_written = 0
        self._stored: dict[int, HistoryEvent] = {}
        self._read = self._last_full = 0
        self._due: list[tuple[int, int]] = []
        self.input = input

    # -- driving ---------------------------------------------------------------------------------------------------

    def start(self) -> LocalMachine:
        """Begin the execution."""
        self.apply(events.Started(msgspec.Raw(self.input.encode())))
        return self

    def run(self) -> LocalMachine:
        """Begin if need be, and go on until the execution ends or nothing is left to happen."""
        if self.state.next_event == 1:
            self.start()
        while self.finish is None and self.turn():
            pass
        return self

    def turn(self) -> bool:
        """Let the next thing happen: an answer of the world, else the timer that is due first."""
        if self.coming:
            self.apply(self.coming.popleft())
            return True
        return self.fire()

    def fire(self) -> bool:
        """Jump to the moment the first timer is due and fire it."""
        while self._due:
            due, timer = heapq.heappop(self._due)
            if timer in self.timers:
                self.now = max(self.now, due)
                self.apply(events.TimerFired(timer))
                return True
        return False

    def apply(self, event: Event) -> list[HistoryEvent]:
        """Apply an event, and what is left of a slice that was used up; gives the new history events."""
        first = len(self.seen)
        step = self.step(event)
        while step.more:
            step = self.step(events.Continued())
        return self.seen[first:]

    def step(self, event: Event, seed: int | None = None) -> Step:
        """One transition. It is made durable at once, unless `commit_steps` is False."""
        if seed is None:
            seed = self.first_seed + len(self.applied)
        before = self.state.next_event
        step = transition(self.machine, self.state, event, self.now, Entropy(seed), self.slice, self.heavy)
        assert step.first_event == before
        self.state = step.state
        if self.state.status is Status.RUNNING:
            self.finish = None
        self.applied.append(chunks.AppliedEvent(event, self.now, seed, step.first_event))
        self.seen += step.events
        for command in step.commands:
            self._carry_out(command)
        self.commands.append(step.commands)
        if self.commit_steps:
            self.commit()
            if self.crash_always:
                self.crash()
        return step

    def commit(self, *, full: bool = False) -> None:
        """Write what the steps since the last commit have brought about; `full` writes the whole position."""
        delta = take_delta(self.state)
        if full or (self.full_every and len(self.chunks) % self.full_every == self.full_every - 1):
            delta = full_delta(self.state)
            self._last_full = len(self.chunks)
        fresh, applied = self.seen[self._written :], self.applied[self._applied_written :]
        self.chunks.append(chunks.encode(chunks.Chunk(self._written + 1, fresh, delta, applied)))
        self._written, self._applied_written = len(self.seen), len(self.applied)

    def _carry_out(self, command: Command) -> None:
        match command:
            case ScheduleTask():
                assert command.task not in self.tasks
                self.tasks[command.task] = command
                self.coming.extend(self.world(command))
            case CancelTask() | CloseTask():
                del self.tasks[command.task]
            case MarkTaskStarted():
                assert command.task in self.tasks
                self.started.append(command.task)
            case StartTimer():
                assert command.timer not in self.timers
                self.timers[command.timer] = command.due_at
                heapq.heappush(self._due, (command.due_at, command.timer))
            case CancelTimer():
                del self.timers[command.timer]
            case StartMapRun():
                self.map_runs.append(command)
                self.coming.append(
                    run_map(command, self.machine, self.info, self._run_child, now=self.now, read=self.read_items)
                )
            case RedriveMapRun():
                before = next(each for each in self.map_runs if each.number == command.number)
                self.coming.append(
                    run_map(
                        before, self.machine, self.info, self._run_child, now=self.now, redrives=command.redrives,
                        read=self.read_items,
                    )
                )  # fmt: skip
            case CancelMapRun():
                self.cancelled.append(command.number)
            case Finish():
                self.finish = command
                self.finishes.append(command)

    def _run_child(self, machine: StateMachine, info: ExecutionInfo, input: Document) -> Finish:
        """A child execution of a Map Run, in the same world."""
        child = LocalMachine(machine, input.text.decode(), world=self.world, info=info).run()
        self.children.append(child)
        assert child.finish is not None, "the child execution waits for what will not come"
        return child.finish

    def redrive(self) -> list[HistoryEvent]:
        """Redrive the execution, which has ended."""
        return self.apply(events.Redriven())

    # -- durability ------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Forget the state and read it back from what was written."""
        for data in self.chunks[self._read :]:
            chunk = chunks.decode(data)
            self._stored.update(enumerate(chunk.events, chunk.first_event))
        self._read = len(self.chunks)
        stored = self._stored
        read = [chunks.decode(data) for data in self.chunks[self._last_full :]]

        def payload(id: int) -> Document:
            text = stored[id].payload
            assert text is not None, f"event {id} carries no data"
            return Document.trusted(bytes(text))

        folded = fold(chunk.delta for chunk in read if chunk.delta is not None)
        assert folded.needed_events() <= stored.keys()
        redriven_at = self.state.redriven_at  # kept in the execution's row
        status = self.finish.status if self.finish is not None else Status.RUNNING
        self.state = restore(self.machine, self.info, status, folded, payload)
        self.state.redriven_at = redriven_at

    def delta_bytes(self) -> list[int]:
        """The size of each step's delta, as written."""
        return [len(msgspec.json.encode(chunks.decode(data).delta)) for data in self.chunks]

    # -- looking at it ---------------------------------------------------------------------------------------------

    @property
    def types(self) -> list[str]:
        """The types of the history events."""
        return [event.type for event in self.seen]

    @property
    def lines(self) -> list[str]:
        """The history as `id<-previous Type name`, easy to compare and to read."""
        return [line(id, event) for id, event in enumerate(self.seen, 1)]

    @property
    def output(self) -> Json:
        """The output of an execution that has succeeded."""
        assert self.finish is not None and self.finish.output is not None, self.finish
        return self.finish.output.value

    def payload(self, id: int) -> Json:
        """The user data of a history event."""
        text = self.seen[id - 1].payload
        assert text is not None
        return Document.trusted(bytes(text)).value


def line(id: int, event: HistoryEvent) -> str:
    """An event in one line; the name of a Map's iteration is followed by its index."""
    details = event.details or {}
    words = [f"{id}<-{event.previous}", event.type]
    words += [str(details[key]) for key in ("name", "index") if key in details]
    return " ".join(words)


def run(
    definition: StateMachine | Mapping[str, Any] | str, input: str = "{}", *, world: World = silent
) -> LocalMachine:
    """Run an execution until it ends or nothing is left to happen."""
    return LocalMachine(definition, input, world=world).run()
