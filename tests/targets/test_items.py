"""Readers of items: every format, from directories and from S3, resumed at any item; and what cannot be read."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from stepwell.engine.jsontypes import Json, read
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets import objects, s3_objects
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import Buckets, FileBuckets, ObjectError, Objects
from stepwell.engine.targets.s3_objects import S3Buckets, S3Ranges

ROWS = [{"n": number, "text": f'{number} "quoted", [and] {{braces}} \\ é'} for number in range(50)]


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=("directory", "s3"))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Objects]:
    """A bucket named `items`, as a directory and in S3."""
    made = Buckets(FileBuckets({"items": tmp_path}), S3Buckets(region="us-east-1", endpoint_url=None))
    if request.param == "s3":
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        url: str = request.getfixturevalue("s3_url")
        boto3 = pytest.importorskip("boto3")
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        found = client.list_objects_v2(Bucket="items") if "items" in _buckets(client) else {}
        for one in found.get("Contents", ()):
            client.delete_object(Bucket="items", Key=one["Key"])
        client.create_bucket(Bucket="items")
        made = Buckets(FileBuckets({}), S3Buckets(region="us-east-1", endpoint_url=url))
    yield made
    await made.close()


def _buckets(client: Any) -> list[str]:
    return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def reader(key: str = "file", **config: Json) -> ReaderSpec:
    return ReaderSpec("getObject", {"Bucket": "items", "Key": key}, dict(config))


async def all_of(storage: Objects, spec: ReaderSpec, cursor: str | None = None) -> list[SourceItem]:
    return [item async for item in ObjectItems(storage).read(spec, cursor)]


def values(items: list[SourceItem]) -> list[Json]:
    return [read(item.text) for item in items]


async def resumable(storage: Objects, spec: ReaderSpec) -> list[Json]:
    """What is read, after checking that reading goes on rightly from behind every item."""
    items = await all_of(storage, spec)
    step = max(len(items) // 7, 1)
    for index in range(0, len(items), step):
        assert values(await all_of(storage, spec, items[index].cursor)) == values(items[index + 1 :])
    return values(items)


def packed(text: bytes, name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(text[:100]) + gzip.compress(text[100:])
    return zstandard.compress(text) if name.endswith(".zst") else text


@pytest.mark.parametrize("name", ("f.json", "f.json.gz", "f.json.zst"))
@pytest.mark.parametrize("indent", (None, 2))
async def test_json(storage: Objects, name: str, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", 37)
    await storage.put("items", name, packed(json.dumps(ROWS, indent=indent).encode(), name))
    assert await resumable(storage, reader(name, InputType="JSON")) == ROWS


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("[]", []),
        (" [ ] ", []),
        ("[1,-2.5e3 , true,null]", [1, -2500.0, True, None]),
        ('["]", "[", "\\"", "a\\\\"]', ["]", "[", '"', "a\\"]),
        ("[[1,[2]],{}]", [[1, [2]], {}]),
    ),
)
async def test_json_of_all_sorts(storage: Objects, text: str, expected: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (1, 3, 1000):
        monkeypatch.setattr(objects, "CHUNK_BYTES", chunk)
        await storage.put("items", "file", text.encode())
        assert await resumable(storage, reader(InputType="JSON")) == expected


async def test_items_pointer(storage: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", 11)
    document = {"x": {"big": [[{"deep": "]"}] * 20]}, "a/b": [0, {"list": ROWS}], "after": 1}
    await storage.put("items", "file", json.dumps(document).encode())
    assert await resumable(storage, reader(InputType="JSON", ItemsPointer="/a~1b/1/list")) == ROWS
    with pytest.raises(StatesError, match="leads to nothing"):
        await all_of(storage, reader(InputType="JSON", ItemsPointer="/a~1b/2"))


@pytest.mark.parametrize(
    ("text", "cause"),
    (
        ('{"a": 1}', "Attempting to map over non-iterable node."),
        ("5", "Attempting to map over non-iterable node."),
        ("", "ends too early"),
        ("[1, 2", "ends too early"),
        ("[1 2]", "between two items"),
        ("[1, x]", "not valid JSON"),
        ('["abc]', "ends too early"),
    ),
)
async def test_what_is_no_array_of_json(storage: Objects, text: str, cause: str) -> None:
    await storage.put("items", "file", text.encode())
    with pytest.raises(StatesError, match=cause) as caught:
        await all_of(storage, reader(InputType="JSON"))
    assert caught.value.error == "States.ItemReaderFailed"


async def test_a_line_that_is_no_json_is_told_of_with_its_place(storage: Objects) -> None:
    await storage.put("items", "file", b'{"a": 1}\n\n{"a":\n')
    with pytest.raises(
        StatesError, match="object 'file' of bucket 'items' holds an item that is not valid JSON, at byte 10"
    ):
        await all_of(storage, reader(InputType="JSONL"))


async def test_a_row_that_is_no_utf8_is_told_of_with_its_place(storage: Objects) -> None:
    await storage.put("items", "file", b"a,b\n1,\xe9\n")
    with pytest.raises(
        StatesError, match="object 'file' of bucket 'items' cannot be read as CSV: the row at byte 4 is not"
    ):
        await all_of(storage, reader(InputType="CSV", CSVHeaderLocation="FIRST_ROW"))


async def test_json_lines(storage: Objects) -> None:
    text = "\n".join(json.dumps(row) for row in ROWS[:9]) + "\n\n" + json.dumps(ROWS[9])
    await storage.put("items", "file", text.encode())
    assert await resumable(storage, reader(InputType="JSONL")) == ROWS[:10]


CSV = 'A,B,C\r\n1,2,3\r\n"x, ""y""","line\nbreak",\r\n\r\n,,,,\r\n   \r\nonly,5" pipe,\xe9\r\nlast'
PARSED = [
    {"A": "1", "B": "2", "C": "3"},
    {"A": 'x, "y"', "B": "line\nbreak", "C": ""},
    {"A": "", "B": "", "C": ""},
    {"A": "   ", "B": "", "C": ""},
    {"A": "only", "B": '5" pipe', "C": "\xe9"},
    {"A": "last", "B": "", "C": ""},
]


