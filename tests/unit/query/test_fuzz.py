"""Nothing anybody writes as a path, intrinsic function, template, JSONata expression or comparison makes the engine raise anything
but its own errors, or takes it long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError, StepwellError
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.query.choice_operators import OPERATORS, compile_condition
from stepwell.engine.query.jsonata import Evaluation, Outcome, compile_jsonata_template
from stepwell.engine.query.jsonpath import compile_jayway, compile_jsonpath
from stepwell.engine.query.paths import ReferencePath
from stepwell.engine.query.scope import Scope, StatesScope
from stepwell.engine.query.templates import compile_template
from stepwell.engine.query.timestamps import format_timestamp, parse_timestamp, parse_timestamp_ns
from tests.unit.query.strategies import DOCUMENTS, OBJECTS

LONG = settings(max_examples=5_000)
BRIEF_SECONDS = 2
"""Of the processor, whatever else the machine does: what anybody writes may take that long, and takes some milliseconds."""
TAKEN: Json = {
    "a": {"b": [1, 2, {"c": "x"}], "c": None}, "b": [3, 1, 2.5, "4", True], "c": "a,b;c", "key": [[1], [[2]]], "s": "aaa",
}  # fmt: skip


def joined(*parts: str) -> st.SearchStrategy[str]:
    """Texts made of a language's own pieces, which gets deeper into its parser than any characters would."""
    pieces = st.one_of(st.sampled_from(parts), st.text(max_size=2))
    return st.lists(pieces, max_size=14).map("".join)


PATHS = joined(
    "$", "$$", "@", ".", "..", "*", "[", "]", "[*]", "['a']", "a", "b", "c", "[0]", "[-1]", "[1:]", "[:2]", "[0,1]", "[?(", ")]", "(",
    ")", "@.a", "$.b", "==", "!=", "<", ">=", "=~", "/a+/i", "/(a|b)*/", " in ", " nin ", " contains ", " subsetof ", " anyof ",
    " empty ", " size ", "&&", "||", "!", "'x'", "1", "-2.5e3", "null", "true", "[1,2]", ".length()", ".min()", ".keys()", ".sum($.b)",
    ".concat('a')", ".index(0)", ",", "\\", "'", '"',
)  # fmt: skip
CALLS = joined(
    "States.", "Format(", "Array(", "ArrayRange(", "ArrayGetItem(", "ArrayPartition(", "ArrayUnique(", "ArrayContains(", "JsonMerge(",
    "JsonToString(", "StringToJson(", "StringSplit(", "MathAdd(", "MathRandom(", "Hash(", "Base64Encode(", "Base64Decode(", "UUID(",
    "ArrayLength(", ")", ", ", "$", "$.a", "$.b", "$.c", "$.b[*]", "$$.x", "$v", "'x'", "'{}{}'", "'{'", "\\'", "1", "-3", "1e9", "0", "true",
    "null", "'SHA-256'", "'W10='", "99999999999999999999",
)  # fmt: skip
EXPRESSIONS = joined(
    "$states.input", "$states", "$v", ".a", ".b", ".c", ".*", ".**", ".%", "[0]", "[-1]", "[", "]", "{", "}", "(", ")", ":", ",", ";", " := ",
    "$x", "$", "$$", " & ", " + ", " - ", " * ", " / ", " % ", " = ", " != ", " < ", " in ", " and ", " or ", " ? ", " : ", " ?: ", " ?? ",
    " ~> ", "..", "1", "3", "0", "1e3", "'a'", "null", "true", "/a+/", "/(a*)*b/", "|", "^(", "@$x", "#$i", "function($x, $y) {", "λ($x) {",
    "$sum(", "$map(", "$filter(", "$reduce(", "$sort(", "$string(", "$number(", "$split(", "$join(", "$replace(", "$match(", "$merge(",
    "$each(", "$keys(", "$lookup(", "$append(", "$zip(", "$distinct(", "$spread(", "$pad(", "$formatNumber(", "$fromMillis(", "$toMillis(",
    "$range(", "$partition(", "$hash(", "$parse(", "$random(", "$uuid()", "$eval(", "$error(", "$assert(", "$type(", "$exists(", "$now()",
    "$power(", "$base64decode(", "$x(", "?",
)  # fmt: skip
EXPRESSION = st.recursive(
    st.sampled_from(("$states.input", "$states.input.b", "$v.a", "$", "$x", "1", "'a,b'", "null", "[1..3]", "$states.input.*", "{}", "[]")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%", "&", "=", "!=", "<", ">", "in", "and", "or", "?:", "??", "~>", "."]), inner).map(" ".join),
        st.tuples(inner, inner, inner).map(lambda parts: "{} ? {} : {}".format(*parts)),
        st.tuples(st.sampled_from(
            ["sum", "count", "string", "number", "length", "keys", "spread", "distinct", "reverse", "type", "exists", "boolean", "not", "merge", "sort", "uppercase", "trim", "floor", "parse"]
        ), inner).map(lambda parts: "${}({})".format(*parts)),
        st.tuples(st.sampled_from(["append", "split", "join", "lookup", "zip", "contains", "formatNumber", "pad", "power", "partition"]), inner, inner).map(
            lambda parts: "${}({}, {})".format(*parts)
        ),
        st.tuples(st.sampled_from(["map", "filter", "each", "sift", "reduce", "sort", "single"]), inner, inner).map(
            lambda parts: "${}({}, function($x, $y) {{{}}})".format(*parts)
        ),
        st.tuples(inner, inner).map(lambda parts: "{}[{}]".format(*parts)),
        st.tuples(inner, inner).map(lambda parts: "[{}, {}]".format(*parts)),
        st.tuples(inner, inner).map(lambda parts: "{{'a': {}, 'b': {}}}".format(*parts)),
        st.tuples(inner, inner).map(lambda parts: "($x := {}; {})".format(*parts)),
        st.tuples(inner, inner).map(lambda parts: "{}^({})".format(*parts)),
        st.tuples(inner, inner).map(lambda parts: "{}{{$string({}): $}}".format(*parts)),
    ),
    max_leaves=12,
)  # fmt: skip
"""JSONata that mostly parses."""


