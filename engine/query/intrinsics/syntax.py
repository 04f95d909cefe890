"""From the text of an intrinsic call, `States.Format('{}', $.a)`, to its tree. It must not know what functions do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath import JsonPath, compile_jsonpath

MAX_NESTING: Final = 10
"""Calls inside calls that AWS accepts (guide, "Intrinsic functions")."""

MAX_ARGUMENTS: Final = 5_000
"""Arguments of one expression, those of calls inside it included."""

_CALL: Final = re.compile(r"(States\.[A-Za-z0-9]+)[ \t\r\n]*\(")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_WORD: Final = re.compile(r"(true|false|null)\b")
_WORDS: Final[dict[str, Json]] = {"true": True, "false": False, "null": None}
_ESCAPES: Final = frozenset("'{}\\")
_BLANKS: Final = " \t\r\n"
_LETTERS: Final = re.compile(r"[^'\\{]+")
_CLOSES: Final = {"[": "]", "(": ")"}


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, true, false or null."""

    value: Json


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal, cut at each `{}`: States.Format puts its arguments between the pieces."""

    pieces: tuple[str, ...]

    @property
    def value(self) -> str:
        return "{}".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments; `text` is the call as written, as error messages repeat it."""

    name: str
    arguments: tuple[Argument, ...]
    text: str


Argument: TypeAlias = Constant | Text | JsonPath | Call


def parse_intrinsic(text: str) -> Call:
    """Parse one call, blanks after it allowed and none before it. Raises `InvalidQueryError`."""
    parser = _Parser(text)
    call = parser.read_call(1)
    parser.skip()
    if parser.position != len(text):
        raise parser.invalid("nothing may follow the closing ')'")
    return call


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.arguments = 0

    def invalid(self, why: str) -> InvalidQueryError:
        return InvalidQueryError(
            f"The intrinsic function call '{self.text}' is not valid at position {self.position}: {why}."
        )

    def skip(self) -> str:
        """Pass blanks and return the character that follows, or the empty string."""
        while self.position < len(self.text) and self.text[self.position] in _BLANKS:
            self.position += 1
        return self.text[self.position : self.position + 1]

    def read_call(self, depth: int) -> Call:
        start = self.position
        head = _CALL.match(self.text, start)
        if head is None:
            raise self.invalid("a call such as States.Format('{}', $.name) is expected")
        if depth > MAX_NESTING:
            raise self.invalid(f"calls may be nested {MAX_NESTING} levels deep at most")
        self.position = head.end()
        arguments: list[Argument] = []
        if self.skip() == ")":
            self.position += 1
        else:
            while True:
                self.arguments += 1
                if self.arguments > MAX_ARGUMENTS:
                    raise self.invalid(f"an expression may have at most {MAX_ARGUMENTS} arguments")
                arguments.append(self.read_argument(depth))
                separator = self.skip()
                if separator not in (",", ")") or not separator:
                    raise self.invalid("',' or ')' is expected")
                self.position += 1
                if separator == ")":
                    break
        return Call(head[1], tuple(arguments), self.text[start : self.position])

    def read_argument(self, depth: int) -> Argument:
        char = self.skip()
        if char == "'":
            return self.read_text()
        if char == "$":
            return self.read_path()
        if char == "S":
            return self.read_call(depth + 1)
        word = _WORD.match(self.text, self.position)
        if word is not None:
            self.position = word.end()
            return Constant(_WORDS[word[1]])
        number = _NUMBER.match(self.text, self.position)
        if number is None:
            raise self.invalid("a path, a 'string', a number, true, false, null or a call is expected")
        self.position = number.end()
        return Constant(float(number[0]) if number[1] or number[2] else int(number[0]))

    def read_text(self) -> Text:
        pieces: list[str] = []
        piece: list[str] = []
        self.position += 1
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == "'":
                self.position += 1
                return Text((*pieces, "".join(piece)))
            if char == "\\":
                char = self.text[self.position + 1 : self.position + 2]
                if char not in _ESCAPES or not char:
                    raise self.invalid(r"a backslash in a string must be written before one of ' { } \ only")
                piece.append(char)
                self.position += 2
            elif self.text.startswith("{}", self.position):
                pieces.append("".join(piece))
                piece = []
                self.position += 2
            else:
                letters = _LETTERS.match(self.text, self.position)
                piece.append(char if letters is None else letters[0])
                self.position += len(piece[-1])
        raise self.invalid("the string is not closed")

    def read_path(self) -> JsonPath:
        start = self.position
        nesting: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            if char in "'\"" and nesting:
                self.skip_quoted(char)
            elif char in _CLOSES:
                nesting.append(_CLOSES[char])
            elif nesting and char == nesting[-1]:
                nesting.pop()
            elif not nesting and char in ",) \t\r\n":
                break
            self.position += 1
        return compile_jsonpath(self.text[start : self.position])

    def skip_quoted(self, quote: str) -> None:
        self.position += 1
        while self.position < len(self.text) and self.text[self.position] != quote:
            self.position += 2 if self.text[self.position] == "\\" else 1
