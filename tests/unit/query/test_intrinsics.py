from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.intrinsics import FUNCTIONS, compile_intrinsic
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import compile_template
from stepwell.engine.query.values import json_equal
from stepwell.engine.states_errors import StatesError
from tests.unit.query.strategies import DOCUMENTS

INPUT: Json = {
    "name": "Ada",
    "n": 3,
    "items": [1, 1.0, True, "1", None, {"a": 1}, {"a": 1.0}],
    "left": {"a": {"x": 1}, "b": 1},
    "right": {"a": {"y": 2}},
    "template": r"{} \{\} {}",
}


def call(text: str, **variables: Json) -> Json:
    return compile_intrinsic(text)(Scope(INPUT, variables=variables, context=lambda: {"Id": "run"}, entropy=Entropy(7)))


def test_the_list_is_the_specifications() -> None:
    assert set(FUNCTIONS) == {
        f"States.{name}"
        for name in [
            "Array",
            "ArrayContains",
            "ArrayGetItem",
            "ArrayLength",
            "ArrayPartition",
            "ArrayRange",
            "ArrayUnique",
            "Base64Decode",
            "Base64Encode",
            "Format",
            "Hash",
            "JsonMerge",
            "JsonToString",
            "MathAdd",
            "MathRandom",
            "StringSplit",
            "StringToJson",
            "UUID",
        ]
    }


def test_recorded_results(conformance_cases: Path) -> None:
    compared = 0
    for case in json.loads((conformance_cases / "asl" / "intrinsic_functions.json").read_text()):
        state = next(iter(case["definition"]["States"].values()))
        if "Parameters" not in state or "uuid" in case["id"]:
            continue
        data = json.loads(case["input"] or "{}")
        context = {"StateMachine": {"Name": "<ArnPart_0idx>"}, "Execution": {"Input": data}}
        scope = Scope(data, context=lambda context=context: context)  # type: ignore[misc]
        result = compile_template(state["Parameters"])(scope)
        assert json_equal(result, case["expected"]["output"]), case["id"]
        compared += 1
    assert compared > 50


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("States.Format('{}, {}!', 'Hello', $.name)", "Hello, Ada!"),
        (r"States.Format('\{\} \'{}\' \\', $.n)", r"{} '3' " + "\\"),
        ("States.Format($.template, 1, null)", "1 {} null"),
        ("States.Format('{} {}', $.left, true)", '{"a":{"x":1},"b":1} true'),
        ("States.StringToJson('{\"a\": [1]}')", {"a": [1]}),
        ("States.JsonToString($.right)", '{"a":{"y":2}}'),
        ("States.Array()", []),
        ("States.Array(1, -2.5, 'a', true, false, null, $.n, $$.Id, $v.w)", [1, -2.5, "a", True, False, None, 3, "run", 9]),
        ("States.ArrayPartition(States.ArrayRange(1, 5, 1), 2)", [[1, 2], [3, 4], [5]]),
        ("States.ArrayContains($.items, 1)", True),
        ("States.ArrayContains($.items, false)", False),
        ("States.ArrayContains($.items, $.right)", False),
        ("States.ArrayUnique($.items)", [1, True, "1", None, {"a": 1}]),
        ("States.ArrayRange(5, 1, -2)", [5, 3, 1]),
        ("States.ArrayRange(1, 5, -1)", []),
        ("States.ArrayGetItem($.items, 3)", "1"),
        ("States.ArrayLength($.items[?(@.a)])", 2),
        ("States.Base64Encode('Data to encode')", "RGF0YSB0byBlbmNvZGU="),
        ("States.Base64Decode('RGF0YSB0byBlbmNvZGU=')", "Data to encode"),
        ("States.Hash('input data', 'SHA-1')", "aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ("States.Hash('', 'MD5')", "d41d8cd98f00b204e9800998ecf8427e"),
        ("States.JsonMerge($.left, $.right, false)", {"a": {"y": 2}, "b": 1}),
        ("States.MathAdd(-1.5, 0)", -1),
        ("States.StringSplit('1,2;;3', ',;')", ["1", "2", "3"]),
        ("States.StringSplit('a', '')", ["a"]),
        (" States.MathAdd( 1 ,2 ) ".lstrip(), 3),
        ("States.ArrayGetItem(States.StringSplit($['name'], 'd'), 1)", "a"),
    ),
)  # fmt: skip
def test_results(text: str, expected: Json) -> None:
    assert json_equal(call(text, v={"w": 9}), expected)


