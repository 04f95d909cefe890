from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.query.jsonata import is_jsonata
from tests.unit.asl.definitions import FUNCTION, body, errors, jsonata, machine, texts, warnings

RETRY = {"ErrorEquals": ["E"]}
LONG = "x" * 81


def messages(type_name: str, **fields: Any) -> list[str]:
    """The messages of a JSONPath machine of one state, without those about the graph."""
    return [found.message for found in errors(machine(body(type_name, **fields)))]


INTEGERS = "Expected value of type Integer"
STRINGS = "Expected value of type String"
OBJECTS = "Expected value of type Object"
ARRAYS = "Expected value of type Array"
TEXT = "Value is not a Reference Path or an intrinsic function call that gives a string"
QUERY = "The value for the field 'a.$' must be a valid JSONPath or a valid intrinsic function call"


@pytest.mark.parametrize(
    ("type_name", "field", "good", "bad"),
    (
        ("Pass", "Comment", ["", "x"], {1: STRINGS, None: STRINGS}),
        ("Pass", "QueryLanguage", ["JSONPath"], {"Yaml": "should have one of these values: [JSONPath, JSONata]"}),
        ("Pass", "InputPath", ["$", None, "$.a[*]", "$$.Execution", "$var.b"], {"x": "valid JSONPath", 1: STRINGS}),
        ("Pass", "OutputPath", ["$", None, "$..a"], {"$.": "Value is not a valid JSONPath", False: STRINGS}),
        ("Pass", "ResultPath", ["$", None, "$.a[0].b"], {"$.a[*]": "not a Reference Path", "$$.a": "not a Reference"}),
        ("Task", "ResultSelector", [{"a.$": "$.b"}, {}], {"$": OBJECTS, 1: OBJECTS}),
        (
            "Task",
            "TimeoutSeconds",
            [1, 99999999],
            {0: "at least 1", 1.5: INTEGERS, "1": INTEGERS, 100000000: "at most"},
        ),
        ("Task", "HeartbeatSeconds", [1], {0: "at least 1", True: INTEGERS, None: INTEGERS}),
        ("Task", "TimeoutSecondsPath", ["$.t", "$$.a", "$v"], {"$.t[*]": "not a Reference Path", None: STRINGS}),
        ("Wait", "Seconds", [0, 99999999], {-1: "at least 0", "$.s": INTEGERS}),
        ("Fail", "Error", ["", "e"], {1: STRINGS}),
        (
            "Fail",
            "ErrorPath",
            ["$.e", "$$.State.Name", "$v", "States.UUID()"],
            {"x": TEXT, None: STRINGS, "$.a[*]": "can select more than one value"},
        ),
        (
            "Fail",
            "CausePath",
            ["States.Format('{}', $.c)", "States.ArrayGetItem($.a, 0)", "States.JsonToString($)"],
            {
                "States.Nothing()": TEXT,
                "States.Array($.a)": "States.Array gives no string",
                "States.MathAdd(1, 2)": TEXT,
            },
        ),
        ("Map", "ItemsPath", ["$.a", "$$.a", "$v"], {None: STRINGS, "x": "not a Reference Path"}),
        ("Map", "ItemSelector", [{"i.$": "$$.Map.Item.Index"}], {"x": OBJECTS}),
        ("Map", "MaxConcurrency", [0, 1000], {-1: "at least 0", "x": INTEGERS}),
        ("Map", "ToleratedFailureCount", [0, 5], {-1: "at least 0", "x": INTEGERS}),
        (
            "Map",
            "ToleratedFailurePercentage",
            [0, 100, 1.5],
            {-1: "at least 0", 101: "at most 100", "x": "type Number"},
        ),
        ("Map", "ItemProcessor", [], {1: OBJECTS}),
        ("Map", "ItemReader", [], {"x": OBJECTS}),
        ("Map", "ResultWriter", [], {"x": OBJECTS}),
        ("Parallel", "Branches", [], {1: ARRAYS}),
        ("Choice", "Choices", [], {1: ARRAYS}),
        ("Task", "Retry", [[]], {1: ARRAYS}),
        ("Task", "Catch", [[]], {1: ARRAYS}),
        ("Task", "Resource", [FUNCTION], {1: STRINGS, "": "Value cannot be empty"}),
        ("Pass", "End", [True], {"true": "Expected value of type Boolean"}),
    ),
)
def test_values_of_fields(type_name: str, field: str, good: list[Any], bad: dict[Any, str]) -> None:
    needs: dict[str, Any] = {"ItemsPath": {}, "Seconds": {}}.get(field, {})
    for value in good:
        assert messages(type_name, **{field: value}, **needs) == []
    for value, message in bad.items():
        assert any(message in found for found in messages(type_name, **{field: value}, **needs)), value


