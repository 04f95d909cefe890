"""JSONata expressions and the fields that hold them."""

from __future__ import annotations

import re
from uuid import UUID

import jlens
import pytest

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.query.jsonata import (
    FULL,
    Evaluation,
    Outcome,
    OverBudgetError,
    carry_out,
    compile_jsonata,
    compile_jsonata_condition,
    compile_jsonata_template,
)
from stepwell.engine.query.jsonata.functions import NAMES
from stepwell.engine.query.jsonata.names import FUNCTIONS
from stepwell.engine.query.scope import StatesScope
from stepwell.engine.query.templates import InvalidTemplateError
from stepwell.engine.states_errors import StatesError

INPUT: Json = {"a": 1, "none": None, "empty": [], "one": [1], "nested": [[0]], "text": 'say "hi"'}
ENDLESS = "($again := function($x) {$again($x + 1)}; $again(1))"


def scope(**more: object) -> StatesScope:
    variables: dict[str, Json] = {"x": 5, "one": [1], "none": None, "quoted": 'he"y'}
    return StatesScope(
        Document.of(INPUT),
        variables=variables,
        context=lambda: {"State": {"Name": "here"}},
        now=1_700_000_000_000,
        **more,  # type: ignore[arg-type]
    )


def value(source: str, **more: object) -> Json:
    return compile_jsonata(f"{{% {source} %}}", "Output")(scope(**more))


def cause(source: str, field: str = "Output") -> str:
    with pytest.raises(StatesError) as caught:
        compile_jsonata(f"{{% {source} %}}", field)(scope())
    assert caught.value.error == "States.QueryEvaluationError"
    assert caught.value.location == field
    return caught.value.cause or ""


@pytest.mark.parametrize(
    ("source", "expected"),
    (
        ("$states.input", INPUT),
        ("$states.input.none", None),
        ("$states.input.empty", []),
        ("$states.input.one", [1]),
        ("$states.input.nested", [[0]]),
        ("$states.input.text", 'say "hi"'),
        ("$states.context.State.Name", "here"),
        ("$x + 1", 6),
        ("$one", [1]),
        ("$none", None),
        ("$quoted", 'he"y'),
        ("$y := $x", 5),
        ("1 /* said */", 1),
        ('"{% %}"', "{% %}"),
        ("$exists($states.result)", False),
        ("$now()", "2023-11-14T22:13:20.000Z"),
        ("$millis()", 1_700_000_000_000),
    ),
)
def test_what_an_expression_reads(source: str, expected: Json) -> None:
    assert value(source) == expected


def test_results_and_errors_of_states_are_there_when_there_are_any() -> None:
    assert value("$states.result.r", result=Document.of({"r": 2})) == 2
    assert value("$states.errorOutput.Error", error_output=Document.of({"Error": "E"})) == "E"


def test_the_text_of_a_result_is_kept() -> None:
    found = compile_jsonata("{% $states.input.a %}", "Output").document(scope())
    assert found.text == b"1"


@pytest.mark.parametrize("source", ("$", "$$", "$$.a", "a", "a.b", "*", "[1].$$", "$string()", "(function() {$})()"))
def test_there_is_no_input_document(source: str) -> None:
    assert "returned nothing (undefined)" in cause(source)


@pytest.mark.parametrize("source", ("$", "$$.a", "a", "$string()"))
def test_what_reads_the_document_that_is_not_there_is_told(source: str) -> None:
    assert compile_jsonata(f"{{% {source} %}}", "Output").reads_context


def test_functions_get_no_context_at_the_top() -> None:
    assert value("[$, $$, states, v, $count(v)]") == [0]
    assert "undefined" in cause("$trim()") and "undefined" in cause("$split('a', 0)")
    assert value("$states.input.nested.$string()") == "[0]"


@pytest.mark.parametrize(
    "source", ("$unknown(1)", "$uuid()", "$states.input.(a + $.b)", "$map([1], function($v) {$v.c})")
)
def test_names_that_do_have_a_context_are_no_fault(source: str) -> None:
    assert not compile_jsonata(f"{{% {source} %}}", "Output").reads_context


