"""Items of a JSON object: the elements of an array, one by one, however large it is; and JSON Lines.

The array is not parsed as a whole: its elements are cut out by looking for quotes and brackets, and only they are parsed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final, Protocol

from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import read, write
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream, too_large
from stepwell.engine.targets.objects import ObjectError

NOT_ITERABLE: Final = "Attempting to map over non-iterable node."
"""AWS's words for a document that is no array."""
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_OPENING: Final = (b'"', b"[", b"{")
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""What stands in a string, as far as it is there."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")
"""An index of JSON Pointer (RFC 6901, section 4); no array has more digits of them."""
_GLANCE_BYTES: Final = 16 * 1024
_LONG_ITEM: Final = 64 * 1024
_ELEMENTS_AT_ONCE: Final = 200
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|"|[\[\]{}]', re.DOTALL)
_SCALAR_END: Final = re.compile(rb"[,\]}\s]")


async def array_items(stream: Stream, pointer: str | None, *, resumed: bool) -> AsyncIterator[tuple[bytes, int]]:
    """The elements of the array at a JSON Pointer (RFC 6901), each with the place behind it. `resumed`: the stream stands behind an
    element. Raises `ObjectError`."""
    if not resumed:
        await _find(stream, pointer)
        if await _peek(stream) != b"[":
            raise ObjectError(NOT_ITERABLE)
        stream.take(1)
        if await _peek(stream) == b"]":
            return
    elif not await _next(stream):
        return
    while True:
        text = await _value(stream)
        yield text, stream.at
        if not await _next(stream):
            return


async def lines(stream: Stream) -> AsyncIterator[tuple[bytes, int]]:
    """The values of JSON Lines, each with the place behind it. Empty lines are left out. Raises `ObjectError`."""
    start = stream.at
    while (line := await stream.line()) is not None:
        text = line.strip()
        if text:
            yield await _checked(text, stream.name, start), stream.at
        start = stream.at


async def _checked(text: bytes, name: str, start: int) -> bytes:
    """An item as compact JSON text, if it is JSON; it stands in the object `name` from the byte `start` on."""
    return (
        await asyncio.to_thread(_compact, text, name, start) if len(text) > _LONG_ITEM else _compact(text, name, start)
    )


def _compact(text: bytes, name: str, start: int) -> bytes:
    try:
        return write(read(text))
    except JsonTextError as error:
        raise ObjectError(f"{name} holds an item that is not valid JSON, at byte {start}. {error}") from None


async def _peek(stream: Stream) -> bytes:
    """The next character that is not white space; it stays."""
    while True:
        space = _SPACE.match(stream.data)
        if space is not None and space.end():
            count = space.end()
            del space  # while it is there, the data cannot be shortened
            stream.take(count)
        if stream.data:
            return bytes(stream.data[:1])
        if not await stream.fill():
            raise ObjectError(f"{stream.name} is not valid JSON: it ends too early.")


async def _next(stream: Stream) -> bool:
    """Go to the next element; False behind the last one."""
    mark = await _peek(stream)
    if mark not in (b",", b"]"):
        raise ObjectError(f"{stream.name} is not valid JSON: there is {mark!r} between two items (byte {stream.at}).")
    stream.take(1)
    if mark == b"]":
        return False
    await _peek(stream)
    return True


async def _value(stream: Stream) -> bytes:
    """Cut out the next value."""
    start = stream.at
    return await _checked(stream.take(await _end(stream)), stream.name, start)


async def _end(stream: Stream) -> int:
    """Where the next value ends, all of which is read."""
    mark = await _peek(stream)
    scan = _Nested() if mark in _OPENING else _Scalar()
    while not await _over(scan, stream.data):
        if len(stream.data) > MAX_ITEM_BYTES:
            raise too_large(stream.name)
        if not await stream.fill():
            if isinstance(scan, _Scalar):
                break  # a number at the very end
            raise ObjectError(f"{stream.name} is not valid JSON: it ends too early.")
    if scan.at > MAX_ITEM_BYTES:
        raise too_large(stream.name)
    return scan.at


