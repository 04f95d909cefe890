"""Testing one state by itself (TestState): what may be asked, and running it; tasks without a mock are really performed.

Rules and texts are those of the Step Functions API. Nothing is stored. It must not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from stepwell.engine import ids
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.parse import parse_definition, parse_state
from stepwell.engine.asl.resources import IntegrationPattern, TargetKind
from stepwell.engine.asl.states import MapState, ParallelState, State, StateContainer, TaskState
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import JsonTextError, StepwellError, StoreUnavailableError, TargetUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document, Json
from stepwell.engine.limits import TEST_STATE_SECONDS
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.machine.single_state import (
    UNNAMED,
    Given,
    Mocked,
    Outcome,
    ReadItems,
    StateTest,
    TooManyFailuresError,
)
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.ports import Evaluate, HttpTrace, TaskPerformer, TaskRequest
from stepwell.engine.service import checks, refusals
from stepwell.engine.service.computing import Computing, MakeTest
from stepwell.engine.service.context import RequestContext
from stepwell.engine.service.mock_shapes import FieldValidation, MockShapeError, NoModelError, check_mock
from stepwell.engine.service.mocked_context import mocked_context
from stepwell.engine.service.reader_data import items_in
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.states_errors import ErrorName

DEFAULT_ROLE: Final = "arn:aws:iam::000000000000:role/stepwell"
_THREAD_BYTES: Final = 65_536
"""Longer definitions are read in a thread, so that the event loop goes on."""


class InspectionLevel(StrEnum):
    """How much a test tells."""

    INFO = "INFO"
    """The outcome."""
    DEBUG = "DEBUG"
    """Also the value at each arrow of the data flow."""
    TRACE = "TRACE"
    """Also the request and response of an HTTP Task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MockInput:
    """What stands for the state's work: JSON text of a result, or an error."""

    result: str | None = None
    error: str | None = None
    cause: str | None = None
    has_error: bool = False
    validation: FieldValidation = FieldValidation.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTestRequest:
    """What is to be tested. Data are JSON texts; `state_name` says which state of a whole machine `definition` is."""

    definition: str
    state_name: str | None = None
    role_arn: str | None = None
    input: str | None = None
    level: InspectionLevel = InspectionLevel.INFO
    reveal_secrets: bool = False
    variables: str | None = None
    context: str | None = None
    mock: MockInput | None = None
    retrier_retry_count: int | None = None
    error_caused_by_state: str | None = None
    map_iteration_failure_count: int | None = None
    map_item_reader_data: str | None = None


@dataclass(frozen=True, slots=True)
class StateTestResult:
    """What came of a test, and how much of it is to be told."""

    outcome: Outcome
    level: InspectionLevel
    trace: HttpTrace | None = None

    def facts(self) -> dict[str, Any]:
        """What inspection tells beside the values at the arrows, by the API's names; what there is none of is left out."""
        outcome = self.outcome
        errors = {
            "catchIndex": outcome.catch_index,
            "retryIndex": outcome.retry_index,
            "retryBackoffIntervalSeconds": outcome.backoff_seconds,
        }
        trace = self.trace if self.level is InspectionLevel.TRACE else None
        facts = {
            "maxConcurrency": outcome.max_concurrency,
            "toleratedFailureCount": outcome.tolerated_count,
            "toleratedFailurePercentage": outcome.tolerated_percentage,
            "variables": outcome.variables or None,
            "errorDetails": {name: value for name, value in errors.items() if value is not None} or None,
            "request": trace and trace.request,
            "response": trace and trace.response,
        }
        return {name: value for name, value in facts.items() if value is not None}