def test_what_is_read_is_known() -> None:
    compiled = compile_jsonata("{% ($z := $x; $z + $y + $states.result.a + $partition([1], 1)[0]) %}", "Output")
    assert compiled.variables == {"x", "y"}
    assert compiled.states == {"result"}
    assert compile_jsonata("{% $states %}", "Output").states == {"input", "result", "errorOutput", "context"}


@pytest.mark.parametrize(
    ("source", "expected"),
    (
        ("$count + 1", 8),
        ("$sum($one) + $count", 8),
        ("[$count, $hash, $parse, $random, $now]", [7, "h", {"p": 1}, 2, 3]),
        ("($count := 1; $count + 1)", 2),
        ("(function($count) {$count + 1})(3)", 4),
        ("[$map($one, $string)]", ["1"]),
    ),
)
def test_a_variable_may_have_the_name_of_a_function(source: str, expected: Json) -> None:
    variables: dict[str, Json] = {"count": 7, "hash": "h", "parse": {"p": 1}, "random": 2, "now": 3, "one": [1]}
    compiled = compile_jsonata_template({"a": f"{{% {source} %}}", "b": "{% $one %}"}, "Output")
    for _ in range(2):
        assert compiled(StatesScope(Document.of(INPUT), variables=variables)) == {"a": expected, "b": [1]}


def test_a_name_of_a_function_is_the_function_where_there_is_no_such_variable() -> None:
    compiled = compile_jsonata("{% $count($x) %}", "Output")
    assert compiled(StatesScope(Document.of(INPUT), variables={"x": [1, 2]})) == 2
    with pytest.raises(StatesError, match="T1006: Attempted to invoke a non-function"):
        compiled(StatesScope(Document.of(INPUT), variables={"x": [1, 2], "count": 2}))
    assert compiled(StatesScope(Document.of(INPUT), variables={"x": [1]})) == 1


@pytest.mark.parametrize(
    ("source", "names"),
    (
        ("$count + 1", {"count"}),
        ("$sum", {"sum"}),
        ("{'a': $hash}.[$uuid]", {"hash", "uuid"}),
        ("$count($x)", {"x"}),
        ("$map($x, $string)", {"x"}),
        ("$x ~> $sum ~> $string", {"x"}),
        ("($count := 1; $count + 1)", set()),
        ("function($count, $y) {$count + $y}(1, 2)", set()),
        ("$x#$count.($count + 1)", {"x"}),
        ("'$count' & `$sum` & /$max/", set()),
    ),
)
def test_names_of_functions_are_variables_where_a_function_makes_no_sense(source: str, names: set[str]) -> None:
    assert compile_jsonata(f"{{% {source} %}}", "Output").variables == names


def test_all_functions_are_known_by_name() -> None:
    for name in FUNCTIONS - set(NAMES):
        assert not jlens.Expression(f"${name}").reads()["bindings"], name


@pytest.mark.parametrize(
    ("source", "expected"),
    (
        ("$sqrt(-2)", "D3060: The sqrt function cannot be applied to a negative number: -2"),
        (
            "$formatBase(100, 37)",
            "D3100: The radix of the formatBase function must be between 2 and 36.  It was given 37",
        ),
        ("$power(0, -1)", "as a JSON number: base=0, exponent=-1"),
        ("$power(2, $missing)", "as a JSON number: base=2, exponent=undefined"),
        ('9007199254740992 < "2.0"', 'The values 9007199254740992 and "2.0" either side of operator "<"'),
        ('$error("2.0 of 3.0")', "D3137: 2.0 of 3.0"),
        ("1.5 & 1 / 0", "D3001: Attempting to invoke string function on Infinity or NaN"),
        ("$string(1 / 0)", "D3001: Attempting to invoke string function on Infinity or NaN"),
        ("1 / 0 + 1", "D1001: Number out of range: null"),
        ("3 - 1 / 0 & ''", "D1001: Number out of range: null"),
        ("'' & 1 / 0 * 2", "D1001: Number out of range: null"),
    ),
)
def test_errors_in_the_words_of_the_reference(source: str, expected: str) -> None:
    assert expected in cause(source)


