from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath import compile_jsonpath
from stepwell.engine.query.paths import ReferencePath, compile_path_field
from stepwell.engine.query.scope import Scope
from stepwell.engine.states_errors import StatesError
from tests.unit.query.strategies import DOCUMENTS, NAMES


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    (
        ("$", {"a": 1}, "R"),
        ("$.a", {"a": 1, "b": 2}, {"a": "R", "b": 2}),
        ("$.a", {}, {"a": "R"}),
        ("$.a.b['c d']", {"x": 1}, {"x": 1, "a": {"b": {"c d": "R"}}}),
        ("$.a[1]", {"a": [1, 2, 3]}, {"a": [1, "R", 3]}),
        ("$.a[-1].b", {"a": [1, {"c": 2}]}, {"a": [1, {"c": 2, "b": "R"}]}),
        ("$[0]", [1], ["R"]),
    ),
)
def test_puts_a_value_in_its_place(path: str, document: Json, expected: Json) -> None:
    before = copy.deepcopy(document)
    assert ReferencePath.parse(path).put(document, "R") == expected
    assert document == before


@pytest.mark.parametrize(
    ("path", "document"),
    (
        ("$.a", "text"),
        ("$.a", None),
        ("$.a", [1]),
        ("$.a.b", {"a": 5}),
        ("$.a.b", {"a": None}),
        ("$.a[0]", {"a": []}),
        ("$.a[0]", {}),
        ("$.a[-2]", {"a": [1]}),
        ("$.a[0]", {"a": "text"}),
    ),
)
def test_a_path_that_does_not_fit_the_input(path: str, document: Json) -> None:
    with pytest.raises(StatesError) as caught:
        ReferencePath.parse(path).put(document, 1)
    assert caught.value.error == "States.ResultPathMatchFailure"
    assert str(caught.value.cause).startswith(f"Unable to apply ReferencePath {path} to input ")


@pytest.mark.parametrize(
    "path", ("x", ".x", "$$", "$$.a", "$v", "$.*", "$..a", "$.a[0,1]", "$.a[0:1]", "$['a','b']", "$.a.length()")
)
def test_refused_reference_paths(path: str) -> None:
    with pytest.raises(InvalidQueryError):
        ReferencePath.parse(path)


@given(DOCUMENTS, st.lists(NAMES, max_size=4), DOCUMENTS)
def test_what_was_put_is_found_there_and_nothing_else_changes(document: Json, names: list[str], value: Json) -> None:
    text = "$" + "".join(f"['{name}']" for name in names)
    before = copy.deepcopy(document)
    try:
        result = ReferencePath.parse(text).put(document, value)
    except StatesError:
        result = None
    else:
        assert compile_jsonpath(text).evaluate(result) is value
        if names and isinstance(document, dict) and isinstance(result, dict):
            assert {k: v for k, v in result.items() if k != names[0]} == {
                k: v for k, v in document.items() if k != names[0]
            }
            assert list(result)[: len(document)] == list(document)
    assert document == before


def test_a_path_field_that_leads_nowhere() -> None:
    read = compile_path_field("$.NoSuchOutputPath")
    assert read(Scope({"NoSuchOutputPath": None})) is None
    with pytest.raises(StatesError) as caught:
        read(Scope({"int-literal": 0}))
    assert caught.value.error == "States.Runtime"
    assert caught.value.cause == "Invalid path '$.NoSuchOutputPath' : No results for path: $['NoSuchOutputPath']"
