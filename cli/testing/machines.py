"""State machines in tests written in Python: run one with mocks, or go through it step by step; look at what it did.

What the fixture `state_machine` of the pytest plugin gives; it needs no pytest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

from stepwell.cli.definition_files import UnreadableError
from stepwell.cli.output import duration
from stepwell.cli.testing.coverage import Hits, hits_of
from stepwell.cli.testing.definitions import read_machine
from stepwell.cli.testing.expectations import Outcome, outcome_of
from stepwell.cli.testing.running import FunctionCalls, told
from stepwell.cli.testing.suites import DEFAULT_START, UnusableTestError, definition_name, read_config
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.errors import StepwellError
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.mock_config import (
    MockConfigError,
    MockedResponse,
    Notes,
    Return,
    Throw,
    check_case,
    read_response,
)
from stepwell.engine.runtime.mocks import MockedRun, MockedTasks, Performer, Reply, outcome

Answer: TypeAlias = Return | Throw
MockFunction: TypeAlias = Callable[[Any], "Json | Answer"]
"""Gets the payload of a call; gives its result, a `Return` or a `Throw`. What it raises fails the test."""
Mock: TypeAlias = Answer | Sequence[Answer] | Mapping[str, Json] | MockedResponse | MockFunction
"""An answer again and again, answers in order, the form of a MockConfigFile, or a function."""
Mocks: TypeAlias = Mapping[str, Mock]
Recorder: TypeAlias = Callable[["LocalMachine", Hits], None]
"""Told what executions go through, as they do."""


class TestingError(StepwellError):
    """A test that cannot be run as it is written: a mock for a state that is not there, an unknown test case, a missing answer."""

    __test__ = False


class LocalMachineFactory(Protocol):
    """What the fixture `state_machine` is: makes machines from files, relative to the test's own folder, or from definitions."""

    def __call__(
        self,
        definition: str | Path | Mapping[str, Any],
        *,
        name: str | None = None,
        mock_config: str | Path | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        start_time: datetime | None = None,
    ) -> LocalMachine: ...


class LocalMachine:
    """A state machine to be run in tests, again and again. Executions share nothing.

    `functions` are called by tasks that no mock answers, by the names of Lambda functions. Times without a zone are UTC.
    """

    def __init__(
        self,
        definition: str | Path | Mapping[str, Any],
        *,
        name: str | None = None,
        mock_config: str | Path | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        start_time: datetime | None = None,
        record: Recorder | None = None,
    ) -> None:
        if isinstance(definition, Mapping):
            self.file = f"<{name or 'machine'}>"
            self.text = json.dumps(definition, indent=2).encode()
            self.machine: StateMachine = parse_definition(self.text)
        else:
            self.file = str(definition)
            try:
                read = read_machine(self.file)
            except UnreadableError as error:
                raise TestingError(str(error)) from None
            self.text, self.machine = read.text, read.machine
        self.name = name or (definition_name(Path(self.file)) if not isinstance(definition, Mapping) else "machine")
        self._mock_config = mock_config
        self._functions = dict(functions or {})
        self._start = DEFAULT_START if start_time is None else _milliseconds(start_time)
        self._record = record

    def run(
        self, input: Json = None, *, mocks: Mocks | None = None, case: str | None = None, name: str = "test"
    ) -> Result:
        """Run an execution to its end. `input` is `{}` where it is None; `case` names a test case of the MockConfigFile, whose
        mocks `mocks` override. Raises `TestingError` where a task has no answer."""
        live = self._begin(input, mocks, case, name, lenient=False)
        return live.finish()

    def start(
        self, input: Json = None, *, mocks: Mocks | None = None, case: str | None = None, name: str = "test"
    ) -> LiveExecution:
        """Start an execution and let it come to where it has to wait. Tasks without a mock stay open until they are answered."""
        live = self._begin(input, mocks, case, name, lenient=True)
        live.advance(0)
        return live

    def _begin(self, input: Json, mocks: Mocks | None, case: str | None, name: str, *, lenient: bool) -> LiveExecution:
        answers = self._answers(mocks or {}, case)
        execution = LocalExecution(self.machine, self._start, name=name, machine_name=self.name)
        tasks = MockedTasks({state: mock for state, mock in answers.items() if isinstance(mock, MockedResponse)})
        called = {state: mock for state, mock in answers.items() if not isinstance(mock, MockedResponse)}
        performers: list[Performer] = [tasks, FunctionMocks(called)]
        if self._functions:
            performers.append(FunctionCalls(execution, self._functions))
        if lenient:
            performers.append(lambda task: Reply(()))
        execution.start(Document.of({} if input is None else input))
        return LiveExecution(self, execution, tasks, MockedRun(execution, performers, tasks.read_items), self._record)

    def _answers(self, mocks: Mocks, case: str | None) -> dict[str, MockedResponse | MockFunction]:
        answers: dict[str, MockedResponse | MockFunction] = {}
        try:
            if case is not None:
                if self._mock_config is None:
                    raise TestingError("A case is one of the MockConfigFile that mock_config= names.")
                config = read_config(Path(self._mock_config))
                answers |= config.case(config.machine_for(self.name), case)
        except (MockConfigError, UnusableTestError) as error:
            raise TestingError(str(error)) from None
        notes = Notes()
        for state, mock in mocks.items():
            answers[state] = _mock(notes, state, mock)
        wrong = [*notes.findings, *check_case(self.machine, answers, "")]
        if wrong:
            raise TestingError("\n".join(str(one) for one in wrong))
        return answers


