"""From a definition's text to the compiled model: checks it whole, then compiles every expression in it once.

It must not know how a state is executed. The builder trusts `validate`: it runs only on what that found right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict, cast

from stepwell.engine import limits
from stepwell.engine.asl.conditions import JSONPATH_ONLY
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode
from stepwell.engine.asl.report import Report
from stepwell.engine.asl.resources import Resource, parse_resource
from stepwell.engine.asl.source import read_definition, with_positions
from stepwell.engine.asl.states import (
    Assignment,
    Catcher,
    ChoiceRule,
    ChoiceState,
    FailState,
    FieldValue,
    Flow,
    ItemBatcher,
    ItemProcessor,
    ItemReader,
    JitterStrategy,
    JsonataFlow,
    JsonPathFlow,
    MapState,
    ParallelState,
    PassState,
    ProcessorMode,
    QueryLanguage,
    ResultWriter,
    Retrier,
    State,
    StateContainer,
    StateMachine,
    StateType,
    SucceedState,
    TaskState,
    WaitState,
)
from stepwell.engine.asl.validate import MachineType, check_definition, check_state
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_rules import compile_choice, first_match
from stepwell.engine.query.jsonata import (
    compile_jsonata,
    compile_jsonata_condition,
    compile_jsonata_template,
    is_jsonata,
)
from stepwell.engine.query.jsonpath import JsonPath, compile_jsonpath
from stepwell.engine.query.paths import ReferencePath, compile_path_field
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import Template, compile_template, movable_field

IDENTITY: Final = compile_jsonpath("$")
"""InputPath and OutputPath where they are absent."""

WHOLE: Final = ReferencePath.parse("$")
"""ResultPath where it is absent."""

_UNKNOWN_RESOURCE: Final = "no target takes this Resource"


def parse_definition(
    definition: str | bytes | Mapping[str, Json],
    *,
    machine_type: MachineType | str = MachineType.STANDARD,
) -> StateMachine:
    """The compiled model of a definition: its text, or its JSON value.

    Raises `DefinitionError` with every error found.
    """
    value: Json = definition if isinstance(definition, Mapping) else read_definition(definition)
    report = check_definition(value, machine_type=MachineType(machine_type), runnable=True)
    if report.has_errors:
        raise _refusal(report, None if isinstance(definition, Mapping) else definition)
    try:
        return _Builder(cast(Mapping[str, Json], value)).machine()
    except InvalidQueryError as error:
        # Validation compiles the same expressions, so only a difference between the two would lead here.
        raise DefinitionError([Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, str(error), "/")]) from None


def parse_state(definition: str | bytes | Mapping[str, Json], name: str) -> State:
    """The compiled model of one state by itself, as TestState takes it. Raises `DefinitionError`."""
    value: Json = definition if isinstance(definition, Mapping) else read_definition(definition)
    report = check_state(value)
    if report.has_errors:
        raise _refusal(report, None if isinstance(definition, Mapping) else definition)
    return _Builder({}).state(name, cast(Mapping[str, Json], value))


def _refusal(report: Report, text: str | bytes | None) -> DefinitionError:
    findings = report.findings if text is None else with_positions(report.findings, text)
    return DefinitionError(sorted(findings, key=lambda finding: finding.severity))


class _Common(TypedDict):
    """The arguments every state class takes."""

    name: str
    flow: Flow
    query_language: QueryLanguage
    next: str | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class _Source:
    """One state as it is written, and the language it is written in."""

    name: str
    fields: Mapping[str, Json]
    language: QueryLanguage

    def text(self, field: str) -> str | None:
        return cast("str | None", self.fields.get(field))

    def entries(self, field: str) -> Sequence[Mapping[str, Json]]:
        return cast(Sequence[Mapping[str, Json]], self.fields.get(field, ()))


class _Builder:
    """Makes the model of one definition that has been found right."""

    def __init__(self, definition: Mapping[str, Json]) -> None:
        self._definition = definition
        self._language = QueryLanguage(cast(str, definition.get("QueryLanguage", QueryLanguage.JSONPATH)))

    def machine(self) -> StateMachine:
        definition = self._definition
        return StateMachine(
            start_at=cast(str, definition["StartAt"]),
            states=self._states(definition),
            comment=cast("str | None", definition.get("Comment")),
            query_language=self._language,
            timeout_seconds=cast("int | None", definition.get("TimeoutSeconds")),
            version=cast(str, definition.get("Version", "1.0")),
            source=definition,
        )

    def _states(self, container: Mapping[str, Json]) -> Mapping[str, State]:
        return {
            name: self.state(name, state)
            for name, state in cast(Mapping[str, Mapping[str, Json]], container["States"]).items()
        }

    def state(self, name: str, fields: Mapping[str, Json]) -> State:
        """One state."""
        language = QueryLanguage(cast(str, fields.get("QueryLanguage", self._language)))
        return _STATE_BUILDERS[StateType(cast(str, fields["Type"]))](self, _Source(name, fields, language))

    def common(self, source: _Source, *, has_parameters: bool = True) -> _Common:
        """What every state has. A Map's Parameters are its ItemSelector by the old name, not a part of the flow."""
        return _Common(
            name=source.name,
            flow=_flow(source, has_parameters=has_parameters),
            query_language=source.language,
            next=source.text("Next"),
            comment=source.text("Comment"),
        )

    def branch(self, container: Mapping[str, Json]) -> StateContainer:
        """A branch of a Parallel."""
        return StateContainer(
            start_at=cast(str, container["StartAt"]),
            states=self._states(container),
            comment=cast("str | None", container.get("Comment")),
        )

    def processor(self, container: Mapping[str, Json]) -> ItemProcessor:
        """The processor of a Map."""
        config = cast(Mapping[str, Json], container.get("ProcessorConfig", {}))
        return ItemProcessor(
            start_at=cast(str, container["StartAt"]),
            states=self._states(container),
            comment=cast("str | None", container.get("Comment")),
            mode=ProcessorMode(cast(str, config.get("Mode", ProcessorMode.INLINE))),
            execution_type=cast("str | None", config.get("ExecutionType")),
        )


