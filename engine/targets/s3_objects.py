"""Buckets of S3, or of whatever speaks like it: `objects.Objects` through boto3, which is needed only here.

An object is read in ranges, each a request of its own that asks for the version first seen: a Map Run may leave an object alone
for hours, and no connection stays open that long. It must not know what is in the objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from stepwell.engine.targets import objects
from stepwell.engine.targets.objects import ObjectError, ObjectInfo, RangeReader, changed, in_thread, named

RANGE_BYTES: Final = 2 * 1024 * 1024
"""How much is fetched at once where an object is read from one end to the other."""
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
ATTEMPTS: Final = 5


@dataclass(slots=True)
class S3Ranges:
    """An object of S3, read in any order."""

    client: Any
    bucket: str
    key: str
    size: int
    version: str
    _ahead: tuple[int, bytes] = field(default=(0, b""))

    def read_range(self, start: int, length: int) -> bytes:
        begin, data = self._ahead
        if not begin <= start < begin + len(data):
            self._ahead = begin, data = start, self._fetched(start, max(length, RANGE_BYTES))
        return data[start - begin : start - begin + length]

    def _fetched(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size) - 1
        if end < start:
            return b""
        name = named(self.bucket, self.key)
        asked = {"Bucket": self.bucket, "Key": self.key, "Range": f"bytes={start}-{end}", "IfMatch": self.version}
        for attempt in range(1, ATTEMPTS + 1):  # boto3 tries a request again, but not an answer that breaks off
            try:
                answer = self.client.get_object(**asked)
                body = answer["Body"]
            except Exception as error:
                if _code(error) in ("PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange"):
                    raise changed(name) from None
                raise ObjectError(f"{name} cannot be read: {_reason(error)}") from error
            try:
                with body:
                    data: bytes = body.read(end - start + 2)
            except Exception as error:
                if attempt == ATTEMPTS:
                    raise ObjectError(f"{name} cannot be read to its end: {_reason(error)}") from error
                continue
            if len(data) != end - start + 1:
                raise ObjectError(f"{name} cannot be read: the storage does not answer with the range it is asked for.")
            return data
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        self._ahead = 0, b""


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
            config = Config(
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                max_pool_connections=32,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
            )
            self._made = boto3.session.Session().client(
                "s3", region_name=self._region, endpoint_url=self._endpoint_url, config=config
            )
        return self._made

    async def _call(self, what: str, operation: str, **arguments: Any) -> Any:
        try:
            return await in_thread(lambda: getattr(self._client(), operation)(**arguments))
        except ObjectError:
            raise
        except Exception as error:
            raise ObjectError(f"{what}: {_reason(error)}") from error

    async def open(self, bucket: str, key: str, start: int = 0, version: str | None = None) -> RangeReader:
        return RangeReader(await self.random(bucket, key, version), start)

    async def random(self, bucket: str, key: str, version: str | None = None) -> S3Ranges:
        name = named(bucket, key)
        answer = await self._call(f"{name} cannot be read", "head_object", Bucket=bucket, Key=key)
        if version is not None and answer["ETag"] != version:
            raise changed(name)
        return S3Ranges(self._client(), bucket, key, answer["ContentLength"], answer["ETag"])

    async def listed(self, bucket: str, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": objects.PAGE_KEYS}
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
        await self._call(f"{named(bucket, key)} cannot be written", "put_object", Bucket=bucket, Key=key, Body=data)

    async def close(self) -> None:
        if self._made is not None:
            await in_thread(self._made.close)


_HEAD_REASONS: Final = {"404": "The specified key does not exist.", "403": "Access Denied"}
"""An answer to HEAD has no body that says why."""


def _code(error: Exception) -> str | None:
    found: str | None = _told(error).get("Code")
    return found


def _told(error: Exception) -> dict[str, Any]:
    """What the answer says of the error, if there was an answer: a `response` may also be there and be None."""
    told: dict[str, Any] = (getattr(error, "response", None) or {}).get("Error", {})
    return told


def _reason(error: Exception) -> str:
    """What went wrong, without the request and its secrets."""
    code = _code(error)
    if code is None:
        return f"{type(error).__name__}: {str(error)[:200]}"
    message = _HEAD_REASONS.get(code) or _told(error).get("Message") or "refused"
    return f"{message} (Service: S3, Error Code: {code})"
