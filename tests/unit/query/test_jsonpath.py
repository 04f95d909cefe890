from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpath_ng.parser import JsonPathParser

from stepwell.engine.errors import InvalidQueryError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath import compile_jayway, compile_jsonpath
from stepwell.engine.query.jsonpath.functions import FUNCTIONS
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.values import frozen, json_equal
from tests.unit.query.strategies import DOCUMENTS, NAMES

LISTS_MEMBERS_OF_OBJECTS = frozenset({"$.*", "$..*", "$.store.*", "$.store.keys()"})
"""The recorded documents were stored with their keys sorted: the order of what these paths give is lost in them."""


def outcome(path: str, document: Json) -> tuple[str, object]:
    try:
        compiled = compile_jayway(path)
        return ("definite" if compiled.definite else "list"), compiled.evaluate(document)
    except InvalidQueryError:
        return "invalid", None
    except PathNotFoundError:
        return "not_found", None
    except QueryError:
        return "evaluation", None


def test_recorded_results_of_the_dialect(conformance_cases: Path) -> None:
    failures = []
    for line in (conformance_cases / "jsonpath.jsonl").read_text().splitlines():
        case = json.loads(line)
        path, expected = case["path"], case["expect"]
        kind, value = outcome(path, case["document"])
        if "error" in expected:
            agrees = kind == expected["error"]
        elif path in LISTS_MEMBERS_OF_OBJECTS:
            assert isinstance(value, list)
            agrees = sorted(map(repr, map(frozen, value))) == sorted(map(repr, map(frozen, expected["value"])))
        else:
            same_kind = kind == ("definite" if expected["definite"] else "list")
            agrees = same_kind and json_equal(value, expected["value"])  # type: ignore[arg-type]
        if not agrees:
            failures.append(f"{path}: {kind} {value!r}, expected {expected}")
    assert failures == []


STORE: Json = {
    "items": [{"id": 1, "v": "x", "n": [1, 2]}, {"id": 2, "v": None}, {"id": 3}],
    "limit": 2,
    "a": {"b": {"c": True}},
    "text": "abc",
    "nothing": None,
}


@pytest.mark.parametrize(
    ("path", "expected"),
    (
        ("$", STORE),
        ("$.a.b.c", True),
        ("$.a['b'][\"c\"]", True),
        ("$.items[-1].id", 3),
        ("$.items[?(@.id > $.limit)].id", [3]),
        ("$.items[?(@.id >= 2 && !(@.v))].id", [3]),
        ("$.items[?(!@.v)].id", [3]),
        ("$.items[?(@.id==1||@.id==3)].id", [1, 3]),
        ("$.items[?(@.v === 'x')].id", [1]),
        ("$.items[?(@.id === '1')].id", []),
        ("$.items[?(@.n contains 2)].id", [1]),
        ("$.items[?(@.n subsetof [1,2,3])].id", [1]),
        ("$.items[?(@.n anyof [2,9])].id", [1]),
        ("$.items[?(@.n noneof [9])].id", [1]),
        ("$.items[?(@.n size 2)].id", [1]),
        ("$.items[?(@.n[?(@ > 1)])].id", [1]),
        ("$.items[?(@.n.length() == 2)].id", [1]),
        ("$.items[*].n[0,1]", [1, 2]),
        ("$..id", [1, 2, 3]),
        ("$.items['id','v'].x", None),
        ("$.items[0]['id','v']", {"id": 1, "v": "x"}),
        ("$.items[0:2]['id','v']", [{"id": 1, "v": "x"}, {"id": 2, "v": None}]),
        ("$.missing.deeper[*]", []),
        ("$.items[0].n.sum(10)", 13.0),
        ("$.items[0].n.stddev()", 0.5),
        ('$.concat("a", $.text, "b")', "aabcb"),
        ("$.a.keys()", ["b"]),
        ('$.items[0].n.append(3, "x")', [1, 2, 3, "x"]),
        ("$.text.length()", None),
    ),
)
def test_what_paths_give(path: str, expected: Json) -> None:
    if expected is None and path != "$.text.length()":
        with pytest.raises(PathNotFoundError):
            compile_jsonpath(path).evaluate(STORE)
    else:
        assert compile_jsonpath(path).evaluate(STORE) == expected