def _pass(builder: _Builder, source: _Source) -> PassState:
    return PassState(**builder.common(source), result=source.fields.get("Result"), has_result="Result" in source.fields)


def _task(builder: _Builder, source: _Source) -> TaskState:
    return TaskState(
        **builder.common(source),
        resource=_resource(cast(str, source.fields["Resource"])),
        timeout_seconds=_value(source, "TimeoutSeconds"),
        heartbeat_seconds=_value(source, "HeartbeatSeconds"),
        credentials=_template(source, "Credentials"),
        retry=_retriers(source),
        catch=_catchers(source),
    )


def _choice(builder: _Builder, source: _Source) -> ChoiceState:
    rules = source.entries("Choices")
    if source.language is QueryLanguage.JSONPATH:
        conditions: list[Json] = [{key: rule[key] for key in rule if key in JSONPATH_ONLY} for rule in rules]
        matching = compile_choice(cast(Sequence[Mapping[str, Json]], conditions))
    else:
        matching = first_match(tuple(map(_jsonata_condition, rules)))
    return ChoiceState(
        **builder.common(source),
        first_match=matching,
        choices=tuple(
            ChoiceRule(
                next=cast(str, rule["Next"]),
                output=_output(source.language, rule),
                assign=_assignment(source.language, rule),
            )
            for rule in rules
        ),
        default=source.text("Default"),
    )


def _wait(builder: _Builder, source: _Source) -> WaitState:
    return WaitState(**builder.common(source), seconds=_value(source, "Seconds"), timestamp=_value(source, "Timestamp"))


def _succeed(builder: _Builder, source: _Source) -> SucceedState:
    return SucceedState(**builder.common(source))


def _fail(builder: _Builder, source: _Source) -> FailState:
    return FailState(**builder.common(source), error=_text_value(source, "Error"), cause=_text_value(source, "Cause"))


def _parallel(builder: _Builder, source: _Source) -> ParallelState:
    return ParallelState(
        **builder.common(source),
        branches=tuple(builder.branch(branch) for branch in source.entries("Branches")),
        retry=_retriers(source),
        catch=_catchers(source),
    )


