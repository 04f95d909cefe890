"""The items an ItemReader names: `map_ports.ItemSource` over object storage.

A position tells the version of the object and the place in it; after a crash reading goes on from there, and is refused if the
object is another one by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, cast
from urllib.parse import unquote_plus

import msgspec

from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.items import csv_items, json_items, manifests
from stepwell.engine.targets.items.formats import Format
from stepwell.engine.targets.items.manifests import Manifest
from stepwell.engine.targets.items.parquet import Decoders
from stepwell.engine.targets.items.stream import Stream
from stepwell.engine.targets.objects import Demand, ObjectError, Objects, named

_ARGUMENTS: Final = {
    "getObject": ("Bucket", "Key", "VersionId", "ExpectedBucketOwner"),
    "listObjectsV2": ("Bucket", "Prefix", "ExpectedBucketOwner"),
}
"""What the actions take. Anything else would choose other items, so it is not passed over."""


class Position(msgspec.Struct, array_like=True, omit_defaults=True):
    """Where a reader stands: in which object (a number in a manifest, a key in a listing), of which version, at which place.

    `version` is that of the object, or of the manifest where `outer` tells of one.
    """

    at: int = 0
    version: str | None = None
    outer: int | str | None = None
    inner: str | None = None


_decoder: Final = msgspec.json.Decoder(Position)


def _cursor(position: Position) -> str:
    return msgspec.json.encode(position).decode()


class ObjectItems:
    """`ItemSource` over `Objects`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._decoders = Decoders()

    async def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        self._decoders.begin()
        try:
            _check_arguments(reader)
            position = _decoder.decode(cursor) if cursor is not None else Position()
            items = self._list(reader, position) if reader.action == "listObjectsV2" else self._get(reader, position)
            async for item in items:
                yield item
        except ObjectError as error:
            raise StatesError(ErrorName.ITEM_READER_FAILED, str(error)) from None
        finally:
            self._decoders.end()

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        try:
            await self._objects.put(bucket, key, data, Demand(owner))
        except ObjectError as error:
            raise StatesError(ErrorName.RESULT_WRITER_FAILED, str(error)) from None

    async def close(self) -> None:
        await self._decoders.close()
        await self._objects.close()

    # -- one object ------------------------------------------------------------------------------------------------

    def _get(self, reader: ReaderSpec, position: Position) -> AsyncIterator[SourceItem]:
        bucket, key = _argument(reader, "Bucket"), _argument(reader, "Key")
        demand = Demand(_option(reader, "ExpectedBucketOwner"), _option(reader, "VersionId"))
        config = reader.config
        if config.get("ManifestType") == "ATHENA_DATA":
            return self._athena(bucket, key, demand, Format.of(config), position)
        if config.get("ManifestType") == "S3_INVENTORY" or config.get("InputType") == "MANIFEST":
            return self._inventory(bucket, key, demand, position)
        return self._object(bucket, key, demand, Format.of(config), position)

    async def _object(
        self, bucket: str, key: str, demand: Demand, format: Format, position: Position
    ) -> AsyncIterator[SourceItem]:
        """The items of one object."""
        source = f"s3://{bucket}/{key}"
        if format.kind == "PARQUET":
            access = await self._objects.random(bucket, key, position.version, demand)
            try:
                async for text, number in self._decoders.rows(access, position.at, named(bucket, key)):
                    yield SourceItem(text, _cursor(Position(number, access.version)), None, source)
            finally:
                access.close()
            return
        resumed = position.version is not None
        headers = format.headers or []
        if format.kind == "CSV" and format.headers is None and resumed:
            headers = await self._headers(bucket, key, demand, format, position.version)
        stream = await Stream.open(self._objects, bucket, key, position.at, position.version, demand)
        try:
            if format.kind == "CSV":
                if format.headers is None and not resumed:
                    headers = await csv_items.headers(stream, format.delimiter)
                items = csv_items.rows(stream, format.delimiter, headers)
            elif format.kind == "JSONL":
                items = json_items.lines(stream)
            else:
                items = json_items.array_items(stream, format.pointer, resumed=resumed)
            async for text, at in items:
                yield SourceItem(text, _cursor(Position(at, stream.version)), None, source)
        finally:
            await stream.close()

    async def _headers(self, bucket: str, key: str, demand: Demand, format: Format, version: str | None) -> list[str]:
        """The headers of an object whose rows are read from further on."""
        stream = await Stream.open(self._objects, bucket, key, 0, version, demand)
        try:
            return await csv_items.headers(stream, format.delimiter)
        finally:
            await stream.close()

    # -- many objects ----------------------------------------------------------------------------------------------

    async def _list(self, reader: ReaderSpec, position: Position) -> AsyncIterator[SourceItem]:
        """The objects of a listing themselves; or, with LOAD_AND_FLATTEN, what is in them."""
        bucket = _argument(reader, "Bucket")
        prefix = _option(reader, "Prefix") or ""
        demand = Demand(_option(reader, "ExpectedBucketOwner"))
        format = Format.of(reader.config) if reader.config.get("Transformation") == "LOAD_AND_FLATTEN" else None
        last = cast("str | None", position.outer)
        if format is not None and position.inner is not None and last is not None:
            async for item in self._inside(bucket, last, demand, format, position.inner):
                yield item
        async for info in self._objects.listed(bucket, prefix, last, demand):
            if format is not None:
                async for item in self._inside(bucket, info.key, demand, format, None):
                    yield item
                continue
            described: dict[str, Json] = {
                "Etag": info.etag,
                "Key": info.key,
                "LastModified": info.modified,
                "Size": info.size,
                "StorageClass": info.storage_class,
            }
            yield SourceItem(write(described), _cursor(Position(outer=info.key)), None, f"s3://{bucket}")

    async def _inside(
        self, bucket: str, key: str, demand: Demand, format: Format, inner: str | None
    ) -> AsyncIterator[SourceItem]:
        start = _decoder.decode(inner) if inner is not None else Position()
        if key.endswith("/"):
            return
        async for item in self._object(bucket, key, demand, format, start):
            cursor = _cursor(Position(outer=key, inner=item.cursor))
            yield SourceItem(item.text, cursor, item.key, item.source)

    async def _inventory(self, bucket: str, key: str, demand: Demand, position: Position) -> AsyncIterator[SourceItem]:
        """The rows of an S3 Inventory: a manifest that names the files and the columns."""
        text, version = await self._whole(bucket, key, demand, position.version)
        manifest = await asyncio.to_thread(manifests.inventory, key, bucket, text)
        async for item in self._files(manifest, version, bucket, demand, position):
            if manifest.url_encoded:
                row = cast(dict[str, Json], read(item.text))
                text = write({**row, "Key": unquote_plus(str(row["Key"]))})
                yield SourceItem(text, item.cursor, item.key, item.source)
            else:
                yield item

    async def _athena(
        self, bucket: str, key: str, demand: Demand, format: Format, position: Position
    ) -> AsyncIterator[SourceItem]:
        """The items of the files that an UNLOAD of Athena has written, named by its manifest."""
        text, version = await self._whole(bucket, key, demand, position.version)
        manifest = await asyncio.to_thread(manifests.athena, key, bucket, text, format)
        async for item in self._files(manifest, version, bucket, demand, position):
            yield item

    async def _files(
        self, manifest: Manifest, version: str, bucket: str, demand: Demand, position: Position
    ) -> AsyncIterator[SourceItem]:
        """What is in the files of a manifest, which lies in a bucket. Of other buckets no owner is known, of its files no version."""
        first = position.outer if isinstance(position.outer, int) else 0
        inner = position.inner
        for number, (home, name) in enumerate(manifest.files(first), first):
            start = _decoder.decode(inner) if inner is not None else Position()
            inner = None
            owned = Demand(demand.owner if home == bucket else None)
            async for item in self._object(home, name, owned, manifest.format, start):
                cursor = _cursor(Position(version=version, outer=number, inner=item.cursor))
                yield SourceItem(item.text, cursor, item.key, item.source)

    async def _whole(self, bucket: str, key: str, demand: Demand, version: str | None) -> tuple[bytes, str]:
        """All of a manifest, and which version it is."""
        stream = await Stream.open(self._objects, bucket, key, 0, version, demand)
        try:
            while await stream.fill():
                if len(stream.data) > manifests.MAX_BYTES:
                    raise ObjectError(f"The manifest '{key}' is larger than {manifests.MAX_BYTES} bytes.")
            return bytes(stream.data), stream.version
        finally:
            await stream.close()


def _check_arguments(reader: ReaderSpec) -> None:
    known = _ARGUMENTS.get(reader.action, ())
    for name in reader.arguments:
        if name not in known:
            raise ObjectError(f"The ItemReader's {name} is not supported: s3:{reader.action} takes {', '.join(known)}.")


def _argument(reader: ReaderSpec, name: str) -> str:
    value = reader.arguments.get(name)
    if not isinstance(value, str) or not value:
        raise ObjectError(f"The ItemReader's {name} must be a string.")
    return value


def _option(reader: ReaderSpec, name: str) -> str | None:
    """An argument that may be absent, or null."""
    value = reader.arguments.get(name)
    if not isinstance(value, str | None):
        raise ObjectError(f"The ItemReader's {name} must be a string.")
    return value
