"""Object storage: what readers and writers ask of it, and buckets that are directories of this machine.

A Map Run reads its items from objects and writes its results to them. Objects are read as streams from any byte on, and a
version tells whether one has changed since; both kinds raise `ObjectError`, nothing else. It must not know what is in them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from stepwell.engine.errors import StepwellError

Result = TypeVar("Result")
CHUNK_BYTES: Final = 256 * 1024
PAGE_KEYS: Final = 1_000
MAX_KEY_BYTES: Final = 1024
"""As S3 has it."""
_PART_PREFIX: Final = ".stepwell-"
_PART_SUFFIX: Final = ".part"


_threads: Final = ThreadPoolExecutor(16, "objects")


async def in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """What a call gives that may wait for storage. It has threads of its own: a storage that stalls takes none from the rest."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(call, *arguments))


def later_in_thread(call: Callable[[], object]) -> Future[object]:
    """Begin what need not be waited for."""
    return _threads.submit(call)


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


@dataclass(frozen=True, slots=True)
class Demand:
    """What is demanded of a bucket and an object besides their names, as S3 knows it: `owner`, the account the bucket must belong to
    (ExpectedBucketOwner), and `version_id`, the version of the object that is meant (VersionId)."""

    owner: str | None = None
    version_id: str | None = None


ANY: Final = Demand()
"""Whoever owns the bucket, the newest version of the object."""


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

    @property
    def version(self) -> str: ...

    def read_range(self, start: int, length: int) -> bytes:
        """At most so many bytes from there on. Raises `ObjectError`, also when the object has been replaced."""

    def close(self) -> None: ...


class Objects(Protocol):
    """The objects of some buckets."""

    async def open(
        self, bucket: str, key: str, start: int = 0, version: str | None = None, demand: Demand = ANY
    ) -> ObjectReader:
        """Open an object at a byte; `version` None means whichever there is. Raises `ObjectError`, also when that version is gone."""

    async def random(self, bucket: str, key: str, version: str | None = None, demand: Demand = ANY) -> RandomAccess:
        """Open an object for reading in any order; `version` as for `open`. Raises `ObjectError`."""

    def listed(self, bucket: str, prefix: str, after: str | None, demand: Demand = ANY) -> AsyncIterator[ObjectInfo]:
        """Objects whose keys begin with the prefix, in the order of their keys, those behind `after`."""

    async def put(self, bucket: str, key: str, data: bytes, demand: Demand = ANY) -> None:
        """Write an object, whole or not at all."""

    async def close(self) -> None: ...


def named(bucket: str, key: str) -> str:
    """An object as messages name it."""
    return f"The object '{key}' of bucket '{bucket}'"


def changed(name: str) -> ObjectError:
    """The error for an object that was replaced while it was being read."""
    return ObjectError(f"{name} has changed while its items were being read.")


# -------------------------------------------------------------------------------------------------------- directories


class FileRanges:
    """A regular file, read in any order from threads. What is written over while it is read is noticed."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ObjectError(f"{name} cannot be read: it is no regular file.")
        self.size = status.st_size
        self.version = _version(status)

    def read_range(self, start: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, start)
            unchanged = _version(os.fstat(self._descriptor)) == self.version
        except OSError as error:
            raise ObjectError(f"{self._name} cannot be read: {error.strerror}.") from None
        if not unchanged:
            raise changed(self._name)
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class RangeReader:
    """An object, read from one byte on to its end, so many bytes at a time, by threads."""

    def __init__(self, ranges: RandomAccess, start: int) -> None:
        self._ranges = ranges
        self._at = start
        self.version = ranges.version

    async def read(self) -> bytes:
        data = await in_thread(self._ranges.read_range, self._at, CHUNK_BYTES)
        self._at += len(data)
        return data

    async def close(self) -> None:
        self._ranges.close()


class FileBuckets:
    """Buckets that are directories: `roots` by their names. Nothing outside of them is ever read or written.

    A link is followed if it leads to a place in the same bucket. The place is then opened one directory after the other without
    following links, so one that is put there meanwhile leads nowhere.

    Who runs the engine has named the directory for the bucket: no account owns it, and a demand for an owner asks nothing more.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = {name: root.resolve() for name, root in roots.items()}

    def __contains__(self, bucket: object) -> bool:
        return bucket in self._roots

    def _parts(self, bucket: str, key: str) -> tuple[str, ...]:
        """The names that lead from the bucket's directory to an object."""
        root = self._roots[bucket]
        if "\x00" in key:
            raise ObjectError("An object's key holds the character U+0000.")
        if len(key.encode(errors="replace")) > MAX_KEY_BYTES:
            raise ObjectError(f"The key '{key[:100]}...' is longer than {MAX_KEY_BYTES} bytes.")
        try:
            path = (root / key).resolve()
        except (OSError, RuntimeError, ValueError):  # too long, a ring of links, or no text a file system has
            raise ObjectError(f"The key {key[:200]!r} names no place in bucket '{bucket}'.") from None
        if not key or not path.is_relative_to(root) or path == root:
            raise ObjectError(f"The key '{key}' leads outside of bucket '{bucket}'.")
        return path.relative_to(root).parts

    async def open(
        self, bucket: str, key: str, start: int = 0, version: str | None = None, demand: Demand = ANY
    ) -> RangeReader:
        return RangeReader(await self.random(bucket, key, version, demand), start)

    async def random(self, bucket: str, key: str, version: str | None = None, demand: Demand = ANY) -> FileRanges:
        if demand.version_id is not None:
            raise ObjectError(
                f"{named(bucket, key)} cannot be read in the version '{demand.version_id[:100]}': the bucket is a directory "
                "(STEPWELL_BUCKETS), where versions are not kept. Leave out VersionId, or keep the object in S3-compatible "
                "storage with versioning."
            )
        return await in_thread(self._opened, bucket, key, version)

    def _opened(self, bucket: str, key: str, version: str | None) -> FileRanges:
        name = named(bucket, key)
        try:
            with closing(_Folder(self._roots[bucket])) as folder:
                *parents, last = self._parts(bucket, key)
                for part in parents:
                    folder.enter(part)
                # without O_NONBLOCK a pipe that nobody writes to would be waited for
                ranges = FileRanges(folder.open(last, os.O_RDONLY | os.O_NONBLOCK), name)
        except OSError as error:
            raise ObjectError(f"{name} cannot be read: {error.strerror}.") from None
        if version is not None and ranges.version != version:
            ranges.close()
            raise changed(name)
        return ranges

    async def listed(
        self, bucket: str, prefix: str, after: str | None, demand: Demand = ANY
    ) -> AsyncIterator[ObjectInfo]:
        found = _found(self._roots[bucket], "", prefix, after or "")
        try:
            while page := await in_thread(lambda: list(islice(found, PAGE_KEYS))):
                for info in page:
                    yield info
        except OSError as error:
            raise ObjectError(f"Bucket '{bucket}' cannot be listed: {error.strerror}.") from None

    async def put(self, bucket: str, key: str, data: bytes, demand: Demand = ANY) -> None:
        try:
            await in_thread(self._write, bucket, key, data)
        except OSError as error:
            raise ObjectError(f"{named(bucket, key)} cannot be written: {error.strerror}.") from None

    def _write(self, bucket: str, key: str, data: bytes) -> None:
        with closing(_Folder(self._roots[bucket])) as folder:
            *parents, last = self._parts(bucket, key)
            for part in parents:
                folder.enter(part, make=True)
            folder.write(last, data)

    async def close(self) -> None:
        """There is nothing to close."""