@pytest.mark.parametrize(
    ("timestamp", "valid"),
    (
        ("2016-03-14T01:59:00Z", True),
        ("2016-03-14T01:59:00.123456789Z", True),
        ("2016-03-14T01:59:00+05:30", True),
        ("2016-02-29T00:00:00Z", True),
        ("2015-02-29T00:00:00Z", False),
        ("2016-13-05T21:29:29Z", False),
        ("2016-12-05T25:29:29Z", False),
        ("2016-03-14 01:59:00Z", False),
        ("2016-03-14T01:59:00", False),
        ("2016-03-14t01:59:00z", False),
        ("05-12-2016T21:29:29Z", False),
        ("{% '2016-03-14T01:59:00Z' %}", False),
    ),
)
def test_timestamps(timestamp: str, valid: bool) -> None:
    found = texts(machine(body("Wait", Seconds=..., Timestamp=timestamp)))
    message = "SCHEMA_VALIDATION_FAILED: String does not match RFC3339 timestamp at /States/X/Timestamp"
    assert found == ([] if valid else [message])


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    (
        ("ErrorEquals", [["E"], ["States.ALL"], ["States.Timeout", "E"]], [[], "E", [1], ["States.ALL", "E"]]),
        ("IntervalSeconds", [1, 99999999], [0, 1.5, "1", 100000000]),
        ("MaxAttempts", [0, 99999998], [-1, 99999999, 1.5]),
        ("BackoffRate", [1, 1.0, 2.5], [0.5, "2", None, True]),
        ("MaxDelaySeconds", [1, 31622399], [0, 31622400]),
        ("JitterStrategy", ["NONE", "FULL"], ["SAMPLE", None]),
        ("Comment", ["x"], [1]),
        ("Wrong", [], [1]),
    ),
)
def test_retriers(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert messages("Task", Retry=[{**RETRY, field: value}]) == []
    for value in bad:
        found = errors(machine(body("Task", Retry=[{**RETRY, field: value}])))
        assert len(found) == 1
        assert found[0].location is not None
        assert found[0].location.startswith("/States/X/Retry[0]")


@pytest.mark.parametrize("field", ("Retry", "Catch"))
def test_states_all_comes_last(field: str) -> None:
    last: dict[str, Any] = {"ErrorEquals": ["States.ALL"]}
    first: dict[str, Any] = {"ErrorEquals": ["E"]}
    if field == "Catch":
        last["Next"] = first["Next"] = "End"
    assert messages("Task", **{field: [first, last]}) == []
    assert messages("Task", **{field: [last, first]}) == ["'States.ALL' can only be in the last element"]


@pytest.mark.parametrize(
    ("catcher", "message"),
    (
        ({"ErrorEquals": ["E"]}, "The field 'Next' is required but was missing"),
        ({"Next": "End"}, "The field 'ErrorEquals' is required but was missing"),
        ({"ErrorEquals": ["E"], "Next": "End", "ResultPath": "x"}, "Value is not a Reference Path"),
        ({"ErrorEquals": ["E"], "Next": "End", "Output": 1}, "only supported for the 'JSONata'"),
        ({"ErrorEquals": ["E"], "Next": "End", "Assign": 1}, OBJECTS),
        (1, OBJECTS),
    ),
)
def test_catchers(catcher: Any, message: str) -> None:
    good = {"ErrorEquals": ["E"], "Next": "End", "ResultPath": "$.e", "Assign": {"v.$": "$.Error"}, "Comment": "c"}
    assert messages("Task", Catch=[good]) == []
    (found,) = messages("Task", Catch=[catcher, good])
    assert found.startswith(message) or message in found


@pytest.mark.parametrize(
    "template",
    (
        {"a.$": "$.x"},
        {"a.$": "$$.Task.Token"},
        {"a.$": "$v"},
        {"a.$": "States.Array($.a, States.UUID(), 1, 'x')"},
        {"b": [{"a.$": "$.x"}, ["{}"]]},
        {"a": "no path", "b.c": 1, "$.b": 2},
        "text",
        1,
        None,
    ),
)
def test_templates(template: Any) -> None:
    assert messages("Pass", Parameters=template) == []


@pytest.mark.parametrize(
    "template",
    (
        {"a.$": "x"},
        {"a.$": 1},
        {"a.$": None},
        {"a.$": ""},
        {"a.$": "$.["},
        {"a.$": " States.UUID()"},
        {"a.$": "States.Format("},
        {"a.$": "States.Nothing($.a)"},
        {"a.$": "States.MathAdd(1, '1')"},
        {"a.$": "States.Array(States.MathRandom('1', 2))"},
        {"b": {"c": [{"a.$": "x"}]}},
        {"b": [[{"a.$": "x"}]]},
    ),
)
def test_templates_with_a_fault(template: Any) -> None:
    assert texts(machine(body("Pass", Parameters=template))) == [
        f"SCHEMA_VALIDATION_FAILED: {QUERY} at /States/X/Parameters"
    ]


def test_a_template_field_twice() -> None:
    assert messages("Pass", Parameters={"d": {"a": 1, "a.$": "$.a"}}) == [
        "The field 'a' is there both with and without '.$'"
    ]


def test_a_fault_deep_in_a_template_is_told_with_its_place() -> None:
    (found,) = errors(machine(body("Pass", Parameters={"b": {"c": [{"a.$": "x"}]}})))
    assert found.hint is not None
    assert found.hint.startswith("At b.c.0: ")


@pytest.mark.parametrize("name", ("a", "_a1", "größe", "x" * 80))
def test_variable_names(name: str) -> None:
    assert messages("Pass", Assign={name: 1, "other.$": "$.a"}) == []
    assert texts(jsonata(body("Pass", Assign={name: "{% 1 %}"}))) == []


@pytest.mark.parametrize("name", ("", "1a", "a b", "states", "$a", "a.b", LONG))
def test_wrong_variable_names(name: str) -> None:
    assert len(messages("Pass", Assign={name: 1})) == 1
    assert len(texts(jsonata(body("Pass", Assign={name: 1})))) == 1


def test_a_path_field_is_no_variable_name_in_jsonata() -> None:
    assert messages("Pass", Assign={"a.$": "$.x"}) == []
    assert len(texts(jsonata(body("Pass", Assign={"a.$": "$.x"})))) == 1


@pytest.mark.parametrize("type_name", ("Succeed", "Fail"))
def test_no_assign_where_the_branch_ends(type_name: str) -> None:
    assert messages(type_name, Assign={}) == ["Field 'Assign' is not supported"]


@pytest.mark.parametrize("credentials", ({"RoleArn": "arn:aws:iam::1:role/r"}, {"RoleArn.$": "$.r"}, {"other": 1}))
def test_credentials(credentials: Any) -> None:
    assert messages("Task", Credentials=credentials) == []


@pytest.mark.parametrize("credentials", ({"a.$": "no path"}, "x", None))
def test_wrong_credentials(credentials: Any) -> None:
    assert len(messages("Task", Credentials=credentials)) == 1


@pytest.mark.parametrize("credentials", ({}, {"Other": "x"}))
def test_credentials_without_a_role_as_recorded(credentials: Any) -> None:
    message = "SCHEMA_VALIDATION_FAILED: The field 'RoleArn' is required but was missing at /States/X/Credentials"
    definition = machine(body("Task", Credentials=credentials))
    assert texts(jsonata(body("Task", Credentials=credentials))) == [message]
    assert texts(definition) == []
    assert texts(definition, runnable=True) == texts(definition, target="aws") == [message]


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("{% 1 %}", True),
        ("{%1%}", True),
        ("{%%}", True),
        ("{%}", False),
        (" {% 1 %}", False),
        ("{% 1 %} ", False),
        ("{% 1", False),
        (1, False),
    ),
)
def test_what_a_jsonata_expression_is(text: Any, expected: bool) -> None:
    assert is_jsonata(text) is expected


