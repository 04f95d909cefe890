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

from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.system import SystemClock
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Finish
from stepwell.engine.machine.events import MapRunFinished, TaskFailed, TaskSucceeded
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.messages import Call
from stepwell.engine.ports import ConnectionRecord, TargetResult, TaskRequest
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.local_maps import run_map
from stepwell.engine.runtime.mock_config import (
    MockConfigError,
    Notes,
    check_case,
    parse_mock_config,
    read_case,
    read_object,
    with_places,
)
from stepwell.engine.runtime.mocks import Agenda, MockedTasks
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets.lambda_invoke import Invocation, invocation_of, result
from stepwell.workers.functions import Function
from stepwell.workers.results import UnusableResultError, cause_text, error_name, result_text


class LocalRunner:
    """Drives one execution to its end. With `fast`, time jumps to the next timer whenever no task is being performed."""

    def __init__(
        self, execution: LocalExecution, mocks: MockedTasks, performers: Performers, clock: Clock, *, fast: bool
    ) -> None:
        self._execution = execution
        self._mocks = mocks
        self._agenda = Agenda(execution)
        self._performers = performers
        self._clock = clock
        self._fast = fast
        self._skipped = execution.now - clock.now_ms()
        self._running: dict[int, asyncio.Task[TargetResult | MapRunFinished]] = {}
        self._asked: set[int] = set()

    async def whole(self) -> Finish:
        """As `run`, and close what performs tasks."""
        try:
            return await self.run()
        finally:
            await self._performers.close()

    async def run(self) -> Finish:
        """Go on until it has ended. Raises `Failure` where a task has nobody to perform it."""
        execution = self._execution
        try:
            while execution.finish is None:
                self._launch()
                dues = [one for one in (execution.next_due, self._agenda.next_due) if one is not None]
                due = min(dues, default=None)
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

    async def _run_map(self, number: int, redrives: int) -> MapRunFinished:
        """Run a Map Run whole, its children one after the other."""
        execution, loop = self._execution, asyncio.get_running_loop()
        command = execution.map_runs[number]
        state = command.spec.state
        mocked = state in self._mocks.responses

        def read(spec: ReaderSpec) -> Iterable[SourceItem]:
            if mocked:
                return self._mocks.read_items(state, spec)
            raise Failure(
                f"State {state!r} reads its items by {spec.action}, which is not done here. Give them with --mock FILE: "
                f'{{"{state}": {{"Return": [...]}}}}',
                ExitCode.UNUSABLE,
                code="NoTarget",
            )

        async def child_run(machine: StateMachine, info: ExecutionInfo, input: Document) -> Finish:
            child = execution.child(machine, info, self._now())
            runner = LocalRunner(child, self._mocks, self._performers, self._clock, fast=self._fast)
            child.start(input)
            finish = await runner.run()
            self._skipped += max(0, child.now - self._now())
            return finish

        def run_child(machine: StateMachine, info: ExecutionInfo, input: Document) -> Finish:
            return asyncio.run_coroutine_threadsafe(child_run(machine, info, input), loop).result()

        return await asyncio.to_thread(
            run_map, command, execution.machine, execution.state.info, run_child, now=self._now(),
            seed=execution.seeds.seed(), redrives=redrives, read=read, pretend_written=mocked,
        )  # fmt: skip

    def _now(self) -> int:
        return max(self._clock.now_ms() + self._skipped, self._execution.now)

    def _launch(self) -> None:
        execution, open_tasks = self._execution, self._execution.open_tasks
        for number in [one for one in self._running if one not in open_tasks and one not in execution.state.map_runs]:
            self._running.pop(number).cancel()
        for number in sorted(execution.due_map_runs):
            self._running[number] = asyncio.ensure_future(self._run_map(number, execution.due_map_runs.pop(number)))
        for number, command in sorted(open_tasks.items()):
            if number not in self._asked:
                self._asked.add(number)
                reply = self._mocks(command)
                if reply is not None:
                    self._agenda.add(number, reply, self._execution.now)
                    continue
                perform = self._performers.perform(self._execution.request(command))
                self._running[number] = asyncio.ensure_future(perform)

    async def _wait(self, due: int | None) -> None:
        seconds = None if due is None else max(0, due - self._now()) / 1000
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        elif seconds:
            await asyncio.sleep(seconds)

    def _collect(self) -> None:
        execution = self._execution
        while execution.finish is None and (due := self._agenda.next_due) is not None and due <= self._now():
            execution.advance(due - 1)  # an answer that comes in the last moment is in time
            execution.now = max(execution.now, due)
            if self._agenda.next_due == due:
                execution.apply(self._agenda.pop())
        for number, task in sorted(self._running.items()):
            if task.done():
                del self._running[number]
                outcome = task.result()
                wanted = number in execution.open_tasks or number in execution.state.map_runs
                if outcome is not None and wanted and execution.finish is None:
                    self._execution.now = max(self._execution.now, self._now())
                    self._execution.apply(outcome)