def test_faults_of_syntax_in_the_words_of_the_reference() -> None:
    with pytest.raises(InvalidQueryError, match=re.escape("S0201: Syntax error: 1 (at character")):
        compile_jsonata("{% 01 %}", "Output")


@pytest.mark.parametrize(
    ("source", "expected"),
    (
        ("$partition([0, 1, 2], 2)", [[0, 1], [2]]),
        ("$partition([0], 1)", [[0]]),
        ("$range(0, 9, 3)", [0, 3, 6, 9]),
        ("$range(9, 0, -4)", [9, 5, 1]),
        ("$range(1, 9, 9)", 1),  # a sequence of one stands for its element
        ('$hash("x", "MD5")', "9dd4e461268c8034f5c8564e155c67a6"),
        ('$parse("null")', None),
        ('$parse("[1, {}]")', [1, {}]),
        ("$random(3) = $random(3)", True),
        ("$random(3) = $random(4)", False),
    ),
)
def test_functions_of_aws(source: str, expected: Json) -> None:
    assert value(source) == expected


def test_chance_comes_from_the_entropy() -> None:
    first, second = (value("[$uuid(), $uuid(), $random()]", entropy=Entropy(7)) for _ in range(2))
    other = value("[$uuid(), $uuid(), $random()]", entropy=Entropy(8))
    assert first == second != other
    assert isinstance(first, list) and UUID(str(first[0])).version == 4 and first[0] != first[1]
    assert value("$shuffle([1..9])", entropy=Entropy(7)) == value("$shuffle([1..9])", entropy=Entropy(7))


@pytest.mark.parametrize(
    ("source", "expected"),
    (
        ("$missing", "returned nothing (undefined)."),
        ("$states.result", "returned nothing (undefined)."),
        ("function($x) {$x}", "returned an unsupported result type."),
        ("$f := function($x) {$x}", "returned an unsupported result type."),
        ("/a/", "returned an unsupported result type."),
        ("$unknown(1)", "threw an error during evaluation. T1006: Attempted to invoke a non-function"),
        ('$eval("1")', "threw an error during evaluation. T1006: Attempted to invoke a non-function"),
        ('$error("oh")', "threw an error during evaluation. D3137: oh"),
        ("$range(0, 9, 0)", "threw an error during evaluation. D3137: The third argument of $range cannot be 0"),
        ("$range(0, 1e12, 1)", "threw an error during evaluation. D2014: $range gives more than 1000000 numbers"),
        ("$partition([1], 1.5)", 'T0410: Argument 2 of function "partition" does not match function signature'),
        (
            '$hash("x", "CRC")',
            "D3137: The second argument of $hash must be one of MD5, SHA-1, SHA-256, SHA-384, SHA-512",
        ),
        ('$parse("{")', "D3137: $parse: The text is not valid JSON: it ends too early"),
    ),
)
def test_errors_in_the_words_of_aws(source: str, expected: str) -> None:
    def full(evaluation: Evaluation) -> Outcome:
        return carry_out(evaluation, FULL)

    with pytest.raises(StatesError) as caught:
        value(source, heavy=full)
    text = caught.value.cause or ""
    assert text.startswith(f"The JSONata expression '{source}' specified for the field 'Output' ")
    assert expected in text


@pytest.mark.parametrize(("text", "code"), (("{% 1 + %}", "S0207"), ("{% %}", "S0207"), ('{% {"a": $ %}', "S0203")))
def test_faults_of_syntax(text: str, code: str) -> None:
    with pytest.raises(InvalidQueryError, match=rf"^{code}: .*\(at character \d+ of the expression\)$"):
        compile_jsonata(text, "Output")