@pytest.mark.parametrize(
    ("type_name", "field", "good", "bad"),
    (
        ("Pass", "Output", ["{% 1 %}", "text", {"a": ["{% 1 %}", "%"]}, 1, None], ["{% 1", "1 %}", {"a": ["{% x"]}]),
        ("Task", "Arguments", ["{% $states.input %}", {"a": "x"}], ["text", [1], 1, {"a": "{% 1"}]),
        ("Task", "TimeoutSeconds", ["{% 1 %}", 1], ["$.a", 0, 1.5]),
        ("Wait", "Seconds", ["{% 1 %}", 0], ["x", -1]),
        ("Fail", "Error", ["{% 'e' %}", "e"], ["{% 'e'", 1]),
        ("Map", "Items", ["{% $states.input %}", [1, "{% 2 %}"]], ["$.a", {"bad": 42}, 1]),
        ("Map", "ItemSelector", ["{% 1 %}", {"a": 1}], ["{% 1"]),
        ("Map", "MaxConcurrency", ["{% 1 %}", 5], ["x", -1]),
        ("Map", "ToleratedFailurePercentage", ["{% 1 %}", 5.5], ["x", 101]),
        ("Task", "Credentials", ["{% $c %}", {"RoleArn": "{% $r %}"}], ["x", 1]),
    ),
)
def test_values_of_fields_in_jsonata(type_name: str, field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert texts(jsonata(body(type_name, **{field: value}))) == []
    for value in bad:
        assert len(texts(jsonata(body(type_name, **{field: value})))) == 1, value


def test_retriers_have_no_expressions() -> None:
    (found,) = errors(jsonata(body("Task", Retry=[{**RETRY, "MaxAttempts": "{% 1 %}"}])))
    assert found.message == INTEGERS


@pytest.mark.parametrize(
    ("label", "code"),
    (
        ("", DiagnosticCode.INVALID_LABEL_NAME),
        ("x" * 41, DiagnosticCode.INVALID_LABEL_NAME),
        ("a b", DiagnosticCode.INVALID_LABEL_NAME),
        ("a<", DiagnosticCode.INVALID_LABEL_NAME),
        ("a\x7f", DiagnosticCode.INVALID_LABEL_NAME),
        (1, DiagnosticCode.SCHEMA_VALIDATION_FAILED),
        ("x" * 40, None),
        ("größe-1_2", None),
    ),
)
def test_labels(label: Any, code: DiagnosticCode | None) -> None:
    found = errors(machine(body("Map", Label=label)))
    assert [finding.code for finding in found] == ([] if code is None else [code])


def test_two_maps_with_one_label() -> None:
    definition = {
        "StartAt": "A",
        "States": {"A": body("Map", Label="L", End=..., Next="B"), "B": body("Map", Label="L")},
    }
    definition["States"]["A"]["ItemProcessor"] = {"StartAt": "I1", "States": {"I1": {"Type": "Succeed"}}}  # type: ignore[index]
    (found,) = errors(definition)
    assert (found.code, found.location) == (DiagnosticCode.DUPLICATE_LABEL_NAME, "/States/B/Label")


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    (
        (
            "ItemReader",
            [
                {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b"}},
                {"Resource": "arn:x", "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}},
                {"Resource": "arn:x", "ReaderConfig": {"MaxItemsPath": "$.n", "CSVHeaders": ["a"]}},
                {"Resource": "arn:x", "ReaderConfig": {"InputType": "JSON", "ItemsPointer": "/a", "MaxItems": 0}},
            ],
            [
                {},
                {"Resource": "arn:x", "Arguments": {}},
                {"Resource": "arn:x", "ReaderConfig": {"MaxItems": 1, "MaxItemsPath": "$.n"}},
                {"Resource": "arn:x", "ReaderConfig": {"InputType": "XML"}},
                {"Resource": "arn:x", "ReaderConfig": {"MaxItems": -1}},
                {"Resource": "arn:x", "ReaderConfig": {"CSVHeaders": [1]}},
            ],
        ),
        (
            "ItemBatcher",
            [{"MaxItemsPerBatch": 1}, {"MaxInputBytesPerBatchPath": "$.n", "BatchInput": {"a.$": "$.b"}}],
            [
                {"MaxItemsPerBatch": 0},
                {"MaxItemsPerBatchPath": "x"},
                {"MaxItemsPerBatch": 1, "MaxItemsPerBatchPath": "$.n"},
                {"MaxInputBytesPerBatch": 262145},
            ],
        ),
        (
            "ResultWriter",
            [
                {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b"}},
                {"WriterConfig": {"OutputType": "JSON", "Transformation": "COMPACT"}},
            ],
            [
                {},
                {"Resource": "arn:x", "ReaderConfig": {}},
                {"WriterConfig": {}},
                {"WriterConfig": {"OutputType": "CSV"}},
                {"Resource": "arn:x", "Arguments": "{% $a %}"},
            ],
        ),
    ),
)
def test_fields_of_a_distributed_map(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert messages("Map", **{field: value}) == []
    for value in bad:
        assert len(messages("Map", **{field: value})) == 1, value


@pytest.mark.parametrize(
    ("config", "count"),
    (
        ({"Mode": "INLINE"}, 0),
        ({"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}, 0),
        ({"Mode": "OTHER"}, 1),
        ({"ExecutionType": "FAST"}, 1),
        ({"Wrong": 1}, 1),
        ("x", 1),
    ),
)
def test_processor_config(config: Any, count: int) -> None:
    processor = {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}, "ProcessorConfig": config}
    assert len(messages("Map", ItemProcessor=processor)) == count


@pytest.mark.parametrize(("value", "good"), ((1, True), (99999998, True), (99999999, False), (0, False), (1.2, False)))
def test_the_timeout_of_a_machine(value: Any, good: bool) -> None:
    assert (texts(machine(body("Pass"), TimeoutSeconds=value)) == []) is good


def test_the_version_of_the_language() -> None:
    assert texts(machine(body("Pass"), Version="1.0")) == []
    assert texts(machine(body("Pass"), Version="2.0")) == [
        "SCHEMA_VALIDATION_FAILED: The field 'Version' should have one of these values: [1.0] at /Version"
    ]


@pytest.mark.parametrize("type_name", ("Nap", None, 1, "pass", ["Pass"]))
def test_a_wrong_type_as_recorded(type_name: Any) -> None:
    found = texts({"StartAt": "X", "States": {"X": {"Type": type_name, "End": True}}})
    assert found == [
        (
            "SCHEMA_VALIDATION_FAILED: The field 'Type' should have one of these values: "
            "[Task, Wait, Pass, Succeed, Fail, Choice, Parallel, Map] at /States/X/Type"
        )
    ]


def test_empty_branches_as_recorded() -> None:
    assert texts(machine(body("Parallel", Branches=[]))) == [
        "SCHEMA_VALIDATION_FAILED: Value cannot be empty at /States/X/Branches"
    ]


@pytest.mark.parametrize(
    ("definition", "code", "hint"),
    (
        (machine(body("Pass", Result={"a": [{"b.$": "$.c"}]})), DiagnosticCode.PASS_RESULT_IS_STATIC, "Parameters"),
        (machine(body("Pass", Parameters={"a": {"b": "$.c"}})), DiagnosticCode.NO_DOLLAR, "'b.$'"),
        (machine(body("Pass", Parameters={"a": "States.UUID()"})), DiagnosticCode.NO_DOLLAR, "'a.$'"),
        (machine(body("Fail", Cause="$.cause")), DiagnosticCode.NO_PATH, "'CausePath'"),
    ),
)
def test_warnings(definition: dict[str, Any], code: DiagnosticCode, hint: str) -> None:
    assert errors(definition) == []
    (found,) = warnings(definition)
    assert found.code is code
    assert hint in (found.hint or "")


@pytest.mark.parametrize(
    "definition",
    (
        machine(body("Pass", Result={"price": "$5", "a": "State"})),
        machine(body("Pass", Parameters={"price": "$5.00", "text": "States are many"})),
        machine(body("Fail", Cause="It failed.")),
    ),
)
def test_no_warnings(definition: dict[str, Any]) -> None:
    assert warnings(definition) == []


@pytest.mark.parametrize(
    ("state", "field"),
    (
        (body("Pass", Retries=[], Next="End", End=...), "Retries"),
        (body("Task", Output=1), "Output"),
        (body("Choice", Choices=[{"Variable": "$.a", "IsNul": True, "Next": "End"}]), "Choices/0/IsNul"),
        (body("Choice", Choices=[{"Variable": "$.a", "IsNull": True, "Output": 1, "Next": "End"}]), "Choices/0/Output"),
        (body("Task", Retry=[{**RETRY, "MaxAttempt": 1}]), "Retry/0/MaxAttempt"),
    ),
)
def test_a_field_that_is_not_supported_is_pointed_to_itself(state: dict[str, Any], field: str) -> None:
    found = errors(machine(state))[0]
    assert found.pointer == f"/States/X/{field}"
    assert found.location is not None
    assert not found.location.endswith(field)


@pytest.mark.parametrize("field", ("Variable", "StringEquals", "And", "Not"))
def test_rules_of_jsonpath_in_a_jsonata_choice(field: str) -> None:
    rule = {"Condition": "{% true %}", "Next": "End", field: 1}
    (found,) = errors(jsonata(body("Choice", Choices=[rule])))
    assert found.message == (
        f"The QueryLanguage is set to 'JSONata', but field '{field}' is only supported for the 'JSONPath' QueryLanguage"
    )
    assert found.hint == "Use Condition."


@pytest.mark.parametrize(
    ("state", "hint"),
    (
        (body("Pass", Output=1), 'Use Parameters, or give the state "QueryLanguage"'),
        (body("Task", Output=1), 'Use ResultSelector, or give the state "QueryLanguage"'),
        (body("Succeed", Output=1), 'Use OutputPath, or give the state "QueryLanguage"'),
        (body("Task", Arguments={}), "Use Parameters"),
    ),
)
def test_what_a_field_of_jsonata_is_in_jsonpath(state: dict[str, Any], hint: str) -> None:
    (found,) = errors(machine(state))
    assert (found.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("field", "instead"),
    (
        ("InputPath", "Arguments"),
        ("TimeoutSecondsPath", "TimeoutSeconds with an expression"),
        ("Parameters", "Arguments"),
    ),
)
def test_what_a_field_of_jsonpath_is_in_jsonata(field: str, instead: str) -> None:
    (found,) = errors(jsonata(body("Task", **{field: "$.a"})))
    assert found.hint == f"Use {instead}."


@pytest.mark.parametrize("field", ("InputPath", "Parameters", "Result"))
def test_a_state_is_told_of_fields_that_it_can_have(field: str) -> None:
    (found,) = errors(jsonata(body("Pass", **{field: "$.a"})))
    assert found.hint == "Use Output."


@pytest.mark.parametrize(
    ("value", "hint"),
    (
        ("true", "Write true without quotes."),
        ("No", "'No' is a string, in YAML 1.2 as well: write true or false."),
        ("maybe", None),
        (1, None),
    ),
)
def test_a_boolean_that_is_none(value: Any, hint: str | None) -> None:
    found = next(one for one in errors(machine(body("Pass", End=value))) if one.location == "/States/X/End")
    assert (found.message, found.hint) == ("Expected value of type Boolean", hint)


def test_an_intrinsic_function_that_was_probably_meant_is_named() -> None:
    (found,) = errors(machine(body("Pass", Parameters={"a.$": "States.Formatt('{}', $.a)"})))
    assert found.hint == "There is no intrinsic function States.Formatt; did you mean States.Format?"


def test_a_near_value_is_suggested() -> None:
    (found,) = errors(machine(body("Task", Retry=[{**RETRY, "JitterStrategy": "Full"}])))
    assert found.hint == "Did you mean 'FULL'?"
    found = errors({"StartAt": "X", "States": {"X": {"Type": "pass", "End": True}}})[0]
    assert found.hint == "Did you mean 'Pass'?"


@pytest.mark.parametrize("role", (1, None, {"a": 1}))
def test_a_role_is_a_string(role: Any) -> None:
    message = "SCHEMA_VALIDATION_FAILED: Expected value of type String at /States/X/Credentials/RoleArn"
    assert texts(jsonata(body("Task", Credentials={"RoleArn": role}))) == [message]
    assert texts(machine(body("Task", Credentials={"RoleArn": role})), target="aws") == [message]


READS_RESULT = "'$states.result' is not accessible in the field '{}'"
READS_ERROR = "'$states.errorOutput' is not accessible in the field '{}'"
CATCHER = {"ErrorEquals": ["States.ALL"], "Next": "End"}


@pytest.mark.parametrize(
    ("type_name", "fields", "message", "location"),
    (
        ("Task", {"Arguments": {"a": ["{% $states.result.b %}"]}}, READS_RESULT, "/States/X/Arguments/a[0]"),
        ("Task", {"TimeoutSeconds": "{% $states . result %}"}, READS_RESULT, "/States/X/TimeoutSeconds"),
        ("Task", {"Output": "{% $states.errorOutput %}"}, READS_ERROR, "/States/X/Output"),
        ("Task", {"Catch": [{**CATCHER, "Output": "{% $states.result %}"}]}, READS_RESULT, "/States/X/Catch[0]/Output"),
        ("Pass", {"Output": "{% $states.result %}"}, READS_RESULT, "/States/X/Output"),
        ("Pass", {"Assign": {"a": "{% $f($states.`result`) %}"}}, READS_RESULT, "/States/X/Assign/a"),
        ("Map", {"Items": "{% $states.result %}"}, READS_RESULT, "/States/X/Items"),
        ("Map", {"ItemSelector": {"a": "{% $states.errorOutput %}"}}, READS_ERROR, "/States/X/ItemSelector/a"),
    ),
)
def test_what_states_does_not_hold_there_is_refused(
    type_name: str, fields: dict[str, Any], message: str, location: str
) -> None:
    found = errors(machine(body(type_name, **fields), QueryLanguage="JSONata"))
    field = location.split("/")[3].partition("[")[0]
    assert [(each.message, each.location) for each in found] == [(message.format(field), location)]


@pytest.mark.parametrize(
    ("type_name", "fields"),
    (
        ("Task", {"Output": "{% $states.result %}", "Assign": {"a": "{% $states.result %}"}}),
        ("Parallel", {"Output": {"a": "{% $states.result[0] %}"}}),
        ("Map", {"Assign": {"a": "{% $states.result %}"}}),
        ("Task", {"Catch": [{**CATCHER, "Assign": {"a": "{% $states.errorOutput.Cause %}"}}]}),
        ("Pass", {"Output": "{% $states %}"}),
        ("Pass", {"Output": "{% $states.input.result %}"}),
        ("Pass", {"Output": "{% $merge([$states, {'a': '$states.result'}]) %}"}),
        ("Pass", {"Output": "{% $exists($states.result) %}"}),
        ("Pass", {"Output": "{% ($states := {'result': 1}; $states.result) %}"}),
        ("Pass", {"Output": "$states.result"}),
    ),
)
def test_what_states_may_hold_is_accepted(type_name: str, fields: dict[str, Any]) -> None:
    assert errors(machine(body(type_name, **fields), QueryLanguage="JSONata")) == []
