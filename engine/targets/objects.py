"""Object storage: buckets that are directories of this machine, and buckets of S3 or whatever speaks like it.

A Map Run reads its items from objects and writes its results to them. Objects are read as streams from any byte on, and a
version tells whether one has changed since; both kinds raise `ObjectError`, nothing else. It must not know what is in them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from stepwell.engine.errors import StepwellError

CHUNK_BYTES: Final = 256 * 1024
PAGE_KEYS: Final = 1_000


class ObjectError(StepwellError):
    """An object cannot be read or written; the message says why."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object of a listing. `modified` in seconds since the epoch."""

    key: str
    size: int
    etag: str
    modified: int
    storage_class: str = "STANDARD"


class ObjectReader(Protocol):
    """One object, open for reading. `version` is another one when the object has been replaced."""

    version: str

    async def read(self) -> bytes:
        """The next chunk; empty at the end."""

    async def close(self) -> None: ...


class RandomAccess(Protocol):
    """One object, read in any order, by a thread that may wait."""

    @property
    def size(self) -> int: ...

    def read_range(self, start: int, length: int) -> bytes: ...


class Objects(Protocol):
    """The objects of some buckets."""

    async def open(self, bucket: str, key: str, start: int = 0, version: str | None = None) -> ObjectReader:
        """Open an object at a byte; `version` None means whichever there is. Raises `ObjectError`, also when that version is gone."""

    async def random(self, bucket: str, key: str) -> RandomAccess: ...

    def listed(self, bucket: str, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        """Objects whose keys begin with the prefix, in the order of their keys, those behind `after`."""

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object, whole or not at all."""

    async def close(self) -> None: ...


def changed(bucket: str, key: str) -> ObjectError:
    """The error for an object that was replaced while it was being read."""
    return ObjectError(f"The object '{key}' of bucket '{bucket}' has changed while its items were being read.")


# -------------------------------------------------------------------------------------------------------- directories


class FileReader:
    """A file, read by a thread."""

    def __init__(self, path: Path, start: int) -> None:
        self._file = path.open("rb")
        status = os.fstat(self._file.fileno())
        self.version = f"{status.st_mtime_ns}-{status.st_size}"
        self._file.seek(start)

    async def read(self) -> bytes:
        return await asyncio.to_thread(self._file.read, CHUNK_BYTES)

    async def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class FileRanges:
    """A file, read in any order."""

    path: Path
    size: int

    def read_range(self, start: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


class FileBuckets:
    """Buckets that are directories: `roots` by their names. Nothing outside of them is ever read or written."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = {name: root.resolve() for name, root in roots.items()}

    def __contains__(self, bucket: object) -> bool:
        return bucket in self._roots

    def _path(self, bucket: str, key: str) -> Path:
        root = self._roots[bucket]
        if "\x00" in key:
            raise ObjectError("An object's key holds the character U+0000.")
        path = (root / key).resolve()  # links are followed: one that leads outside is outside
        if not key or not path.is_relative_to(root) or path == root:
            raise ObjectError(f"The key '{key}' leads outside of bucket '{bucket}'.")
        return path

    async def open(self, bucket: str, key: str, start: int = 0, version: str | None = None) -> FileReader:
        path = self._path(bucket, key)
        try:
            reader = await asyncio.to_thread(FileReader, path, start)
        except OSError as error:
            raise ObjectError(f"The object '{key}' of bucket '{bucket}' cannot be read: {error.strerror}.") from None
        if version is not None and reader.version != version:
            await reader.close()
            raise changed(bucket, key)
        return reader

    async def random(self, bucket: str, key: str) -> FileRanges:
        path = self._path(bucket, key)
        try:
            return FileRanges(path, path.stat().st_size)
        except OSError as error:
            raise ObjectError(f"The object '{key}' of bucket '{bucket}' cannot be read: {error.strerror}.") from None

    async def listed(self, bucket: str, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        for info in await asyncio.to_thread(self._found, bucket, prefix, after):
            yield info

    def _found(self, bucket: str, prefix: str, after: str | None) -> list[ObjectInfo]:
        root = self._roots[bucket]
        found: list[ObjectInfo] = []
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(root).as_posix()
                if not key.startswith(prefix) or (after is not None and key <= after) or path.is_symlink():
                    continue
                status = path.stat()
                etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
                found.append(ObjectInfo(key, status.st_size, etag, int(status.st_mtime)))
        return sorted(found, key=lambda info: info.key)

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        path = self._path(bucket, key)
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            raise ObjectError(f"The object '{key}' of bucket '{bucket}' cannot be written: {error.strerror}.") from None

    async def close(self) -> None:
        """There is nothing to close."""


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# ------------------------------------------------------------------------------------------------------------------ S3


class S3Reader:
    """The body of an answer of S3, read by a thread."""

    def __init__(self, body: Any, version: str) -> None:
        self._body = body
        self.version = version

    async def read(self) -> bytes:
        try:
            data: bytes = await asyncio.to_thread(self._body.read, CHUNK_BYTES)
        except Exception as error:
            raise ObjectError(f"An object cannot be read to its end: {type(error).__name__}.") from error
        return data

    async def close(self) -> None:
        self._body.close()


@dataclass(frozen=True, slots=True)
class S3Ranges:
    """An object of S3, read in any order."""

    client: Any
    bucket: str
    key: str
    size: int
    etag: str

    def read_range(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size) - 1
        if end < start:
            return b""
        answer = self.client.get_object(
            Bucket=self.bucket, Key=self.key, Range=f"bytes={start}-{end}", IfMatch=self.etag
        )
        data: bytes = answer["Body"].read()
        return data


class S3Buckets:
    """Buckets of S3, through boto3, whose calls run in threads. Credentials are found as boto3 finds them."""

    def __init__(self, *, region: str, endpoint_url: str | None) -> None:
        self._region = region
        self._endpoint_url = endpoint_url
        self._made: Any = None

    def _client(self) -> Any:
        if self._made is None:
            try:
                import boto3
                from botocore.config import Config
            except ImportError:
                raise ObjectError(
                    "This engine cannot call S3: install `stepwell[aws]`, or name a directory for the bucket in STEPWELL_BUCKETS."
                ) from None
            config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=32)
            self._made = boto3.session.Session().client(
                "s3", region_name=self._region, endpoint_url=self._endpoint_url, config=config
            )
        return self._made

    async def _call(self, what: str, operation: str, **arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(lambda: getattr(self._client(), operation)(**arguments))
        except ObjectError:
            raise
        except Exception as error:
            raise ObjectError(f"{what}: {_reason(error)}") from error

    async def open(self, bucket: str, key: str, start: int = 0, version: str | None = None) -> S3Reader:
        arguments: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if start:
            arguments["Range"] = f"bytes={start}-"
        if version is not None:
            arguments["IfMatch"] = version
        try:
            answer = await self._call(
                f"The object '{key}' of bucket '{bucket}' cannot be read", "get_object", **arguments
            )
        except ObjectError as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "412"):
                raise changed(bucket, key) from None
            if code == "InvalidRange":
                return S3Reader(_Nothing(), version or "")
            raise
        return S3Reader(answer["Body"], answer["ETag"])

    async def random(self, bucket: str, key: str) -> S3Ranges:
        what = f"The object '{key}' of bucket '{bucket}' cannot be read"
        answer = await self._call(what, "head_object", Bucket=bucket, Key=key)
        return S3Ranges(self._client(), bucket, key, answer["ContentLength"], answer["ETag"])

    async def listed(self, bucket: str, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": PAGE_KEYS}
        if after is not None:
            arguments["StartAfter"] = after
        while True:
            answer = await self._call(f"Bucket '{bucket}' cannot be listed", "list_objects_v2", **arguments)
            for one in answer.get("Contents", ()):
                modified = int(one["LastModified"].timestamp())
                yield ObjectInfo(one["Key"], one["Size"], one["ETag"], modified, one.get("StorageClass", "STANDARD"))
            if not answer.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = answer["NextContinuationToken"]

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        what = f"The object '{key}' of bucket '{bucket}' cannot be written"
        await self._call(what, "put_object", Bucket=bucket, Key=key, Body=data)

    async def close(self) -> None:
        if self._made is not None:
            await asyncio.to_thread(self._made.close)


class _Nothing:
    def read(self, amount: int) -> bytes:
        return b""

    def close(self) -> None: ...


def _reason(error: Exception) -> str:
    """What went wrong, without the request and its secrets."""
    found = getattr(error, "response", {}).get("Error", {})
    if found:
        return f"{found.get('Message') or 'refused'} (Service: S3, Error Code: {found.get('Code')})"
    return f"{type(error).__name__}: {str(error)[:200]}"


# ---------------------------------------------------------------------------------------------------------------- both


class Buckets:
    """All buckets: the directories by their names, everything else in S3."""

    def __init__(self, files: FileBuckets, s3: S3Buckets) -> None:
        self._files = files
        self._s3 = s3

    def _of(self, bucket: str) -> FileBuckets | S3Buckets:
        return self._files if bucket in self._files else self._s3

    async def open(self, bucket: str, key: str, start: int = 0, version: str | None = None) -> ObjectReader:
        return await self._of(bucket).open(bucket, key, start, version)

    async def random(self, bucket: str, key: str) -> RandomAccess:
        if bucket in self._files:
            return await self._files.random(bucket, key)
        return await self._s3.random(bucket, key)

    def listed(self, bucket: str, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        return self._of(bucket).listed(bucket, prefix, after)

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        await self._of(bucket).put(bucket, key, data)

    async def close(self) -> None:
        await self._s3.close()
