"""Items of a Parquet object: a JSON object for each row, one batch of rows in memory at a time. Needs `stepwell[parquet]`."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from stepwell.engine.jsontypes import Json, write
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, too_large
from stepwell.engine.targets.objects import ObjectError, RandomAccess, in_thread

BATCH_ROWS: Final = 500
MAX_GROUP_BYTES: Final = 256 * 1024 * 1024
MAX_FOOTER_BYTES: Final = 5 * 1024 * 1024
"""What AWS reads at most (AWS guide, Distributed Map, Parquet)."""
_BUFFER_BYTES: Final = 1024 * 1024
_BATCH_BYTES: Final = 32 * 1024 * 1024
_PAGE_BYTES: Final = 4 * 1024 * 1024


class _Ranges(io.RawIOBase):
    """An object as a file that can be sought in."""

    def __init__(self, access: RandomAccess) -> None:
        self._access = access
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._access.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._access.read_range(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


async def rows(access: RandomAccess, start: int, name: str) -> AsyncIterator[tuple[bytes, int]]:
    """The rows from number `start` on, each with the number of the next one. Raises `ObjectError`."""
    pages = _pages(access, start, name)
    number = start
    while page := await in_thread(next, pages, None):
        for text in page:
            number += 1
            yield text, number


def _pages(access: RandomAccess, start: int, name: str) -> Iterator[list[bytes]]:
    """Some rows at a time. The library has errors of many kinds for files that are broken or hold what it cannot read."""
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise ObjectError("This engine cannot read Parquet: install `stepwell[parquet]`.") from None
    try:
        _check_footer(access, name)
        file = parquet.ParquetFile(io.BufferedReader(_Ranges(access), _BUFFER_BYTES), pre_buffer=False)
        page: list[bytes] = []
        size = 0
        for row in _rows(file, start, name):
            text = write(_json(row))
            if len(text) > MAX_ITEM_BYTES:
                raise too_large(name)
            page.append(text)
            size += len(text)
            if len(page) == BATCH_ROWS or size > _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page
    except ObjectError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        raise ObjectError(f"{name} cannot be read as Parquet: {type(error).__name__}: {reason}") from error


def _check_footer(access: RandomAccess, name: str) -> None:
    """Refuse metadata larger than AWS reads, before they are."""
    end = access.read_range(max(access.size - 8, 0), 8)
    if len(end) < 8 or not end.endswith(b"PAR1"):
        raise ObjectError(f"{name} cannot be read as Parquet: it does not end as such a file does.")
    if int.from_bytes(end[:4], "little") > MAX_FOOTER_BYTES:
        raise ObjectError(f"{name} cannot be read as Parquet: its footer is larger than {MAX_FOOTER_BYTES} bytes.")


def _rows(file: Any, start: int, name: str) -> Iterator[Any]:
    """The rows; row groups that lie before the start are not read."""
    skip = start
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if skip >= group.num_rows:
            skip -= group.num_rows
            continue
        if group.total_byte_size > MAX_GROUP_BYTES:
            raise ObjectError(
                f"{name} cannot be read as Parquet: row group {number} is larger than {MAX_GROUP_BYTES} bytes."
            )
        for batch in file.iter_batches(batch_size=_batch_rows(group), row_groups=[number]):
            yield from batch.slice(min(skip, batch.num_rows)).to_pylist()
            skip = max(skip - batch.num_rows, 0)


def _batch_rows(group: Any) -> int:
    """How many rows are decoded at once: as many as surely fit, if one counts the values of dictionaries as often as they may occur."""
    size = group.total_byte_size / max(group.num_rows, 1)
    for number in range(group.num_columns):
        column = group.column(number)
        if column.has_dictionary_page and column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            size += column.total_uncompressed_size
    return max(min(BATCH_ROWS, int(_BATCH_BYTES / max(size, 1))), 1)


def _json(value: Any) -> Json:
    """A value of Parquet as JSON: what JSON has no type for is shown as text."""
    match value:
        case dict():
            return {str(name): _json(each) for name, each in value.items()}
        case list() | tuple():
            return [_json(each) for each in value]
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)
