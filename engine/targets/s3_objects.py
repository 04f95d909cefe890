"""Buckets of S3, or of whatever speaks like it: `objects.Objects` through boto3, which is needed only here.

An object is read in ranges, each a request of its own that asks for the version first seen: a Map Run may leave an object alone
for hours, and no connection stays open that long. It must not know what is in the objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from stepwell.engine.targets import objects
from stepwell.engine.targets.objects import (
    ANY,
    Demand,
    ObjectError,
    ObjectInfo,
    RangeReader,
    changed,
    in_thread,
    named,
)

RANGE_BYTES: Final = 2 * 1024 * 1024
"""How much is fetched at once where an object is read from one end to the other."""
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
ATTEMPTS: Final = 5
MAX_EMPTY_PAGES: Final = 1_000
"""How many pages of a listing may hold nothing, one after the other, before the listing is given up."""


@dataclass(slots=True)
class S3Ranges:
    """An object of S3, read in any order."""

    client: Any
    bucket: str
    key: str
    size: int
    version: str
    demand: Demand = ANY
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
        asked = {
            "Bucket": self.bucket,
            "Key": self.key,
            "Range": f"bytes={start}-{end}",
            "IfMatch": self.version,
            **_owned(self.demand),
            **_versioned(self.demand),
        }
        for attempt in range(1, ATTEMPTS + 1):  # boto3 tries a request again, but not an answer that breaks off
            try:
                answer = self.client.get_object(**asked)
                body = answer["Body"]
            except Exception as error:
                if _code(error) in ("PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404", "InvalidRange"):
                    raise changed(name) from None
                raise ObjectError(f"{name} cannot be read: {_reason(error, self.demand)}") from error
            try:
                with body:
                    data: bytes = body.read(end - start + 2)
            except Exception as error:
                if attempt == ATTEMPTS:
                    raise ObjectError(f"{name} cannot be read to its end: {_reason(error, self.demand)}") from error
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

    async def _call(self, what: str, operation: str, demand: Demand, **arguments: Any) -> Any:
        try:
            return await in_thread(lambda: getattr(self._client(), operation)(**arguments, **_owned(demand)))
        except ObjectError:
            raise
        except Exception as error:
            raise ObjectError(f"{what}: {_reason(error, demand)}") from error

    async def open(
        self, bucket: str, key: str, start: int = 0, version: str | None = None, demand: Demand = ANY
    ) -> RangeReader:
        return RangeReader(await self.random(bucket, key, version, demand), start)

    async def random(self, bucket: str, key: str, version: str | None = None, demand: Demand = ANY) -> S3Ranges:
        name = named(bucket, key)
        which = {"Bucket": bucket, "Key": key, **_versioned(demand)}
        answer = await self._call(f"{name} cannot be read", "head_object", demand, **which)
        if version is not None and answer["ETag"] != version:
            raise changed(name)
        return S3Ranges(self._client(), bucket, key, answer["ContentLength"], answer["ETag"], demand)

    async def listed(
        self, bucket: str, prefix: str, after: str | None, demand: Demand = ANY
    ) -> AsyncIterator[ObjectInfo]:
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": objects.PAGE_KEYS}
        what = f"Bucket '{bucket}' cannot be listed"
        if after is not None:
            arguments["StartAfter"] = after
        last, empty = after or "", 0
        while True:
            answer = await self._call(what, "list_objects_v2", demand, **arguments)
            page = answer.get("Contents", ())
            if page and page[0]["Key"] <= last:
                raise ObjectError(f"{what}: the storage lists '{page[0]['Key'][:200]}' behind '{last[:200]}'.")
            for one in page:
                modified = int(one["LastModified"].timestamp())
                yield ObjectInfo(one["Key"], one["Size"], one["ETag"], modified, one.get("StorageClass", "STANDARD"))
                last = one["Key"]
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken")
            empty = 0 if page else empty + 1
            if not token or token == arguments.get("ContinuationToken") or empty > MAX_EMPTY_PAGES:
                raise ObjectError(f"{what}: the storage says that there is more, and does not go on to it.")
            arguments["ContinuationToken"] = token

    async def put(self, bucket: str, key: str, data: bytes, demand: Demand = ANY) -> None:
        what = f"{named(bucket, key)} cannot be written"
        await self._call(what, "put_object", demand, Bucket=bucket, Key=key, Body=data)

    async def close(self) -> None:
        if self._made is not None:
            await in_thread(self._made.close)


_HEAD_REASONS: Final = {
    "400": "Bad Request",
    "403": "Access Denied",
    "404": "The specified key does not exist.",
    "405": "The specified version is a delete marker.",
}
"""An answer to HEAD has no body that says why."""
_REFUSED: Final = ("403", "AccessDenied")
_NO_SUCH_VERSION: Final = ("400", "404", "NoSuchVersion")


def _owned(demand: Demand) -> dict[str, str]:
    return {} if demand.owner is None else {"ExpectedBucketOwner": demand.owner}


def _versioned(demand: Demand) -> dict[str, str]:
    return {} if demand.version_id is None else {"VersionId": demand.version_id}


def _code(error: Exception) -> str | None:
    found: str | None = _told(error).get("Code")
    return found


def _told(error: Exception) -> dict[str, Any]:
    """What the answer says of the error, if there was an answer: a `response` may also be there and be None."""
    told: dict[str, Any] = (getattr(error, "response", None) or {}).get("Error", {})
    return told


def _reason(error: Exception, demand: Demand) -> str:
    """What went wrong, without the request and its secrets."""
    code = _code(error)
    if code is None:
        said = str(error)[:200].rstrip(".") or "it failed"
        return (
            f"{said}. STEPWELL_BUCKETS names no such bucket, so S3 was asked; STEPWELL_S3_ENDPOINT_URL says which one."
        )
    message = _HEAD_REASONS.get(code) or _told(error).get("Message") or "refused"
    reason = f"{message} (Service: S3, Error Code: {code})"
    if code in _REFUSED and demand.owner is not None:
        return f"{reason}. Does the bucket belong to the ExpectedBucketOwner '{demand.owner[:100]}'?"
    if code in _NO_SUCH_VERSION and demand.version_id is not None:
        return f"{reason}. Is '{demand.version_id[:100]}' a VersionId of the object?"
    return reason
