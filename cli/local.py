"""What `stepwell run` does with an execution in memory: real time or skipped time, tasks performed by mocks, Python or HTTP.

Tasks run beside each other, as on a server. What nobody here can perform ends the run with a message, not with an error the
definition could catch.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.system import SystemClock
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.asl.states import MapState, ParallelState, StateContainer, TaskState
from stepwell.engine.clock import Clock
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.machine.commands import Finish, ScheduleTask
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.messages import Call
from stepwell.engine.ports import ConnectionRecord, TargetResult, TaskRequest
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets.lambda_invoke import Invocation, invocation_of, result
from stepwell.workers.functions import Function
from stepwell.workers.results import UnusableResultError, cause_text, error_name, result_text


class LocalRunner:
    """Drives one execution to its end. With `fast`, time jumps to the next timer whenever no task is being performed."""

    def __init__(self, execution: LocalExecution, performers: Performers, clock: Clock, *, fast: bool) -> None:
        self._execution = execution
        self._performers = performers
        self._clock = clock
        self._fast = fast
        self._skipped = execution.now - clock.now_ms()
        self._running: dict[int, asyncio.Task[TargetResult]] = {}
        self._asked: set[int] = set()

    async def run(self) -> Finish:
        """Go on until it has ended. Raises `Failure` where a task has nobody to perform it."""
        execution = self._execution
        try:
            while execution.finish is None:
                self._launch()
                due = execution.next_due
                if self._fast and not self._running and due is not None:
                    self._skipped += max(0, due - self._now())
                elif self._running or due is not None:
                    await self._wait(due)
                else:
                    raise Failure("The execution waits for something that nobody here will do.", code="Stuck")
                self._collect()
                if execution.finish is None:
                    execution.advance(self._now())
            return execution.finish
        finally:
            for task in self._running.values():
                task.cancel()
            await self._performers.close()

    def _now(self) -> int:
        return max(self._clock.now_ms() + self._skipped, self._execution.now)

    def _launch(self) -> None:
        open_tasks = self._execution.open_tasks
        for number in [number for number in self._running if number not in open_tasks]:
            self._running.pop(number).cancel()
        for number, command in sorted(open_tasks.items()):
            if number not in self._asked:
                self._asked.add(number)
                perform = self._performers.perform(command, self._execution.request(command))
                self._running[number] = asyncio.ensure_future(perform)

    async def _wait(self, due: int | None) -> None:
        seconds = None if due is None else max(0, due - self._now()) / 1000
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        elif seconds:
            await asyncio.sleep(seconds)

    def _collect(self) -> None:
        for number, task in sorted(self._running.items()):
            if task.done():
                del self._running[number]
                outcome = task.result()
                if outcome is not None and number in self._execution.open_tasks:
                    self._execution.now = max(self._execution.now, self._now())
                    self._execution.apply(outcome)


class Performers:
    """Who performs the tasks: a mock of the state if there is one, else by the kind of resource."""

    def __init__(
        self, mocks: Mocks, functions: Mapping[str, Callable[..., Any]], clock: Clock, http_allow: str | None = None
    ) -> None:
        self._mocks = mocks
        self._functions = {name: Function(one) for name, one in functions.items()}
        self._clock = clock
        self._http_allow = http_allow
        self._http: Any = None

    async def perform(self, command: ScheduleTask, request: TaskRequest) -> TargetResult:
        answer = self._mocks.next(command)
        if answer is not None:
            return answer
        kind = command.resource.kind
        try:
            if kind is TargetKind.FUNCTION:
                return await self._function(request, invocation_of(request))
            if kind is TargetKind.HTTP and self._http_allow is not None:
                return await self._http_target().perform(request)  # type: ignore[no-any-return]
        except StatesError as error:
            return TaskFailed(request.task, error.error, error.cause)
        raise _nobody(command)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _function(self, request: TaskRequest, invocation: Invocation) -> TargetResult:
        function = next(
            (self._functions[name] for name in invocation.function.registry_names if name in self._functions), None
        )
        if function is None:
            raise Failure(
                f"State {request.state!r} calls the function {invocation.function.name!r}, which is not given here. "
                f"Give it with --functions MODULE, or its results with --mock FILE: "
                f'{{"{request.state}": [{{"Return": ...}}]}}',
                ExitCode.UNUSABLE,
                code="NoFunction",
            )
        call = Call(
            0, invocation.function.name, invocation.payload, invocation.request_id, invocation.function.name,
            invocation.function.arn, request.execution_arn, request.state, request.attempt, request.idempotency_key,
            request.step_id, request.timeout_seconds,
        )  # fmt: skip
        try:
            value = await _call(function, call)
            return TaskSucceeded(request.task, result(invocation, result_text(value), self._clock.now_ms()))
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever a user's function raises is the task's error
            return TaskFailed(request.task, error_name(error), cause_text(error, invocation.request_id))

    def _http_target(self) -> Any:
        if self._http is None:
            from stepwell.engine.secretbox import SecretBox
            from stepwell.engine.targets.http import HttpSettings, http_target

            settings = HttpSettings(allow=self._http_allow or "")
            self._http = http_target(settings, _NoConnections(), SecretBox(bytes(32)), self._clock)
        return self._http


class _NoConnections:
    """The connections there are without a server: none."""

    async def get(self, name_or_arn: str) -> ConnectionRecord | None:
        return None


async def _call(function: Function, call: Call) -> Any:
    """Run a function: an async one on the loop, another in a thread of its own that does not keep the process."""
    if function.is_async:
        return await function.start(call)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(
                error if isinstance(error, Exception) else UnusableResultError(error_name(error), str(error))
            )

    def work() -> None:
        try:
            outcome: tuple[Any, BaseException | None] = (function.start(call), None)
        except BaseException as error:  # noqa: BLE001 -- it is handed to the loop
            outcome = (None, error)
        loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True).start()
    value = await answer
    return await value if inspect.isawaitable(value) else value


def _nobody(command: ScheduleTask) -> Failure:
    way = {
        TargetKind.HTTP: "Let it go out with --http, or give its results",
        TargetKind.ACTIVITY: "An activity needs a worker and a server; give its results",
        TargetKind.CELERY: "A Celery task needs a worker and a server; give its results",
    }.get(command.resource.kind, "It needs a server; give its results")
    return Failure(
        f"State {command.state!r} calls {command.resource.text}, which is not performed here. "
        f'{way} with --mock FILE: {{"{command.state}": [{{"Return": ...}}]}}',
        ExitCode.UNUSABLE,
        code="NoTarget",
    )


class Mocks:
    """Answers of states, given out in order; the last one of a state again and again.

    The file: `{"State": [{"Return": any}, {"Throw": {"Error": "E", "Cause": "C"}}, ...]}`; a single answer needs no list.
    """

    def __init__(self, answers: Mapping[str, list[Mapping[str, Json]]]) -> None:
        self._answers = {state: list(given) for state, given in answers.items()}

    @classmethod
    def parse(cls, text: bytes, place: str, known: Iterable[str]) -> Mocks:
        """Read a mock file. Raises `Failure` for what is not one, or names a state that is no Task."""
        try:
            value = read(text)
        except JsonTextError as error:
            raise _bad_mock(place, str(error)) from None
        if not isinstance(value, Mapping):
            raise _bad_mock(place, "It must be an object of states.")
        states = set(known)
        answers: dict[str, list[Mapping[str, Json]]] = {}
        for state, given in value.items():
            if state not in states:
                raise _bad_mock(
                    place, f"There is no Task state {state!r}; there are {', '.join(sorted(states)) or 'none'}."
                )
            answers[state] = [
                _mock_answer(place, state, one) for one in (given if isinstance(given, list) else [given])
            ]
            if not answers[state]:
                raise _bad_mock(place, f"State {state!r} has no answers.")
        return cls(answers)

    def next(self, command: ScheduleTask) -> TaskSucceeded | TaskFailed | None:
        """The answer to this task; None where the state has no mock."""
        waiting = self._answers.get(command.state)
        if not waiting:
            return None
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if "Return" in answer:
            return TaskSucceeded(command.task, msgspec.Raw(write(answer["Return"])))
        thrown = answer["Throw"]
        assert isinstance(thrown, Mapping)
        error, cause = thrown.get("Error"), thrown.get("Cause")
        return TaskFailed(command.task, None if error is None else str(error), None if cause is None else str(cause))


def _mock_answer(place: str, state: str, given: Json) -> Mapping[str, Json]:
    if isinstance(given, Mapping) and len(given) == 1:
        if "Return" in given:
            return given
        thrown = given.get("Throw")
        if isinstance(thrown, Mapping) and set(thrown) <= {"Error", "Cause"}:
            return given
    raise _bad_mock(
        place,
        f'An answer of state {state!r} must be {{"Return": any}} or {{"Throw": {{"Error": "...", "Cause": "..."}}}}.',
    )


def _bad_mock(place: str, why: str) -> Failure:
    return Failure(f"The mock file {place} cannot be used. {why}", ExitCode.UNUSABLE, code="InvalidMock")


def task_states(container: StateContainer) -> set[str]:
    """Names of all Task states, nested ones too."""
    names: set[str] = set()
    for name, state in container.states.items():
        if isinstance(state, TaskState):
            names.add(name)
        elif isinstance(state, ParallelState):
            for branch in state.branches:
                names |= task_states(branch)
        elif isinstance(state, MapState):
            names |= task_states(state.item_processor)
    return names


def load_functions(specifications: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """Functions by the names definitions call them by.

    A specification is `module` (its public functions, by their `@function` names or their own), `module:attribute` (a
    callable, or a mapping of names to callables) or `name=module:callable`. Raises `Failure`.
    """
    if specifications:
        sys.path.insert(0, str(Path.cwd()))
    found: dict[str, Callable[..., Any]] = {}
    for specification in specifications:
        name, _, place = specification.rpartition("=")
        module_name, _, path = place.partition(":")
        value = _load(module_name, path)
        if name:
            found[name] = value
        elif isinstance(value, Mapping):
            found |= value
        elif callable(value):
            found[_name_of(value)] = value
        else:
            found |= _public(value)
    return found


def _load(module_name: str, path: str) -> Any:
    try:
        value: Any = importlib.import_module(module_name)
    except Exception as error:
        raise Failure(
            f"--functions: the module {module_name!r} cannot be imported: {type(error).__name__}: {error}",
            ExitCode.UNUSABLE,
            code="NoFunction",
        ) from error
    for part in path.split(".") if path else ():
        value = getattr(value, part, None)
    if value is None:
        raise Failure(f"--functions: {module_name} has no {path!r}.", ExitCode.UNUSABLE, code="NoFunction")
    return value


def _public(module: Any) -> dict[str, Callable[..., Any]]:
    return {
        _name_of(value): value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isroutine(value) and value.__module__ == module.__name__
    }


def _name_of(value: Callable[..., Any]) -> str:
    return str(getattr(value, "__stepwell_function__", None) or getattr(value, "__name__", type(value).__name__))


def start_now(clock: SystemClock | None = None) -> int:
    """The moment a local execution begins."""
    return (clock or SystemClock()).now_ms()
