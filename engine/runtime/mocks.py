"""An execution whose tasks are answered by mocks, on a virtual clock: a task takes as long as its mock says, a Wait no time.

`MockedTasks` counts the invocations of each state and gives out what `runtime.mock_config` read; `MockedRun` lets an execution
go on until it ends. Reads no clock and performs nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from stepwell.engine.asl.resources import IntegrationPattern, Resource
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.errors import StepwellError
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.limits import MAX_MAP_RUN_CONCURRENCY
from stepwell.engine.machine.commands import Finish, ScheduleTask
from stepwell.engine.machine.events import Event, Poisoned, TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.local_maps import ReadItems, run_map
from stepwell.engine.runtime.mock_config import MockAnswer, MockedResponse, Return, Throw
from stepwell.engine.states_errors import ErrorName, StatesError

INVOKE_MEMBERS: Final = frozenset(
    {"ExecutedVersion", "FunctionError", "LogResult", "Payload", "SdkHttpMetadata", "SdkResponseMetadata", "StatusCode"}
)
"""What the answer of Lambda's Invoke may have."""


class Reply(NamedTuple):
    """What happens to a task: these events, so many milliseconds after it was scheduled."""

    events: Sequence[Event]
    after_ms: int = 0


class UnperformedError(StepwellError):
    """A task that no mock answers and that nobody here performs."""

    def __init__(self, state: str, does: str) -> None:
        super().__init__(f"State {state!r} {does}, and no mock answers it.")
        self.state = state


class StuckRunError(StepwellError):
    """The execution waits for what will not come."""


class Performer(Protocol):
    """Who performs a task; None: not this one."""

    def __call__(self, task: ScheduleTask) -> Reply | None: ...


class MockedTasks:
    """Answers tasks by the name of their state. Invocations are counted over the whole execution: each attempt is one, whatever
    iteration, branch or visit of the state it belongs to."""

    def __init__(self, responses: Mapping[str, MockedResponse]) -> None:
        self.responses = responses
        self.invocations: Counter[str] = Counter()
        self.given: set[tuple[str, int]] = set()
        """Responses by name, and the first invocation of each of their entries that was given out."""
        self.exhausted: list[str] = []
        """What was said of invocations that no response provides for."""

    def __call__(self, task: ScheduleTask) -> Reply | None:
        response = self.responses.get(task.state)
        if response is None:
            return None
        number = self.invocations[task.state]
        self.invocations[task.state] += 1
        entry = response.at(number)
        if entry is None:
            why = exhausted(task.state, response, number)
            self.exhausted.append(why)
            return Reply([Poisoned(why)])
        self.given.add((response.name, entry.first))
        return Reply(outcome(task.task, task.resource, entry.answer), entry.answer.after_ms)

    def read_items(self, state: str, spec: ReaderSpec) -> Iterable[SourceItem]:
        """What the ItemReader of a Map state reads: the array (or object) its mock returns. Each reading is an invocation.

        Raises `UnperformedError` where the state has no mock, `StatesError` for what its mock throws."""
        response = self.responses.get(state)
        if response is None:
            raise UnperformedError(state, f"reads its items by {spec.action}")
        number = self.invocations[state]
        self.invocations[state] += 1
        entry = response.at(number)
        if entry is None:
            self.exhausted.append(exhausted(state, response, number))
            raise StatesError(ErrorName.RUNTIME, self.exhausted[-1])
        self.given.add((response.name, entry.first))
        match entry.answer:
            case Throw(error, cause):
                raise StatesError(error, cause)
            case Return(dict() as members):
                return [SourceItem(write(one), str(at), key) for at, (key, one) in enumerate(members.items(), 1)]
            case Return(list() as items):
                return [SourceItem(write(one), str(at)) for at, one in enumerate(items, 1)]
        raise StatesError(
            ErrorName.ITEM_READER_FAILED, f"The mock of the ItemReader of {state!r} must be an array or an object."
        )

    @property
    def unused(self) -> list[str]:
        """The states whose mocks were never asked for."""
        return [state for state in self.responses if not self.invocations[state]]


def exhausted(state: str, response: MockedResponse, number: int) -> str:
    """What to say of an invocation without an answer."""
    last = response.entries[-1].last if response.entries else None
    there = "none" if last is None else "0" if last == 0 else f"0-{last}"
    return (
        f"The state {state!r} is invoked once more than it has mocks for: {response.name!r} answers the invocations {there}, "
        f"and this is number {number}."
    )


def outcome(task: int, resource: Resource, answer: MockAnswer) -> list[Event]:
    """The events of a task that is answered so."""
    events: list[Event] = []
    if resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
        # The mock is how the job ends; what the service says to the request itself is not mocked.
        events.append(TaskSubmitted(task, msgspec.Raw(b"{}")))
    match answer:
        case Return(value):
            if resource.plain_function:
                value = without_envelope(value)
            events.append(TaskSucceeded(task, msgspec.Raw(write(value))))
        case Throw(ErrorName.TIMEOUT, cause):
            events.append(TaskFailed(task, ErrorName.TIMEOUT.value, cause, "timeout"))
        case Throw(ErrorName.HEARTBEAT_TIMEOUT, cause):
            events.append(TaskFailed(task, ErrorName.TIMEOUT.value, cause, "heartbeat"))
        case Throw(error, cause):
            events.append(TaskFailed(task, error, cause))
    return events


