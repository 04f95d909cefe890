"""One state run once by itself: what TestState does. The same bodies and the same data flow as in an execution.

`StateTest` runs the state up to where it waits for somebody else's work; a mock, or whoever performs tasks, then says what
came of that. Nothing leads on: the state's own outcome is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from stepwell.engine.asl.states import (
    BaseState,
    FailState,
    JsonPathFlow,
    MapState,
    ParallelState,
    ProcessorMode,
    State,
    StateMachine,
    SucceedState,
    TaskState,
)
from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError, StepwellError
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.commands import Finish, ScheduleTask, StartMapRun, StartTimer, TimerKind
from stepwell.engine.machine.dataflow import effective_input, finish_state, max_concurrency, within_limit
from stepwell.engine.machine.events import MapRunFinished, TaskFailed, TaskSucceeded
from stepwell.engine.machine.failure import fail, fail_evaluation, guarded
from stepwell.engine.machine.inspection import Arrow, Inspection, arrows_shown
from stepwell.engine.machine.map_run import THRESHOLD_CAUSE, Maker, Progress, SourceItem, inline_items
from stepwell.engine.machine.map_spec import MapRunSpec, ReaderSpec
from stepwell.engine.machine.retry import first_match
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, Frame
from stepwell.engine.machine.states.distributed_map import map_run_finished
from stepwell.engine.machine.states.map_ import item_input, items_of, run_map, tolerance
from stepwell.engine.machine.states.task import task_failed, task_succeeded, tasks_timed_out
from stepwell.engine.machine.states.wait import waited
from stepwell.engine.machine.transition import BODIES
from stepwell.engine.query import effort
from stepwell.engine.query.scope import Heavy
from stepwell.engine.states_errors import ErrorName, StatesError

Item = TypeVar("Item")

UNNAMED: Final = "StateName"
"""The name AWS gives to a state that comes without one."""


ReadItems: TypeAlias = Callable[[ReaderSpec], Iterable[SourceItem]]
"""Reads the items an ItemReader names. Raises `StatesError`."""


class TooManyFailuresError(StepwellError):
    """More failed iterations were asked for than the Map has."""


class Ending(StrEnum):
    """How a tested state ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETRIABLE = "RETRIABLE"
    """It failed, and Retry would run it again."""
    CAUGHT_ERROR = "CAUGHT_ERROR"
    """It failed, and Catch leads on."""


@dataclass(frozen=True, slots=True)
class Mocked:
    """What stands for the work of a Task, Map or Parallel: its result, or (where that is None) its error."""

    result: Document | None = None
    error: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a test starts from. `context` replaces the context object; `retries` were made before; `read` reads what a Map's
    ItemReader would, and `failed_iterations` of its iterations fail."""

    input: Document
    variables: Mapping[str, Json] = field(default_factory=dict)
    context: Json = None
    has_context: bool = False
    retries: int = 0
    read: ReadItems | None = None
    failed_iterations: int | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of the test."""

    status: Ending
    output: Document | None = None
    error: str | None = None
    cause: str | None = None
    next: str | None = None
    values: Inspection = field(default_factory=dict)
    variables: Mapping[str, Json] = field(default_factory=dict)
    max_concurrency: int | None = None
    tolerated_count: int | None = None
    tolerated_percentage: float | None = None
    retry_index: int | None = None
    catch_index: int | None = None
    backoff_seconds: int | None = None


class _Anywhere(dict[str, State]):
    """The states beside the tested one: wherever it leads, there is something."""

    def __missing__(self, name: str) -> State:
        return SucceedState(name=name, flow=_NO_FLOW)


_NO_FLOW: Final = JsonPathFlow(input_path=None, output_path=None, result_path=None, plain=True)


class _TestRun(Run):
    """A run that goes nowhere: it keeps where the state would have led."""

    __slots__ = ("failure", "given", "left")

    def __init__(
        self,
        machine: StateMachine,
        state: ExecutionState,
        now: int,
        entropy: Entropy,
        heavy: Heavy | None,
        given: Given,
    ) -> None:
        super().__init__(machine, state, now, entropy, heavy)
        self.given = given
        self.inspection = {}
        self.left: tuple[Document, str | None] | None = None
        self.failure: tuple[str | None, str | None, str | None] | None = None

    def context(self, frame: Frame) -> Json:
        if self.given.has_context:
            return self.given.context
        context = cast(dict[str, dict[str, Json]], super().context(frame))
        context["Execution"].pop("RedriveCount", None)
        if "RetryCount" in context["State"]:
            context["State"]["RetryCount"] = self.given.retries
        return cast(Json, context)

    def leave(self, frame: Frame, output: Document, next: str | None, assigned: dict[str, Json] | None = None) -> None:
        super().leave(frame, output, next, assigned)
        self.left = output, next

    def place(self, frame: Frame) -> str:
        return ""

    def failing(self, frame: Frame, error: str | None, cause: str | None, alias: str | None) -> None:
        self.failure = error, cause, alias


