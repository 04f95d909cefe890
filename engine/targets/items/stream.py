"""An object's text as a stream that knows how far it is: decompressed by its name, read from any place on, in bounded memory."""

from __future__ import annotations

import zlib
from typing import Any, Final

import zstandard

from stepwell.engine.targets.objects import ObjectError, ObjectReader, Objects

MAX_ITEM_BYTES: Final = 8 * 1024 * 1024
"""An item may be no larger before ItemSelector (AWS guide, Distributed Map)."""


class Stream:
    """`data` holds what has been read and not been taken; `at` is the place of its first byte in the decompressed object."""

    def __init__(self, reader: ObjectReader, bucket: str, key: str) -> None:
        self._reader = reader
        self._key = key
        self._decompressor = _decompressor(key)
        self._name = f"'{key}' of bucket '{bucket}'"
        self.version = reader.version
        self.data = bytearray()
        self.at = 0
        self.ended = False

    @classmethod
    async def open(cls, objects: Objects, bucket: str, key: str, at: int = 0, version: str | None = None) -> Stream:
        """Open an object at a byte of its decompressed text. Raises `ObjectError`."""
        compressed = _decompressor(key) is not None
        stream = cls(await objects.open(bucket, key, 0 if compressed else at, version), bucket, key)
        if not compressed:
            stream.at = at
            return stream
        while stream.at + len(stream.data) < at and await stream.fill():
            surplus = min(len(stream.data), at - stream.at)
            stream.take(surplus)
        stream.take(min(len(stream.data), at - stream.at))
        return stream

    async def fill(self) -> bool:
        """Read on; False at the end. Raises `ObjectError`."""
        if self.ended:
            return False
        chunk = await self._reader.read()
        if not chunk:
            self.ended = True
            return False
        if self._decompressor is not None:
            chunk = self._decompressed(chunk)
        self.data += chunk
        return True

    def _decompressed(self, chunk: bytes) -> bytes:
        try:
            text: bytes = self._decompressor.decompress(chunk)
            while getattr(self._decompressor, "unused_data", b""):  # several members or frames, one after the other
                rest = self._decompressor.unused_data
                self._decompressor = _decompressor(self._key)
                text += self._decompressor.decompress(rest)
        except (zlib.error, zstandard.ZstdError) as error:
            raise ObjectError(f"The object {self._name} cannot be decompressed: {error}.") from None
        return text

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
        searched = 0
        while (end := self.data.find(b"\n", searched)) < 0:
            searched = len(self.data)
            if searched > MAX_ITEM_BYTES:
                raise too_large(self._name)
            if not await self.fill():
                return self.take(len(self.data)) if self.data else None
        return self.take(end + 1)

    async def close(self) -> None:
        """Let go of the object."""
        await self._reader.close()


def too_large(name: str) -> ObjectError:
    """The error for an item that is longer than an item may be."""
    return ObjectError(f"An item of the object {name} is larger than {MAX_ITEM_BYTES} bytes.")


def _decompressor(key: str) -> Any:
    name = key.lower()
    if name.endswith((".gz", ".gzip")):
        return zlib.decompressobj(wbits=31)
    if name.endswith((".zst", ".zstd")):
        return zstandard.ZstdDecompressor().decompressobj()
    return None
