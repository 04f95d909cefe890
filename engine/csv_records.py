r"""Records of CSV text as AWS reads them: a JSON object of strings for each row.

Every value is a string, a missing one is empty, one beyond the headers is left out; a quote within quotes is written twice, and
a backslash stands for nothing but that the next character is meant as it is (AWS guide, ItemReader). It must not know where the
text comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from stepwell.engine.jsontypes import Json, write
from stepwell.engine.limits import MAX_CSV_HEADER_BYTES

_DELIMITERS: Final = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
_QUOTED: Final = re.compile(r'[^"\\]*')
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")


class OpenQuoteError(Exception):
    """The text ends within quotes; `row` counts from 1."""

    def __init__(self, row: int) -> None:
        super().__init__(f"a quote in row {row} is not closed")


class UnfitConfigError(Exception):
    """A ReaderConfig holds what no CSV can be read by; its message is for the user."""


def delimiter_of(config: Mapping[str, Json]) -> str:
    """The character that a ReaderConfig names. Raises `UnfitConfigError`."""
    name = config.get("CSVDelimiter") or "COMMA"
    if not isinstance(name, str) or name not in _DELIMITERS:
        raise UnfitConfigError(f"The CSVDelimiter {name!r} is none of {', '.join(_DELIMITERS)}.")
    return _DELIMITERS[name]


def headers_of(config: Mapping[str, Json]) -> list[str] | None:
    """The headers that a ReaderConfig gives; None if they are the first row. Raises `UnfitConfigError`."""
    place = config.get("CSVHeaderLocation") or "FIRST_ROW"
    if place not in ("FIRST_ROW", "GIVEN"):
        raise UnfitConfigError(f"The CSVHeaderLocation {place!r} is none of FIRST_ROW, GIVEN.")
    if place == "FIRST_ROW":
        return None
    names = config.get("CSVHeaders")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UnfitConfigError("The CSVHeaderLocation is GIVEN, and CSVHeaders is no array of strings.")
    if len(",".join(map(str, names)).encode(errors="replace")) > MAX_CSV_HEADER_BYTES:
        raise UnfitConfigError(f"The CSVHeaders are larger than {MAX_CSV_HEADER_BYTES} bytes.")
    return [str(name) for name in names]


def records_in(text: str, delimiter: str) -> Iterator[list[str]]:
    """The values of each record; none for an empty line. Raises `OpenQuoteError`."""
    lines = (line[0] for line in _LINE.finditer(text))
    for number, line in enumerate(lines, 1):
        record = Record(delimiter)
        if not line.rstrip("\r\n"):
            yield []
            continue
        while not record.feed(line):
            following = next(lines, None)
            if following is None:
                raise OpenQuoteError(number)
            line = following
        yield record.values


def row(names: Sequence[str], values: Sequence[str]) -> bytes:
    """A record as the JSON text of an object."""
    padded = [*values, *[""] * (len(names) - len(values))]
    return write(dict(zip(names, padded, strict=False)))


class Record:
    """A record that is put together line by line; each character is looked at once. Values beyond `most` are left out."""

    def __init__(self, delimiter: str, most: int | None = None) -> None:
        self.values: list[str] = []
        self._most = most
        self._delimiter = delimiter
        self._value: list[str] = []
        self._quoted = False

    def feed(self, line: str) -> bool:
        """Take the next line with its end; False if a quote is open there."""
        unquoted = _unquoted(self._delimiter)
        body = len(line.rstrip("\r\n"))
        at = 0
        fresh = not self._quoted
        while True:
            if self._quoted:
                found = _QUOTED.match(line, at)
            elif fresh and line.startswith('"', at):
                self._quoted, fresh, at = True, False, at + 1
                continue
            else:
                found = unquoted.match(line, at, body)
            assert found is not None  # both match nothing, too
            self._value.append(found[0])
            at, fresh = found.end(), False
            if at >= (len(line) if self._quoted else body):
                break
            if line[at] == "\\":
                end = min(at + 2, len(line) if self._quoted else body)
                self._value.append(line[at + 1 : end])
                at = end
            elif not self._quoted:  # a delimiter
                self._end_value()
                at, fresh = at + 1, True
            elif line.startswith('""', at):
                self._value.append('"')
                at += 2
            else:
                self._quoted, at = False, at + 1
        if not self._quoted:
            self._end_value()
        return not self._quoted

    def _end_value(self) -> None:
        if self._most is None or len(self.values) < self._most:
            self.values.append("".join(self._value))
        self._value.clear()


@cache
def _unquoted(delimiter: str) -> re.Pattern[str]:
    return re.compile(rf"[^\\{re.escape(delimiter)}]*")