class StateTest:
    """One state, to be run once. `begin` first; where that leaves a task open, one of the others says what came of it.

    Any of them raises `OverBudgetError`, the test then being spoilt, for an expression that needs more than it may use in this
    process and that `heavy` does not carry out. `pause` is called before each item of a Map; what it raises ends the test.
    """

    def __init__(
        self,
        state: State,
        given: Given,
        info: ExecutionInfo,
        *,
        now: int,
        entropy: Entropy,
        heavy: Heavy | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        if isinstance(state.flow, JsonPathFlow) and state.flow.plain:
            # The long way gives the same values as the short cut, and every arrow of it can be seen.
            state = replace(state, flow=replace(state.flow, plain=False))
        machine = StateMachine(start_at=state.name, states=_Anywhere({state.name: state}))
        execution = ExecutionState(info)
        execution.input = given.input
        self._given = given
        self._pause = pause
        self._run = _TestRun(machine, execution, now, entropy, heavy, given)
        self._frame = frame = self._run.new_frame(None, 0, machine, given.input)
        frame.variables = dict(given.variables)
        self._outcome = Outcome(status=Ending.FAILED)

    @property
    def info(self) -> ExecutionInfo:
        """The execution the state believes to be in."""
        return self._run.state.info

    # -- what happens --------------------------------------------------------------------------------------------------

    @effort.of_state()
    def begin(self, mock: Mocked | None = None) -> None:
        """Run the state, with the mock in place of its work where there is one.

        Raises `TooManyFailuresError` for a Map with fewer iterations than are to fail.
        """
        run, frame = self._run, self._frame
        run.enter(frame)
        state = frame.current
        if isinstance(state, TaskState | ParallelState | MapState):
            frame.retries = [self._given.retries] * len(state.retry)
        try:
            if mock is None:
                BODIES[state.type](run, frame)
            elif isinstance(state, MapState):
                self._mocked_map(state, mock)
            elif isinstance(state, ParallelState):
                within_limit(frame, effective_input(run, frame))
                self._mocked_join(mock)
            else:
                BODIES[state.type](run, frame)
                self._mocked_task(mock)
        except (StatesError, JsonTextError, RecursionError) as error:
            fail_evaluation(run, frame, error)

    @property
    def open_task(self) -> ScheduleTask | None:
        """The task that is to be performed; None if there is none."""
        if self._frame.task is None:
            return None
        return next((one for one in self._run.commands if isinstance(one, ScheduleTask)), None)

    @property
    def waits_ms(self) -> int:
        """How long a Wait waits."""
        timer = self._timer(TimerKind.WAIT)
        return 0 if timer is None else timer.due_at - self._run.now

    @effort.of_state()
    def finish_task(self, event: TaskSucceeded | TaskFailed) -> None:
        """The open task has its outcome."""
        if isinstance(event, TaskSucceeded):
            task_succeeded(self._run, self._frame, event)
        else:
            task_failed(self._run, self._frame, event)

    @effort.of_state()
    def finish_wait(self) -> None:
        """The wait is over."""
        guarded(self._run, self._frame, lambda: waited(self._run, self._frame))

    @effort.of_state()
    def time_out(self) -> None:
        """The state took longer than it may."""
        if self._frame.task is not None:
            tasks_timed_out(self._run, [self._frame])
        else:
            fail(self._run, self._frame, ErrorName.TIMEOUT, None)

    # -- mocks ---------------------------------------------------------------------------------------------------------

    def _mocked_task(self, mock: Mocked) -> None:
        task = self.open_task
        if task is None:  # it failed before there was a task
            return
        if mock.result is not None:
            self.finish_task(TaskSucceeded(task.task, msgspec.Raw(mock.result.text)))
        else:
            self.finish_task(TaskFailed(task.task, mock.error, mock.cause))

    def _mocked_join(self, mock: Mocked) -> None:
        run, frame = self._run, self._frame
        if mock.result is not None:
            finish_state(run, frame, mock.result, frame.current.next)
        else:
            fail(run, frame, mock.error, mock.cause)

    def _mocked_map(self, state: MapState, mock: Mocked) -> None:
        run, frame, outcome = self._run, self._frame, self._outcome
        if state.item_processor.mode is ProcessorMode.DISTRIBUTED:
            run_map(run, frame)
            spec = next(one.spec for one in run.commands if isinstance(one, StartMapRun))
            outcome.max_concurrency = spec.max_concurrency
            outcome.tolerated_count, outcome.tolerated_percentage = spec.tolerated_count, spec.tolerated_percentage
            self._judged(mock, self._children(state, spec))
            return
        limit = max_concurrency(run, frame, state.max_concurrency)
        frame.items = items_of(run, frame)
        tolerated = tolerance(run, frame, state)
        outcome.max_concurrency, (outcome.tolerated_count, outcome.tolerated_percentage) = limit, tolerated
        if state.item_selector is not None:
            texts = [item_input(run, frame, at).text for at in self._each(range(len(frame.items)))]
            self._note(Arrow.AFTER_ITEM_SELECTOR, texts)
        self._judged(mock, len(frame.items))

    def _children(self, state: MapState, spec: MapRunSpec) -> int | None:
        """Make the child executions of a Map Run; how many there are, where its items are known."""
        if spec.reader is None:
            items = list(inline_items(spec))
        elif self._given.read is None:
            return None
        else:
            read = self._each(self._given.read(spec.reader))
            items = list(islice(read, spec.reader.config.get("MaxItems") or None))
            if "ItemsPointer" in spec.reader.config:
                self._note(Arrow.AFTER_ITEMS_POINTER, [item.text for item in items])
        if state.item_selector is not None:
            selecting = self._maker(msgspec.structs.replace(spec, batch=None), state)
            texts = [child.input for item in self._each(items) for child in selecting.take(item)]
            items = [SourceItem(text) for text in texts]
            self._note(Arrow.AFTER_ITEM_SELECTOR, texts)
        if spec.batch is None:
            return len(items)
        batching = self._maker(spec, replace(state, item_selector=None))
        texts = [child.input for item in self._each(items) for child in batching.take(item)]
        texts += [child.input for child in batching.rest()]
        self._note(Arrow.AFTER_ITEM_BATCHER, texts)
        return len(texts)

    def _each(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each with what a state may do for itself: in an execution they are not all of one step either."""
        for item in items:
            if self._pause is not None:
                self._pause()
            effort.begin_states()
            yield item

    def _maker(self, spec: MapRunSpec, state: MapState) -> Maker:
        return Maker(spec, state, Progress(), self._run.entropy, self._run.now, self._run.heavy)

    def _note(self, arrow: Arrow, texts: Sequence[bytes]) -> None:
        assert self._run.inspection is not None
        self._run.inspection[arrow] = Document.trusted(b"[" + b",".join(texts) + b"]")

    def _judged(self, mock: Mocked, count: int | None) -> None:
        """End a Map of so many iterations, some of which have failed."""
        failed = self._given.failed_iterations or 0
        if count is not None and failed > count:
            raise TooManyFailuresError
        if mock.result is not None and self._beyond_tolerance(failed, count):
            mock = Mocked(None, ErrorName.EXCEED_TOLERATED_FAILURE_THRESHOLD, THRESHOLD_CAUSE)
        open = self._frame.map_run
        if open is None:
            self._mocked_join(mock)
        elif mock.result is not None:
            event = MapRunFinished(open.number, open.redrives, msgspec.Raw(mock.result.text))
            map_run_finished(self._run, self._frame, event)
        else:
            event = MapRunFinished(open.number, open.redrives, error=mock.error, cause=mock.cause)
            map_run_finished(self._run, self._frame, event)

    def _beyond_tolerance(self, failed: int, count: int | None) -> bool:
        outcome = self._outcome
        if outcome.tolerated_count is not None and failed > outcome.tolerated_count:
            return True
        percentage = outcome.tolerated_percentage
        return percentage is not None and bool(count) and 100 * failed > percentage * cast(int, count)

    # -- what came of it -----------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """What came of the state, once nothing of it is open."""
        run, state, outcome = self._run, self._tested, self._outcome
        outcome.values = self._values(state)
        outcome.variables = self._frame.visible
        finish = next((one for one in run.commands if isinstance(one, Finish)), None)
        if run.failure is None:
            assert run.left is not None, "the state has not come to its end"
            outcome.status = Ending.SUCCEEDED
            outcome.output, outcome.next = run.left
            return outcome
        outcome.error, outcome.cause, alias = run.failure
        if isinstance(state, TaskState | ParallelState | MapState):
            outcome.retry_index = first_match(state.retry, outcome.error, alias)
        retry = self._timer(TimerKind.RETRY)
        if retry is not None:
            outcome.status = Ending.RETRIABLE
            outcome.backoff_seconds = (retry.due_at - run.now) // 1000
        elif run.left is not None:
            assert isinstance(state, TaskState | ParallelState | MapState)
            outcome.status = Ending.CAUGHT_ERROR
            outcome.catch_index = first_match(state.catch, outcome.error, alias)
            outcome.output, outcome.next = run.left
        elif finish is not None:
            outcome.status = Ending.FAILED
            outcome.error, outcome.cause = finish.error, finish.cause
        return outcome

    @property
    def _tested(self) -> BaseState:
        return self._run.machine.states[self._run.machine.start_at]

    def _values(self, state: BaseState) -> Inspection:
        noted: Inspection = {Arrow.INPUT: self._given.input, **(self._run.inspection or {})}
        if isinstance(state, FailState):  # it has no InputPath
            noted[Arrow.AFTER_INPUT_PATH] = self._given.input
        shown = arrows_shown(state)
        return {arrow: noted[arrow] for arrow in Arrow if arrow in noted and arrow in shown}

    def _timer(self, kind: TimerKind) -> StartTimer | None:
        return next((one for one in self._run.commands if isinstance(one, StartTimer) and one.kind is kind), None)