@pytest.mark.parametrize("name", ("f.csv", "f.csv.gz"))
@pytest.mark.parametrize("mark", (b"", b"\xef\xbb\xbf"))
async def test_csv(storage: Objects, name: str, mark: bytes) -> None:
    await storage.put("items", name, packed(mark + CSV.encode(), name))
    assert await resumable(storage, reader(name, InputType="CSV", CSVHeaderLocation="FIRST_ROW")) == PARSED


@pytest.mark.parametrize(
    ("name", "mark"), (("COMMA", ","), ("PIPE", "|"), ("SEMICOLON", ";"), ("SPACE", " "), ("TAB", "\t"))
)
async def test_csv_with_headers_that_are_given(storage: Objects, name: str, mark: str) -> None:
    await storage.put("items", "file", mark.join("123").encode() + b"\n" + mark.join(("a", '"b"', "c")).encode())
    spec = reader(InputType="CSV", CSVHeaderLocation="GIVEN", CSVHeaders=["X", "Y"], CSVDelimiter=name)
    assert await resumable(storage, spec) == [{"X": "1", "Y": "2"}, {"X": "a", "Y": "b"}]


async def test_parquet(storage: Objects, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "made", row_group_size=7)
    await storage.put("items", "file", (tmp_path / "made").read_bytes())
    assert await resumable(storage, reader(InputType="PARQUET")) == ROWS
    await storage.put("items", "file", b"no parquet")
    with pytest.raises(StatesError, match="cannot be read as Parquet"):
        await all_of(storage, reader(InputType="PARQUET"))


async def test_listing(storage: Objects) -> None:
    for key in ("in/b.json", "in/a.json", "out/c.json"):
        await storage.put("items", key, b"[1]")
    spec = ReaderSpec("listObjectsV2", {"Bucket": "items", "Prefix": "in/"})
    listed = await resumable(storage, spec)
    assert [one["Key"] for one in listed] == ["in/a.json", "in/b.json"]  # type: ignore[index,call-overload]
    assert all(one.keys() == {"Etag", "Key", "LastModified", "Size", "StorageClass"} for one in listed)  # type: ignore[union-attr]


async def test_a_listing_whose_objects_are_loaded(storage: Objects) -> None:
    await storage.put("items", "in/a.jsonl", b"1\n2\n")
    await storage.put("items", "in/b.jsonl", b"3\n")
    config: dict[str, Any] = {"InputType": "JSONL", "Transformation": "LOAD_AND_FLATTEN"}
    spec = ReaderSpec("listObjectsV2", {"Bucket": "items", "Prefix": "in/"}, config)
    assert await resumable(storage, spec) == [1, 2, 3]
    assert [item.source for item in await all_of(storage, spec)] == ["s3://items/in/a.jsonl"] * 2 + [
        "s3://items/in/b.jsonl"
    ]