@pytest.mark.parametrize(
    ("path", "message"),
    (
        ("$.x", "No results for path: $['x']"),
        ("$.items[7]", "No results for path: $['items'][7]"),
        ("$.x.y", "Missing property in path $['x']"),
        ("$.a.x.y.z.q.r", "Missing property in path $['a']['x']"),
        ("$.text.y", "Expected to find an object with property ['y'] in path $['text'] but found 'string'."),
        ("$.nothing[0]", "The path $['nothing'] is null"),
        ("$.text[0]", 'Filter: [0] can only be applied to arrays. Current context is: "abc"'),
        ("$.a[0]", 'Filter: [0] can only be applied to arrays. Current context is: {"b":{"c":true}}'),
        ("$.text[0].b", "Filter: [0]['b'] can only be applied to arrays. Current context is: \"abc\""),
        (
            "$.items.length().x",
            "Expected to find an object with property [')'] in path $['items'].length() but found 'number'.",
        ),
        (
            "$.limit.append(1).x",
            "Expected to find an object with property ['x'] in path $['limit'].append(...) but found 'number'.",
        ),
    ),
)
def test_why_a_definite_path_leads_nowhere(path: str, message: str) -> None:
    with pytest.raises(PathNotFoundError) as caught:
        compile_jsonpath(path).evaluate(STORE)
    assert str(caught.value) == message


KINDS: Json = {
    "k": [{"num": 1, "arr": [1, 2], "str": "abc", "obj": {"x": 1}, "null": None, "bool": True, "empty": [], "one": "1"}]
}
"""One value of each kind. In the tables: 1 the filter holds, 0 its negation does, x neither, E an error."""
COLUMNS = ("num", "arr", "str", "obj", "null", "bool", "zz", "empty", "one")


def verdict(left: str, operator: str, right: str) -> str:
    test = f"@.{left} {operator} @.{right}"
    try:
        holds, not_so = (compile_jayway(f"$.k[?({each})]").evaluate(KINDS) for each in (test, f"!({test})"))
    except QueryError:
        return "E"
    return "1" if holds else "0" if not_so else "x"


@pytest.mark.parametrize(
    ("operator", "left", "expected"),
    (
        ("in", "num", "x1x0xxx0x"), ("in", "one", "x1x0xxx0x"), ("in", "zz", "x0x0xxx0x"), ("in", "arr", "x0x0xxx0x"),
        ("nin", "num", "x0x1xxx1x"), ("nin", "zz", "x1x1xxx1x"),
        ("contains", "arr", "100000001"), ("contains", "str", "001000000"), ("contains", "obj", "000000000"),
        ("anyof", "num", "xxx0xxxxx"), ("anyof", "arr", "x1x0xxx0x"), ("anyof", "obj", "x0x0xxx0x"),
        ("noneof", "arr", "x0x0xxx1x"), ("noneof", "empty", "x1x0xxx1x"), ("noneof", "str", "xxx0xxxxx"),
        ("subsetof", "arr", "x1x0xxx0x"), ("subsetof", "empty", "x1x0xxx1x"), ("subsetof", "bool", "xxx0xxxxx"),
        ("all", "arr", "xxxxxxxxx"),
        ("size", "one", "100000000"), ("size", "arr", "000000000"), ("size", "num", "000000000"),
        ("empty", "arr", "xxxxx0xxx"), ("empty", "empty", "xxxxx1xxx"), ("empty", "null", "000000000"), ("empty", "obj", "EEEEEEEEE"),
    ),
)  # fmt: skip
def test_an_operand_of_the_wrong_kind_fails_the_whole_filter(operator: str, left: str, expected: str) -> None:
    assert "".join(verdict(left, operator, right) for right in COLUMNS) == expected


def test_a_failed_filter_does_not_hold_whatever_else_it_says() -> None:
    document: Json = [{"a": 1}, {"a": 2, "b": [2]}]
    assert compile_jayway("$[?(@.a in @.b || @.a == 1)]").evaluate(document) == [{"a": 2, "b": [2]}]
    assert compile_jayway("$[?(@.a == 1 || @.a in @.b)]").evaluate(document) == document
    assert compile_jayway("$[?(@.b[?(@ in 'x')])]").evaluate(document) == [{"a": 2, "b": [2]}]


