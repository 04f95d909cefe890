"""The language inside `[?( ... )]`: compiled to a predicate over (item, document).

Values are plain JSON; `UNDEFINED` stands for a path that leads nowhere, which equals nothing, not even itself. How
operand paths are evaluated is given by the caller, so that this module does not know the walker.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from stepwell.engine.errors import InvalidQueryError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath.literals import read_literal, skip_blanks
from stepwell.engine.query.jsonpath.operators import OPERATORS, UNDEFINED, MismatchError, Operand
from stepwell.engine.query.jsonpath.parser import closing
from stepwell.engine.query.jsonpath.patterns import compile_pattern

Predicate: TypeAlias = Callable[[Json, Json], bool]
Reader: TypeAlias = Callable[[Json, Json], Json]
"""From (item, document) to a value; raises `PathNotFoundError` or gives `UNDEFINED`."""
CompilePath: TypeAlias = Callable[[str, bool], Reader]
"""From path text and whether absent properties are errors even in lists (the rule of existence tests) to a reader."""

MAX_DEPTH: Final = 20
"""Levels of parentheses and negations in one filter."""

_WORD: Final = re.compile(r"[^\W\d]\w*")
_RELATIONAL: Final = frozenset("<>=~!")


def compile_filter(criteria: str, compile_path: CompilePath) -> Predicate:
    """Compile what the parentheses of a filter hold. Raises `InvalidQueryError`."""
    parser = _FilterParser(criteria, compile_path)
    predicate = parser.read_or(0)
    if parser.skip() != len(criteria):
        raise parser.invalid("the end of the filter is expected")

    def holds(item: Json, root: Json) -> bool:
        try:
            return predicate(item, root)
        except MismatchError:
            return False

    return holds


class _FilterParser:
    def __init__(self, text: str, compile_path: CompilePath) -> None:
        self.text = text
        self.compile_path = compile_path
        self.position = 0

    def skip(self) -> int:
        self.position = skip_blanks(self.text, self.position)
        return self.position

    def invalid(self, why: str) -> InvalidQueryError:
        return InvalidQueryError(f"The filter '{self.text}' is not valid at position {self.position}: {why}.")

    def accept(self, sign: str) -> bool:
        self.skip()
        if not self.text.startswith(sign, self.position):
            return False
        self.position += len(sign)
        return True

    def read_or(self, depth: int) -> Predicate:
        parts = [self.read_and(depth)]
        while self.accept("||"):
            parts.append(self.read_and(depth))
        return parts[0] if len(parts) == 1 else lambda item, root: any(part(item, root) for part in parts)

    def read_and(self, depth: int) -> Predicate:
        parts = [self.read_term(depth)]
        while self.accept("&&"):
            parts.append(self.read_term(depth))
        return parts[0] if len(parts) == 1 else lambda item, root: all(part(item, root) for part in parts)

    def read_term(self, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            raise self.invalid(f"filters may be nested {MAX_DEPTH} levels deep at most")
        start = self.skip()
        if self.accept("!"):
            self.skip()
            if self.text[self.position : self.position + 1] in ("$", "@"):
                self.position = start
                return self.read_comparison()
            inner = self.read_term(depth + 1)
            return lambda item, root: not inner(item, root)
        if self.accept("("):
            inner = self.read_or(depth + 1)
            if not self.accept(")"):
                raise self.invalid("')' is expected")
            return inner
        return self.read_comparison()

    def read_comparison(self) -> Predicate:
        negated = self.accept("!")
        start = self.skip()
        left, path = self.read_operand()
        after = self.position
        name = self.read_operator()
        if name is None:
            self.position = after
            if path is None:
                self.position = start
                raise self.invalid("a comparison is expected")
            return _existence(self.compile_path(path, True), expected=not negated)
        right, _ = self.read_operand()
        return OPERATORS[name](left, right)

    def read_operator(self) -> str | None:
        start = end = self.skip()
        if self.text[start : start + 1] in _RELATIONAL:
            while end < len(self.text) and self.text[end] in _RELATIONAL:
                end += 1
        else:
            while end < len(self.text) and self.text[end].isalpha():
                end += 1
        name = self.text[start:end].lower()
        if name not in OPERATORS:
            return None
        self.position = end
        return name

    def read_operand(self) -> tuple[Operand, str | None]:
        """An operand and, where it is a path, the path's text."""
        self.skip()
        char = self.text[self.position : self.position + 1]
        if char == "!":
            self.position += 1
            self.skip()
            char = self.text[self.position : self.position + 1]
        if char in ("$", "@") and char:
            path = self.read_path()
            return _value_of(self.compile_path(path, False)), path
        if char == "/":
            return self.read_pattern(), None
        word = _WORD.match(self.text, self.position)
        if word is not None and word[0] not in ("true", "false", "null"):
            self.position = word.end()
            return _unquoted(word[0]), None
        value, self.position = read_literal(self.text, self.position)
        return Operand(constant=value), None

    def read_path(self) -> str:
        start = self.position
        self.position += 1
        while self.position < len(self.text):
            char = self.text[self.position]
            if char in "[(":
                end = closing(self.text, self.position, char, "]" if char == "[" else ")")
                if end < 0:
                    raise self.invalid(f"the {char!r} is not closed")
                self.position = end + 1
            elif char in _RELATIONAL or char in " \t\r\n),":
                break  # `&&` and `||` do not end a path: the dialect takes them for part of a name
            else:
                self.position += 1
        return self.text[start : self.position]

    def read_pattern(self) -> Operand:
        end = self.position + 1
        while end < len(self.text) and self.text[end] != "/":
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise self.invalid("the regular expression is not closed")
        flags = end + 1
        while flags < len(self.text) and self.text[flags].isalpha():
            flags += 1
        pattern = compile_pattern(self.text[self.position + 1 : end], self.text[end + 1 : flags])
        self.position = flags
        return Operand(pattern=pattern)


def _unquoted(word: str) -> Operand:
    """Published definitions hold such words and are accepted on AWS; only evaluating them fails."""

    def read(item: Json, root: Json) -> Json:
        raise QueryError(f"The word {word} in a filter is no value; a string is written in quotes, '{word}'")

    return Operand(read=read)


def _existence(reader: Reader, *, expected: bool) -> Predicate:
    def exists(item: Json, root: Json) -> bool:
        try:
            reader(item, root)
        except PathNotFoundError:
            return not expected
        return expected

    return exists


def _value_of(reader: Reader) -> Operand:
    def read(item: Json, root: Json) -> Json:
        try:
            return reader(item, root)
        except PathNotFoundError:
            return UNDEFINED

    return Operand(read=read)
