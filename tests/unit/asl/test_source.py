from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.asl.source import count_keys, read_definition, value_offsets, with_positions
from stepwell.engine.asl.validate import validate
from stepwell.engine.jsontypes import Json
from tests.unit.query.strategies import DOCUMENTS

VALUES = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"


def refusal(text: str | bytes) -> Diagnostic:
    with pytest.raises(DefinitionError) as caught:
        read_definition(text)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def test_the_recorded_syntax_error() -> None:
    found = refusal("not a definition")
    place = '[Source: (String)"not a definition"; line: 1, column: 4]'
    assert found.code is DiagnosticCode.INVALID_JSON_DESCRIPTION
    assert found.message == f"Unrecognized token 'not': was expecting {VALUES}\n at {place}"
    assert found.location == place
    assert (found.line, found.column) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message", "column", "begins"),
    (
        ("{x}", "Unexpected character ('x' (code 120)): was expecting double-quote to start field name", 3, 2),
        (
            '{"a" 1}',
            "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value",
            7,
            6,
        ),
        (
            '{"a":1 "b":2}',
            "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries",
            9,
            8,
        ),
        ("[1 2]", "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries", 5, 4),
        ('{"a":1,}', "Unexpected character ('}' (code 125)): was expecting double-quote to start field name", 9, 8),
        ("[1,]", f"Unexpected character (']' (code 93)): expected a valid value {VALUES}", 5, 4),
        ('{"a":', "Unexpected end-of-input within/between Object entries", 6, 5),
        ('{"a', "Unexpected end-of-input in field name", 4, 3),
        ('["a', "Unexpected end-of-input: was expecting closing quote for a string value", 4, 3),
        ('["\\q"]', "Unrecognized character escape 'q' (code 113)", 5, 3),
        (
            '["\\u12g4"]',
            "Unexpected character ('g' (code 103)): expected a hex-digit for character escape sequence",
            8,
            7,
        ),
        (
            '["\n"]',
            (
                "Illegal unquoted character ((CTRL-CHAR, code 10)): has to be escaped using backslash to be included in "
                "string value"
            ),
            1,
            3,
        ),
        (
            "[\x00]",
            "Illegal character ((CTRL-CHAR, code 0)): only regular white space (\\r, \\n, \\t) is allowed",
            3,
            2,
        ),
        ("[01]", "Invalid numeric value: Leading zeroes not allowed", 4, 3),
        ("[1.]", "Decimal point not followed by a digit", 4, 3),
        ("[1e]", "Exponent indicator not followed by a digit", 4, 3),
        ("[-]", "Unexpected character (']' (code 93)) in numeric value: expected digit (0-9) to follow minus", 4, 3),
        ("[truest]", "Unrecognized token 'truest'", 8, 2),
        ("[€]", f"Unexpected character ('€' (code 8364 / 0x20ac)): expected a valid value {VALUES}", 3, 2),
        ("{} {}", "Unexpected character ('{' (code 123)): expected nothing after the JSON value", 5, 4),
        ('{"a":1,"a":2}', "Duplicate field 'a'", 11, 8),
    ),
)
def test_syntax_errors_in_jacksons_words(text: str, message: str, column: int, begins: int) -> None:
    """`column` is Jackson's, in the location; `begins` is where what is wrong stands."""
    found = refusal(text)
    assert found.code is DiagnosticCode.INVALID_JSON_DESCRIPTION
    assert found.message.startswith(message)
    assert found.location is not None and found.location.endswith(f", column: {column}]")
    assert (found.line, found.column) == (1, begins)


def test_a_text_that_ends_too_early_is_shown_where_it_ends() -> None:
    found = refusal('{"a": {\n  "b": 1,\n\n\n')
    assert found.location is not None and found.location.endswith("; line: 5, column: 1]")
    assert (found.line, found.column) == (2, 9)


def test_an_unclosed_container_is_named_with_its_start() -> None:
    found = refusal('{\n "a": [1')
    assert found.message.startswith(
        "Unexpected end-of-input: expected close marker for Array (start marker at [Source: "
    )
    assert "; line: 2, column: 7])" in found.message


def test_a_wrong_close_marker_is_named_with_its_start() -> None:
    found = refusal("[1}")
    assert found.message.startswith("Unexpected close marker '}': expected ']' (for Array starting at [Source: ")


def test_a_field_twice_deep_inside_is_found() -> None:
    text = '{"StartAt":"A","States":{"A":{"Type":"Succeed"},"A":{"Type":"Fail"}}}'
    assert refusal(text).message.startswith("Duplicate field 'A'")


def test_keys_in_strings_are_no_duplicates() -> None:
    assert read_definition('{"a": "{\\"b\\":1,\\"b\\":2}", "c": "\\"x\\": 1"}') == {
        "a": '{"b":1,"b":2}',
        "c": '"x": 1',
    }


@pytest.mark.parametrize("text", ("", "   ", "\n", b""))
def test_an_empty_text(text: str | bytes) -> None:
    found = refusal(text)
    assert found.code is DiagnosticCode.SCHEMA_VALIDATION_FAILED
    assert (found.message, found.location) == ("Definition must be a valid JSON object", None)


@pytest.mark.parametrize("text", ("[]", "1", '"x"', "null", "true"))
def test_json_that_is_no_object(text: str) -> None:
    (found,) = validate(text)
    assert found.message == "Definition must be a valid JSON object"


