from __future__ import annotations

import json
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DefinitionError, Severity
from stepwell.engine.asl.parse import IDENTITY, WHOLE, parse_definition, parse_state
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.asl.states import (
    STATE_CLASSES,
    ChoiceState,
    FailState,
    FieldValue,
    ItemBatcher,
    JitterStrategy,
    JsonataFlow,
    JsonPathFlow,
    MapState,
    ParallelState,
    PassState,
    ProcessorMode,
    QueryLanguage,
    State,
    StateType,
    TaskState,
    WaitState,
)
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.query.scope import Scope, StatesScope
from stepwell.engine.states_errors import StatesError
from tests.unit.asl.definitions import BODIES, body, jsonata, machine


def only(state: dict[str, Any], **options: Any) -> State:
    return parse_definition(machine(state), **options).states["X"]


def jsonpath(state: State) -> JsonPathFlow:
    assert isinstance(state.flow, JsonPathFlow)
    return state.flow


def computed(field: FieldValue | None, document: Json) -> Json:
    assert field is not None
    assert field.expression is not None
    return field.expression(Scope(document))


@pytest.mark.parametrize("type_name", BODIES)
def test_every_state_type_has_its_class(type_name: str) -> None:
    state = only(body(type_name))
    assert type(state) is STATE_CLASSES[StateType(type_name)]
    assert (state.name, state.type.value, state.next, state.comment) == ("X", type_name, None, None)
    flow = jsonpath(state)
    assert (flow.plain, flow.input_path, flow.output_path, flow.result_path) == (True, IDENTITY, IDENTITY, WHOLE)


def test_the_machine() -> None:
    definition = machine(body("Pass"), Comment="c", TimeoutSeconds=7, Version="1.0")
    model = parse_definition(definition)
    assert (model.start_at, model.comment, model.timeout_seconds, model.version) == ("X", "c", 7, "1.0")
    assert model.query_language is QueryLanguage.JSONPATH
    assert model.source == definition


@pytest.mark.parametrize("encode", (json.dumps, lambda value: json.dumps(value).encode(), dict))
def test_text_bytes_and_values_give_the_same_machine(encode: Any) -> None:
    definition = machine(body("Wait"), Comment="größe")
    assert parse_definition(encode(definition)) == parse_definition(definition)


def test_the_data_flow() -> None:
    state = only(
        body(
            "Task",
            InputPath="$.in",
            Parameters={"a.$": "$.x", "b": 1},
            ResultSelector={"r.$": "$.y"},
            ResultPath="$.out.here",
            OutputPath=None,
            Assign={"v.$": "$.z"},
        )
    )
    flow = jsonpath(state)
    assert flow.input_path is not None
    assert flow.result_path is not None
    assert flow.parameters is not None
    assert flow.result_selector is not None
    assert flow.assign is not None
    assert not flow.plain
    assert flow.input_path(Scope({"in": 1})) == 1
    assert flow.parameters(Scope({"x": 2})) == {"a": 2, "b": 1}
    assert flow.result_selector(Scope({"y": 3})) == {"r": 3}
    assert flow.result_path.put({}, 4) == {"out": {"here": 4}}
    assert flow.output_path is None
    assert flow.assign.template(Scope({"z": 5})) == {"v": 5}


@pytest.mark.parametrize(
    "field", ({"InputPath": "$"}, {"OutputPath": "$"}, {"ResultPath": "$"}, {"Parameters": {}}, {"Assign": {}})
)
def test_a_flow_is_plain_only_without_any_field(field: dict[str, Any]) -> None:
    assert not jsonpath(only(body("Pass", **field))).plain


@pytest.mark.parametrize("result", (None, 0, {"a.$": "$.b"}))
def test_pass_with_a_result(result: Any) -> None:
    state = only(body("Pass", Result=result))
    assert isinstance(state, PassState)
    assert (state.has_result, state.result) == (True, result)
    without = only(body("Pass"))
    assert isinstance(without, PassState)
    assert not without.has_result


def test_task() -> None:
    state = only(
        body(
            "Task",
            Resource="celery:app.add",
            TimeoutSecondsPath="$.t",
            HeartbeatSeconds=3,
            Credentials={"RoleArn.$": "$.role"},
            End=...,
            Next="End",
        )
    )
    assert isinstance(state, TaskState)
    assert (state.resource.kind, state.resource.name, state.next) == (TargetKind.CELERY, "app.add", "End")
    assert computed(state.timeout_seconds, {"t": 9}) == 9
    assert state.timeout_seconds is not None
    assert (state.timeout_seconds.field, state.timeout_seconds.text) == ("TimeoutSecondsPath", "$.t")
    assert state.heartbeat_seconds == FieldValue("HeartbeatSeconds", 3)
    assert state.credentials is not None
    assert state.credentials(Scope({"role": "r"})) == {"RoleArn": "r"}