def _map(builder: _Builder, source: _Source) -> MapState:
    fields = source.fields
    processor = fields["ItemProcessor"] if "ItemProcessor" in fields else fields["Iterator"]
    items_path = source.text("ItemsPath")
    return MapState(
        **builder.common(source, has_parameters=False),
        item_processor=builder.processor(cast(Mapping[str, Json], processor)),
        items_path=None if items_path is None else compile_jsonpath(items_path),
        items=_constant(source, "Items"),
        item_selector=_template(source, "ItemSelector" if "ItemSelector" in fields else "Parameters"),
        max_concurrency=_value(source, "MaxConcurrency"),
        tolerated_failure_count=_value(source, "ToleratedFailureCount"),
        tolerated_failure_percentage=_value(source, "ToleratedFailurePercentage"),
        item_reader=_item_reader(source),
        item_batcher=_item_batcher(source),
        result_writer=_result_writer(source),
        label=source.text("Label"),
        retry=_retriers(source),
        catch=_catchers(source),
    )


_STATE_BUILDERS: Final[Mapping[StateType, Callable[[_Builder, _Source], State]]] = {
    StateType.PASS: _pass,
    StateType.TASK: _task,
    StateType.CHOICE: _choice,
    StateType.WAIT: _wait,
    StateType.SUCCEED: _succeed,
    StateType.FAIL: _fail,
    StateType.PARALLEL: _parallel,
    StateType.MAP: _map,
}


def _flow(source: _Source, *, has_parameters: bool) -> Flow:
    fields = source.fields
    if source.language is QueryLanguage.JSONATA:
        return JsonataFlow(
            arguments=_template(source, "Arguments"),
            output=_output(source.language, fields),
            assign=_assignment(source.language, fields),
        )
    parameters = has_parameters and "Parameters" in fields
    if not parameters and not any(name in fields for name in _FLOW_FIELDS):
        return _PLAIN
    return JsonPathFlow(
        input_path=_path(fields, "InputPath"),
        output_path=_path(fields, "OutputPath"),
        result_path=_result_path(fields),
        parameters=_template(source, "Parameters") if parameters else None,
        result_selector=_template(source, "ResultSelector"),
        assign=_assignment(source.language, fields),
    )


_FLOW_FIELDS: Final = ("InputPath", "OutputPath", "ResultPath", "ResultSelector", "Assign")
_PLAIN: Final = JsonPathFlow(input_path=IDENTITY, output_path=IDENTITY, result_path=WHOLE, plain=True)


def _path(fields: Mapping[str, Json], name: str) -> JsonPath | None:
    text = cast("str | None", fields.get(name, "$"))
    if text is None:
        return None
    return IDENTITY if text == "$" else compile_jsonpath(text)


def _result_path(fields: Mapping[str, Json]) -> ReferencePath | None:
    text = cast("str | None", fields.get("ResultPath", "$"))
    if text is None:
        return None
    return WHOLE if text == "$" else ReferencePath.parse(text)


def _template(source: _Source, name: str) -> Template | None:
    return _compiled(source.language, source.fields, name)


def _compiled(language: QueryLanguage, fields: Mapping[str, Json], name: str) -> Template | None:
    if name not in fields:
        return None
    if language is QueryLanguage.JSONATA:
        return compile_jsonata_template(fields[name], name)
    return compile_template(fields[name])


def _assignment(language: QueryLanguage, fields: Mapping[str, Json]) -> Assignment | None:
    template = _compiled(language, fields, "Assign")
    return None if template is None else Assignment(template)


def _output(language: QueryLanguage, fields: Mapping[str, Json]) -> Template | None:
    """Output, which JSONata alone has."""
    return _compiled(language, fields, "Output") if language is QueryLanguage.JSONATA else None


def _value(source: _Source, name: str) -> FieldValue | None:
    """A field that is written as a constant, or by a path under its name with `Path`."""
    path = source.text(f"{name}Path")
    if path is not None:
        return FieldValue(f"{name}Path", expression=compile_path_field(path), text=path)
    return _constant(source, name)


def _text_value(source: _Source, name: str) -> FieldValue | None:
    """Error or Cause: a constant, or a path or intrinsic call under its name with `Path`."""
    path = source.text(f"{name}Path")
    if path is not None:
        return FieldValue(f"{name}Path", expression=movable_field(path, f"{name}Path"), text=path)
    return _constant(source, name)


