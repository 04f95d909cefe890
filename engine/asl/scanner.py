"""A JSON scanner that explains: where the first fault of a text is, in Jackson's words, and where each value stands.

It follows Jackson's `ReaderBasedJsonParser`, whose messages AWS shows, and never recurses. It builds no values and must not
know what a text means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import Diagnostic, DiagnosticCode
from stepwell.engine.jsontypes import number_out_of_range

TOO_DEEP: Final = f"The definition is nested more than {limits.MAX_DEFINITION_DEPTH} levels deep"
_VALUES: Final = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_SHOWN_CHARS: Final = 500
_SHOWN_TOKEN_CHARS: Final = 256
_SHOWN_NUMBER_CHARS: Final = 24

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")
_IDENTIFIER: Final = re.compile(r"[^\W]|[$]")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}


def escape_pointer(name: str) -> str:
    """One reference token of a JSON pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


class SyntaxFault(Exception):
    """Jackson's message for a fault; `offset` is the place Jackson reports, one past what it has consumed; `begins` is where
    what is wrong begins, for people.
    """

    def __init__(
        self,
        message: str,
        offset: int,
        code: DiagnosticCode = DiagnosticCode.INVALID_JSON_DESCRIPTION,
        *,
        begins: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.code = code
        self.begins = offset if begins is None else begins


class LineIndex:
    """Offsets to lines and columns, both from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def position(self, offset: int) -> tuple[int, int]:
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            if self._starts[middle] <= offset:
                low = middle
            else:
                high = middle
        return low + 1, offset - self._starts[low] + 1


def _source(text: str) -> str:
    """Jackson's description of a source: the first 500 characters, control characters but line ends escaped."""
    shown = "".join(
        f"\\u{ord(char):04X}" if char not in "\r\n" and (char < " " or "\x7f" <= char < "\xa0") else char
        for char in text[:_SHOWN_CHARS].encode("utf-8", "replace").decode()
    )
    rest = len(text) - _SHOWN_CHARS
    return f'(String)"{shown}"' + (f"[truncated {rest} chars]" if rest > 0 else "")


def _location(text: str, offset: int) -> str:
    line, column = LineIndex(text).position(offset)
    return f"[Source: {_source(text)}; line: {line}, column: {column}]"


def syntax_diagnostic(text: str, fault: SyntaxFault) -> Diagnostic:
    # A text that ends too early ends after the last that stands in it, not after the blank lines below.
    begins = min(fault.begins, max(len(text.rstrip()) - 1, 0)) if fault.begins >= len(text) else fault.begins
    line, column = LineIndex(text).position(begins)
    if fault.code is not DiagnosticCode.INVALID_JSON_DESCRIPTION:
        return Diagnostic(fault.code, fault.message, "/", line=line, column=column)
    location = _location(text, fault.offset)
    return Diagnostic(fault.code, f"{fault.message}\n at {location}", location, line=line, column=column)


def _described(char: str) -> str:
    code = ord(char)
    if code < 32 or 127 <= code < 160:
        return f"(CTRL-CHAR, code {code})"
    if code > 255:
        shown = "?" if 0xD800 <= code < 0xE000 else char
        return f"'{shown}' (code {code} / 0x{code:x})"
    return f"'{char}' (code {code})"


@dataclass
class Scanner:
    """One pass over a text with an explicit stack: finds the first fault, and the offsets if asked for."""

    text: str
    keep_offsets: bool = False
    offsets: dict[str, int] = field(default_factory=dict)
    _at: int = 0

    def scan(self) -> None:
        """Read one JSON value and nothing after it. Raises `SyntaxFault`."""
        stack: list[_Open] = []
        self._note("", self._skip())
        self._value(stack, "")
        while stack:
            self._member(stack)
        if self._skip() < len(self.text):
            char = self.text[self._at]
            self._fault(f"Unexpected character ({_described(char)}): expected nothing after the JSON value", 1)

    def _member(self, stack: list[_Open]) -> None:
        """The next entry of the innermost container, or its end."""
        top = stack[-1]
        self._skip()
        char = self._peek(
            f"Unexpected end-of-input: expected close marker for {top.kind} (start marker at {{start}})", top
        )
        if char in "}]":
            self._close(stack, char)
            return
        if top.count:
            if char != ",":
                self._fault(
                    f"Unexpected character ({_described(char)}): was expecting comma to separate {top.kind} entries", 1
                )
            self._at += 1
            self._skip()
            char = self._peek(f"Unexpected end-of-input within/between {top.kind} entries", top)
        if top.kind == "Array":
            pointer = f"{top.pointer}/{top.count}" if self.keep_offsets else ""
            self._note(pointer, self._at)
        else:
            start = self._at
            if char != '"':
                self._odd_name(char)
            self._at += 1
            key = self._string("name")
            if key in top.keys:
                message = f"Duplicate field {key!r}" if "'" not in key else f"Duplicate field '{key}'"
                self._fault(message, begins=start)
            top.keys.add(key)
            pointer = f"{top.pointer}/{escape_pointer(key)}" if self.keep_offsets else ""
            self._note(pointer, start)
            self._skip()
            char = self._peek("Unexpected end-of-input within/between Object entries", top)
            if char != ":":
                self._fault(
                    f"Unexpected character ({_described(char)}): was expecting a colon to separate field name and value",
                    1,
                )
            self._at += 1
            self._skip()
        top.count += 1
        self._value(stack, pointer)

    def _value(self, stack: list[_Open], pointer: str) -> None:
        char = self._peek(
            "Unexpected end-of-input within/between Object entries" if stack else "No content to map", None
        )
        if char in "{[":
            if len(stack) >= limits.MAX_DEFINITION_DEPTH:
                raise SyntaxFault(TOO_DEEP, self._at, DiagnosticCode.TOO_DEEPLY_NESTED)
            stack.append(_Open("Object" if char == "{" else "Array", self._at, pointer))
            self._at += 1
        elif char == '"':
            self._at += 1
            self._string("string value")
        elif char in "-0123456789":
            self._number(char)
        elif char in _LITERALS and self.text.startswith(_LITERALS[char], self._at):
            self._literal(_LITERALS[char])
        else:
            self._odd_value(char)

    def _close(self, stack: list[_Open], char: str) -> None:
        top = stack.pop()
        expected = "}" if top.kind == "Object" else "]"
        if char != expected:
            start = _location(self.text, top.start)
            self._fault(
                f"Unexpected close marker '{char}': expected '{expected}' (for {top.kind} starting at {start})", 1
            )
        self._at += 1

    def _string(self, what: str) -> str:
        """The rest of a string, its opening quote consumed."""
        parts: list[str] = []
        text = self.text
        while True:
            match = _PLAIN.match(text, self._at)
            assert match is not None
            parts.append(match[0])
            self._at = match.end()
            if self._at >= len(text):
                self._fault(
                    "Unexpected end-of-input in field name"
                    if what == "name"
                    else "Unexpected end-of-input: was expecting closing quote for a string value"
                )
            char = text[self._at]
            self._at += 1
            if char == '"':
                return "".join(parts)
            if char != "\\":
                if char >= " ":
                    self._fault(f"Unpaired surrogate {_described(char)} in {what}", begins=self._at - 1)
                self._fault(
                    f"Illegal unquoted character ({_described(char)}): "
                    f"has to be escaped using backslash to be included in {what}",
                    begins=self._at - 1,
                )
            parts.append(self._escape(what))

    def _escape(self, what: str) -> str:
        if self._at >= len(self.text):
            self._fault("Unexpected end-of-input in character escape sequence")
        char = self.text[self._at]
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != "u":
            self._fault(f"Unrecognized character escape {_described(char)}", begins=self._at - 2)
        code = self._hex()
        if 0xD800 <= code < 0xDC00 and self.text.startswith("\\u", self._at):
            self._at += 2
            low = self._hex()
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        if 0xD800 <= code < 0xE000:
            self._fault(f"Unpaired surrogate \\u{code:04x} in {what}", begins=self._at - 6)
        return chr(code)

    def _hex(self) -> int:
        match = _HEX.match(self.text, self._at)
        if match is None:
            while self._at < len(self.text) and self.text[self._at] in "0123456789abcdefABCDEF":
                self._at += 1
            if self._at >= len(self.text):
                self._fault("Unexpected end-of-input in character escape sequence")
            char = self.text[self._at]
            self._fault(
                f"Unexpected character ({_described(char)}): expected a hex-digit for character escape sequence", 1
            )
        self._at = match.end()
        return int(match[0], 16)

    def _number(self, first: str) -> None:
        match = _NUMBER.match(self.text, self._at)
        if match is None:
            self._at += 1
            following = self.text[self._at : self._at + 1]
            if not following:
                self._fault("Unexpected end-of-input in numeric value")
            self._fault(
                f"Unexpected character ({_described(following)}) in numeric value: "
                "expected digit (0-9) to follow minus sign, for valid numeric value",
                1,
            )
        if number_out_of_range(match[0]):
            shown = match[0] if len(match[0]) <= _SHOWN_NUMBER_CHARS else match[0][:_SHOWN_NUMBER_CHARS] + "..."
            self._fault(f"Numeric value ({shown}) out of range")
        self._at = match.end()
        following = self.text[self._at : self._at + 1]
        if match[0] in ("0", "-0") and following.isdigit() and following.isascii():
            self._fault("Invalid numeric value: Leading zeroes not allowed", 1)
        if following == ".":
            self._fault("Decimal point not followed by a digit", 1)
        if following in ("e", "E"):
            self._fault("Exponent indicator not followed by a digit", 1)

    def _literal(self, word: str) -> None:
        self._at += len(word)
        following = self.text[self._at : self._at + 1]
        if following and _IDENTIFIER.match(following):
            self._at -= len(word)
            self._odd_value(word[0])

    def _odd_value(self, char: str) -> NoReturn:
        if _IDENTIFIER.match(char) and not char.isdigit():
            start = self._at
            while self._at < len(self.text) and _IDENTIFIER.match(self.text[self._at]):
                self._at += 1
            token = self.text[start : self._at]
            shown = token if len(token) <= _SHOWN_TOKEN_CHARS else token[:_SHOWN_TOKEN_CHARS] + "..."
            self._fault(f"Unrecognized token '{shown}': was expecting {_VALUES}", begins=start)
        if char < " ":
            self._fault(
                f"Illegal character ({_described(char)}): "
                "only regular white space (\\r, \\n, \\t) is allowed between tokens",
                1,
            )
        self._fault(f"Unexpected character ({_described(char)}): expected a valid value {_VALUES}", 1)

    def _odd_name(self, char: str) -> NoReturn:
        self._fault(f"Unexpected character ({_described(char)}): was expecting double-quote to start field name", 1)

    def _skip(self) -> int:
        match = _SPACE.match(self.text, self._at)
        assert match is not None
        self._at = match.end()
        return self._at

    def _peek(self, at_end: str, top: _Open | None) -> str:
        """The next character; at the end of the text the fault `at_end`, where `{start}` stands for where `top` began."""
        if self._at < len(self.text):
            return self.text[self._at]
        raise self._ended(at_end, top)

    def _ended(self, at_end: str, top: _Open | None) -> SyntaxFault:
        if top is not None and "{start}" in at_end:
            at_end = at_end.replace("{start}", _location(self.text, top.start))
        return SyntaxFault(at_end, self._at)

    def _note(self, pointer: str, offset: int) -> None:
        if self.keep_offsets:
            self.offsets[pointer] = offset

    def _fault(self, message: str, consumed: int = 0, *, begins: int | None = None) -> NoReturn:
        raise SyntaxFault(message, self._at + consumed, begins=self._at if begins is None else begins)


@dataclass
class _Open:
    """A container whose end has not been read."""

    kind: str
    start: int
    pointer: str
    count: int = 0
    keys: set[str] = field(default_factory=set)