async def test_inventory(storage: Objects) -> None:
    await storage.put("items", "data/1.csv.gz", gzip.compress(b'"b","a%20key","5"\n"b","other","6"\n'))
    await storage.put("items", "data/2.csv.gz", gzip.compress(b'"b","third","7"\n'))
    manifest = {
        "destinationBucket": "arn:aws:s3:::items",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "data/1.csv.gz"}, {"key": "data/2.csv.gz"}],
    }
    await storage.put("items", "manifest.json", json.dumps(manifest).encode())
    rows = await resumable(storage, reader("manifest.json", InputType="MANIFEST"))
    assert rows == [
        {"Bucket": "b", "Key": "a key", "Size": "5"},
        {"Bucket": "b", "Key": "other", "Size": "6"},
        {"Bucket": "b", "Key": "third", "Size": "7"},
    ]


async def test_manifest_of_athena(storage: Objects) -> None:
    await storage.put("items", "1.jsonl", b"1\n2\n")
    await storage.put("items", "2.jsonl", b"3\n")
    await storage.put("items", "manifest.csv", b"s3://items/1.jsonl\ns3://items/2.jsonl\n")
    spec = reader("manifest.csv", InputType="JSONL", ManifestType="ATHENA_DATA")
    assert await resumable(storage, spec) == [1, 2, 3]


async def test_an_object_that_changes_meanwhile_is_not_read_on(storage: Objects) -> None:
    await storage.put("items", "file", b"[1, 2, 3]")
    first = (await all_of(storage, reader(InputType="JSON")))[0]
    await storage.put("items", "file", b"[1, 2, 3, 4, 5]")
    with pytest.raises(StatesError, match="has changed while its items were being read"):
        await all_of(storage, reader(InputType="JSON"), first.cursor)


async def test_what_is_not_there(storage: Objects) -> None:
    with pytest.raises(StatesError, match=r"The object 'none' of bucket 'items' cannot be read"):
        await all_of(storage, reader("none", InputType="JSON"))
    with pytest.raises(StatesError, match="Key must be a string"):
        await all_of(storage, ReaderSpec("getObject", {"Bucket": "items", "Key": 5}))


@pytest.mark.parametrize("key", ("../outside", "/etc/passwd", "a/../../outside", "link/inside", "", "."))
async def test_nothing_outside_of_a_directory_is_touched(tmp_path: Path, key: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "inside").write_text("secret")
    (root / "link").symlink_to(outside)
    files = FileBuckets({"b": root})
    with pytest.raises(ObjectError, match="leads outside"):
        await files.open("b", key)
    with pytest.raises(ObjectError, match="leads outside"):
        await files.put("b", key, b"x")
    assert [info.key async for info in files.listed("b", "", None)] == []


async def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    """Of 40 MB no more than some chunks are held at once."""
    with (tmp_path / "large.json").open("wb") as file:
        file.write(b"[" + b",".join(b'{"n": %d, "pad": "%s"}' % (n, b"x" * 1000) for n in range(40_000)) + b"]")
    import tracemalloc

    tracemalloc.start()
    count = 0
    source = ObjectItems(FileBuckets({"items": tmp_path}))
    async for _ in source.read(reader("large.json", InputType="JSON"), None):
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak < 8_000_000


async def test_objects_of_many_ranges(storage: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_objects, "RANGE_BYTES", 100)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 30)
    await storage.put("items", "file", json.dumps(ROWS[:9]).encode())
    assert await resumable(storage, reader(InputType="JSON")) == ROWS[:9]
    await storage.put("items", "file", b"")
    assert await resumable(storage, reader(InputType="JSONL")) == []


async def test_an_object_that_changes_between_two_reads_of_it(
    storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "RANGE_BYTES", 100)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 100)
    await storage.put("items", "file", b"x" * 300)
    one, other = await storage.open("items", "file"), await storage.random("items", "file")
    assert await one.read() == other.read_range(0, 100) == b"x" * 100
    await storage.put("items", "file", b"y" * 400)
    if isinstance(other, S3Ranges):
        with pytest.raises(ObjectError, match="has changed"):
            other.read_range(100, 100)
        with pytest.raises(ObjectError, match="has changed"):
            await one.read()
    else:  # the file that is open is still the old one
        assert await one.read() == other.read_range(100, 100) == b"x" * 100
    await one.close()
    other.close()


async def test_a_bucket_that_is_not_there_and_one_that_cannot_be_listed(storage: Objects) -> None:
    for action in ("getObject", "listObjectsV2"):
        with pytest.raises(StatesError) as caught:
            await all_of(storage, ReaderSpec(action, {"Bucket": "nowhere-at-all", "Key": "k"}, {"InputType": "CSV"}))
        assert caught.value.error == "States.ItemReaderFailed"
    with pytest.raises(StatesError, match="cannot be written"):
        await ObjectItems(storage).write("nowhere-at-all", "k", b"x")
