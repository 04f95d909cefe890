"""Items of a Parquet object: a JSON object for each row, one batch of rows in memory at a time. Needs `stepwell[parquet]`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from stepwell.engine.jsontypes import Json, write
from stepwell.engine.targets.objects import ObjectError, RandomAccess

BATCH_ROWS: Final = 500
_BUFFER_BYTES: Final = 1024 * 1024


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


async def rows(access: RandomAccess, start: int) -> AsyncIterator[tuple[bytes, int]]:
    """The rows from number `start` on, each with the number of the next one. Raises `ObjectError`."""
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise ObjectError("This engine cannot read Parquet: install `stepwell[parquet]`.") from None
    try:
        file = await asyncio.to_thread(parquet.ParquetFile, io.BufferedReader(_Ranges(access), _BUFFER_BYTES))
        batches = _batches(file, start)
        number = start
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            for row in batch:
                number += 1
                yield write(row), number
    except (OSError, ValueError, KeyError) as error:
        raise ObjectError(f"The object cannot be read as Parquet: {error}.") from None


def _batches(file: Any, start: int) -> Iterator[list[Json]]:
    """Batches of rows; row groups that lie before the start are not read."""
    skip = start
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if skip >= count:
            skip -= count
            continue
        for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
            rows = batch.slice(min(skip, batch.num_rows)).to_pylist()
            skip = max(skip - batch.num_rows, 0)
            if rows:
                yield [_json(row) for row in rows]


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