@pytest.mark.parametrize(
    "text",
    (
        "", "States", "States. ", " States.UUID()", "States.UUID", "States.UUID() x", "States.UUID(1)", "JsonToString($)",
        "States.Nope()", "States.MathAdd(1)", "States.Format()", "States.Array(1 2)", "States.Array(1,)", "States.Array(,1)",
        "States.Array('a)", "States.Array($.a", "States.Array(a)", "States.Array(\"a\")", r"States.Format('\n')",
        r"""States.Format('say \"{}\"', 1)""", "States.Array($x.)", "States.Array($.a[)", "States\nUUID()",
    ),
)  # fmt: skip
def test_refused_texts(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        compile_intrinsic(text)


def test_calls_nest_ten_levels_deep() -> None:
    def nested(levels: int) -> str:
        return "States.Array(" * levels + ")" * levels

    compile_intrinsic(nested(10))
    with pytest.raises(InvalidQueryError, match="10 levels"):
        compile_intrinsic(nested(11))


@pytest.mark.parametrize(
    ("text", "reason"),
    (
        ("States.MathAdd(1, '-1')", "The second argument must be a number, not a string."),
        ("States.MathAdd(true, 1)", "The first argument must be a number, not a boolean."),
        ("States.ArrayPartition($.items, 0)", "The chunk size must be a positive integer, not 0."),
        ("States.ArrayRange(1, 2, 0)", "The step must not be zero."),
        ("States.ArrayRange(0, 1000, 1)", "The range may have at most 1000 elements."),
        ("States.ArrayGetItem($.items, 7)", "The index 7 is outside the array of 7 elements."),
        ("States.ArrayGetItem($.items, -1)", "The index -1 is outside the array of 7 elements."),
        ("States.ArrayLength(null)", "The argument must be an array, not null."),
        ("States.Base64Decode('*')", "The argument is not the Base64 encoding of a UTF-8 text."),
        ("States.Base64Decode('/w==')", "The argument is not the Base64 encoding of a UTF-8 text."),
        ("States.Hash('a', 'CRC')", "The algorithm must be one of MD5, SHA-1, SHA-256, SHA-384, SHA-512."),
        ("States.JsonMerge($.left, $.right, true)", "The third argument must be false: only shallow merging is supported."),
        ("States.JsonMerge($.left, 1, false)", "The second argument must be an object, not a number."),
        ("States.MathRandom(3, 3)", "The start (3) must be less than the end (3)."),
        ("States.Format('{} {}', 1)", "The number of {} in the format string (2) differs from the number of values (1)."),
        ("States.StringToJson('{')", None),
    ),
)  # fmt: skip
def test_refused_arguments(text: str, reason: str | None) -> None:
    with pytest.raises(StatesError) as caught:
        call(text)
    assert caught.value.error == "States.IntrinsicFailure"
    assert str(caught.value.cause).startswith(f"The function '{text}' had the following error: {reason or ''}")


def test_a_range_may_have_a_thousand_elements() -> None:
    assert call("States.ArrayLength(States.ArrayRange(1, 1000, 1))") == 1000
    with pytest.raises(StatesError, match="at most 1000"):
        call("States.ArrayRange(0, 1e300, 1)")


def test_long_texts_are_refused() -> None:
    for function in ("States.Base64Encode($v)", "States.Base64Decode($v)", "States.Hash($v, 'MD5')"):
        assert isinstance(call(function, v="AAAA" * 2_500), str)
        with pytest.raises(StatesError, match="at most 10000 characters"):
            call(function, v="a" * 10_001)


def test_a_path_argument_that_leads_nowhere() -> None:
    with pytest.raises(StatesError) as caught:
        compile_intrinsic("States.Array(States.UUID(), States.Format('{}', $.x))")(Scope({"a": 1}))
    assert caught.value.error == "States.Runtime"
    assert caught.value.cause == (
        "The function 'States.Format('{}', $.x)' had the following error: "
        "The JsonPath argument for the field '$.x' could not be found in the input '{\"a\":1}'"
    )


def test_chance_is_the_scopes_and_is_drawn_from_left_to_right() -> None:
    text = "States.Array(States.UUID(), States.MathRandom(0, 1000000), States.UUID())"
    first = call(text)
    assert first == call(text)
    entropy = Entropy(7)
    scope = Scope(INPUT, entropy=entropy)
    one, number, two = (
        compile_intrinsic(part)(scope) for part in ("States.UUID()", "States.MathRandom(0, 1000000)", "States.UUID()")
    )
    assert first == [one, number, two]
    assert one != two


def test_a_seed_fixes_the_random_number() -> None:
    text = "States.MathRandom(1, 1000000, 42)"
    assert compile_intrinsic(text)(Scope({}, entropy=Entropy(1))) == compile_intrinsic(text)(
        Scope({}, entropy=Entropy(2))
    )


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62), st.integers(0, 2**64 - 1))
def test_random_numbers_stay_in_their_range(start: int, width: int, seed: int) -> None:
    scope = Scope({}, variables={"a": start, "b": start + width}, entropy=Entropy(seed))
    number = compile_intrinsic("States.MathRandom($a, $b)")(scope)
    assert isinstance(number, int)
    assert start <= number < start + width


