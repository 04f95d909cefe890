from __future__ import annotations

import copy

import pytest
from hypothesis import given

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import InvalidTemplateError, compile_field, compile_template
from stepwell.engine.query.values import json_equal
from stepwell.engine.states_errors import StatesError
from tests.unit.query.strategies import DOCUMENTS, OBJECTS

TEMPLATE: Json = {
    "z": 1,
    "name.$": "$.name",
    "nested": {"run.$": "$$.Id", "list": ["a", {"v.$": "$v"}, [{"deep.$": "States.MathAdd($.n, 1)"}]]},
    "$": "kept",
    "all.$": "$.items[*].id",
}


def test_evaluates_marked_fields_and_keeps_the_rest_in_order() -> None:
    template = compile_template(TEMPLATE)
    before = copy.deepcopy(TEMPLATE)
    scope = Scope({"name": "Ada", "n": 1}, variables={"v": None}, context=lambda: {"Id": "run"})
    result = template(scope)
    assert result == {
        "z": 1,
        "name": "Ada",
        "nested": {"run": "run", "list": ["a", {"v": None}, [{"deep": 2}]]},
        "$": "kept",
        "all": [],
    }
    assert isinstance(result, dict)
    assert list(result) == ["z", "name", "nested", "$", "all"]
    assert not template.constant
    assert template.variables == {"v"}
    assert before == TEMPLATE


def test_results_do_not_share_what_was_computed() -> None:
    template = compile_template({"a": {"b.$": "$"}})
    first, second = template(Scope(1)), template(Scope(2))
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"b": 2}})


@given(DOCUMENTS)
def test_a_template_without_marked_fields_is_constant(document: Json) -> None:
    template = compile_template(document)
    assert template.constant
    assert json_equal(template(Scope({})), document)


@given(OBJECTS)
def test_a_path_for_each_field_rebuilds_the_input(document: dict[str, Json]) -> None:
    template = compile_template({f"{name}.$": f"$['{name}']" for name in document})
    assert json_equal(template(Scope(document)), document)


def test_all_problems_are_reported_with_their_places() -> None:
    with pytest.raises(InvalidTemplateError) as caught:
        compile_template(
            {
                "bad1.$": 23,
                "ok.$": "$.b[23]",
                "in": {"bad2.$": "23", "list": ["x", {"bad/3.$": "States.Nope($)"}]},
                "bad4.$": {"f": 1},
                "bad5.$": "$$23",
                "bad6.$": " States.UUID()",
                "bad7.$": None,
            }
        )
    assert [problem.location for problem in caught.value.problems] == [
        "/bad1.$",
        "/in/bad2.$",
        "/in/list/1/bad~13.$",
        "/bad4.$",
        "/bad5.$",
        "/bad6.$",
        "/bad7.$",
    ]
    assert caught.value.problems[0].message == (
        "The value for the field 'bad1.$' must be a valid JSONPath or a valid intrinsic function call"
    )
    assert "There is no intrinsic function States.Nope" in caught.value.problems[2].detail


def test_nesting_is_bounded() -> None:
    template: Json = {"a.$": "$"}
    for _ in range(149):
        template = [template]
    assert not compile_template(template).constant
    with pytest.raises(InvalidQueryError, match="nested"):
        compile_template([[template]])


@pytest.mark.parametrize(
    ("template", "document", "error", "cause"),
    (
        (
            {"value.$": "$.no_such_jsonpath"},
            {},
            "States.Runtime",
            "The JSONPath '$.no_such_jsonpath' specified for the field 'value.$' could not be found in the input '{}'",
        ),
        (
            {"a": {"b.$": "$$.x"}},
            {},
            "States.Runtime",
            "The JSONPath '$$.x' specified for the field 'b.$' could not be found in the input '{\"Id\":1}'",
        ),
        ({"b.$": "$[*].max()"}, [1], "States.Runtime", "Invalid path '$[*].max()' : Aggregation function attempted"),
        ({"b.$": "States.ArrayLength($)"}, 1, "States.IntrinsicFailure", "The function 'States.ArrayLength($)' had"),
    ),
)
def test_why_an_evaluation_fails(template: Json, document: Json, error: str, cause: str) -> None:
    with pytest.raises(StatesError) as caught:
        compile_template(template)(Scope(document, context=lambda: {"Id": 1}))
    assert caught.value.error == error
    assert str(caught.value.cause).startswith(cause)


def test_fields_that_take_a_path_or_a_call() -> None:
    assert compile_field("$.a", "CausePath")(Scope({"a": "x"})) == "x"
    assert compile_field("States.Format('{}', $v)", "CausePath").variables == {"v"}
    with pytest.raises(StatesError) as caught:
        compile_field("$.NoSuchCausePath", "CausePath")(Scope({"Error": "error-value"}))
    assert caught.value.cause == (
        "The JSONPath '$.NoSuchCausePath' specified for the field 'CausePath' could not be found in the input "
        '\'{"Error":"error-value"}\''
    )
    with pytest.raises(InvalidQueryError):
        compile_field("x", "CausePath")


def test_a_template_that_repeats_data_endlessly_is_refused_before_it_is_written() -> None:
    template = compile_template({f"f{number}.$": "$.a" for number in range(1_000)})
    assert isinstance(template(Scope({"a": "x" * 1_000})), dict)
    with pytest.raises(StatesError) as caught:
        template(Scope({"a": "x" * 100_000}))
    assert caught.value.error == "States.DataLimitExceeded"
