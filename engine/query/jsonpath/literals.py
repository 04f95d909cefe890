"""JSON as the dialect writes it inside filters and function arguments: as JSON, but single quotes do as well."""

from __future__ import annotations

import re
from typing import Final

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json

MAX_LITERAL_DEPTH: Final = 20

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WORDS: Final[dict[str, Json]] = {"true": True, "false": False, "null": None}
_BLANKS: Final = " \t\r\n"


def unescape(text: str) -> str:
    """Resolve backslash escapes; an escape that means nothing is the character itself."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _CONTROL.get(m[2], m[2]), text)


def skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANKS:
        position += 1
    return position


def read_string(text: str, position: int) -> tuple[str, int]:
    """The quoted string that starts at `position`, and the position after it."""
    quote = text[position]
    end = position + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise InvalidQueryError(f"The string that starts at position {position} of {text!r} is not closed.")
    return unescape(text[position + 1 : end]), end + 1


def read_literal(text: str, position: int, depth: int = 0) -> tuple[Json, int]:
    """The JSON value that starts at `position`, and the position after it."""
    position = skip_blanks(text, position)
    if position >= len(text):
        raise InvalidQueryError(f"A value is missing at the end of {text!r}.")
    if depth > MAX_LITERAL_DEPTH:
        raise InvalidQueryError(f"A literal in {text!r} is nested deeper than {MAX_LITERAL_DEPTH} levels.")
    char = text[position]
    if char in "'\"":
        return read_string(text, position)
    if char == "[":
        return _read_array(text, position + 1, depth)
    if char == "{":
        return _read_object(text, position + 1, depth)
    for word, value in _WORDS.items():
        if text.startswith(word, position):
            return value, position + len(word)
    number = _NUMBER.match(text, position)
    if number is None:
        raise InvalidQueryError(f"Unexpected {char!r} at position {position} of {text!r}; a value is expected.")
    digits = number[0]
    return (int(digits) if digits.lstrip("-").isdigit() else float(digits)), number.end()


def _read_array(text: str, position: int, depth: int) -> tuple[Json, int]:
    items: list[Json] = []
    position = skip_blanks(text, position)
    if text[position : position + 1] == "]":
        return items, position + 1
    while True:
        item, position = read_literal(text, position, depth + 1)
        items.append(item)
        position, closed = _separator(text, position, "]")
        if closed:
            return items, position


def _read_object(text: str, position: int, depth: int) -> tuple[Json, int]:
    members: dict[str, Json] = {}
    position = skip_blanks(text, position)
    if text[position : position + 1] == "}":
        return members, position + 1
    while True:
        position = skip_blanks(text, position)
        if text[position : position + 1] not in ("'", '"'):
            raise InvalidQueryError(f"A quoted name is expected at position {position} of {text!r}.")
        name, position = read_string(text, position)
        position = skip_blanks(text, position)
        if text[position : position + 1] != ":":
            raise InvalidQueryError(f"A ':' is expected at position {position} of {text!r}.")
        members[name], position = read_literal(text, position + 1, depth + 1)
        position, closed = _separator(text, position, "}")
        if closed:
            return members, position


def _separator(text: str, position: int, close: str) -> tuple[int, bool]:
    position = skip_blanks(text, position)
    found = text[position : position + 1]
    if found not in (",", close) or not found:
        raise InvalidQueryError(f"A ',' or '{close}' is expected at position {position} of {text!r}.")
    return position + 1, found == close