def without_envelope(value: Json) -> Json:
    """The function's own result of an Invoke answer `{"StatusCode": 200, "Payload": ...}`; any other value as it is.

    A task whose Resource is the function itself gets the result alone, while mocks are written as the service answers.
    """
    if isinstance(value, Mapping) and {"Payload", "StatusCode"} <= value.keys() <= INVOKE_MEMBERS:
        return value["Payload"]
    return value


class Agenda:
    """What will happen to the tasks and Map Runs of an execution, in the order of its moments."""

    def __init__(self, execution: LocalExecution) -> None:
        self._execution = execution
        self._coming: list[tuple[int, int, int, Event]] = []
        self._count = 0

    def add(self, task: int, reply: Reply, now: int) -> None:
        """Note what happens to a task (or Map Run) that was scheduled now."""
        for event in reply.events:
            self._count += 1
            heapq.heappush(self._coming, (now + reply.after_ms, self._count, task, event))

    @property
    def next_due(self) -> int | None:
        """When the next event is due; those of what is closed by now are forgotten."""
        execution = self._execution
        while self._coming:
            number = self._coming[0][2]
            if number in execution.open_tasks or number in execution.state.map_runs:
                break
            heapq.heappop(self._coming)
        return self._coming[0][0] if self._coming else None

    def pop(self) -> Event:
        """The event that is due next."""
        return heapq.heappop(self._coming)[3]


@dataclass(slots=True)
class MockedRun:
    """Lets an execution go on; `performers` are asked in turn for each task. Tasks run beside each other, in virtual time."""

    execution: LocalExecution
    performers: Sequence[Performer]
    read_items: Callable[[str, ReaderSpec], Iterable[SourceItem]]
    """Reads what the ItemReader of a Map state names."""
    _agenda: Agenda = field(init=False)
    _asked: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._agenda = Agenda(self.execution)

    def run(self) -> Finish:
        """Go on until it has ended. Raises `UnperformedError` and `StuckRunError`."""
        finish = self.until(None)
        if finish is None:
            raise StuckRunError(
                f"The execution waits for {self.execution.waits_for}, and neither a mock nor a timer will end that."
            )
        return finish

    def until(self, moment: int | None) -> Finish | None:
        """Go on until a moment (None: as long as anything happens). None where it has not ended by then."""
        execution, agenda = self.execution, self._agenda
        while execution.finish is None:
            self._ask()
            self._run_maps()
            answer, timer = agenda.next_due, execution.next_due
            due = min((one for one in (answer, timer) if one is not None), default=None)
            if due is None or (moment is not None and due > moment):
                break
            if answer == due:  # an answer that comes in the last moment is in time
                execution.now = max(execution.now, due)
                execution.apply(agenda.pop())
            else:
                execution.advance(due)
        if execution.finish is None and moment is not None:
            execution.now = max(execution.now, moment)
        return execution.finish

    def _ask(self) -> None:
        for number, task in sorted(self.execution.open_tasks.items()):
            if number not in self._asked:
                self._asked.add(number)
                reply = next((one for one in (ask(task) for ask in self.performers) if one is not None), None)
                if reply is None:
                    raise UnperformedError(task.state, f"calls {task.resource.text}")
                self._agenda.add(number, reply, self.execution.now)

    def _run_maps(self) -> None:
        """Run the Map Runs that wait, whole; what they come to is known to the execution when their last child ends."""
        execution = self.execution
        while execution.due_map_runs:
            number = min(execution.due_map_runs)
            redrives = execution.due_map_runs.pop(number)
            command = execution.map_runs[number]
            slots = Slots(execution.now, command.spec.max_concurrency)

            def run_child(machine: StateMachine, info: ExecutionInfo, input: Document, slots: Slots = slots) -> Finish:
                child = self.execution.child(machine, info, slots.take())
                child.start(input)
                finish = MockedRun(child, self.performers, self.read_items).run()
                slots.give_back(child.now)
                return finish

            ended = run_map(
                command, execution.machine, execution.state.info, run_child, now=execution.now,
                seed=execution.seeds.seed(), redrives=redrives, read=self._reader(command.spec.state),
                pretend_written=True,
            )  # fmt: skip
            self._agenda.add(number, Reply([ended], slots.end - execution.now), execution.now)

    def _reader(self, state: str) -> ReadItems:
        return lambda spec: self.read_items(state, spec)


class Slots:
    """When each child of a Map Run begins: as many run beside each other as may, the next one when the first of them ends."""

    def __init__(self, now: int, limit: int) -> None:
        self._now = now
        self._limit = limit or MAX_MAP_RUN_CONCURRENCY
        self._ends: list[int] = []
        self.end = now

    def take(self) -> int:
        """When the next child begins."""
        return self._now if len(self._ends) < self._limit else heapq.heappop(self._ends)

    def give_back(self, end: int) -> None:
        """The child that took the last slot has ended."""
        heapq.heappush(self._ends, end)
        self.end = max(self.end, end)
