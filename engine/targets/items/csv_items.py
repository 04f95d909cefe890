"""Items of a CSV object: a JSON object of strings for each row, as `engine.csv_records` reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stepwell.engine.csv_records import Record, row
from stepwell.engine.limits import MAX_CSV_HEADER_BYTES
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream, too_large
from stepwell.engine.targets.objects import ObjectError

_LONG_LINE: Final = 32 * 1024


async def headers(stream: Stream, delimiter: str) -> list[str]:
    """The names that the first row gives; none if there is none. Raises `ObjectError`."""
    names = await record(stream, delimiter, MAX_CSV_HEADER_BYTES)
    if stream.at > MAX_CSV_HEADER_BYTES:
        raise ObjectError(
            f"{stream.name} cannot be read as CSV: its headers are larger than {MAX_CSV_HEADER_BYTES} bytes."
        )
    return names or []


async def rows(stream: Stream, delimiter: str, headers: Sequence[str]) -> AsyncIterator[tuple[bytes, int]]:
    """The rows from where the stream stands, each with the place behind it. Raises `ObjectError`."""
    names = list(headers)
    while (values := await record(stream, delimiter, len(names))) is not None:
        if values:
            text = row(names, values)
            if len(text) > MAX_ITEM_BYTES:
                raise too_large(stream.name)
            yield text, stream.at


async def record(stream: Stream, delimiter: str, most: int) -> list[str] | None:
    """The values of the next record, which may go over several lines; none for an empty line, None at the end. Of values beyond
    `most` there may be as many as there are, or one that holds them all."""
    start = stream.at
    line = await stream.line()
    if line is None:
        return None
    if b'"' not in line and b"\\" not in line:
        text = _decoded(line, stream.name, start).rstrip("\r\n")
        return text.split(delimiter, most) if text else []
    found = Record(delimiter, most)
    while not await _fed(found, _decoded(line, stream.name, start)):
        line = await stream.line()
        if line is None:
            raise ObjectError(f"{stream.name} cannot be read as CSV: a quote in the row at byte {start} is not closed.")
        if stream.at - start > MAX_ITEM_BYTES:
            raise too_large(f"{stream.name}, in the row at byte {start} (is a quote not closed there?),")
    return found.values


def _decoded(line: bytes, name: str, start: int) -> str:
    try:
        return line.decode("utf-8" if start else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ObjectError(
            f"{name} cannot be read as CSV: the row at byte {start} is not UTF-8 ({error.reason}). Save it as UTF-8."
        ) from None


async def _fed(record: Record, text: str) -> bool:
    return await asyncio.to_thread(record.feed, text) if len(text) > _LONG_LINE else record.feed(text)