def test_bytes_that_are_no_utf8() -> None:
    assert refusal(b'{"a": "\xff"}').message == "Invalid UTF-8 byte 0xff at offset 7"


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_definition(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("text", ('{"a": "\\ud800"}', '{"a": "\\udc00x"}', '{"a": "\ud800"}', '{"\\ud800\\u0041": 1}'))
def test_an_unpaired_surrogate(text: str) -> None:
    found = refusal(text)
    assert found.code is DiagnosticCode.INVALID_JSON_DESCRIPTION
    assert "npaired surrogate" in found.message
    str(found).encode()


def test_a_surrogate_pair_is_a_character() -> None:
    assert read_definition('{"a": "\\ud83d\\ude00", "\\ud83d\\ude00": 1}') == {"a": "😀", "😀": 1}


@pytest.mark.parametrize("depth", (limits.MAX_DEFINITION_DEPTH + 1, 100_000))
@pytest.mark.parametrize(("start", "end"), (("[", "]"), ('{"a":', "}")))
def test_a_text_nested_too_deeply(depth: int, start: str, end: str) -> None:
    found = refusal(start * depth + "1" + end * depth)
    assert found.code is DiagnosticCode.TOO_DEEPLY_NESTED


def test_a_text_as_deep_as_allowed() -> None:
    depth = limits.MAX_DEFINITION_DEPTH
    assert read_definition("[" * depth + "]" * depth) is not None


def test_a_value_nested_too_deeply() -> None:
    value: Json = 1
    for _ in range(limits.MAX_DEFINITION_DEPTH + 1):
        value = [value]
    (found,) = validate({"Comment": value})
    assert found.code is DiagnosticCode.TOO_DEEPLY_NESTED
    assert count_keys(value) is None


@pytest.mark.parametrize(("piece", "count"), (("x", 50_000_000), (b"{", 50_000_000), ("é", 600_000)))
def test_a_text_too_long(piece: str | bytes, count: int) -> None:
    assert "at most 1048576 bytes are accepted" in refusal(piece * count).message


def test_a_long_source_is_cut_as_jackson_does() -> None:
    text = "{" + " " * 700 + "x"
    location = refusal(text).location
    assert location is not None and location.startswith('[Source: (String)"{   ')
    assert location.endswith('"[truncated 202 chars]; line: 1, column: 703]')


@given(DOCUMENTS)
def test_the_scanner_agrees_with_the_reader(document: Json) -> None:
    text = json.dumps(document, indent=1)
    offsets = value_offsets(text)
    pending: list[tuple[str, Json]] = [("", document)]
    while pending:
        pointer, value = pending.pop()
        start = offsets.pop(pointer)
        if isinstance(value, dict):
            pending.extend((f"{pointer}/{escape_pointer(key)}", item) for key, item in value.items())
        elif isinstance(value, list):
            pending.extend((f"{pointer}/{index}", item) for index, item in enumerate(value))
        if pointer == "" or pointer.rpartition("/")[2].isdigit():
            assert json.JSONDecoder().raw_decode(text, start)[0] == value
        else:
            assert text[start] == '"'
    assert offsets == {}


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_one_diagnostic(text: str) -> None:
    try:
        read_definition(text)
    except DefinitionError as error:
        (found,) = error.diagnostics
        str(found).encode()


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_one_diagnostic(data: bytes) -> None:
    try:
        read_definition(data)
    except DefinitionError as error:
        (found,) = error.diagnostics
        str(found).encode()


@given(DOCUMENTS, st.data())
def test_a_broken_document_is_explained_by_the_scanner(document: Json, data: st.DataObject) -> None:
    text = json.dumps({"a": document})
    cut = data.draw(st.integers(2, len(text) - 1))
    found = refusal(text[:cut])
    assert found.code is DiagnosticCode.INVALID_JSON_DESCRIPTION
    assert found.line == 1
    assert found.message.startswith(("Unexpected", "Unrecognized", "Unpaired", "Decimal", "Exponent"))


def test_findings_have_the_line_and_column_of_their_field() -> None:
    text = '{\n  "StartAt": "A",\n  "States": {\n    "A": {"Type": "Pass", "Next": "B~/", "Wrong": 1}\n  }\n}'
    by_message = {found.message: (found.line, found.column, found.pointer) for found in validate(text)}
    assert by_message == {
        "Field 'Wrong' is not supported": (4, 42, "/States/A/Wrong"),
        "Missing 'Next' target: B~/": (4, 27, "/States/A/Next"),
        "Workflow has no terminal state": (1, 1, ""),
    }


def test_a_name_with_slashes_is_found_again() -> None:
    text = '{"StartAt": "a/b~c",\n "States": {\n"a/b~c": {"Type": "Nap"}}}'
    (found,) = [found for found in validate(text) if "Type" in found.message]
    assert (found.location, found.pointer) == ("/States/a/b~c/Type", "/States/a~1b~0c/Type")
    assert (found.line, found.column) == (3, 11)


def test_positions_of_a_place_that_is_gone_are_those_of_what_encloses_it() -> None:
    finding = Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, "x", pointer="/a/b/c")
    (placed,) = with_positions([finding], '{\n"a": {}}')
    assert (placed.line, placed.column) == (2, 1)


def test_positions_count_every_kind_of_line_end() -> None:
    finding = Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, "x", pointer="/a")
    (placed,) = with_positions([finding], '{\r\n\n\r "a": 1}')
    assert (placed.line, placed.column) == (4, 2)