@pytest.mark.parametrize(
    ("path", "expected"),
    (
        ("$.i[?($.g)].d", []),  # what is asked to exist is looked for in the item
        ("$.i[?($.d)].d", [2]),
        ("$.i[?(!$.g)].d", [2]),
        ("$.i[?($.g == 1)].d", [2]),
        ("$.i[?(@.d&&@.l)].d", []),  # the name is `d&&@`
        ("$.i[?(@.d && @.l)].d", [2]),
        ("$.i[?(@.d==2&&@.l)].d", [2]),
        ("$.i[?([1, 2] == @.l)].d", []),
        ("$.i[?(@.l == [1, 2])].d", [2]),
        ("$.i[?([1, 2] != [1, 2])].d", [2]),
        ("$.i[?(@.s =~ 'abc')].d", []),
        ("$.i[?(/abc/ =~ @.s)].d", [2]),
        ("$.i[?(@.s == /abc/)].d", []),
        ("$.i[?(@.s != /abc/)].d", [2]),
        ("$.i[?(@.o size -1)].d", [2]),
        ("$.i[?(@.l size 2.5)].d", [2]),
        ("$.i[?(@.l size 1e999)].d", []),
    ),
)
def test_ways_of_the_dialect_in_filters(path: str, expected: Json) -> None:
    document: Json = {"i": [{"d": 2, "l": [1, 2], "s": "abc", "o": {"x": 1}}], "g": 1}
    assert compile_jayway(path).evaluate(document) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    (
        (
            "$.c.append('x', true, null, 7)",
            [5, 3, 7],
        ),  # what begins with none of `$ @ " { [ -` and digits is passed over
        ("$.c.sum(1,)", 9.0),
        ("$.concat('a', \"b\", $.c, $.o)", 'b53{"x":1}'),
        ("$.length($.c)", 3),  # of a definite path the last member counts, and it is no list
        ("$.length($.n)", 1),
        ("$.length($..x)", 0),
        ("$.o.concat(@.o.x)", "1"),  # arguments are read from the document
        ("$.o.append(1).y", {"x": 1}),  # what follows a function adds to what is found
        ("$.c.min(9)[*]", [3.0]),
        ("$[*].sum($.zz)", []),
    ),
)
def test_ways_of_the_dialect_with_functions(path: str, expected: Json) -> None:
    document: Json = {"c": [5, 3], "o": {"x": 1}, "n": [1, [2]]}
    assert compile_jayway(path).evaluate(document) == expected


@pytest.mark.parametrize(
    "path",
    (
        "", " ", "a.b", "$a-b", "$.", "$..", "$.a.", "$.a b", "$['a", "$['a'b]", "$['a',]", "$[a]", "$[1", "$[:]", "$[1.5]",
        "$[?(@.a]", "$[?(@.a = 1)]", "$[?()]", "$[?(@.a ==)]", "$[?(@.a && )]", "$.nofunction()",
        "$.sum(", "$[?(@.a == [1)]", "$[?(@.a =~ /(/)]", "$[?(1)]", "$...a", "$x.",
    ),
)  # fmt: skip
def test_refused_paths(path: str) -> None:
    with pytest.raises(InvalidQueryError):
        compile_jsonpath(path)


@pytest.mark.parametrize(
    ("text", "root", "definite"),
    (
        ("$.a", "$", True),
        ("$$", "$$", True),
        ("$$.Execution.Id", "$$", True),
        ("$$['Map']", "$$", True),
        ("$x", "x", True),
        ("$my_var1.a[0]", "my_var1", True),
        ("$ünï[*]", "ünï", False),
    ),
)
def test_roots(text: str, root: str, definite: bool) -> None:
    path = compile_jsonpath(text)
    assert (path.text, path.root, path.definite) == (text, root, definite)