def writable(value: Json) -> None:
    """What an expression gives has JSON text, or is refused as having none."""
    with suppress(JsonTextError):
        write(value)


@contextmanager
def refused_at_most() -> Iterator[None]:
    """Whatever goes wrong is one of our errors, with words that can be shown."""
    try:
        yield
    except StepwellError as error:
        words = str(error)
    else:
        words = "fine"
    assert words.encode()


def check_path(text: str, document: Json) -> None:
    for compile_ in (compile_jsonpath, compile_jayway):
        with refused_at_most():
            writable(compile_(text)(Scope(document, variables={"v": document}, context=lambda: document)))


def check_reference(text: str, document: Json, value: Json) -> None:
    with refused_at_most():
        writable(ReferencePath.parse(text).put(document, value))


def check_template(template: Json, document: Json) -> None:
    with refused_at_most():
        compiled = compile_template(template)
        writable(compiled(Scope(document, variables={"v": document}, context=lambda: document, entropy=Entropy(1))))


def check_jsonata(text: str, document: Json) -> None:
    def heavy(evaluation: Evaluation) -> Outcome:
        return Outcome(code="D1012", message="not here", limit=True)

    with refused_at_most():
        compiled = compile_jsonata_template({"x": f"{{% {text} %}}", "y": f"{{% [{text}] %}}"}, "Output")
        scope = StatesScope(Document.of(document), variables={"v": document}, entropy=Entropy(1), now=1, heavy=heavy)
        writable(compiled(scope))


def check_comparison(operator: str, variable: str, operand: Json, document: Json) -> None:
    with refused_at_most():
        assert isinstance(compile_condition(variable, operator, operand)(Scope(document)), bool)


def check_timestamp(text: str) -> None:
    milliseconds, nanoseconds = parse_timestamp(text), parse_timestamp_ns(text)
    assert (milliseconds is None) == (nanoseconds is None)
    if milliseconds is not None and nanoseconds is not None:
        assert milliseconds == nanoseconds // 1_000_000
        if 0 <= milliseconds < 253_402_300_800_000:
            assert parse_timestamp(format_timestamp(milliseconds)) == milliseconds


ANY_DOCUMENT = st.one_of(st.just(TAKEN), DOCUMENTS)
COMPUTED = st.dictionaries(
    st.sampled_from(("x", "x.$", "y.$", "z.$")),
    st.one_of(PATHS, CALLS, DOCUMENTS, st.dictionaries(st.just("n.$"), st.one_of(PATHS, CALLS))),
    max_size=3,
)
TIMESTAMPS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    joined("2024-02-30", "2023-12-31", "0001-01-01", "9999-12-31", "T", "24:00:00", "23:59:60", "12:30:15", ".123456789012", "Z", "+18:00",
           "-18:00", "+00:60", "z", " ", "1"),
)  # fmt: skip


@given(PATHS, ANY_DOCUMENT)
@example("$" + "[0]" * 2_000, [])
@example("$" + "..a" * 200, TAKEN)
@example("$[?(" + "!" * 5_000 + "@.a)]", TAKEN)
@example("$[?(@.s =~ /" + "(a" * 400 + ")*" * 400 + "/)]", [TAKEN])
def test_paths(text: str, document: Json) -> None:
    check_path(text, document)


@given(PATHS, OBJECTS, DOCUMENTS)
def test_reference_paths(text: str, document: Json, value: Json) -> None:
    check_reference(text, document, value)


@given(COMPUTED, ANY_DOCUMENT)
@example({"x.$": "States.Format(" * 500 + ")" * 500}, TAKEN)
@example({"x.$": "States.Array(" * 12 + "$..*" + ", $..*)" * 12}, TAKEN)
def test_templates_and_intrinsic_functions(template: Json, document: Json) -> None:
    check_template(template, document)


@given(EXPRESSIONS, ANY_DOCUMENT)
@example("(" * 3_000 + "1" + ")" * 3_000, TAKEN)
@example("'\ud800'", TAKEN)
def test_pieces_of_jsonata(text: str, document: Json) -> None:
    check_jsonata(text, document)


@given(EXPRESSION, ANY_DOCUMENT)
def test_jsonata_that_parses(text: str, document: Json) -> None:
    check_jsonata(text, document)


@given(st.sampled_from(sorted(OPERATORS)), PATHS, st.one_of(DOCUMENTS, PATHS, TIMESTAMPS), ANY_DOCUMENT)
@example("StringMatches", "$.s", "*a" * 200 + "b", {"s": "a" * 20_000})
def test_comparisons(operator: str, variable: str, operand: Json, document: Json) -> None:
    check_comparison(operator, variable, operand, document)


@given(TIMESTAMPS)
def test_timestamps(text: str) -> None:
    check_timestamp(text)


@pytest.mark.slow
@given(PATHS, CALLS, EXPRESSIONS, EXPRESSION, ANY_DOCUMENT)
@LONG
def test_everything_at_length(path: str, call: str, pieces: str, expression: str, document: Json) -> None:
    began = time.process_time()
    check_path(path, document)
    check_template({"x.$": call, "y.$": path}, document)
    check_jsonata(pieces, document)
    check_jsonata(expression, document)
    assert time.process_time() - began < BRIEF_SECONDS
