"""The compiled model of a state machine: what a definition means, with every expression already compiled.

Made by `asl.parse`, read by `machine`. Immutable; shared by all executions of a revision. It must not know how a state is
executed. Field names are the specification's, in snake case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from stepwell.engine.asl.language import QueryLanguage, StateType
from stepwell.engine.asl.resources import Resource
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath import JsonPath
from stepwell.engine.query.paths import ReferencePath
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.templates import Template

__all__ = [
    "Assignment",
    "BaseState",
    "Catcher",
    "ChoiceRule",
    "ChoiceState",
    "FailState",
    "FieldValue",
    "Flow",
    "ItemBatcher",
    "ItemProcessor",
    "ItemReader",
    "JitterStrategy",
    "JsonPathFlow",
    "JsonataFlow",
    "MapState",
    "ParallelState",
    "PassState",
    "ProcessorMode",
    "QueryLanguage",
    "ResultWriter",
    "Retrier",
    "State",
    "StateContainer",
    "StateMachine",
    "StateType",
    "SucceedState",
    "TaskState",
    "WaitState",
]


class JitterStrategy(StrEnum):
    """Whether a retry delay is drawn at random from zero up to the computed delay (FULL) or taken as it is."""

    NONE = "NONE"
    FULL = "FULL"


class ProcessorMode(StrEnum):
    """Where the iterations of a Map run: in the same execution, or as child executions."""

    INLINE = "INLINE"
    DISTRIBUTED = "DISTRIBUTED"


@dataclass(frozen=True, slots=True)
class FieldValue:
    """The value of a field which may be a constant (`Seconds`) or computed (`SecondsPath`, a JSONata string).

    `field` is the name as written in the definition, for error texts; `expression` is None for a constant.
    """

    field: str
    constant: Json = None
    expression: Callable[[Scope], Json] | None = None
    text: str | None = None
    """The path or expression as written, where `expression` is set."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The Assign field: variable names to values, evaluated together against the scope before any of them is set."""

    template: Template


@dataclass(frozen=True, slots=True)
class JsonPathFlow:
    """The JSONPath data flow of a state: InputPath -> Parameters -> (state) -> ResultSelector -> ResultPath -> OutputPath.

    A path of None stands for `null` in the definition: InputPath and OutputPath then give `{}`, ResultPath discards the
    result. The absent field is the path `$`, kept as `IDENTITY` so that the common case costs nothing.
    """

    input_path: JsonPath | None
    output_path: JsonPath | None
    result_path: ReferencePath | None
    parameters: Template | None = None
    result_selector: Template | None = None
    assign: Assignment | None = None
    plain: bool = False
    """True if every field is absent: input is handed on as it is."""


@dataclass(frozen=True, slots=True)
class JsonataFlow:
    """The JSONata data flow of a state: Arguments -> (state) -> Output, Assign. Compiled by `query.jsonata`."""

    arguments: Template | None = None
    output: Template | None = None
    assign: Assignment | None = None


Flow: TypeAlias = JsonPathFlow | JsonataFlow


@dataclass(frozen=True, slots=True)
class Retrier:
    """One entry of Retry. Delays in seconds; `max_attempts` 0 means never."""

    error_equals: tuple[str, ...]
    interval_seconds: int = 1
    max_attempts: int = 3
    backoff_rate: float = 2.0
    max_delay_seconds: int | None = None
    jitter_strategy: JitterStrategy = JitterStrategy.NONE