def _constant(source: _Source, name: str) -> FieldValue | None:
    if name not in source.fields:
        return None
    value = source.fields[name]
    return _computed(name, value) if source.language is QueryLanguage.JSONATA else FieldValue(name, constant=value)


def _computed(name: str, value: Json) -> FieldValue:
    """A field of a JSONata state: a constant, an expression, or JSON with expressions in it."""
    if is_jsonata(value):
        expression = compile_jsonata(cast(str, value), name)
        return FieldValue(name, expression=expression, text=expression.source)
    template = compile_jsonata_template(value, name)
    return FieldValue(name, constant=value) if template.constant else FieldValue(name, expression=template)


def _jsonata_condition(rule: Mapping[str, Json]) -> Callable[[Scope], bool]:
    return compile_jsonata_condition(rule["Condition"], "Condition")


def _part(source: _Source, name: str) -> _Source | None:
    """An object within a state that has fields of its own."""
    fields = source.fields.get(name)
    return _Source(source.name, fields, source.language) if isinstance(fields, Mapping) else None


def _item_reader(source: _Source) -> ItemReader | None:
    reader = _part(source, "ItemReader")
    if reader is None:
        return None
    return ItemReader(
        action=_resource(cast(str, reader.fields["Resource"])).action,
        parameters=_arguments(reader),
        config=_config(reader, "ReaderConfig"),
    )


def _item_batcher(source: _Source) -> ItemBatcher | None:
    batcher = _part(source, "ItemBatcher")
    if batcher is None:
        return None
    return ItemBatcher(
        max_items=_value(batcher, "MaxItemsPerBatch"),
        max_bytes=_value(batcher, "MaxInputBytesPerBatch"),
        batch_input=_template(batcher, "BatchInput"),
    )


def _result_writer(source: _Source) -> ResultWriter | None:
    writer = _part(source, "ResultWriter")
    if writer is None:
        return None
    resource = writer.text("Resource")
    return ResultWriter(
        action=None if resource is None else _resource(resource).action,
        parameters=_arguments(writer),
        config=_config(writer, "WriterConfig"),
    )


def _arguments(source: _Source) -> Template | None:
    return _template(source, "Parameters" if "Parameters" in source.fields else "Arguments")


def _config(source: _Source, name: str) -> Mapping[str, FieldValue]:
    """The fields of a ReaderConfig or WriterConfig, each a constant or computed."""
    config = _part(source, name)
    if config is None:
        return {}
    names = [field.removesuffix("Path") for field in config.fields]
    return {field: value for field in names if (value := _value(config, field)) is not None}


def _resource(text: str) -> Resource:
    resource = parse_resource(text)
    if resource is None:
        raise InvalidQueryError(f"'{text}': {_UNKNOWN_RESOURCE}")
    return resource


def _retriers(source: _Source) -> tuple[Retrier, ...]:
    return tuple(
        Retrier(
            error_equals=tuple(cast(Sequence[str], entry["ErrorEquals"])),
            interval_seconds=cast(int, entry.get("IntervalSeconds", limits.DEFAULT_RETRY_INTERVAL_SECONDS)),
            max_attempts=cast(int, entry.get("MaxAttempts", limits.DEFAULT_RETRY_ATTEMPTS)),
            backoff_rate=float(cast(float, entry.get("BackoffRate", limits.DEFAULT_RETRY_BACKOFF_RATE))),
            max_delay_seconds=cast("int | None", entry.get("MaxDelaySeconds")),
            jitter_strategy=JitterStrategy(cast(str, entry.get("JitterStrategy", JitterStrategy.NONE))),
        )
        for entry in source.entries("Retry")
    )


def _catchers(source: _Source) -> tuple[Catcher, ...]:
    return tuple(
        Catcher(
            error_equals=tuple(cast(Sequence[str], entry["ErrorEquals"])),
            next=cast(str, entry["Next"]),
            result_path=_result_path(entry),
            output=_output(source.language, entry),
            assign=_assignment(source.language, entry),
        )
        for entry in source.entries("Catch")
    )


__all__ = ["IDENTITY", "WHOLE", "parse_definition", "parse_state"]
