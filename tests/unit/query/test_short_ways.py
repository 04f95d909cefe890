"""Short ways give what the long ones give: expressions that are evaluated together or by a small budget, paths of names alone."""

from __future__ import annotations

import json

import jlens
from hypothesis import example, given
from hypothesis import strategies as st

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import PathNotFoundError
from stepwell.engine.jsontypes import Document, Json, write_text
from stepwell.engine.query.jsonata import (
    FULL,
    IN_PROCESS,
    Evaluation,
    Outcome,
    carry_out,
    compile_jsonata,
    compile_jsonata_template,
)
from stepwell.engine.query.jsonpath import compile_jayway
from stepwell.engine.query.jsonpath.parser import parse_path
from stepwell.engine.query.jsonpath.walk import _reader, _Rules
from stepwell.engine.query.scope import StatesScope
from stepwell.engine.query.values import json_equal
from stepwell.engine.states_errors import StatesError
from tests.unit.query.strategies import DOCUMENTS

SMALL: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(("", "a", "b", "x y"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("a", "b", "c")), inner, max_size=3)
    ),
    max_leaves=8,
)
VARIABLES = st.dictionaries(
    st.sampled_from(("x", "y", "count", "sum", "hash", "nothing", "states2")), SMALL, max_size=4
)
LEAVES = st.sampled_from(
    (
        "$states.input", "$states.input.a", "$states.input.b[0]", "$states.context.n", "$x", "$y.a", "$count", "$hash", "$missing", "1",
        "'a'", "true", "null", "[]", "{}", "$", "$$", "a", "$states.result", "$nothing", "$string()", "1 /* said */", "function($v) {$v}",
    )
)  # fmt: skip


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        two.map(lambda pair: f"[{pair[0]}, {pair[1]}\n]"),
        two.map(lambda pair: f"({pair[0]}\n) = ({pair[1]}\n)"),
        two.map(lambda pair: f"({pair[0]}\n).({pair[1]}\n)"),
        two.map(lambda pair: f"({pair[0]}\n) & ({pair[1]}\n)"),
        two.map(lambda pair: f"($x := {pair[0]}\n; {pair[1]}\n)"),
        two.map(lambda pair: f"$map({pair[0]}\n, function($count) {{[$count, {pair[1]}\n]}})"),
        inner.map(lambda one: f"{{'a': {one}\n}}"),
        inner.map(lambda one: f"$count({one}\n)"),
        inner.map(lambda one: f"$sum({one}\n)"),
        inner.map(lambda one: f"$exists({one}\n) ? {one}\n : 'none'"),
        inner.map(lambda one: f"$replace($string({one}\n), 'a', 'b')"),
        inner.map(lambda one: f"$y := {one}\n"),
    )


EXPRESSIONS = st.recursive(LEAVES, _larger, max_leaves=6)


def scope(document: Json, variables: dict[str, Json]) -> StatesScope:
    def full(evaluation: Evaluation) -> Outcome:
        return carry_out(evaluation, FULL)

    context: Json = {"n": [1, {"a": 2}]}
    return StatesScope(
        Document.of(document), variables=variables, context=lambda: context, entropy=Entropy(1), heavy=full
    )


def result(template: Json, document: Json, variables: dict[str, Json]) -> str:
    try:
        return compile_jsonata_template(template, "Output").document(scope(document, variables)).text.decode()
    except StatesError as error:
        return error.cause or ""


@given(st.lists(EXPRESSIONS, min_size=2, max_size=4), SMALL, VARIABLES)
def test_expressions_give_together_what_they_give_alone(
    sources: list[str], document: Json, variables: dict[str, Json]
) -> None:
    texts = {f"f{index}": f"{{% {source} %}}" for index, source in enumerate(sources)}
    together = result(dict(texts), document, variables)
    alone = [result({name: text}, document, variables) for name, text in texts.items()]
    failed = next((one for one in alone if not one.startswith("{")), None)
    assert together == failed if failed is not None else together == f"{{{','.join(one[1:-1] for one in alone)}}}"


@given(EXPRESSIONS, SMALL, VARIABLES)
@example("[1].$$", {"a": 1}, {})
@example("[$, $count]", {}, {"count": 1})
def test_an_expression_gives_what_the_library_gives_for_bindings_and_no_document(
    source: str, document: Json, variables: dict[str, Json]
) -> None:
    states: Json = {"input": document, "context": {"n": [1, {"a": 2}]}}
    bindings: dict[str, Json] = {**variables, "states": states}
    try:
        text = jlens.Expression(f'{{"r": {source}\n}}').evaluate_json(None, bindings)
        expected: Json = json.loads(text or "null")
    except jlens.JlensError as error:
        expected = error.code
    try:
        found: Json = {"r": compile_jsonata(f"{{% {source} %}}", "Output")(scope(document, variables))}
    except StatesError as error:
        cause = error.cause or ""
        found = {} if "evaluation. " not in cause else cause.split("evaluation. ")[1].split(":")[0]
    if "$hash" in source and "hash" not in variables:
        return  # a function that the library does not have
    assert found == expected if isinstance(found, str) else json_equal(found, expected)


@given(EXPRESSIONS, SMALL)
def test_a_small_budget_changes_no_result(source: str, document: Json) -> None:
    evaluation = Evaluation(f'($states := {{"input": $}}; {{"r": {source}\n}})', write_text(document))
    quick = carry_out(evaluation, IN_PROCESS)
    assert quick.limit or quick == carry_out(evaluation, FULL)


@given(DOCUMENTS, st.lists(st.sampled_from((".a", ".b", "['key']", "['long name']", "[0]", "[1]", "[-1]")), max_size=5))
def test_paths_of_names_and_indexes_read_what_walking_reads(document: Json, steps: list[str]) -> None:
    path = "$" + "".join(steps)
    walked, found = [
        _outcome(read, document)
        for read in (lambda value: _reader(parse_path(path), _Rules(0))(value, value), compile_jayway(path).evaluate)
    ]
    assert walked == found


def _outcome(read: object, document: Json) -> object:
    assert callable(read)
    try:
        return True, write_text(read(document))
    except PathNotFoundError as error:
        return False, str(error)