@pytest.mark.parametrize("text", ("1", "{%", "x {% 1 %}", "{% 1 %} ", "{%}"))
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(InvalidQueryError, match="enclosed in"):
        compile_jsonata(text, "Output")


def test_an_expression_cannot_leave_its_wrapping() -> None:
    with pytest.raises(InvalidQueryError):
        compile_jsonata('{% 1, "r": 2 %}', "Output")
    with pytest.raises(InvalidQueryError):
        compile_jsonata("{% 1}; {2 %}", "Output")


# ------------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    "source",
    (
        ENDLESS,
        '($twice := function($x) {$twice($x & $x)}; $twice("ab"))',
        '$match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", /(a+)+$/)',
        "($f := function($x) {1 + $f($x)}; $f(1))",
        "$map([1..90000], function($v) {$v})",
    ),
)
def test_what_needs_too_much_is_handed_to_somebody_else(source: str) -> None:
    with pytest.raises(OverBudgetError) as caught:
        value(source)
    handed: list[Evaluation] = []

    def heavy(evaluation: Evaluation) -> Outcome:
        handed.append(evaluation)
        return Outcome('{"r":7}')

    assert value(source, heavy=heavy) == 7
    assert handed == [caught.value.evaluation]


def test_a_limit_that_strikes_is_an_error_of_the_expression() -> None:
    with pytest.raises(StatesError, match=re.escape("U1001: Stack overflow")):
        value("($f := function($x) {1 + $f($x)}; $f(1))", heavy=lambda evaluation: carry_out(evaluation, FULL))


def test_an_evaluation_gives_the_same_elsewhere() -> None:
    handed: list[Evaluation] = []

    def heavy(evaluation: Evaluation) -> Outcome:
        handed.append(evaluation)
        return carry_out(evaluation, FULL)

    source = "($all := $map([1..60000], function($v) {$v}); [$count($all), $uuid(), $random(), $x, $now()])"
    first = value(source, heavy=heavy, entropy=Entropy(3))
    assert carry_out(handed[0], FULL).text == f'{{"r":{Document.of(first).text.decode()}}}'


# ----------------------------------------------------------------------------------------------------------- templates


def test_templates_compute_what_is_enclosed_and_keep_the_rest() -> None:
    template = compile_jsonata_template(
        {"z": 1, "a": "{% $x %}", "deep": [{"b": "{% $states.input.a %}"}, "{% 2 %}"], "no": " {% 1 %}", "p.$": "$.a"},
        "Output",
    )
    result = template(scope())
    assert result == {"z": 1, "a": 5, "deep": [{"b": 1}, 2], "no": " {% 1 %}", "p.$": "$.a"}
    assert isinstance(result, dict) and list(result) == ["z", "a", "deep", "no", "p.$"]
    assert template.variables == {"x"}
    assert not template.constant
    assert compile_jsonata_template({"a": [1, "x"]}, "Output").constant


def test_errors_say_where_in_the_field() -> None:
    with pytest.raises(StatesError) as caught:
        compile_jsonata_template({"a": {"b": "{% $missing %}"}}, "Arguments")(scope())
    assert caught.value.location == "Arguments/a/b"
    assert "specified for the field 'Arguments/a/b'" in (caught.value.cause or "")


def test_all_faults_of_a_template_are_told() -> None:
    with pytest.raises(InvalidTemplateError) as caught:
        compile_jsonata_template({"a": "{% ( %}", "b": ["{% 1 %}", "{% ) %}"]}, "Output")
    assert [problem.location for problem in caught.value.problems] == ["/a", "/b/1"]


def test_conditions_are_booleans() -> None:
    assert compile_jsonata_condition("{% $x = 5 %}", "Condition")(scope())
    assert not compile_jsonata_condition(False, "Condition")(scope())
    with pytest.raises(StatesError, match="Expected 'boolean', but was 'number' for value: 5"):
        compile_jsonata_condition("{% $x %}", "Condition")(scope())
