r"""Items of a CSV object: a JSON object of strings for each row.

As AWS reads it: every value is a string, a missing one is empty, one beyond the headers is left out; a quote within quotes is
written twice, and a backslash stands for nothing but that the next character is meant as it is (AWS guide, ItemReader).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Final

from stepwell.engine.jsontypes import write
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream, too_large
from stepwell.engine.targets.objects import ObjectError

DELIMITERS: Final = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
_QUOTED: Final = re.compile(r'[^"\\]*')
_LONG_LINE: Final = 32 * 1024


async def rows(stream: Stream, delimiter: str, headers: Sequence[str]) -> AsyncIterator[tuple[bytes, int]]:
    """The rows from where the stream stands, each with the place behind it. Raises `ObjectError`."""
    names = list(headers)
    while (values := await record(stream, delimiter)) is not None:
        if values:
            padded = [*values, *[""] * (len(names) - len(values))]
            yield write(dict(zip(names, padded, strict=False))), stream.at


async def record(stream: Stream, delimiter: str) -> list[str] | None:
    """The values of the next record, which may go over several lines; none for an empty line, None at the end."""
    start = stream.at
    line = await stream.line()
    if line is None:
        return None
    if b'"' not in line and b"\\" not in line:
        text = _decoded(line, start).rstrip("\r\n")
        return text.split(delimiter) if text else []
    row = _Row(delimiter)
    while not await _fed(row, _decoded(line, start)):
        line = await stream.line()
        if line is None:
            raise ObjectError(f"{stream.name} cannot be read as CSV: a quote in the row at byte {start} is not closed.")
        if stream.at - start > MAX_ITEM_BYTES:
            raise too_large(f"{stream.name}, in the row at byte {start} (is a quote not closed there?),")
    return row.values


def _decoded(line: bytes, start: int) -> str:
    try:
        return line.decode("utf-8" if start else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ObjectError(f"The row at byte {start} is not UTF-8: {error.reason}.") from None


async def _fed(row: _Row, text: str) -> bool:
    return await asyncio.to_thread(row.feed, text) if len(text) > _LONG_LINE else row.feed(text)


class _Row:
    """A record that is put together line by line; each character is looked at once."""

    def __init__(self, delimiter: str) -> None:
        self.values: list[str] = []
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
        self.values.append("".join(self._value))
        self._value.clear()


@cache
def _unquoted(delimiter: str) -> re.Pattern[str]:
    return re.compile(rf"[^\\{re.escape(delimiter)}]*")
