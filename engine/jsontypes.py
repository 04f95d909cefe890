"""JSON values and their text: the `Json` alias, reading, writing, and `Document`, a value that knows its own text.

The only importer of the JSON library (msgspec) for user data. It must not know what the data means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from stepwell.engine.errors import JsonTextError

Json: TypeAlias = "str | int | float | bool | None | Mapping[str, Json] | Sequence[Json]"
"""User data. Values are shared freely between states and never mutated in place."""

MAX_DEPTH: Final = 400
"""Levels of nesting a document may have. Far above what people write, far below what recursion stands."""

TOO_DEEP: Final = f"it is nested too deeply; at most {MAX_DEPTH} levels are accepted"

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder()

_MAX_DIGITS: Final = 4300
"""Digits of a whole number that the JSON library reads."""
_SHOWN_CHARS: Final = 24
_BYTE: Final = re.compile(r" \(byte ([0-9]+)\)$")
"""How the JSON library tells the place of a fault."""
_NUMBER_OR_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|(-?[0-9][0-9.eE+-]*+)', re.DOTALL)
_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


class Fault(NamedTuple):
    """What is wrong with a text, as the end of a sentence, and where; lines and columns (characters) count from 1."""

    what: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.what if self.line is None else f"{self.what} (line {self.line}, column {self.column})"


def fault_of(text: str | bytes, error: Exception) -> Fault:
    """What is wrong with a text that the JSON library refused with `error`."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    what = _fault_words(raw, error)
    place = _BYTE.search(what)
    if place is None:
        return Fault(what)
    return Fault(what[: place.start()], *place_of(raw, int(place[1])))


def place_of(raw: bytes, offset: int) -> tuple[int, int]:
    """Line and column of a byte."""
    begin = raw.rfind(b"\n", 0, offset) + 1
    return raw.count(b"\n", 0, begin) + 1, len(raw[begin:offset].decode("utf-8", "replace")) + 1


def too_deep_at(raw: bytes) -> int | None:
    """The byte at which a text goes deeper than `MAX_DEPTH`; None if it does not. Without recursion."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return None
    depth = 0
    quoted = escaped = False
    for offset, byte in enumerate(raw):
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return offset
        elif byte in b"]}":
            depth -= 1
    return None


def _fault_words(raw: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        offset = too_deep_at(raw)
        return TOO_DEEP if offset is None else f"{TOO_DEEP} (byte {offset})"
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return f"byte 0x{raw[wrong.start]:02x} is not UTF-8 (byte {wrong.start})"
    message = str(error)
    if not raw.strip():
        return "there is nothing in it"
    if "surrogate" in message or "truncated" in message:
        lone = next((found for found in _SURROGATE.finditer(raw) if found[1]), None)
        if lone is not None:
            return f"unpaired surrogate {lone[1].decode()} (byte {lone.start()})"
    if "truncated" in message:
        return f"it ends too early (byte {len(raw)})"
    if "out of range" in message:
        number = next(
            (found for found in _NUMBER_OR_STRING.finditer(raw) if found[1] and number_out_of_range(found[1])), None
        )
        if number is not None:
            shown = number[1].decode()
            shown = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."
            return f"the number {shown} is out of range (byte {number.start()})"
    return message.removeprefix("JSON is malformed: ").partition(" - at `$")[0]


def number_out_of_range(number: str | bytes) -> bool:
    """Whether a JSON number is one that cannot be held: too large for a double, or with too many digits."""
    if number.isdigit() or number[1:].isdigit():
        return len(number) > _MAX_DIGITS
    try:
        return float(number) in (float("inf"), float("-inf"))
    except ValueError:
        return False


def read(text: str | bytes) -> Json:
    """Parse JSON text. Raises `JsonTextError` for anything that is not one JSON value of acceptable depth."""
    try:
        return cast(Json, _decoder.decode(text))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        fault = fault_of(text, error)
        raise JsonTextError(f"The text is not valid JSON: {fault}.", fault.line, fault.column) from None


def write(value: Json) -> bytes:
    """Compact JSON text (UTF-8) of a value. Raises `JsonTextError` where a value has no JSON text."""
    try:
        return _encoder.encode(value)
    except (UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise JsonTextError(f"The value cannot be written as JSON: {error}.") from None


def write_text(value: Json) -> str:
    """Compact JSON text of a value as `str`."""
    return write(value).decode()


def spaced(text: bytes) -> str:
    """The same JSON text on one line, with spaces after commas and colons."""
    return msgspec.json.format(text, indent=0).decode()


class Document:
    """A JSON value and its UTF-8 text; each is computed from the other at most once, when first asked for.

    Data that passes through states untouched is therefore neither parsed nor written again, and its text keeps the
    sender's own whitespace.
    """

    __slots__ = ("_text", "_value")

    def __init__(self, value: Any = msgspec.UNSET, text: bytes | None = None) -> None:
        self._value = value
        self._text = text

    @classmethod
    def of(cls, value: Json) -> Document:
        """A document for a value already parsed."""
        return cls(value)

    @classmethod
    def parse(cls, text: str | bytes) -> Document:
        """A document for text that comes from outside: parsed and checked at once. Raises `JsonTextError`."""
        raw = text.encode() if isinstance(text, str) else bytes(text)
        return cls(read(raw), raw)

    @classmethod
    def trusted(cls, text: bytes) -> Document:
        """A document for text the engine itself wrote or checked; parsed only when its value is asked for."""
        return cls(text=text)

    @property
    def value(self) -> Json:
        """The parsed value. Never mutate it."""
        if self._value is msgspec.UNSET:
            self._value = _decoder.decode(cast(bytes, self._text))
        return cast(Json, self._value)

    @property
    def text(self) -> bytes:
        """The UTF-8 text. Raises `JsonTextError` for a computed value that has none."""
        if self._text is None:
            self._text = write(self._value)
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Document({self.text[:80]!r})"


EMPTY_OBJECT: Final = Document({}, b"{}")
