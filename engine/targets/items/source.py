"""The items an ItemReader names: `map_ports.ItemSource` over object storage.

A position tells the version of the object and the place in it; after a crash reading goes on from there, and is refused if the
object is another one by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, cast
from urllib.parse import unquote_plus

import msgspec

from stepwell.engine.csv_records import delimiter_of
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.items import csv_items, json_items, parquet
from stepwell.engine.targets.items.stream import Stream
from stepwell.engine.targets.objects import ObjectError, Objects, named

_MANIFEST_BYTES: Final = 16 * 1024 * 1024


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

    async def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        try:
            position = _decoder.decode(cursor) if cursor is not None else Position()
            items = self._list(reader, position) if reader.action == "listObjectsV2" else self._get(reader, position)
            async for item in items:
                yield item
        except ObjectError as error:
            raise StatesError(ErrorName.ITEM_READER_FAILED, str(error)) from None

    async def write(self, bucket: str, key: str, data: bytes) -> None:
        try:
            await self._objects.put(bucket, key, data)
        except ObjectError as error:
            raise StatesError(ErrorName.RESULT_WRITER_FAILED, str(error)) from None

    async def close(self) -> None:
        await self._objects.close()

    # -- one object ------------------------------------------------------------------------------------------------

    def _get(self, reader: ReaderSpec, position: Position) -> AsyncIterator[SourceItem]:
        bucket, key = _argument(reader, "Bucket"), _argument(reader, "Key")
        config = reader.config
        if config.get("ManifestType") == "ATHENA_DATA":
            return self._athena(bucket, key, config, position)
        if config.get("ManifestType") == "S3_INVENTORY" or config.get("InputType") == "MANIFEST":
            return self._inventory(bucket, key, position)
        return self._object(bucket, key, config, position)

    async def _object(
        self, bucket: str, key: str, config: dict[str, Any], position: Position
    ) -> AsyncIterator[SourceItem]:
        """The items of one object, in the format its InputType names."""
        source = f"s3://{bucket}/{key}"
        kind = config.get("InputType") or "JSON"
        if kind == "PARQUET":
            access = await self._objects.random(bucket, key, position.version)
            try:
                async for text, number in parquet.rows(access, position.at, named(bucket, key)):
                    yield SourceItem(text, _cursor(Position(number, access.version)), None, source)
            finally:
                access.close()
            return
        if kind not in ("CSV", "JSON", "JSONL"):
            raise ObjectError(f"The InputType '{kind}' cannot be read.")
        delimiter = delimiter_of(config)
        headers: list[str] = []
        resumed = position.version is not None
        if kind == "CSV" and resumed:
            headers = await self._headers(bucket, key, delimiter, config)
        stream = await Stream.open(self._objects, bucket, key, position.at, position.version)
        try:
            if kind == "CSV":
                headers = headers if resumed else await _headers(stream, delimiter, config)
                items = csv_items.rows(stream, delimiter, headers)
            elif kind == "JSONL":
                items = json_items.lines(stream)
            else:
                items = json_items.array_items(stream, config.get("ItemsPointer"), resumed=resumed)
            async for text, at in items:
                yield SourceItem(text, _cursor(Position(at, stream.version)), None, source)
        finally:
            await stream.close()

    async def _headers(self, bucket: str, key: str, delimiter: str, config: dict[str, Any]) -> list[str]:
        """The headers of an object whose rows are read from further on."""
        stream = await Stream.open(self._objects, bucket, key)
        try:
            return await _headers(stream, delimiter, config)
        finally:
            await stream.close()

    # -- many objects ----------------------------------------------------------------------------------------------

    async def _list(self, reader: ReaderSpec, position: Position) -> AsyncIterator[SourceItem]:
        """The objects of a listing themselves; or, with LOAD_AND_FLATTEN, what is in them."""
        bucket = _argument(reader, "Bucket")
        prefix = reader.arguments.get("Prefix") or ""
        flatten = reader.config.get("Transformation") == "LOAD_AND_FLATTEN"
        last = cast("str | None", position.outer)
        if flatten and position.inner is not None and last is not None:
            async for item in self._inside(bucket, last, reader.config, position.inner):
                yield item
        async for info in self._objects.listed(bucket, str(prefix), last):
            if flatten:
                async for item in self._inside(bucket, info.key, reader.config, None):
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
        self, bucket: str, key: str, config: dict[str, Any], inner: str | None
    ) -> AsyncIterator[SourceItem]:
        start = _decoder.decode(inner) if inner is not None else Position()
        if key.endswith("/"):
            return
        async for item in self._object(bucket, key, config, start):
            cursor = _cursor(Position(outer=key, inner=item.cursor))
            yield SourceItem(item.text, cursor, item.key, item.source)

    async def _inventory(self, bucket: str, key: str, position: Position) -> AsyncIterator[SourceItem]:
        """The rows of an S3 Inventory: a manifest that names the files and the columns."""
        text, version = await self._whole(bucket, key, position.version)
        try:
            manifest = await asyncio.to_thread(read, text)
        except JsonTextError as error:
            raise ObjectError(f"The manifest '{key}' cannot be read. {error}") from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
            raise ObjectError(f"The manifest '{key}' names no files.")
        kind = str(manifest.get("fileFormat", "CSV")).upper()
        columns = [name.strip() for name in str(manifest.get("fileSchema", "")).split(",")]
        home = str(manifest.get("destinationBucket", bucket)).rpartition(":")[2] or bucket
        config: dict[str, Any] = {"InputType": kind}
        if kind == "CSV":
            config |= {"CSVHeaderLocation": "GIVEN", "CSVHeaders": columns}
        files: list[tuple[str, str]] = []
        for one in cast(list[Json], manifest["files"]):
            name = one.get("key") if isinstance(one, dict) else None
            if not isinstance(name, str) or not name:
                raise ObjectError(f"The manifest '{key}' names a file without a key.")
            files.append((home, name))
        async for item in self._files(files, version, config, position):
            if kind == "CSV" and "Key" in columns:  # keys are URL-encoded there
                row = cast(dict[str, Json], read(item.text))
                text = write({**row, "Key": unquote_plus(str(row["Key"]))})
                yield SourceItem(text, item.cursor, item.key, item.source)
            else:
                yield item

    async def _athena(
        self, bucket: str, key: str, config: dict[str, Any], position: Position
    ) -> AsyncIterator[SourceItem]:
        """The items of the files that an UNLOAD of Athena has written, named by its manifest."""
        data, version = await self._whole(bucket, key, position.version)
        text = data.decode("utf-8", "replace")
        files: list[tuple[str, str]] = []
        for line in filter(None, map(str.strip, text.splitlines())):
            scheme, _, rest = line.strip('"').partition("://")
            home, _, name = rest.partition("/")
            if scheme != "s3" or not name:
                raise ObjectError(f"The manifest '{key}' holds a line that names no object of S3: {line[:200]}")
            files.append((home, name))
        async for item in self._files(files, version, config, position):
            yield item

    async def _files(
        self, files: list[tuple[str, str]], version: str, config: dict[str, Any], position: Position
    ) -> AsyncIterator[SourceItem]:
        first = position.outer if isinstance(position.outer, int) else 0
        inner = position.inner
        for number in range(first, len(files)):
            start = _decoder.decode(inner) if inner is not None else Position()
            inner = None
            async for item in self._object(*files[number], config, start):
                cursor = _cursor(Position(version=version, outer=number, inner=item.cursor))
                yield SourceItem(item.text, cursor, item.key, item.source)

    async def _whole(self, bucket: str, key: str, version: str | None) -> tuple[bytes, str]:
        """All of a manifest, and which version it is."""
        stream = await Stream.open(self._objects, bucket, key, 0, version)
        try:
            while await stream.fill():
                if len(stream.data) > _MANIFEST_BYTES:
                    raise ObjectError(f"The manifest '{key}' is larger than {_MANIFEST_BYTES} bytes.")
            return bytes(stream.data), stream.version
        finally:
            await stream.close()


async def _headers(stream: Stream, delimiter: str, config: dict[str, Any]) -> list[str]:
    if config.get("CSVHeaderLocation") == "GIVEN":
        return [str(name) for name in config.get("CSVHeaders") or ()]
    return await csv_items.record(stream, delimiter) or []


def _argument(reader: ReaderSpec, name: str) -> str:
    value = reader.arguments.get(name)
    if not isinstance(value, str) or not value:
        raise ObjectError(f"The ItemReader's {name} must be a string.")
    return value