@dataclass(frozen=True, slots=True)
class Catcher:
    """One entry of Catch."""

    error_equals: tuple[str, ...]
    next: str
    result_path: ReferencePath | None
    output: Template | None = None
    assign: Assignment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseState:
    """What every state has. `next` is None where the state ends its branch (`End`, Succeed, Fail) or chooses (Choice)."""

    type: ClassVar[StateType]
    name: str
    flow: Flow
    query_language: QueryLanguage = QueryLanguage.JSONPATH
    next: str | None = None
    comment: str | None = None
    entered_event: ClassVar[str]
    exited_event: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassState(BaseState):
    """Hands its input on, or a fixed Result."""

    type = StateType.PASS
    result: Json = None
    has_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState(BaseState):
    """Has one unit of work done by the target its Resource names."""

    type = StateType.TASK
    resource: Resource
    timeout_seconds: FieldValue | None = None
    heartbeat_seconds: FieldValue | None = None
    credentials: Template | None = None
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRule:
    """A top-level choice rule: `next` is where it leads."""

    next: str
    output: Template | None = None
    assign: Assignment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceState(BaseState):
    """Goes where the first matching rule leads."""

    type = StateType.CHOICE
    choices: tuple[ChoiceRule, ...]
    first_match: Expression
    """Gives the place of the first rule that matches, None if none does."""
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitState(BaseState):
    """Waits for a number of seconds or until a timestamp; exactly one of the two is set."""

    type = StateType.WAIT
    seconds: FieldValue | None = None
    timestamp: FieldValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SucceedState(BaseState):
    """Ends the branch with success."""

    type = StateType.SUCCEED


@dataclass(frozen=True, slots=True, kw_only=True)
class FailState(BaseState):
    """Ends the branch with an error."""

    type = StateType.FAIL
    error: FieldValue | None = None
    cause: FieldValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateContainer:
    """States that refer to each other by name: a whole machine, a branch of a Parallel, the processor of a Map."""

    start_at: str
    states: Mapping[str, State]
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelState(BaseState):
    """Runs its branches at once and joins their outputs, in order, into an array."""

    type = StateType.PARALLEL
    branches: tuple[StateContainer, ...]
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemProcessor(StateContainer):
    """What a Map runs for each item."""

    mode: ProcessorMode = ProcessorMode.INLINE
    execution_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReader:
    """Where a Distributed Map reads its items: `action` of the storage service, and how to read what it gives.

    `config` holds the fields of ReaderConfig by the name they have as constants (`MaxItems` for `MaxItemsPath`).
    """

    action: str
    parameters: Template | None = None
    config: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemBatcher:
    """How a Distributed Map puts items together, so that one child execution gets several."""

    max_items: FieldValue | None = None
    max_bytes: FieldValue | None = None
    batch_input: Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultWriter:
    """Where a Distributed Map writes its results (`action` None: nowhere, they become the state's result), and in which form."""

    action: str | None = None
    parameters: Template | None = None
    config: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapState(BaseState):
    """Runs its processor once an item, at most `max_concurrency` at a time (0: as many as allowed)."""

    type = StateType.MAP
    item_processor: ItemProcessor
    items_path: JsonPath | None = None
    items: FieldValue | None = None
    item_selector: Template | None = None
    max_concurrency: FieldValue | None = None
    tolerated_failure_count: FieldValue | None = None
    tolerated_failure_percentage: FieldValue | None = None
    item_reader: ItemReader | None = None
    item_batcher: ItemBatcher | None = None
    result_writer: ResultWriter | None = None
    label: str | None = None
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()


State: TypeAlias = PassState | TaskState | ChoiceState | WaitState | SucceedState | FailState | ParallelState | MapState

STATE_CLASSES: dict[StateType, type[State]] = {
    cls.type: cls
    for cls in (PassState, TaskState, ChoiceState, WaitState, SucceedState, FailState, ParallelState, MapState)
}
"""The one list of state types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMachine(StateContainer):
    """A whole definition. `timeout_seconds` bounds an execution; `version` is the language's, not the machine's."""

    query_language: QueryLanguage = QueryLanguage.JSONPATH
    timeout_seconds: int | None = None
    version: str = "1.0"
    source: Mapping[str, Json] = field(default_factory=dict, repr=False, compare=False)
    """The definition as parsed JSON."""


def walk_states(container: StateContainer) -> Iterator[State]:
    """All states of a container, each followed by those nested in it."""
    for state in container.states.values():
        yield state
        if isinstance(state, ParallelState):
            for branch in state.branches:
                yield from walk_states(branch)
        elif isinstance(state, MapState):
            yield from walk_states(state.item_processor)
