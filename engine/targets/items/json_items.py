"""Items of a JSON object: the elements of an array, one by one, however large it is; and JSON Lines.

The array is not parsed as a whole: its elements are cut out by looking for quotes and brackets, and only they are parsed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import read, write
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream, too_large
from stepwell.engine.targets.objects import ObjectError

NOT_ITERABLE: Final = "Attempting to map over non-iterable node."
"""AWS's words for a document that is no array."""
_SPACE: Final = b" \t\r\n"
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
    while (line := await stream.line()) is not None:
        text = line.strip()
        if text:
            yield _checked(text), stream.at


def _checked(text: bytes) -> bytes:
    """An item as compact JSON text, if it is JSON."""
    try:
        return write(read(text))
    except JsonTextError as error:
        raise ObjectError(f"An item is not valid JSON. {error}") from None


async def _peek(stream: Stream) -> bytes:
    """The next character that is not white space; it stays."""
    while True:
        space = len(stream.data) - len(stream.data.lstrip(_SPACE))
        stream.take(space)
        if stream.data:
            return bytes(stream.data[:1])
        if not await stream.fill():
            raise ObjectError("The object is not valid JSON: it ends too early.")


async def _next(stream: Stream) -> bool:
    """Go to the next element; False behind the last one."""
    mark = await _peek(stream)
    if mark not in (b",", b"]"):
        raise ObjectError(f"The object is not valid JSON: there is {mark!r} between two items (byte {stream.at}).")
    stream.take(1)
    if mark == b"]":
        return False
    await _peek(stream)
    return True


async def _value(stream: Stream) -> bytes:
    """Cut out the next value."""
    await _peek(stream)
    while (end := _end(stream.data)) is None:
        if len(stream.data) > MAX_ITEM_BYTES:
            raise too_large("that is read")
        if not await stream.fill():
            if (end := _end(stream.data + b" ")) is not None:
                break
            raise ObjectError("The object is not valid JSON: it ends too early.")
    return _checked(stream.take(end))


def _end(data: bytes | bytearray) -> int | None:
    """Where the value at the beginning ends; None if that is not known yet."""
    if data[:1] not in (b'"', b"[", b"{"):
        found = _SCALAR_END.search(data)
        return found.start() if found is not None else None
    depth = 0
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark == b'"':
            return None  # the string goes on behind what has been read
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
        if depth == 0:
            return token.end()
    return None


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
    if not index.isdecimal() or await _peek(stream) == b"]":
        return False
    for _ in range(int(index)):
        await _skip(stream)
        if await _peek(stream) != b",":
            return False
        stream.take(1)
    return True


async def _skip(stream: Stream) -> None:
    """Go behind a value of any size without keeping it."""
    mark = await _peek(stream)
    if mark not in (b"[", b"{"):
        await _value(stream)
        return
    depth = 0
    while True:
        done, depth = _closed(stream.data, depth)
        stream.take(done)
        if depth == 0:
            return
        if not await stream.fill():
            raise ObjectError("The object is not valid JSON: it ends too early.")


def _closed(data: bytearray, depth: int) -> tuple[int, int]:
    """How far brackets and strings are complete, at most to where all brackets are closed; and how many are open there."""
    done = 0
    for token in _TOKEN.finditer(data):
        if token[0] == b'"':
            return done, depth
        depth += (token[0] in (b"[", b"{")) - (token[0] in (b"]", b"}"))
        done = token.end()
        if depth == 0:
            return done, 0
    return len(data), depth