def test_retriers_and_catchers() -> None:
    full = {
        "ErrorEquals": ["A", "B"],
        "IntervalSeconds": 5,
        "MaxAttempts": 0,
        "BackoffRate": 1,
        "MaxDelaySeconds": 9,
        "JitterStrategy": "FULL",
    }
    catch = [
        {"ErrorEquals": ["A"], "Next": "End", "ResultPath": "$.e", "Assign": {"v.$": "$.Error"}},
        {"ErrorEquals": ["B"], "Next": "End", "ResultPath": None},
        {"ErrorEquals": ["States.ALL"], "Next": "End"},
    ]
    state = only(body("Parallel", Retry=[full, {"ErrorEquals": ["States.ALL"]}], Catch=catch))
    assert isinstance(state, ParallelState)
    first, default = state.retry
    assert (first.error_equals, first.interval_seconds, first.max_attempts) == (("A", "B"), 5, 0)
    assert (first.backoff_rate, first.max_delay_seconds, first.jitter_strategy) == (1.0, 9, JitterStrategy.FULL)
    assert (default.interval_seconds, default.max_attempts, default.backoff_rate) == (1, 3, 2.0)
    assert (default.max_delay_seconds, default.jitter_strategy) == (None, JitterStrategy.NONE)
    with_path, discarding, replacing = state.catch
    assert with_path.result_path is not None
    assert with_path.result_path.put({"a": 1}, 2) == {"a": 1, "e": 2}
    assert with_path.assign is not None
    assert with_path.assign.template(Scope({"Error": "E"})) == {"v": "E"}
    assert discarding.result_path is None
    assert replacing.result_path is WHOLE


def test_choice() -> None:
    rules = [
        {"Variable": "$.a", "NumericEquals": 1, "Next": "End", "Assign": {"v.$": "$.a"}},
        {"Not": {"Variable": "$.a", "IsPresent": True}, "Next": "End"},
    ]
    state = only(body("Choice", Choices=rules))
    assert isinstance(state, ChoiceState)
    assert state.default == "End"
    assert state.first_match(Scope({"a": 1})) == 0
    assert state.first_match(Scope({"a": 2})) is None
    other = only(body("Choice", Choices=rules[::-1]))
    assert isinstance(other, ChoiceState)
    assert other.first_match(Scope({})) == 0
    assert state.choices[0].assign is not None
    assert state.choices[1].assign is None


@pytest.mark.parametrize(
    ("written", "attribute", "document", "value"),
    (
        ({"Seconds": 3}, "seconds", None, 3),
        ({"SecondsPath": "$.s"}, "seconds", {"s": 4}, 4),
        ({"Timestamp": "2030-01-01T00:00:00Z"}, "timestamp", None, "2030-01-01T00:00:00Z"),
        ({"TimestampPath": "$.t"}, "timestamp", {"t": "x"}, "x"),
    ),
)
def test_wait(written: dict[str, Any], attribute: str, document: Json, value: Json) -> None:
    state = only({**body("Wait", Seconds=...), **written})
    assert isinstance(state, WaitState)
    field = getattr(state, attribute)
    assert field.field == next(iter(written))
    assert (field.constant if document is None else computed(field, document)) == value
    assert [state.seconds, state.timestamp].count(None) == 1


def test_fail() -> None:
    state = only(body("Fail", Error="e", CausePath="States.Format('{}!', $.c)"))
    assert isinstance(state, FailState)
    assert state.error == FieldValue("Error", "e")
    assert computed(state.cause, {"c": "x"}) == "x!"


def test_a_path_field_that_leads_nowhere() -> None:
    state = only(body("Fail", ErrorPath="$.none"))
    assert isinstance(state, FailState)
    with pytest.raises(
        StatesError, match=r"The JSONPath '\$\.none' specified for the field 'ErrorPath' could not be found"
    ):
        computed(state.error, {})


