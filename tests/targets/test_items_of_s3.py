"""What only S3 has: versions of objects, owners of buckets, and listings that come in pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from stepwell.engine.jsontypes import Json, read
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets import objects, s3_objects
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import FileBuckets, ObjectError
from stepwell.engine.targets.s3_objects import S3Buckets
from tests.support.s3 import OWNER, OwnedS3, owned_s3

STRANGER = "999988887777"


@pytest.fixture(scope="module")
def s3() -> Iterator[OwnedS3]:
    with owned_s3() as storage, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        client = storage.client()
        for bucket in ("kept", "other"):
            client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        yield storage


@pytest.fixture
async def items(s3: OwnedS3, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectItems]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    made = ObjectItems(S3Buckets(region="us-east-1", endpoint_url=s3.url))
    s3.asked.clear()
    yield made
    await made.close()


def put(s3: OwnedS3, key: str, text: str, bucket: str = "kept") -> str:
    """Put an object there; gives its version."""
    return str(s3.client().put_object(Bucket=bucket, Key=key, Body=text.encode()).get("VersionId"))


def reader(key: str, config: dict[str, Any] | None = None, **arguments: Any) -> ReaderSpec:
    return ReaderSpec("getObject", {"Bucket": "kept", "Key": key, **arguments}, config or {"InputType": "JSONL"})


async def all_of(items: ObjectItems, spec: ReaderSpec, cursor: str | None = None) -> list[SourceItem]:
    return [item async for item in items.read(spec, cursor)]


async def values(items: ObjectItems, spec: ReaderSpec, cursor: str | None = None) -> list[Json]:
    return [read(item.text) for item in await all_of(items, spec, cursor)]


async def cause_of(items: ObjectItems, spec: ReaderSpec) -> str:
    with pytest.raises(StatesError) as caught:
        await all_of(items, spec)
    assert caught.value.error == "States.ItemReaderFailed"
    return str(caught.value.cause)


# ------------------------------------------------------------------------------------------------------------ versions


async def test_the_version_that_is_named_is_read(s3: OwnedS3, items: ObjectItems) -> None:
    old = put(s3, "v.jsonl", "1\n2\n3\n")
    new = put(s3, "v.jsonl", "4\n")
    assert await values(items, reader("v.jsonl", VersionId=old)) == [1, 2, 3]
    assert await values(items, reader("v.jsonl", VersionId=new)) == [4]
    assert await values(items, reader("v.jsonl")) == [4]
    assert await values(items, reader("v.jsonl", VersionId=None)) == [4]


async def test_reading_goes_on_in_the_same_version_though_there_is_a_newer_one(
    s3: OwnedS3, items: ObjectItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "RANGE_BYTES", 4)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 4)
    old = put(s3, "on.csv", "A\n1\n2\n3\n")
    spec = reader("on.csv", {"InputType": "CSV"}, VersionId=old)
    reading = items.read(spec, None)
    first = await anext(reading)
    put(s3, "on.csv", "B\n4\n")
    assert [read(item.text) async for item in reading] == [{"A": "2"}, {"A": "3"}]
    assert await values(items, spec, first.cursor) == [{"A": "2"}, {"A": "3"}]
    s3.client().delete_object(Bucket="kept", Key="on.csv")  # a marker, under which the versions stay
    assert await values(items, spec, first.cursor) == [{"A": "2"}, {"A": "3"}]


async def test_a_version_of_a_parquet_object(s3: OwnedS3, items: ObjectItems, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    versions = []
    for number in (1, 2):
        parquet.write_table(pyarrow.Table.from_pylist([{"n": number}]), tmp_path / "f")
        put_ = s3.client().put_object(Bucket="kept", Key="f.parquet", Body=(tmp_path / "f").read_bytes())
        versions.append(put_["VersionId"])
    spec = reader("f.parquet", {"InputType": "PARQUET"}, VersionId=versions[0])
    assert await values(items, spec) == [{"n": 1}]


async def test_a_version_of_a_manifest_is_not_one_of_the_files_it_names(s3: OwnedS3, items: ObjectItems) -> None:
    put(s3, "data.jsonl", "1\n2\n")
    old = put(s3, "manifest", "s3://kept/data.jsonl\n")
    put(s3, "manifest", "s3://kept/none.jsonl\n")
    config = {"InputType": "JSONL", "ManifestType": "ATHENA_DATA"}
    assert await values(items, reader("manifest", config, VersionId=old)) == [1, 2]


async def test_a_version_that_is_not_there(s3: OwnedS3, items: ObjectItems) -> None:
    put(s3, "v.jsonl", "1\n")
    cause = await cause_of(items, reader("v.jsonl", VersionId="11111111-2222-3333-4444-555555555555"))
    assert cause.startswith("The object 'v.jsonl' of bucket 'kept' cannot be read: ")
    assert cause.endswith("Is '11111111-2222-3333-4444-555555555555' a VersionId of the object?")


@pytest.mark.parametrize("config", ({"InputType": "JSON"}, {"InputType": "PARQUET"}, {"InputType": "MANIFEST"}))
async def test_directories_keep_no_versions(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "f").write_text("[1]")
    cause = await cause_of(ObjectItems(FileBuckets({"kept": tmp_path})), reader("f", config, VersionId="abc"))
    assert cause.startswith(
        "The object 'f' of bucket 'kept' cannot be read in the version 'abc': the bucket is a directory"
    )


# -------------------------------------------------------------------------------------------------------------- owners


async def test_every_request_says_whose_bucket_is_expected(
    s3: OwnedS3, items: ObjectItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "RANGE_BYTES", 4)
    put(s3, "owned/o.jsonl", "1\n2\n3\n4\n")
    s3.asked.clear()
    assert await values(items, reader("owned/o.jsonl", ExpectedBucketOwner=OWNER)) == [1, 2, 3, 4]
    listing = {"Bucket": "kept", "Prefix": "owned/", "ExpectedBucketOwner": OWNER}
    config = {"InputType": "JSONL", "Transformation": "LOAD_AND_FLATTEN"}
    assert await values(items, ReaderSpec("listObjectsV2", listing, config)) == [1, 2, 3, 4]
    await items.write("kept", "out", b"x", OWNER)
    assert {method for method, _, _ in s3.asked} == {"HEAD", "GET", "PUT"}
    assert {owner for _, _, owner in s3.asked} == {OWNER}
    s3.asked.clear()
    assert await values(items, reader("owned/o.jsonl")) == [1, 2, 3, 4]
    await items.write("kept", "out", b"x")
    assert {owner for _, _, owner in s3.asked} == {None}


async def test_a_bucket_of_somebody_else_is_neither_read_nor_written(s3: OwnedS3, items: ObjectItems) -> None:
    put(s3, "o.jsonl", "1\n")
    hint = f"Does the bucket belong to the ExpectedBucketOwner '{STRANGER}'?"
    assert hint in await cause_of(items, reader("o.jsonl", ExpectedBucketOwner=STRANGER))
    listing = ReaderSpec("listObjectsV2", {"Bucket": "kept", "ExpectedBucketOwner": STRANGER})
    assert hint in await cause_of(items, listing)
    with pytest.raises(StatesError, match="cannot be written: Access Denied") as caught:
        await items.write("kept", "stolen", b"x", STRANGER)
    assert (caught.value.error, hint in str(caught.value.cause)) == ("States.ResultWriterFailed", True)
    assert "Contents" not in s3.client().list_objects_v2(Bucket="kept", Prefix="stolen")


async def test_the_owner_of_one_bucket_is_not_asked_of_another_that_a_manifest_names(
    s3: OwnedS3, items: ObjectItems
) -> None:
    put(s3, "here.jsonl", "1\n")
    put(s3, "there.jsonl", "2\n", "other")
    put(s3, "both", "s3://kept/here.jsonl\ns3://other/there.jsonl\n")
    s3.asked.clear()
    config = {"InputType": "JSONL", "ManifestType": "ATHENA_DATA"}
    assert await values(items, reader("both", config, ExpectedBucketOwner=OWNER)) == [1, 2]
    assert {(path.split("/")[1], owner) for _, path, owner in s3.asked} == {("kept", OWNER), ("other", None)}


async def test_directories_have_no_owner_to_ask_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1\n")
    items = ObjectItems(FileBuckets({"kept": tmp_path}))
    assert await values(items, reader("f", ExpectedBucketOwner=STRANGER)) == [1]
    await items.write("kept", "out", b"x", STRANGER)
    assert (tmp_path / "out").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("action", "arguments", "cause"),
    (
        ("getObject", {"Key": "k", "VersionId": 5}, "VersionId must be a string"),
        ("getObject", {"Key": "k", "ExpectedBucketOwner": 111122223333}, "ExpectedBucketOwner must be a string"),
        ("getObject", {"Key": "k", "RequestPayer": "requester"}, "RequestPayer is not supported: s3:getObject takes"),
        ("listObjectsV2", {"Prefix": 5}, "Prefix must be a string"),
        ("listObjectsV2", {"VersionId": "1"}, "VersionId is not supported: s3:listObjectsV2 takes Bucket, Prefix, "),
    ),
)
async def test_arguments_that_cannot_be_heeded(
    tmp_path: Path, action: str, arguments: dict[str, Any], cause: str
) -> None:
    spec = ReaderSpec(action, {"Bucket": "kept", **arguments}, {"InputType": "JSONL"})
    assert cause in await cause_of(ObjectItems(FileBuckets({"kept": tmp_path})), spec)


# ------------------------------------------------------------------------------------------------------------ listings


class Pages:
    """A client of S3 that lists one page after the other, for ever."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self._pages = list(pages)
        self.asked = 0

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        self.asked += 1
        return self._pages[min(self.asked, len(self._pages)) - 1]


