"""Nothing makes the parser raise anything but its own refusal, and what it accepts has a model."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.engine.asl.diagnostics import DefinitionError, Severity
from stepwell.engine.asl.document import Syntax, examine
from stepwell.engine.asl.fields import STATE_FIELDS
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.asl.validate import validate
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import OPERATORS
from tests.unit.asl.definitions import BODIES, body, machine
from tests.unit.query.strategies import DOCUMENTS

FIELD_NAMES = sorted(
    {name for table in STATE_FIELDS.values() for name in table.fields} | {"States", "StartAt", "And", "Not", "Variable"}
)
WORDS = st.sampled_from((*BODIES, *OPERATORS, "X", "End", "$", "$.a", "$$", "{% 1 %}", "States.ALL", "JSONata", ""))


def _grow(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELD_NAMES), inner, max_size=4))


LIKELY: st.SearchStrategy[Json] = st.recursive(st.one_of(DOCUMENTS, WORDS), _grow, max_leaves=15)
"""JSON made of the language's own words, which gets deeper into the rules than any other."""


def check(definition: Any) -> StateMachine | None:
    text = json.dumps(definition)
    findings = validate(text)
    for finding in findings:
        assert finding.message
        assert finding.code.isupper()  # the codes of lints are not
        str(finding).encode()
        assert finding.pointer is None or finding.line is not None
    try:
        return parse_definition(text)
    except DefinitionError as error:
        refusal = error
    assert any(finding.severity is Severity.ERROR for finding in refusal.diagnostics)
    return None


@given(DOCUMENTS)
def test_any_json(definition: Json) -> None:
    assert check(definition) is None


@given(LIKELY)
def test_json_of_the_languages_words(definition: Json) -> None:
    check(definition)


@settings(max_examples=400)
@given(st.sampled_from(sorted(BODIES)), st.sampled_from(FIELD_NAMES), LIKELY)
def test_any_value_in_any_field(type_name: str, field: str, value: Json) -> None:
    definition = machine(copy.deepcopy(body(type_name, **{field: value})))
    model = check(definition)
    assert model is None or model.source == definition


@given(st.data())
def test_a_definition_with_a_piece_taken_out(data: st.DataObject) -> None:
    definition: Any = machine(copy.deepcopy(body(data.draw(st.sampled_from(sorted(BODIES))))))
    node = definition
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            del node[key]
            break
        node = inner
    check(definition)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes(text: bytes) -> None:
    for syntax in Syntax:
        examined = examine(text, syntax=syntax)
        assert examined.findings
        assert all(one.message for one in examined.findings)


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        ":",
        ",",
        "\n",
        "  ",
        "- ",
        "#",
        "&a",
        "*a",
        "!Sub ",
        "|",
        ">",
        "%",
        "\t",
        "\0",
        "\ufeff",
        "${x}",
        "<<",
        "? ",
    ]
)


@settings(max_examples=200)
@given(st.sampled_from(sorted(BODIES)), st.data())
def test_a_text_with_pieces_put_in_and_taken_out(type_name: str, data: st.DataObject) -> None:
    text = json.dumps(machine(body(type_name)), indent=data.draw(st.sampled_from([None, 2])))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 4)))
        text = text[:start] + data.draw(PIECES) + text[end:]
    for syntax in Syntax:
        for finding in examine(text, syntax=syntax).findings:
            assert finding.line is None or 1 <= finding.line <= text.count("\n") + 2


@settings(max_examples=200)
@given(st.sampled_from(sorted(BODIES)), st.sampled_from(FIELD_NAMES), LIKELY)
def test_any_value_in_any_field_of_a_jsonata_machine(type_name: str, field: str, value: Json) -> None:
    check({**machine(copy.deepcopy(body(type_name, **{field: value}))), "QueryLanguage": "JSONata"})