def test_variables_are_listed() -> None:
    assert compile_intrinsic("States.Array($a, States.Format('{}', $b.c), $.d, $$.e)").variables == {"a", "b"}


@given(DOCUMENTS)
def test_json_text_and_back(value: Json) -> None:
    text = "States.StringToJson(States.JsonToString($))"
    assert json_equal(compile_intrinsic(text)(Scope(value)), value)


@given(st.text(max_size=50))
def test_base64_and_back(text: str) -> None:
    assert compile_intrinsic("States.Base64Decode(States.Base64Encode($))")(Scope(text)) == text


@given(st.text(alphabet="'{}\\ab,() ", max_size=20))
def test_escaped_text_is_itself(text: str) -> None:
    escaped = "".join(f"\\{char}" if char in "'{}\\" else char for char in text)
    assert compile_intrinsic(f"States.Format('{escaped}')")(Scope({})) == text
    assert compile_intrinsic(f"States.Array('{escaped}')")(Scope({})) == [text]


@given(st.lists(DOCUMENTS, max_size=8))
def test_unique_keeps_the_first_of_equals(items: list[Json]) -> None:
    unique = compile_intrinsic("States.ArrayUnique($)")(Scope(items))
    expected: list[Json] = []
    for item in items:
        if not any(json_equal(item, kept) for kept in expected):
            expected.append(item)
    assert json_equal(unique, expected)


@given(st.text(alphabet="States.Array(MathAdd)'$,1{} \\", max_size=30))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compiled = compile_intrinsic("States." + text)
    except InvalidQueryError:
        return
    try:
        compiled(Scope({}))
    except StatesError:
        return


MANY = ",".join(["$.a"] * 1_000)


@pytest.mark.parametrize(
    ("text", "value"),
    (
        (f"States.Array({MANY})", "x" * 100_000),
        (f"States.Format('{'{}' * 1_000}',{MANY})", "x" * 100_000),
        ("States.JsonToString(" * 8 + "$.a" + ")" * 8, '"' * 100_000),
    ),
)
def test_a_result_far_beyond_every_limit_is_refused_before_it_is_made(text: str, value: str) -> None:
    with pytest.raises(StatesError, match="more than 4194304 bytes"):
        compile_intrinsic(text)(Scope({"a": value}))


def test_arguments_are_counted_over_the_whole_expression() -> None:
    compile_intrinsic(f"States.Array({MANY})")
    several = ",".join([f"States.Array({MANY})"] * 5)
    with pytest.raises(InvalidQueryError, match="at most 5000 arguments"):
        compile_intrinsic(f"States.Array({several})")


def test_long_texts_and_many_delimiters_take_no_time() -> None:
    assert compile_intrinsic(f"States.Format('{'x' * 900_000}')")(Scope({})) == "x" * 900_000
    scope = Scope({"a": "x" * 130_000 + "b" + "x", "b": "ab" + "y" * 130_000})
    assert compile_intrinsic("States.StringSplit($.a, $.b)")(scope) == ["x" * 130_000, "x"]