def page(*keys: str, token: str | None = None) -> dict[str, Any]:
    from datetime import datetime

    at = datetime.fromtimestamp(0).astimezone()
    contents = [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": at} for key in keys]
    return {"Contents": contents, "IsTruncated": token is not None, "NextContinuationToken": token}


async def listed(client: Pages, after: str | None = None) -> list[str]:
    storage = S3Buckets(region="us-east-1", endpoint_url=None)
    storage._made = cast(Any, client)
    return [info.key async for info in storage.listed("b", "", after)]


async def test_a_listing_goes_from_page_to_page() -> None:
    pages = Pages(page("a", "b", token="1"), page(token="2"), page("c", token="3"), page("é"))
    assert await listed(pages) == ["a", "b", "c", "é"]
    assert pages.asked == 4


@pytest.mark.parametrize(
    ("client", "after"),
    (
        (Pages(page("a", token="1")), None),  # the same page again and again
        (Pages(page("a", token="1"), page(token="1")), None),  # the same token
        (Pages({"IsTruncated": True}), None),  # no token
        (Pages(page("a", "b")), "b"),  # StartAfter is passed over
    ),
)
async def test_a_listing_that_does_not_go_on_is_given_up(client: Pages, after: str | None) -> None:
    with pytest.raises(ObjectError, match="Bucket 'b' cannot be listed: the storage"):
        await listed(client, after)
    assert client.asked <= 2


async def test_empty_pages_without_end_are_given_up() -> None:
    pages = Pages(*(page(token=str(number)) for number in range(s3_objects.MAX_EMPTY_PAGES + 5)))
    with pytest.raises(ObjectError, match="says that there is more, and does not go on to it"):
        await listed(pages)


def test_the_door_of_the_tests_lets_in_who_expects_the_owner(s3: OwnedS3) -> None:
    """So that the tests above are no proof of nothing."""
    put(s3, "door", json.dumps(1))
    assert s3.client().head_object(Bucket="kept", Key="door", ExpectedBucketOwner=OWNER)
    with pytest.raises(Exception, match="403"):
        s3.client().head_object(Bucket="kept", Key="door", ExpectedBucketOwner=STRANGER)