class StateTests:
    """The use-case. `reveals`: whether secrets of connections may be shown."""

    def __init__(
        self, performer: TaskPerformer, clock: Clock, seeds: SeedSource, evaluate: Evaluate, *, reveals: bool = False
    ) -> None:
        self._reveals = reveals
        self._performer = performer
        self._clock = clock
        self._seeds = seeds
        self._computing = Computing(evaluate)

    async def test(self, context: RequestContext, request: StateTestRequest) -> StateTestResult:
        """Run one state once. Raises `ServiceError` for what cannot be tested."""
        if len(request.definition) > _THREAD_BYTES:
            state = await asyncio.to_thread(_state_of, request)
        else:
            state = _state_of(request)
        _check_sizes(request)
        _check_configuration(request)
        if request.reveal_secrets and not self._reveals:
            raise ServiceError(
                ErrorCode.ACCESS_DENIED,
                "This server does not reveal secrets of connections: leave out revealSecrets, or have it started with "
                "STEPWELL_REVEAL_SECRETS=on",
                pointer="/revealSecrets",
            )
        _check_state(state, request)
        # The model of an API may have to be read, which takes its time.
        mock = await asyncio.to_thread(_mock_of, state, request) if request.mock is not None else None
        given = _given_of(state, request)
        computed = self._computing.of(self._maker(context, state, given, request.role_arn or DEFAULT_ROLE))
        steps: list[Callable[[StateTest], None]] = [lambda test: test.begin(mock)]
        try:
            test = await computed.after(steps)
        except TooManyFailuresError:
            raise refusals.invalid(
                "Map iteration failure count must be less than or equal to the number of Map iterations",
                pointer="/stateConfiguration/mapIterationFailureCount",
            ) from None
        trace = None
        if test.open_task is not None:
            trace = HttpTrace(reveal=request.reveal_secrets)
            steps.append(await self._performed(test, test.open_task, trace))
        elif test.waits_ms > 1000 * TEST_STATE_SECONDS:
            steps.append(StateTest.time_out)
        elif test.waits_ms:
            steps.append(StateTest.finish_wait)
        if len(steps) > 1:
            test = await computed.after(steps)
        return StateTestResult(test.outcome(), request.level, trace)

    def _maker(self, context: RequestContext, state: State, given: Given, role: str) -> MakeTest:
        """Makes the same test any number of times."""
        names = Entropy(self._seeds.seed())
        machine, name = str(names.uuid4()), str(names.uuid4())
        arn = context.arn("express", f"{machine}:{name}")
        now, seed = self._clock.now_ms(), self._seeds.seed()
        info = ExecutionInfo(
            id=ids.execution_id(arn),
            arn=arn,
            name=name,
            machine_arn=context.arn(checks.MACHINE, machine),
            machine_name=machine,
            role_arn=role,
            started_at=now,
            region=context.region,
        )
        return lambda heavy, pause: StateTest(
            state, given, info, now=now, entropy=Entropy(seed), heavy=heavy, pause=pause
        )

    async def _performed(self, test: StateTest, task: ScheduleTask, trace: HttpTrace) -> Callable[[StateTest], None]:
        """Have the task done; the step by which the state is told what came of it."""
        info = test.info
        asked = TaskRequest(
            execution=ExecutionId(info.id),
            execution_arn=info.arn,
            machine_name=info.machine_name,
            task=task.task,
            state=task.state,
            attempt=0,
            delivery=1,
            resource=task.resource,
            payload=task.payload,
            idempotency_key=ids.idempotency_key(info.id, task.entry, 0),
            step_id=ids.step_id(info.id, task.entry),
            claim_key=ids.claim_key(task.secret) if task.secret else "",
            timeout_seconds=task.timeout_seconds,
            heartbeat_seconds=task.heartbeat_seconds,
            trace=trace,
        )
        limit = min(task.timeout_seconds or TEST_STATE_SECONDS, TEST_STATE_SECONDS)
        try:
            async with asyncio.timeout(limit):
                result = await self._performer.perform_once(asked)
        except TimeoutError:
            return StateTest.time_out
        except TargetUnavailableError as error:  # in an execution the task would wait for it
            raise ServiceError(ErrorCode.SERVICE_UNAVAILABLE, f"The task cannot be performed now: {error}") from None
        except StoreUnavailableError:
            raise
        except StepwellError as error:
            result = TaskFailed(task.task, ErrorName.RUNTIME, str(error))
        return lambda test: test.finish_task(result)


# ------------------------------------------------------------------------------------------------------ what is tested


def _state_of(request: StateTestRequest) -> State:
    try:
        if request.state_name is None:
            return parse_state(request.definition, UNNAMED)
        machine = parse_definition(request.definition)
    except DefinitionError as error:
        raise refusals.invalid_definition(error.diagnostics) from None
    for container in _containers(machine):
        state = container.states.get(request.state_name)
        if state is not None:
            return state
    raise refusals.invalid("State not found in definition", pointer="/stateName")


def _containers(container: StateContainer) -> Iterator[StateContainer]:
    yield container
    for state in container.states.values():
        for inner in _inner(state):
            yield from _containers(inner)


def _inner(state: State) -> Sequence[StateContainer]:
    if isinstance(state, MapState):
        return (state.item_processor,)
    return state.branches if isinstance(state, ParallelState) else ()


def _check_sizes(request: StateTestRequest) -> None:
    """Hold every text to the payload limit; the wire protocol has counted characters, this counts bytes."""
    texts = {
        "input": request.input,
        "variables": request.variables,
        "context": request.context,
        "mock.result": None if request.mock is None else request.mock.result,
        "stateConfiguration.mapItemReaderData": request.map_item_reader_data,
    }
    breaches = [
        fault
        for member, text in texts.items()
        if text is not None and (fault := checks.size_fault(text.encode(), member)) is not None
    ]
    if breaches:
        raise refusals.constraints_broken(breaches)


def _check_configuration(request: StateTestRequest) -> None:
    """What only goes with a mock, or only without one."""
    if request.mock is not None:
        if request.reveal_secrets:
            raise refusals.invalid(
                "TestState does not support RevealSecrets when a mock is specified.", pointer="/revealSecrets"
            )
        return
    mocked_only = {
        "MapIterationFailureCount": request.map_iteration_failure_count,
        "RetrierRetryCount": request.retrier_retry_count,
        "ErrorCausedByState": request.error_caused_by_state,
        "MapItemReaderData": request.map_item_reader_data,
        "Context": request.context,
    }
    for name, value in mocked_only.items():
        if value is not None:
            raise refusals.invalid(f"TestState does not support {name} when a mock is not specified.")