async def _over(scan: _Scan, data: bytearray) -> bool:
    """Look at what has been read: a little here and now, which most items are no longer than, the rest in a thread."""
    return scan.ended(data, scan.at + _GLANCE_BYTES) or (
        scan.at < len(data) and await asyncio.to_thread(scan.ended, data, len(data))
    )


class _Scan(Protocol):
    """Looks for the end of a value, going on from `at` when there is more of it."""

    at: int

    def ended(self, data: bytearray, end: int) -> bool:
        """Look on, up to `end`. Whether the value ends at `at` now."""


class _Scalar:
    """A number or a word. `at` is where it may end."""

    def __init__(self) -> None:
        self.at = 0

    def ended(self, data: bytearray, end: int) -> bool:
        found = _SCALAR_END.search(data, self.at, end)
        self.at = found.start() if found is not None else min(end, len(data))
        return found is not None


class _Nested:
    """A string, an array or an object, of which no character is looked at twice."""

    def __init__(self) -> None:
        self.at = 0
        self._depth = 0
        self._in_string = False

    def ended(self, data: bytearray, end: int) -> bool:
        end = min(end, len(data))
        while self.at < end:
            if self._in_string:
                inside = _INSIDE.match(data, self.at, end)
                assert inside is not None  # it matches nothing, too
                self.at = inside.end()
                if not data.startswith(b'"', self.at, end):
                    return False  # the end, or a backslash in front of it
                self.at, self._in_string = self.at + 1, False
                if self._depth == 0:
                    return True
            for token in _TOKEN.finditer(data, self.at, end):
                mark = token[0]
                self.at = token.end()
                if mark in (b"[", b"{"):
                    self._depth += 1
                elif mark in (b"]", b"}"):
                    self._depth -= 1
                elif mark == b'"':
                    self.at, self._in_string = token.start() + 1, True
                    break
                if self._depth == 0:
                    return True
            else:
                self.at = end
        return False

    def forget(self, count: int) -> None:
        """What has been looked at was taken out of the data."""
        self.at -= count


async def _find(stream: Stream, pointer: str | None) -> None:
    """Go to what a JSON Pointer names, forgetting what lies before it."""
    if await _peek(stream) == b"\xef":  # a byte order mark
        await stream.at_least(3)
        stream.take(3)
    for part in (pointer or "").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        mark = await _peek(stream)
        stream.take(1)
        found = mark in (b"{", b"[") and await (_member(stream, name) if mark == b"{" else _element(stream, name))
        if not found:
            raise ObjectError(f"The ItemsPointer '{pointer}' leads to nothing in the object.")


async def _member(stream: Stream, name: str) -> bool:
    while await _peek(stream) == b'"':
        key = await _value(stream)
        if await _peek(stream) != b":":
            return False
        stream.take(1)
        if read(key) == name:
            return True
        await _skip(stream)
        if await _peek(stream) != b",":
            return False
        stream.take(1)
    return False


async def _element(stream: Stream, index: str) -> bool:
    if not _INDEX.fullmatch(index) or await _peek(stream) == b"]":
        return False
    for number in range(int(index)):
        await _skip(stream)
        if await _peek(stream) != b",":
            return False
        stream.take(1)
        if number % _ELEMENTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return True


async def _skip(stream: Stream) -> None:
    """Go behind a value of any size without keeping it."""
    if await _peek(stream) not in _OPENING:
        stream.take(await _end(stream))
        return
    scan = _Nested()
    while not await _over(scan, stream.data):
        stream.take(scan.at)
        scan.forget(scan.at)
        if not await stream.fill():
            raise ObjectError(f"{stream.name} is not valid JSON: it ends too early.")
    stream.take(scan.at)
