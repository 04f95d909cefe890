"""The helper process that decodes Parquet, within limits of its own: what a small file decodes to has no bounds.

`python -m stepwell.engine.targets.items.parquet_process BYTES`. It has no access to storage: it asks the engine for the bytes of the
object it reads. Frames to it: OPEN with the object's size and the number of its first row, NEXT; from it: READ with offset and length,
which is answered by a frame of bytes, PAGE with JSON texts of rows, DONE, LARGE for a row that is larger than an item may be, and
FAULT with what is wrong.
"""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

import msgspec

from stepwell.engine.helper_processes import limit_memory, limit_processor, own_channel, receive, send
from stepwell.engine.jsontypes import Json, write

OPEN: Final = b"O"
NEXT: Final = b"N"
READ: Final = b"R"
PAGE: Final = b"P"
DONE: Final = b"D"
LARGE: Final = b"L"
FAULT: Final = b"F"

PAGE_SECONDS: Final = 60
"""Processor time that one page of rows may take, with the rows before it that are passed over."""
BATCH_ROWS: Final = 500
MAX_GROUP_BYTES: Final = 256 * 1024 * 1024
MAX_FOOTER_BYTES: Final = 5 * 1024 * 1024
"""What AWS reads at most (AWS guide, Distributed Map, Parquet)."""
MAX_ITEM_BYTES: Final = 8 * 1024 * 1024
MAX_READ_BYTES: Final = 4 * 1024 * 1024
"""What is asked for at once."""
_BUFFER_BYTES: Final = 1024 * 1024
_BATCH_BYTES: Final = 32 * 1024 * 1024
_PAGE_BYTES: Final = 4 * 1024 * 1024


class ParquetError(Exception):
    """The object cannot be read as Parquet; the message says why."""


class TooLargeError(Exception):
    """A row is larger than an item may be."""


def main(memory: int) -> None:
    """Answer until the engine closes the socket."""
    channel = own_channel()
    try:
        import_module("pyarrow.parquet")
    except ImportError:
        send(channel, FAULT)
        return
    import_module("pyarrow").set_cpu_count(1)
    send(channel, DONE)
    limit_memory(memory)
    found: Iterator[list[bytes]] = iter(())
    while (frame := receive(channel)) is not None:
        limit_processor(PAGE_SECONDS)
        try:
            if frame.startswith(OPEN):
                size, start = msgspec.msgpack.decode(frame[1:], type=tuple[int, int])
                found = pages(Ranges(size, lambda at, length: _asked(channel, at, length)), start)
            page = next(found, None)
            answer = DONE if page is None else PAGE + msgspec.msgpack.encode(page)
        except TooLargeError:
            answer = LARGE
        except ParquetError as error:
            answer = FAULT + str(error).encode("utf-8", "replace")
        except MemoryError:
            return  # nothing can be relied on any more; that the process ends tells why
        send(channel, answer)


def _asked(channel: socket.socket, at: int, length: int) -> bytes:
    send(channel, READ + msgspec.msgpack.encode((at, min(length, MAX_READ_BYTES))))
    data = receive(channel)
    if data is None:
        raise SystemExit  # the engine has gone
    return data


class Ranges(io.RawIOBase):
    """An object as a file that can be sought in: `read` gives at most so many bytes from an offset on."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self.size = size
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(self.size - self._at, 0))
        data = self._read(self._at, length) if length else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def pages(source: Ranges, start: int) -> Iterator[list[bytes]]:
    """Some rows at a time, from number `start` on. The library has errors of many kinds for files that are broken or hold what it
    cannot read. Raises `ParquetError`, `TooLargeError`, and `MemoryError` where the process has too little of it."""
    import pyarrow as pa  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]

    try:
        _check_footer(source)
        opened = io.BufferedReader(source, _BUFFER_BYTES)
        file = parquet.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        page: list[bytes] = []
        size = 0
        for row in _rows(file, start):
            text = write(_json(row))
            if len(text) > MAX_ITEM_BYTES:
                raise TooLargeError
            page.append(text)
            size += len(text)
            if len(page) == BATCH_ROWS or size > _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page
    except (ParquetError, TooLargeError):
        raise
    except (MemoryError, pa.lib.ArrowMemoryError) as error:
        raise MemoryError from error
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        raise ParquetError(f"{type(error).__name__}: {reason}") from error


def _check_footer(source: Ranges) -> None:
    """Refuse metadata larger than AWS reads, before they are."""
    source.seek(max(source.size - 8, 0))
    end = source.read(8) or b""
    if len(end) < 8 or not end.endswith(b"PAR1"):
        raise ParquetError("it does not end as such a file does.")
    if int.from_bytes(end[:4], "little") > MAX_FOOTER_BYTES:
        raise ParquetError(f"its footer is larger than {MAX_FOOTER_BYTES} bytes.")
    source.seek(0)


def _rows(file: Any, start: int) -> Iterator[Any]:
    """The rows; row groups that lie before the start are not read."""
    skip = start
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if skip >= group.num_rows:
            skip -= group.num_rows
            continue
        if _group_bytes(group) > MAX_GROUP_BYTES:
            raise ParquetError(f"row group {number} is larger than {MAX_GROUP_BYTES} bytes.")
        for batch in file.iter_batches(batch_size=batch_rows(group), row_groups=[number], use_threads=False):
            yield from batch.slice(min(skip, batch.num_rows)).to_pylist()
            skip = max(skip - batch.num_rows, 0)


def _group_bytes(group: Any) -> int:
    """What a row group is decompressed to, as it says itself."""
    columns = sum(group.column(number).total_uncompressed_size for number in range(group.num_columns))
    return max(int(group.total_byte_size), int(columns))


def batch_rows(group: Any) -> int:
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


if __name__ == "__main__":
    main(int(sys.argv[1]))
