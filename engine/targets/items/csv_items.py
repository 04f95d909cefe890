"""Items of a CSV object: a JSON object of strings for each row.

As AWS reads it: every value is a string, a missing one is empty, one beyond the headers is left out (AWS guide, ItemReader).
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stepwell.engine.jsontypes import write
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream, too_large
from stepwell.engine.targets.objects import ObjectError

DELIMITERS: Final = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
csv.field_size_limit(MAX_ITEM_BYTES)
_GOES_ON: Final = "unexpected end of data"
"""What the library says of a record whose quotes are open at its end."""


async def rows(stream: Stream, delimiter: str, headers: Sequence[str]) -> AsyncIterator[tuple[bytes, int]]:
    """The rows from where the stream stands, each with the place behind it. Raises `ObjectError`."""
    names = list(headers)
    while (values := await record(stream, delimiter)) is not None:
        if values:
            padded = [*values, *[""] * (len(names) - len(values))]
            yield write(dict(zip(names, padded, strict=False))), stream.at


async def record(stream: Stream, delimiter: str) -> list[str] | None:
    """The values of the next record, which may go over several lines; none for an empty line, None at the end."""
    text = b""
    while (line := await stream.line()) is not None:
        text += line
        if len(text) > MAX_ITEM_BYTES:
            raise too_large("that is read")
        try:
            return _values(text.decode("utf-8-sig" if stream.at == len(text) else "utf-8"), delimiter)
        except UnicodeDecodeError as error:
            raise ObjectError(f"A row is not UTF-8 (before byte {stream.at}): {error.reason}.") from None
        except csv.Error as error:
            if _GOES_ON not in str(error):
                raise ObjectError(f"A row cannot be read as CSV (before byte {stream.at}): {error}.") from None
    return _values(text.decode("utf-8", "replace") + '"', delimiter) if text else None


def _values(text: str, delimiter: str) -> list[str]:
    """The values of one record. Raises `csv.Error` where a quoted value goes on in the next line."""
    if '"' not in text:
        text = text.rstrip("\r\n")
        return text.split(delimiter) if text else []
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if _GOES_ON in str(error):
            raise
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