@pytest.mark.parametrize("name", ("ItemProcessor", "Iterator"))
@pytest.mark.parametrize("selector", ("ItemSelector", "Parameters"))
def test_map_by_new_and_old_names(name: str, selector: str) -> None:
    fields = {selector: {"i.$": "$.v"}, "ItemsPath": "$.items", "MaxConcurrencyPath": "$.n"}
    state = only({**body("Map", ItemProcessor=...), name: BODIES["Map"]["ItemProcessor"], **fields})
    assert isinstance(state, MapState)
    assert (state.item_processor.start_at, state.item_processor.mode) == ("I", ProcessorMode.INLINE)
    assert state.item_selector is not None
    assert state.item_selector(Scope({"v": 1})) == {"i": 1}
    assert state.items_path is not None
    assert state.items_path(Scope({"items": [1]})) == [1]
    assert state.items is None
    assert computed(state.max_concurrency, {"n": 2}) == 2
    assert jsonpath(state).parameters is None
    assert jsonpath(state).plain


def test_parallel() -> None:
    branches = [{"StartAt": name, "Comment": name, "States": {name: {"Type": "Succeed"}}} for name in "AB"]
    state = only(body("Parallel", Branches=branches))
    assert isinstance(state, ParallelState)
    assert [(branch.start_at, branch.comment, list(branch.states)) for branch in state.branches] == [
        ("A", "A", ["A"]),
        ("B", "B", ["B"]),
    ]


DISTRIBUTED: dict[str, Any] = body(
    "Map",
    ItemProcessor={
        "StartAt": "I",
        "States": {"I": {"Type": "Succeed"}},
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
    },
    ItemReader={"Resource": "arn:aws:states:::s3:getObject"},
    ItemBatcher={"MaxItemsPerBatch": 2},
    ResultWriter={"WriterConfig": {"OutputType": "JSON"}},
    Label="L",
    ToleratedFailureCount=1,
    ToleratedFailurePercentage=2.5,
)


def test_a_distributed_map_is_parsed() -> None:
    state = only(DISTRIBUTED)
    assert isinstance(state, MapState)
    assert (state.item_processor.mode, state.item_processor.execution_type) == (ProcessorMode.DISTRIBUTED, "EXPRESS")
    assert (state.label, state.item_batcher) == ("L", ItemBatcher(max_items=FieldValue("MaxItemsPerBatch", 2)))
    assert state.tolerated_failure_count == FieldValue("ToleratedFailureCount", 1)


def test_jsonata() -> None:
    wait = body("Wait", Seconds="{% $states.input.n %}", Output={"a": "{% 2 %}"}, Assign={"v": 1})
    state = parse_definition(jsonata(wait)).states["X"]
    assert isinstance(state, WaitState)
    assert isinstance(state.flow, JsonataFlow)
    assert state.query_language is QueryLanguage.JSONATA
    scope = StatesScope(Document.of({"n": 7}))
    assert state.seconds is not None and state.seconds.expression is not None
    assert state.seconds.expression(scope) == 7
    assert state.flow.output is not None and state.flow.output(scope) == {"a": 2}
    assert state.flow.assign is not None and state.flow.assign.template.constant


def test_a_refusal_has_every_error_then_the_warnings_with_positions() -> None:
    definition = machine(body("Pass", Result={"a.$": "$"}, Wrong=1, Next="Q"))
    with pytest.raises(DefinitionError) as caught:
        parse_definition(json.dumps(definition))
    severities = [found.severity for found in caught.value.diagnostics]
    assert severities == [Severity.ERROR] * 3 + [Severity.WARNING]
    assert all(found.line == 1 and found.column is not None for found in caught.value.diagnostics)
    assert str(caught.value) == (
        "SCHEMA_VALIDATION_FAILED: Field 'Wrong' is not supported at /States/X, "
        "SCHEMA_VALIDATION_FAILED: Only one of these fields is allowed: [Next, End] at /States/X, "
        "MISSING_TRANSITION_TARGET: Missing 'Next' target: Q at /States/X/Next"
    )


def test_the_text_of_a_refusal_is_bounded() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_definition(machine(body("Pass", **{f"f{index}": 1 for index in range(5000)})))
    assert len(caught.value.diagnostics) == 5000
    assert str(caught.value).count("is not supported") == 100


def test_one_state_by_itself() -> None:
    state = parse_state(json.dumps(body("Task", End=..., Next="Somewhere")), "T")
    assert isinstance(state, TaskState)
    assert (state.name, state.next) == ("T", "Somewhere")
    with pytest.raises(DefinitionError, match=r"These fields are required: \[Resource\] at /"):
        parse_state({"Type": "Task", "End": True}, "T")
    with pytest.raises(DefinitionError, match="Definition must be a valid JSON object"):
        parse_state("[]", "T")
