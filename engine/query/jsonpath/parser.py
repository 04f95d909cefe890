"""From path text to tokens, as Jayway's PathCompiler reads it, its leniencies included.

A path may leave out `$`, and one character after the last complete token is ignored (`$.a[` reads as `$.a`), because
definitions that rely on it run on AWS. The text of filters is kept as it is; `filters` compiles it.
"""

from __future__ import annotations

from typing import Final

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.query.jsonpath.literals import read_literal, skip_blanks, unescape
from stepwell.engine.query.jsonpath.tokens import (
    Argument,
    Filter,
    Function,
    Index,
    Literal,
    ParsedPath,
    Property,
    Scan,
    Slice,
    Token,
    Wildcard,
)

MAX_PATH_LENGTH: Final = 8192
MAX_NESTING: Final = 10
MAX_TOKENS: Final = 200
"""Steps of one path. Each takes a level of calls when the path is read."""
"""Levels of paths inside function arguments and filters."""

_BLANKS: Final = " \t\r\n"
_DIGITS: Final = frozenset("0123456789")
_INDEX_CHARS: Final = _DIGITS | frozenset("-:, ")
_ARGUMENT_STARTS: Final = _DIGITS | frozenset('$@"{[-')
"""What an argument of a function begins with. The dialect passes over any other, text in single quotes, true and null among them."""


def parse_path(text: str, depth: int = 0) -> ParsedPath:
    """Parse a path that starts with `$` or `@` or leaves the root out. Raises `InvalidQueryError`."""
    trimmed = text.strip(_BLANKS)
    if not trimmed:
        raise InvalidQueryError("A path must not be empty.")
    if len(trimmed) > MAX_PATH_LENGTH:
        raise InvalidQueryError(f"A path may have at most {MAX_PATH_LENGTH} characters.")
    if depth > MAX_NESTING:
        raise InvalidQueryError(f"Paths may be nested {MAX_NESTING} levels deep at most.")
    if trimmed[0] not in "$@":
        trimmed = "$." + trimmed
    tokens = _Parser(trimmed, depth).parse()
    if len(tokens) > MAX_TOKENS:
        raise InvalidQueryError(f"A path may have at most {MAX_TOKENS} steps, not {len(tokens)}.")
    return ParsedPath(_invert_scan_of_function(tokens), current=trimmed[0] == "@")