def test_each_root_reads_its_own_document() -> None:
    scope = Scope({"a": 1}, variables={"x": {"a": 2}}, context=lambda: {"a": 3})
    assert [compile_jsonpath(text)(scope) for text in ("$.a", "$x.a", "$$.a", "$x", "$$")] == [
        1,
        2,
        3,
        {"a": 2},
        {"a": 3},
    ]
    with pytest.raises(PathNotFoundError, match=r"'\$y' is not defined"):
        compile_jsonpath("$y.a")(scope)


def test_the_context_is_built_once_and_only_when_read() -> None:
    built: list[int] = []

    def build() -> Json:
        built.append(1)
        return {"n": 5}

    scope = Scope({}, context=build)
    compile_jsonpath("$")(scope)
    assert built == []
    inner = scope.with_input({"other": 1})
    assert [compile_jsonpath("$$.n")(s) for s in (inner, scope, inner)] == [5, 5, 5]
    assert built == [1]


def test_true_is_no_number_in_filters() -> None:
    document: Json = [1, True, 0, False, 1.0, "1"]
    assert compile_jsonpath("$[?(@ == 1)]").evaluate(document) == [1, 1.0, "1"]
    found = compile_jsonpath("$[?(@ == true)]").evaluate(document)
    assert isinstance(found, list)
    assert [value is True for value in found] == [True]
    assert compile_jsonpath("$[?(@ >= 0)]").evaluate([True, 0]) == [0]


@pytest.mark.parametrize(
    "pattern",
    (
        "(a+)+",
        "(a*)*b",
        "(a|a)*",
        "(a|ab)+c",
        r"(a)\1",
        "((a{2,})x?)*",
        "(?:.*,)*",
        "(a|.)*",
        "(aa?)*",
        "((a|a))*b",
        "(a|a){30}",
        "(a?){40}a{40}",
        "(a|b?)*",
        "(x|(a|a))*",
        "(a+)(?#c)+b",
        "(?x:(a+) +)b",
        "(?x)(a+) +b",
        "(?i)(?:sx|\u017fx)*b",
    ),
)
def test_patterns_that_can_explode_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidQueryError, match="can take exponentially long"):
        compile_jsonpath(f"$[?(@ =~ /{pattern}/)]")


@pytest.mark.parametrize(
    ("pattern", "matching"),
    ((".*REES", ["Nigel REES"]), ("(ab|cd)+", ["abcd"]), (r"\d{3}-[a-z(*+]+", ["123-a(b"]), ("(?:a|b)*c", ["abac"]), (r"\(a+\)", ["(aa)"])),
)  # fmt: skip
def test_ordinary_patterns_match_the_whole_text(pattern: str, matching: list[str]) -> None:
    document: Json = [*matching, matching[0] + "!", None, 5]
    assert compile_jsonpath(f"$[?(@ =~ /{pattern}/)]").evaluate(document) == matching


def test_the_flag_that_allows_blanks_before_a_repetition_is_not_known() -> None:
    with pytest.raises(InvalidQueryError, match="flag 'x'"):
        compile_jsonpath("$[?(@ =~ /(a+) +b/x)]")


def test_a_text_too_long_for_its_pattern_is_refused_instead_of_tried() -> None:
    with pytest.raises(QueryError, match="may take too long"):  # empty braces are no repetition, but text
        compile_jsonpath("$[?(@ =~ /(a*a*a*a*a*a*a*){}/)]").evaluate(["a" * 400])
    path = compile_jsonpath("$[?(@ =~ /.*a.*b.*c.*d/)]")
    assert path.evaluate(["a b c d"]) == ["a b c d"]
    with pytest.raises(QueryError, match="may take too long"):
        path.evaluate(["x" * 5000])


