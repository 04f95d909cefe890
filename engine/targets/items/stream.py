"""An object's text as a stream that knows how far it is: decompressed by its name, read from any place on, in bounded memory."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Final, Protocol

import zstandard

from stepwell.engine.targets import objects
from stepwell.engine.targets.objects import ANY, Demand, ObjectError, ObjectReader, Objects, named

MAX_ITEM_BYTES: Final = 8 * 1024 * 1024
"""An item may be no larger before ItemSelector (AWS guide, Distributed Map)."""
MAX_WINDOW_BYTES: Final = 128 * 1024 * 1024
"""What a frame of Zstandard may ask for to be decompressed; the most that `zstd` itself takes without being told."""
_ZSTD_SLICE: Final = 256
"""A block takes four bytes at least and makes 128 KiB at most: no more than 8 MiB come out of a slice."""
_LINES_AT_ONCE: Final = 500


class Stream:
    """`data` holds what has been read and not been taken; `at` is the place of its first byte in the decompressed object."""

    def __init__(self, reader: ObjectReader, bucket: str, key: str) -> None:
        self._reader = reader
        self._decompressor = _decompressor(key)
        self.name = named(bucket, key)
        self.version = reader.version
        self.data = bytearray()
        self.at = 0
        self.ended = False
        self._lines = 0

    @classmethod
    async def open(
        cls, objects: Objects, bucket: str, key: str, at: int = 0, version: str | None = None, demand: Demand = ANY
    ) -> Stream:
        """Open an object at a byte of its decompressed text. Raises `ObjectError`."""
        compressed = _decompressor(key) is not None
        stream = cls(await objects.open(bucket, key, 0 if compressed else at, version, demand), bucket, key)
        if not compressed:
            stream.at = at
            return stream
        try:
            while stream.at < at and (stream.data or await stream.fill()):
                stream.take(min(len(stream.data), at - stream.at))
        except BaseException:
            await stream.close()
            raise
        return stream

    async def fill(self) -> bool:
        """Read on, some hundred kilobytes; False at the end. Raises `ObjectError`."""
        if self.ended:
            return False
        chunk = await self._reader.read() if self._decompressor is None else await self._decompressed()
        self.ended = not chunk
        self.data += chunk
        return not self.ended

    async def _decompressed(self) -> bytes:
        """The next chunk; empty at the end."""
        decompressor = self._decompressor
        assert decompressor is not None
        while True:
            try:
                text = await asyncio.to_thread(decompressor.more)
            except (zlib.error, zstandard.ZstdError) as error:
                raise ObjectError(f"{self.name} cannot be decompressed: {error}.") from None
            if text:
                return text
            compressed = await self._reader.read()
            if not compressed:
                if not decompressor.complete:
                    raise ObjectError(f"{self.name} cannot be decompressed: it ends too early.")
                return b""
            decompressor.feed(compressed)

    def take(self, count: int) -> bytes:
        """Take the first bytes of what has been read."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        self.at += count
        return taken

    async def at_least(self, count: int) -> bool:
        """Read until so much is there; False if the object ends before."""
        while len(self.data) < count:
            if not await self.fill():
                return False
        return True

    async def line(self) -> bytes | None:
        """The next line with its end; None at the end of the object."""
        self._lines += 1
        if self._lines % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)  # a chunk may hold a hundred thousand lines that are no items
        searched = 0
        while (end := self.data.find(b"\n", searched)) < 0:
            searched = len(self.data)
            if searched > MAX_ITEM_BYTES:
                raise too_large(self.name)
            if not await self.fill():
                return self.take(len(self.data)) if self.data else None
        return self.take(end + 1)

    async def close(self) -> None:
        """Let go of the object."""
        await self._reader.close()


def too_large(name: str) -> ObjectError:
    """The error for an item that is longer than an item may be."""
    return ObjectError(f"{name} holds an item larger than {MAX_ITEM_BYTES} bytes.")


class _Decompressor(Protocol):
    """Compressed bytes go in; text comes out in pieces, however much there is of it. Several members follow one another."""

    complete: bool
    """Whether the last member has been there to its end."""

    def feed(self, compressed: bytes) -> None:
        """Give the next bytes; only after `more` has had nothing."""

    def more(self) -> bytes:
        """The next piece of text; empty if more bytes are needed."""


class _Gzip:
    def __init__(self) -> None:
        self._member: Any = None
        self._rest = b""
        self.complete = True

    def feed(self, compressed: bytes) -> None:
        self._rest += compressed

    def more(self) -> bytes:
        while self._member is not None or (rest := self._rest.lstrip(b"\0")):  # padding between members is no data
            if self._member is None:
                self._member, self._rest, self.complete = zlib.decompressobj(wbits=31), rest, False
            text: bytes = self._member.decompress(self._rest, objects.CHUNK_BYTES)
            self._rest = self._member.unconsumed_tail
            if self._member.eof:
                self._rest, self._member, self.complete = self._member.unused_data, None, True
            elif not text:
                return b""
            if text:
                return text
        self._rest = b""
        return b""


class _Zstandard:
    def __init__(self) -> None:
        self._frame: Any = None
        self._compressed = b""
        self._at = 0
        self.complete = True

    def feed(self, compressed: bytes) -> None:
        self._compressed, self._at = compressed, 0

    def more(self) -> bytes:
        text = bytearray()
        while self._at < len(self._compressed) and len(text) < objects.CHUNK_BYTES:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
                self.complete = False
            piece = self._compressed[self._at : self._at + _ZSTD_SLICE]
            text += self._frame.decompress(piece)
            self._at += len(piece)
            if self._frame.eof:
                self._at -= len(self._frame.unused_data)
                self._frame, self.complete = None, True
        return bytes(text)


def _decompressor(key: str) -> _Decompressor | None:
    name = key.lower()
    if name.endswith((".gz", ".gzip")):
        return _Gzip()
    if name.endswith((".zst", ".zstd")):
        return _Zstandard()
    return None