class FunctionMocks:
    """Answers tasks by calling what a test gave for their states."""

    def __init__(self, functions: Mapping[str, MockFunction]) -> None:
        self._functions = functions

    def __call__(self, task: ScheduleTask) -> Reply | None:
        function = self._functions.get(task.state)
        if function is None:
            return None
        given = function(task.payload.value)
        answer = given if isinstance(given, Return | Throw) else Return(given)
        return Reply(outcome(task.task, task.resource, answer), answer.after_ms)


class Result:
    """What an execution came to. Times are seconds of the virtual clock."""

    def __init__(self, execution: LocalExecution, unused_mocks: Sequence[str]) -> None:
        self._execution = execution
        self.outcome: Outcome = outcome_of(execution)
        self.unused_mocks = list(unused_mocks)
        """The states whose mocks were never asked for."""

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The history events, as GET /v1/executions/{id}/history shows them."""
        from stepwell.cli.commands.run import event_views

        return event_views(self._execution.history)

    @property
    def status(self) -> str:
        return self.outcome.status.value

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCEEDED"

    @property
    def output(self) -> Any:
        """The output; None where it did not succeed."""
        return self.outcome.output

    @property
    def error(self) -> str | None:
        return self.outcome.error

    @property
    def cause(self) -> str | None:
        return self.outcome.cause

    @property
    def failed_state(self) -> str | None:
        return self.outcome.failed_state

    @property
    def path(self) -> tuple[str, ...]:
        """The states entered, in order; those in branches and iterations as well."""
        return self.outcome.path

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.outcome.milliseconds / 1000

    def visits(self, state: str) -> int:
        """How often a state was entered."""
        return self.outcome.visits.get(state, 0)

    def attempts(self, state: str) -> int:
        """How often the task of a state was called, retries included."""
        return len(self.calls(state))

    def calls(self, state: str) -> list[Any]:
        """What the task of a state was given, call by call."""
        return list(self.outcome.calls.get(state, ()))

    def __repr__(self) -> str:
        of = self.outcome
        ended = f"{of.status} in {of.failed_state!r}" if of.failed_state else str(of.status)
        why = "".join(
            f"\n  {name}: {text}" for name, text in (("error", of.error), ("cause", of.cause)) if text is not None
        )
        return "\n".join([f"<{ended} after {duration(of.milliseconds)}{why}", *told(self._execution)]) + ">"


class LiveExecution:
    """An execution that goes on when the test says so. Its mocks answer at their own times."""

    def __init__(
        self,
        machine: LocalMachine,
        execution: LocalExecution,
        tasks: MockedTasks,
        run: MockedRun,
        record: Recorder | None,
    ) -> None:
        self._machine = machine
        self._execution = execution
        self._tasks = tasks
        self._run = run
        self._record = record
        self._noted: Hits = Hits()

    @property
    def ended(self) -> bool:
        return self._execution.finish is not None

    @property
    def waiting(self) -> list[str]:
        """The states whose tasks are open, in the order they were scheduled."""
        return [task.state for _, task in sorted(self._execution.open_tasks.items())]

    @property
    def seconds(self) -> float:
        """The virtual time since it started."""
        return (self._execution.now - self._execution.state.info.started_at) / 1000

    @property
    def path(self) -> tuple[str, ...]:
        """The states entered so far, in order."""
        return outcome_of(self._execution).path

    def payload(self, state: str) -> Any:
        """What the open task of a state was given."""
        return self._execution.open_tasks[self._open(state)].payload.value

    def advance(self, seconds: float) -> LiveExecution:
        """Let time pass: timers fire, mocks answer."""
        try:
            self._run.until(self._execution.now + round(1000 * seconds))
        finally:
            self._note()
        return self

    def succeed(self, state: str, output: Json = None) -> LiveExecution:
        """The open task of a state has a result."""
        return self._answer(state, Return(output))

    def fail(self, state: str, error: str, cause: str | None = None) -> LiveExecution:
        """The open task of a state has failed."""
        return self._answer(state, Throw(error, cause))

    def heartbeat(self, state: str) -> LiveExecution:
        """The worker of a state's open task is alive."""
        self._execution.heartbeat(self._open(state))
        return self

    def stop(self, error: str | None = None, cause: str | None = None) -> LiveExecution:
        """Somebody stops it."""
        self._execution.stop(error, cause)
        self._note()
        return self

    def finish(self) -> Result:
        """Let it go on to its end. Raises `TestingError` where it waits for what will not come."""
        try:
            self._run.run()
        except StepwellError as error:
            raise TestingError(str(error)) from None
        finally:
            self._note()
        if self._tasks.exhausted:
            raise TestingError(self._tasks.exhausted[0])
        return self.result()

    def result(self) -> Result:
        """How it stands; RUNNING while it has not ended."""
        return Result(self._execution, self._tasks.unused)

    @property
    def events(self) -> list[HistoryEvent]:
        """The history events so far, as the machine keeps them."""
        return [event for _, event in self._execution.history]

    def _note(self) -> None:
        """Tell the recorder what is new."""
        if self._record is not None:
            hits = hits_of(self._execution)
            self._record(self._machine, hits - self._noted)
            self._noted = hits

    def _open(self, state: str) -> int:
        for number, task in sorted(self._execution.open_tasks.items()):
            if task.state == state:
                return number
        waits = ", ".join(map(repr, self.waiting)) or "nothing"
        raise TestingError(f"The state {state!r} has no open task; the execution waits for {waits}.")

    def _answer(self, state: str, answer: Answer) -> LiveExecution:
        number = self._open(state)
        for event in outcome(number, self._execution.open_tasks[number].resource, answer):
            self._execution.apply(event)
        return self.advance(0)


def _mock(notes: Notes, state: str, mock: Mock) -> MockedResponse | MockFunction:
    if isinstance(mock, MockedResponse):
        return mock
    if isinstance(mock, Return | Throw):
        return MockedResponse.in_order(state, [mock])
    if isinstance(mock, list | tuple) and mock and all(isinstance(one, Return | Throw) for one in mock):
        return MockedResponse.in_order(state, cast(Sequence[Answer], mock))
    if isinstance(mock, Mapping | list):
        return read_response(notes, cast(Json, mock), f"/{state}", state, short=True) or MockedResponse(state, ())
    if callable(mock):
        return mock
    notes.error(
        f"/{state}", f"{mock!r} is no mock", "Say Return(value), Throw(error, cause), a list of them, or a function."
    )
    return MockedResponse(state, ())


def _milliseconds(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