class _Folder:
    """A directory that is open, from which one goes on to those in it. Links are never followed."""

    def __init__(self, root: Path) -> None:
        self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=self._descriptor)

    def enter(self, name: str, *, make: bool = False) -> None:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._descriptor)
        inner = self.open(name, os.O_RDONLY | os.O_DIRECTORY)
        os.close(self._descriptor)
        self._descriptor = inner

    def names(self) -> list[tuple[str, bool]]:
        """What is in it, as a part of a key and whether it is a directory, in the order of keys."""
        with os.scandir(self._descriptor) as entries:
            return sorted(
                (f"{entry.name}/", True) if entry.is_dir(follow_symlinks=False) else (entry.name, False)
                for entry in entries
                if _listed(entry)
            )

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        part = f"{_PART_PREFIX}{secrets.token_hex(8)}{_PART_SUFFIX}"
        try:
            with os.fdopen(self.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=self._descriptor)
            raise

    def close(self) -> None:
        os.close(self._descriptor)


def _found(folder: Path, base: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
    """The files below a directory in the order of their keys, which begin with `base`. One directory's names are held at a time."""
    with closing(_Folder(folder)) as opened:
        names = opened.names()
    for name, is_folder in names:
        key = base + name
        if len(key.encode()) > MAX_KEY_BYTES:
            continue
        if is_folder:
            if (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                with suppress(FileNotFoundError, NotADirectoryError):
                    yield from _found(folder / name, key, prefix, after)
        elif key.startswith(prefix) and key > after:
            with suppress(FileNotFoundError):  # gone since its directory was read
                status = os.lstat(folder / name)
                etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
                yield ObjectInfo(key, status.st_size, etag, int(status.st_mtime))


def _listed(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory or an object: no link, no pipe, nothing half-written, and with a name that is text."""
    half = entry.name.startswith(_PART_PREFIX) and entry.name.endswith(_PART_SUFFIX)
    regular = entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
    return regular and not half and not any("\ud800" <= letter <= "\udfff" for letter in entry.name)


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


# ---------------------------------------------------------------------------------------------------------------- both


class Buckets:
    """All buckets: the directories by their names, everything else in S3."""

    def __init__(self, files: FileBuckets, s3: Objects) -> None:
        self._files = files
        self._s3 = s3

    def _of(self, bucket: str) -> Objects:
        return self._files if bucket in self._files else self._s3

    async def open(
        self, bucket: str, key: str, start: int = 0, version: str | None = None, demand: Demand = ANY
    ) -> ObjectReader:
        return await self._of(bucket).open(bucket, key, start, version, demand)

    async def random(self, bucket: str, key: str, version: str | None = None, demand: Demand = ANY) -> RandomAccess:
        return await self._of(bucket).random(bucket, key, version, demand)

    def listed(self, bucket: str, prefix: str, after: str | None, demand: Demand = ANY) -> AsyncIterator[ObjectInfo]:
        return self._of(bucket).listed(bucket, prefix, after, demand)

    async def put(self, bucket: str, key: str, data: bytes, demand: Demand = ANY) -> None:
        await self._of(bucket).put(bucket, key, data, demand)

    async def close(self) -> None:
        await self._s3.close()