NESTED: Json = 1
for _ in range(100):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("path", "document", "why"),
    (
        ("$..*..*..*..*", NESTED, "more than"),
        ("$..[?(@..[?(@..[?(@..x)])])]", NESTED, "more than 1000000 steps"),
        ("$.b[?(@ in $.a)]", {"a": [0] * 10_000, "b": [1] * 10_000}, "more than 1000000 steps"),
        ("$[" + ",".join("0" * 1_000) + "]", ["x" * 10_000], "more than 4194304 bytes"),
        ("$.concat(" + ",".join(["$.a"] * 1_000) + ")", {"a": "x" * 10_000}, "more than 4194304 bytes"),
    ),
)
def test_a_path_that_takes_too_long_or_gives_too_much_is_given_up(path: str, document: Json, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        compile_jsonpath(path).evaluate(document)


def test_texts_that_are_joined_stay_small() -> None:
    path = compile_jayway(f"$.concat({','.join(['$.s'] * 200)})")
    assert path.evaluate({"s": "ab"}) == "ab" * 200
    with pytest.raises(QueryError, match="more than"):
        path.evaluate({"s": {"x": "a" * 100_000}})


def test_the_largest_documents_are_read_whole() -> None:
    document: Json = {"a": [0] * 2_000, "b": [{"x": number} for number in range(2_000)]}
    assert compile_jsonpath("$.b[?(@.x in $.a)]").evaluate(document) == [{"x": 0}]
    many: Json = [[{"x": 1}] for _ in range(40_000)]
    assert compile_jsonpath("$..x").evaluate(many) == [1] * 40_000


def test_nesting_is_bounded() -> None:
    with pytest.raises(InvalidQueryError, match="nested"):
        compile_jsonpath("$[?(" + "(" * 50 + "@.a" + ")" * 50 + ")]")
    with pytest.raises(InvalidQueryError, match="nested"):
        compile_jsonpath("$" + "[?(@" * 30 + ")]" * 30)
    with pytest.raises(InvalidQueryError, match="at most"):
        compile_jsonpath("$." + "a" * 10_000)


def test_deep_documents_are_scanned_without_recursion() -> None:
    document: Json = {"x": 1}
    for _ in range(5000):
        document = [document]
    assert compile_jsonpath("$..x").evaluate(document) == [1]


def test_an_unquoted_word_fails_only_when_it_is_compared() -> None:
    path = compile_jsonpath("$.items[?(@.id == Failure)]")
    with pytest.raises(QueryError, match="in quotes, 'Failure'"):
        path.evaluate(STORE)


def test_the_list_of_functions_is_the_dialects() -> None:
    assert set(FUNCTIONS) == {
        "append", "avg", "concat", "first", "index", "keys", "last", "length", "max", "min", "size", "stddev", "sum",
    }  # fmt: skip
    for name in FUNCTIONS:
        assert compile_jsonpath(f"$.a.{name}()").definite


def theirs(path: str, document: Json) -> list[Json]:
    return [match.value for match in JsonPathParser().parse(path).find(document)]


STEPS = st.one_of(NAMES.map(lambda name: f"['{name}']"), st.integers(0, 3).map(lambda index: f"[{index}]"))
LISTS_OF_OBJECTS = st.lists(st.dictionaries(st.sampled_from(("a", "b", "c")), DOCUMENTS, max_size=3), max_size=4)
LIST_PATHS = st.sampled_from(("$[*]", "$[*].a", "$[*].a.b", "$[0:2].a", "$[1:].b", "$[:2]", "$[-2:].c", "$..a"))


@given(DOCUMENTS, st.lists(STEPS, max_size=4))
def test_definite_paths_agree_with_jsonpath_ng(document: Json, steps: list[str]) -> None:
    text = "$" + "".join(steps)
    before = copy.deepcopy(document)
    found = theirs(text, document)
    try:
        value = compile_jsonpath(text).evaluate(document)
    except PathNotFoundError:
        assert found == []
    else:
        assert json_equal([value], found)
    assert json_equal(document, before)


@given(LISTS_OF_OBJECTS, LIST_PATHS)
def test_list_paths_agree_with_jsonpath_ng(document: list[dict[str, Json]], text: str) -> None:
    value = compile_jsonpath(text).evaluate(document)
    assert isinstance(value, list)
    # The order of what a scan finds is each dialect's own.
    assert Counter(map(frozen, value)) == Counter(map(frozen, theirs(text, document)))


@given(st.text(alphabet="$@.[]()'\"*?:,-0123 ab=<>!&|~/{}\\", max_size=30))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        path = compile_jsonpath("$" + text)
    except InvalidQueryError:
        return
    try:
        path(Scope({"a": [1, {"b": "x"}], "b": None}, variables={"a": {"b": 1}}))
    except QueryError:
        return