class Performers:
    """Who performs the tasks that no mock answers, by the kind of resource."""

    def __init__(
        self, functions: Mapping[str, Callable[..., Any]], clock: Clock, http_allow: str | None = None
    ) -> None:
        self._functions = {name: Function(one) for name, one in functions.items()}
        self._clock = clock
        self._http_allow = http_allow
        self._http: Any = None

    async def perform(self, request: TaskRequest) -> TargetResult:
        kind = request.resource.kind
        try:
            if kind is TargetKind.FUNCTION:
                return await self._function(request, invocation_of(request))
            if kind is TargetKind.HTTP and self._http_allow is not None:
                return await self._http_target().perform(request)  # type: ignore[no-any-return]
        except StatesError as error:
            return TaskFailed(request.task, error.error, error.cause)
        raise _nobody(request)

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


def _nobody(request: TaskRequest) -> Failure:
    way = {
        TargetKind.HTTP: "Let it go out with --http, or give its results",
        TargetKind.ACTIVITY: "An activity needs a worker and a server; give its results",
        TargetKind.CELERY: "A Celery task needs a worker and a server; give its results",
    }.get(request.resource.kind, "It needs a server; give its results")
    return Failure(
        f"State {request.state!r} calls {request.resource.text}, which is not performed here. "
        f'{way} with --mock FILE: {{"{request.state}": [{{"Return": ...}}]}}',
        ExitCode.UNUSABLE,
        code="NoTarget",
    )


def read_mocks(text: bytes, place: str, machine: StateMachine) -> MockedTasks:
    """The mocks of a file in the short form, `{"State": [{"Return": any}, {"Throw": {...}}, ...]}`: a state's answers in order, the
    last one again and again; a single answer needs no list. Raises `Failure`."""
    notes = Notes()
    try:
        given = read_object(text, "The file")
        case = read_case(notes, given, "", "The file", {}, inline=True)
        notes.findings += check_case(machine, given, "")
        notes.raise_errors(text)
    except MockConfigError as error:
        raise bad_mocks(place, error) from None
    return MockedTasks(case)


def read_mock_case(text: bytes, place: str, machine: StateMachine, machine_name: str, case: str | None) -> MockedTasks:
    """The mocks of a test case of a MockConfigFile. Raises `Failure`."""
    try:
        config = parse_mock_config(text)
        machine_name = config.machine_for(machine_name)
        cases = config.machines.get(machine_name, {})
        if case is None and len(cases) != 1:
            names = ", ".join(cases) or "none"
            raise Failure(
                f"Say with --case which test case of {machine_name!r} in {place} is meant; there are: {names}.",
                ExitCode.UNUSABLE,
                code="InvalidMock",
            )
        name = case if case is not None else next(iter(cases))
        mocks = config.case(machine_name, name)
        pointer = f"/StateMachines/{escape_pointer(machine_name)}/TestCases/{escape_pointer(name)}"
        wrong = check_case(machine, mocks, pointer)
        if wrong:
            raise MockConfigError(with_places(wrong, text))
    except MockConfigError as error:
        raise bad_mocks(place, error) from None
    return MockedTasks(mocks)


def bad_mocks(place: str, error: MockConfigError) -> Failure:
    """What to say of a file of mocks that cannot be used."""
    found = "\n".join(f"  {one}" for one in error.findings)
    return Failure(f"The mock file {place} cannot be used.\n{found}", ExitCode.UNUSABLE, code="InvalidMock")


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