def _check_state(state: State, request: StateTestRequest) -> None:
    """Whether a state of this kind can be tested, with a mock or without."""
    if request.mock is not None:
        if not isinstance(state, TaskState | MapState | ParallelState):
            raise refusals.invalid(
                f"State type '{state.type}' is not supported when a mock is specified", pointer="/mock"
            )
    elif isinstance(state, MapState | ParallelState):
        raise _not_testable(
            "TestState API does not support Map or Parallel states. Supported state types include: "
            "[Task, Wait, Pass, Succeed, Fail, Choice]"
        )
    elif isinstance(state, TaskState):
        resource = state.resource
        if resource.kind is TargetKind.ACTIVITY:
            raise _not_testable("TestState API does not support Activity tasks when a mock is not specified.")
        if resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
            raise _not_testable(
                f"TestState API does not support the {resource.pattern} service integration pattern when a mock is "
                "not specified."
            )
        if request.role_arn is None:
            raise refusals.invalid("RoleArn must be specified when testing a Task state", pointer="/roleArn")
    if request.role_arn is not None and not request.role_arn.startswith("arn:"):
        raise refusals.invalid_arn(f"Invalid ARN prefix: {request.role_arn}")


def _not_testable(why: str) -> ServiceError:
    return ServiceError(ErrorCode.INVALID_DEFINITION, why, pointer="/definition")


# --------------------------------------------------------------------------------------------------- what it is given


def _mock_of(state: State, request: StateTestRequest) -> Mocked | None:
    mock = request.mock
    if mock is None:
        return None
    if mock.result is not None and mock.has_error:
        raise refusals.invalid(
            "A test mock should have only one of the following fields: [result, errorOutput].", pointer="/mock"
        )
    if mock.has_error:
        if mock.error is None:
            raise refusals.invalid("The field 'error' of a mock's errorOutput is required", pointer="/mock/errorOutput")
        _check_origin(state, request.error_caused_by_state)
        return Mocked(None, mock.error, mock.cause)
    if mock.result is None:
        raise refusals.invalid(
            "A test mock should have one of the following fields: [result, errorOutput].", pointer="/mock"
        )
    try:
        result = checks.document_of(mock.result.encode())
    except JsonTextError:
        raise refusals.invalid("Mocked result must be valid JSON", pointer="/mock/result") from None
    _check_result(state, result.value, mock.validation)
    return Mocked(result)


def _check_result(state: State, result: Json, validation: FieldValidation) -> None:
    """Whether a mocked result is one that such a state can have."""
    pointer = "/mock/result"
    writes = isinstance(state, MapState) and state.result_writer is not None
    if writes and not isinstance(result, Mapping):
        raise refusals.invalid("Mocked result must be a JSON object.", pointer=pointer)
    if isinstance(state, MapState | ParallelState) and not writes and not isinstance(result, list):
        raise refusals.invalid("Mocked result must be an array.", pointer=pointer)
    if isinstance(state, ParallelState) and isinstance(result, list) and len(result) != len(state.branches):
        raise refusals.invalid(
            "Mocked result must contain the same number of items as number of Parallel branches.", pointer=pointer
        )
    if isinstance(state, TaskState):
        try:
            check_mock(state.resource, result, validation)
        except (MockShapeError, NoModelError) as error:
            raise refusals.invalid(str(error), pointer=pointer) from None


def _check_origin(state: State, name: str | None) -> None:
    if name is None or not isinstance(state, MapState | ParallelState):
        return
    if not any(name in container.states for inner in _inner(state) for container in _containers(inner)):
        raise refusals.invalid("State not found in definition", pointer="/stateConfiguration/errorCausedByState")


def _given_of(state: State, request: StateTestRequest) -> Given:
    return Given(
        input=_input_of(request.input),
        variables=_variables_of(request.variables),
        context=None if request.context is None else mocked_context(request.context),
        has_context=request.context is not None,
        retries=request.retrier_retry_count or 0,
        read=_reading(state, request.map_item_reader_data),
        failed_iterations=request.map_iteration_failure_count,
    )


def _input_of(text: str | None) -> Document:
    if text is None:
        return EMPTY_OBJECT
    try:
        return checks.document_of(text.encode())
    except JsonTextError as error:
        raise refusals.invalid_input(error) from None


def _variables_of(text: str | None) -> Mapping[str, Json]:
    if text is None:
        return {}
    try:
        value = checks.document_of(text.encode()).value
    except JsonTextError as error:
        raise refusals.invalid(f"'variables' must be valid JSON: {error}", pointer="/variables") from None
    if not isinstance(value, dict):
        raise refusals.invalid("'variables' must be a JSON object", pointer="/variables")
    return value


def _reading(state: State, text: str | None) -> ReadItems | None:
    """What a Map's ItemReader would read."""
    if text is None:
        return None
    if not isinstance(state, MapState) or state.item_reader is None:
        raise refusals.invalid(
            "mapItemReaderData is for a Map state with an ItemReader",
            pointer="/stateConfiguration/mapItemReaderData",
        )
    return lambda reader: items_in(text, reader)