def _invert_scan_of_function(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """`$..x.f()` means f of all that `$..x` finds, not f of each."""
    if not (tokens and isinstance(tokens[0], Scan) and isinstance(tokens[-1], Function)):
        return tokens
    first = next(i for i, token in enumerate(tokens) if isinstance(token, Function))
    function = tokens[first]
    assert isinstance(function, Function)
    if first == 1:
        raise InvalidQueryError(f"'..' must be followed by what is looked for, not by the function {function.name}().")
    return (Function(function.name, (ParsedPath(tokens[:first]),)), *tokens[first + 1 :])


class _Parser:
    def __init__(self, text: str, depth: int) -> None:
        self.text = text
        self.depth = depth
        self.position = 1
        self.tokens: list[Token] = []

    def parse(self) -> tuple[Token, ...]:
        if self.text.endswith("."):
            raise self.invalid("a path must not end with '.'")
        if len(self.text) > 1:
            if self.text[1] not in ".[":
                raise self.invalid(f"'.' or '[' is expected at position 1, not {self.text[1]!r}")
            while True:
                self.read_token()
                if self.position >= len(self.text) - 1:  # one character more is ignored: see the module's docstring
                    break
        return tuple(self.tokens)

    def invalid(self, why: str) -> InvalidQueryError:
        return InvalidQueryError(f"The JSONPath '{self.text}' is not valid: {why}.")

    def at(self, position: int) -> str:
        """The character at a position, or the empty string."""
        return self.text[position : position + 1]

    def read_token(self) -> None:
        char = self.at(self.position)
        if char == "[":
            self.read_bracket()
        elif char == ".":
            self.read_dots()
        elif char == "*":
            self.position += 1
            self.tokens.append(Wildcard())
        else:
            self.read_name()

    def read_dots(self) -> None:
        if self.at(self.position + 1) == ".":
            self.tokens.append(Scan())
            self.position += 2
        else:
            self.position += 1
        if self.at(self.position) in ("", "."):
            raise self.invalid(f"a name is expected at position {self.position}")
        self.read_token()

    def read_name(self) -> None:
        start = self.position
        if self.at(start) in ("", " "):
            raise self.invalid(f"a name is expected at position {start}")
        end = start
        while end < len(self.text) and self.text[end] not in ".[( ":
            end += 1
        name = self.text[start:end]
        stop = self.at(end)
        if stop == " ":
            raise self.invalid("a name with blanks is written in brackets, ['my name']")
        if stop == "(":
            self.read_function(name, end + 1)
            return
        self.tokens.append(Property((name,)))
        self.position = end

    def read_function(self, name: str, start: int) -> None:
        end = closing(self.text, start - 1, "(", ")")
        if end < 0:
            raise self.invalid(f"the arguments of '{name}' are not closed")
        given = (text.strip(_BLANKS) for text in split_arguments(self.text[start:end]))
        arguments = tuple(self.read_argument(text) for text in given if text[:1] in _ARGUMENT_STARTS)
        self.tokens.append(Function(name, arguments))
        # Behind `()` the dialect reads on from the `)`, as if a name began there.
        self.position = end if end == start else end + 1

    def read_argument(self, text: str) -> Argument:
        if text[:1] in ("$", "@"):
            return parse_path(text, self.depth + 1)
        value, end = read_literal(text, 0)
        if skip_blanks(text, end) != len(text):
            raise self.invalid(f"the argument {text!r} is neither a path nor a JSON value")
        return Literal(value)

    def read_bracket(self) -> None:
        inner = skip_blanks(self.text, self.position + 1)
        char = self.at(inner)
        if char in ("'", '"'):
            self.read_names(inner)
        elif char == "*":
            end = skip_blanks(self.text, inner + 1)
            if self.at(end) != "]":
                raise self.invalid(f"']' is expected at position {end}")
            self.tokens.append(Wildcard())
            self.position = end + 1
        elif char == "?":
            self.read_filter(inner)
        elif char and (char in _DIGITS or char in "-:"):
            self.read_indexes()
        else:
            raise self.invalid(f"a quoted name, an index, '*' or '?' is expected at position {inner}")

    def read_names(self, position: int) -> None:
        quote = self.text[position]
        names: list[str] = []
        while True:
            if self.at(position) != quote:
                raise self.invalid(f"a name in {quote} is expected at position {position}")
            end = position + 1
            while end < len(self.text) and self.text[end] != quote:
                end += 2 if self.text[end] == "\\" else 1
            if end >= len(self.text):
                raise self.invalid(f"the name at position {position} is not closed")
            names.append(unescape(self.text[position + 1 : end]))
            position = skip_blanks(self.text, end + 1)
            if self.at(position) == "]":
                break
            if self.at(position) != ",":
                raise self.invalid(f"',' or ']' is expected at position {position}")
            position = skip_blanks(self.text, position + 1)
        self.tokens.append(Property(tuple(names), quote))
        self.position = position + 1

    def read_indexes(self) -> None:
        end = self.text.find("]", self.position)
        expression = self.text[self.position + 1 : end].strip() if end > 0 else ""
        if not expression or not _INDEX_CHARS.issuperset(expression):
            raise self.invalid(f"the index at position {self.position} is not valid")
        try:
            self.tokens.append(_slice(expression) if ":" in expression else _index(expression))
        except ValueError:
            raise self.invalid(f"the index [{expression}] is not valid") from None
        self.position = end + 1

    def read_filter(self, question: int) -> None:
        opening = skip_blanks(self.text, question + 1)
        end = closing(self.text, opening, "(", ")") if self.at(opening) == "(" else -1
        if end < 0:
            raise self.invalid(f"the filter at position {question} must be written [?( ... )]")
        bracket = skip_blanks(self.text, end + 1)
        if self.at(bracket) != "]":
            raise self.invalid(f"']' is expected at position {bracket}")
        self.tokens.append(Filter(self.text[opening + 1 : end]))
        self.position = bracket + 1


def _index(expression: str) -> Index:
    return Index(tuple(int(part) for part in expression.split(",")))


def _slice(expression: str) -> Slice:
    if "," in expression or " " in expression:
        raise ValueError(expression)
    parts = [int(part) if part else None for part in expression.split(":")]
    start, stop = parts[0], parts[1]
    if start is None and stop is None:
        raise ValueError(expression)
    return Slice(start, stop)


def closing(text: str, position: int, opening: str, close: str) -> int:
    """The position of the bracket that closes the one at `position`, strings and patterns skipped; -1 if none."""
    depth = 0
    while position < len(text):
        char = text[position]
        if char in "'\"" or (char == "/" and _starts_pattern(text, position)):
            position = _skip_quoted(text, position)
            if position < 0:
                return -1
        elif char == opening:
            depth += 1
        elif char == close:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


def _starts_pattern(text: str, position: int) -> bool:
    before = text[:position].rstrip(_BLANKS)
    return before.endswith(("=~", "(", "&&", "||", "!"))


def _skip_quoted(text: str, position: int) -> int:
    quote = text[position]
    position += 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == quote:
            return position
        position += 1
    return -1


def split_arguments(text: str) -> list[str]:
    """Split at the commas outside brackets and strings; no text, no arguments."""
    if not text.strip(_BLANKS):
        return []
    parts: list[str] = []
    start = position = depth = 0
    while position < len(text):
        char = text[position]
        if char in "'\"":
            position = _skip_quoted(text, position)
            if position < 0:
                raise InvalidQueryError(f"A string in the arguments {text!r} is not closed.")
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts
