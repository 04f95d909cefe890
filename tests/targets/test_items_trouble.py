"""Readers of items against objects that are broken, hostile or change: a readable error, in bounded memory, off the event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from stepwell.engine.jsontypes import Json, read
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets import objects, s3_objects
from stepwell.engine.targets.items import json_items, parquet_process, stream
from stepwell.engine.targets.items.parquet import Decoders
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.items.stream import MAX_ITEM_BYTES, Stream
from stepwell.engine.targets.objects import CHUNK_BYTES, FileBuckets, ObjectError
from stepwell.engine.targets.s3_objects import S3Buckets, S3Ranges


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path


def reader(key: str, **config: Json) -> ReaderSpec:
    return ReaderSpec("getObject", {"Bucket": "items", "Key": key}, dict(config))


async def all_of(bucket: Path, spec: ReaderSpec, cursor: str | None = None) -> list[SourceItem]:
    return [item async for item in ObjectItems(FileBuckets({"items": bucket})).read(spec, cursor)]


async def values(bucket: Path, spec: ReaderSpec) -> list[Json]:
    return [read(item.text) for item in await all_of(bucket, spec)]


async def fails(bucket: Path, spec: ReaderSpec, cause: str, cursor: str | None = None) -> None:
    with pytest.raises(StatesError, match=cause) as caught:
        await all_of(bucket, spec, cursor)
    assert caught.value.error == "States.ItemReaderFailed"


# ----------------------------------------------------------------------------------------------------------------- CSV


async def test_a_quote_that_is_not_closed_is_told_of_and_not_searched_for_again_and_again(bucket: Path) -> None:
    (bucket / "f.csv").write_text('A,B\n1,"2\n' + "some,more text of the file\n" * 200_000)
    await fails(bucket, reader("f.csv", InputType="CSV"), r"a quote in the row at byte 4 is not closed")


async def test_a_quote_that_is_not_closed_ahead_of_more_than_an_item_may_hold(bucket: Path) -> None:
    (bucket / "f.csv").write_text('A,B\n1,"2\n' + "some,more text of the file\n" * 400_000)
    await fails(bucket, reader("f.csv", InputType="CSV"), r"in the row at byte 4 .* larger than 8388608 bytes")


async def test_a_value_of_many_lines(bucket: Path) -> None:
    text = "".join(f'line {n} with ""quotes""\n' for n in range(50_000))
    (bucket / "f.csv").write_text(f'A,B\n"{text}",2\n3,4\n')
    first, second = await values(bucket, reader("f.csv", InputType="CSV"))
    assert first == {"A": text.replace('""', '"'), "B": "2"}
    assert second == {"A": "3", "B": "4"}


@pytest.mark.parametrize(
    ("row", "expected"),
    (
        (r"a\,b,c", ["a,b", "c"]),
        (r"path\\to\\file,\x", ["path\\to\\file", "x"]),
        (r'"say \"hi\"",b', ['say "hi"', "b"]),
        (r'"x, ""y""",', ['x, "y"', ""]),
        ('"a"b,c"d"', ["ab", 'c"d"']),
        ('"",""', ["", ""]),
        ("end\\", ["end", ""]),
        ('"a\\\nb",c', ["a\nb", "c"]),
        ('"two\r\nlines",c', ["two\r\nlines", "c"]),
    ),
)
async def test_quotes_and_backslashes(bucket: Path, row: str, expected: list[str]) -> None:
    (bucket / "f.csv").write_text(f"A,B\r\n{row}\r\nlast,\r\n", newline="")
    rows = await values(bucket, reader("f.csv", InputType="CSV"))
    assert rows == [dict(zip("AB", expected, strict=True)), {"A": "last", "B": ""}]


@pytest.mark.parametrize(
    ("config", "cause"),
    (
        ({"CSVDelimiter": "DOT"}, "The CSVDelimiter 'DOT' is none of COMMA, PIPE, SEMICOLON, SPACE, TAB"),
        ({"CSVDelimiter": 5}, "The CSVDelimiter 5 is none of"),
        ({"CSVHeaderLocation": "NONE"}, "The CSVHeaderLocation 'NONE' is none of FIRST_ROW, GIVEN"),
        ({"CSVHeaderLocation": "GIVEN"}, "is GIVEN, and CSVHeaders is no array of strings"),
        ({"CSVHeaderLocation": "GIVEN", "CSVHeaders": []}, "is no array of strings"),
        ({"CSVHeaderLocation": "GIVEN", "CSVHeaders": ["a", 1]}, "is no array of strings"),
        ({"CSVHeaderLocation": "GIVEN", "CSVHeaders": ["a" * 10_241]}, "The CSVHeaders are larger than 10240 bytes"),
        ({"InputType": "XML"}, "The InputType 'XML' cannot be read: it is none of CSV, JSON, JSONL, PARQUET"),
        ({"InputType": "JSON", "ItemsPointer": "rows"}, "The ItemsPointer 'rows' is no JSON Pointer"),
        ({"InputType": "JSON", "ItemsPointer": 5}, "The ItemsPointer 5 is no JSON Pointer"),
    ),
)
async def test_what_an_expression_may_give_and_no_reader_takes(
    bucket: Path, config: dict[str, Json], cause: str
) -> None:
    (bucket / "f").write_text("A,B\n1,2\n")
    await fails(bucket, reader("f", **{"InputType": "CSV", **config}), cause)


async def test_headers_in_the_first_row_go_before_those_that_are_given(bucket: Path) -> None:
    (bucket / "f").write_text("A,B\n1,2\n")
    spec = reader("f", InputType="CSV", CSVHeaderLocation="FIRST_ROW", CSVHeaders=["x", "y"])
    assert await values(bucket, spec) == [{"A": "1", "B": "2"}]


# --------------------------------------------------------------------------------------------------------- compression


@pytest.mark.parametrize(("name", "most"), (("f.gz", CHUNK_BYTES), ("f.zst", CHUNK_BYTES + 8 * 1024 * 1024)))
async def test_little_that_becomes_much_is_decompressed_bit_by_bit_in_a_thread(
    bucket: Path, name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytes(100_000_000)
    (bucket / name).write_bytes(gzip.compress(raw) if name == "f.gz" else zstandard.compress(raw))
    threads: set[int] = set()
    kind = stream._Gzip if name == "f.gz" else stream._Zstandard
    more = kind.more

    def noted(self: Any) -> bytes:
        threads.add(threading.get_ident())
        return more(self)

    monkeypatch.setattr(kind, "more", noted)
    opened = await Stream.open(FileBuckets({"items": bucket}), "items", name)
    largest = total = 0
    while await opened.fill():
        largest = max(largest, len(opened.data))
        total += len(opened.take(len(opened.data)))
    await opened.close()
    assert (total, largest <= most) == (len(raw), True)
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("name", ("f.gz", "f.zst"))
async def test_a_compressed_object_that_is_cut_off_is_no_complete_one(bucket: Path, name: str) -> None:
    text = b"".join(b'{"n": %d}\n' % n for n in range(20_000))
    whole = gzip.compress(text) if name == "f.gz" else zstandard.compress(text)
    for kept in (len(whole) - 1, len(whole) // 2, 7):
        (bucket / name).write_bytes(whole[:kept])
        await fails(
            bucket, reader(name, InputType="JSONL"), r"'f\.\w+' of bucket 'items' cannot be decompressed: it ends"
        )
    (bucket / name).write_bytes(whole + whole[:-3])
    await fails(bucket, reader(name, InputType="JSONL"), "it ends too early")


@pytest.mark.parametrize("name", ("f.gz", "f.zst"))
@pytest.mark.parametrize("chunk", (1, 100, CHUNK_BYTES))
async def test_many_members_in_one_object(bucket: Path, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", chunk)
    compress = gzip.compress if name == "f.gz" else zstandard.compress
    (bucket / name).write_bytes(b"".join(compress(b"%d\n" % n if n % 3 else b"") for n in range(300)))
    assert await values(bucket, reader(name, InputType="JSONL")) == [n for n in range(300) if n % 3]


async def test_zeros_behind_a_gzip_member_are_padding(bucket: Path) -> None:
    (bucket / "f.gz").write_bytes(gzip.compress(b"1\n") + bytes(1000))
    assert await values(bucket, reader("f.gz", InputType="JSONL")) == [1]


@pytest.mark.parametrize("name", ("f.gz", "f.zst"))
async def test_what_is_not_compressed(bucket: Path, name: str) -> None:
    (bucket / name).write_bytes(b"[1, 2, 3]" * 100)
    await fails(bucket, reader(name, InputType="JSON"), "cannot be decompressed")


# ---------------------------------------------------------------------------------------------------------------- JSON


async def test_a_large_item_is_looked_at_once(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", 1000)
    looked: list[int] = []
    ended = json_items._Nested.ended

    def noted(self: json_items._Nested, data: bytearray, end: int) -> bool:
        start = self.at
        done = ended(self, data, end)
        looked.append(self.at - start)
        return done

    monkeypatch.setattr(json_items._Nested, "ended", noted)
    item = {"list": [[n, {"text": 'a "quoted" \\ ]}'}] for n in range(20_000)], "long": '\\"' * 100_000}
    text = json.dumps([item, 2])
    (bucket / "f.json").write_text(text)
    assert await values(bucket, reader("f.json", InputType="JSON")) == [item, 2]
    assert sum(looked) <= len(text)


def test_the_end_of_a_value_is_found_wherever_reading_stops() -> None:
    chance = random.Random(5)
    for text in (
        b'{"a": ["]", {"b\\"}": "\\\\"}], "c": {}} ,',
        b'"\\\\\\"x" ',
        b'[[],[[]],"[",{}]]',
        b'""x',
        b'"\\u00e9" ',
    ):
        expected = json.JSONDecoder().raw_decode(text.decode())[1]
        for _ in range(50):
            scan, data, end = json_items._Nested(), bytearray(), 0
            while not scan.ended(data, len(data)):
                assert end < len(text)
                end += chance.randint(1, 4)
                data = bytearray(text[:end])
            assert scan.at == expected


async def test_what_is_passed_over_is_not_kept(bucket: Path) -> None:
    with (bucket / "f.json").open("wb") as file:
        file.write(b'{"before": {"text": "' + b"x\\\\" * 10_000_000 + b'"}, "items": [1, 2]}')
    tracemalloc.start()
    assert await values(bucket, reader("f.json", InputType="JSON", ItemsPointer="/items")) == [1, 2]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


async def test_an_item_that_is_too_large(bucket: Path) -> None:
    (bucket / "f.json").write_bytes(b'["' + b"x" * MAX_ITEM_BYTES + b'"]')
    await fails(
        bucket, reader("f.json", InputType="JSON"), "'f.json' of bucket 'items' holds an item larger than 8388608"
    )


@pytest.mark.parametrize("index", ("9" * 5000, "01", "-1", "٣", "4", "+1"))
async def test_indices_that_lead_to_nothing(bucket: Path, index: str) -> None:
    (bucket / "f.json").write_text("[[1], [2], [3], [4]]")
    await fails(bucket, reader("f.json", InputType="JSON", ItemsPointer=f"/{index}"), "leads to nothing")


# ------------------------------------------------------------------------------------------------------------- Parquet


def written(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    made = pytest.importorskip("pyarrow.parquet")
    made.write_table(pyarrow.Table.from_pylist(rows), path, **options)


async def test_parquet_that_changes_meanwhile_is_not_read_on(bucket: Path) -> None:
    written(bucket / "f", [{"n": n} for n in range(10)])
    first = (await all_of(bucket, reader("f", InputType="PARQUET")))[0]
    written(bucket / "f", [{"n": n} for n in range(20)])
    await fails(bucket, reader("f", InputType="PARQUET"), "has changed while", first.cursor)


def paged(path: Path) -> list[list[bytes]]:
    """What the helper process makes of a file, here."""
    data = path.read_bytes()
    return list(parquet_process.pages(parquet_process.Ranges(len(data), lambda at, size: data[at : at + size]), 0))


async def test_values_of_a_dictionary_are_counted_as_often_as_they_occur(bucket: Path) -> None:
    made = pytest.importorskip("pyarrow.parquet")
    text = "".join(random.Random(1).choices("abcdefgh", k=900_000))
    written(bucket / "f", [{"text": text}] * 300)
    group = made.ParquetFile(bucket / "f").metadata.row_group(0)
    assert group.total_byte_size < 2_000_000  # and 270 MB if all rows were decoded at once
    assert parquet_process.batch_rows(group) * len(text) < 40_000_000
    count = 0
    async for _ in ObjectItems(FileBuckets({"items": bucket})).read(reader("f", InputType="PARQUET"), None):
        count += 1
    assert count == 300


async def test_a_row_of_parquet_that_is_too_large(bucket: Path) -> None:
    written(bucket / "f", [{"text": "x" * (MAX_ITEM_BYTES + 1)}])
    await fails(bucket, reader("f", InputType="PARQUET"), "holds an item larger than 8388608 bytes")


def test_parquet_beyond_the_limits(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(bucket / "f", [{"text": "x"}])
    monkeypatch.setattr(parquet_process, "MAX_GROUP_BYTES", 10)
    with pytest.raises(parquet_process.ParquetError, match="row group 0 is larger than 10 bytes"):
        paged(bucket / "f")
    monkeypatch.setattr(parquet_process, "MAX_FOOTER_BYTES", 10)
    with pytest.raises(parquet_process.ParquetError, match="its footer is larger than 10 bytes"):
        paged(bucket / "f")


@pytest.mark.parametrize(
    ("name", "raised"),
    (
        ("ArrowNotImplementedError", parquet_process.ParquetError),
        ("ArrowTypeError", parquet_process.ParquetError),
        ("ArrowCapacityError", parquet_process.ParquetError),
        ("ArrowMemoryError", MemoryError),
    ),
)
def test_whatever_the_library_of_parquet_raises(
    bucket: Path, name: str, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    made = pytest.importorskip("pyarrow.parquet")

    def broken(*_: Any, **__: Any) -> Any:
        raise getattr(pyarrow.lib, name)("no such thing\nat some place")

    written(bucket / "f", [{"n": 1}])
    monkeypatch.setattr(made.ParquetFile, "iter_batches", broken)
    with pytest.raises(raised, match=rf"^{name}: no such thing$" if raised is not MemoryError else "^$"):
        paged(bucket / "f")


async def test_readers_of_parquet_that_are_more_than_there_are_helpers(bucket: Path) -> None:
    """One that has lost its helper goes on at its row, whoever else reads."""
    for number in range(5):
        written(bucket / f"{number}", [{"n": n, "of": number} for n in range(1200)], row_group_size=700)
    items = ObjectItems(FileBuckets({"items": bucket}))
    items._decoders = Decoders(2)
    readings = [items.read(reader(f"{number}", InputType="PARQUET"), None) for number in range(5)]
    found: list[list[Json]] = [[] for _ in readings]
    for _ in range(1200):
        for texts, one in zip(found, readings, strict=True):
            texts.append(read((await anext(one)).text))
    assert found == [[{"n": n, "of": number} for n in range(1200)] for number in range(5)]
    for one in readings:
        assert await anext(one, None) is None


async def test_one_helper_reads_one_object_after_the_other(bucket: Path) -> None:
    for number in range(5):
        written(bucket / f"{number}", [{"n": number}])
    items = ObjectItems(FileBuckets({"items": bucket}))
    config: dict[str, Json] = {"InputType": "PARQUET", "Transformation": "LOAD_AND_FLATTEN"}
    reading = items.read(ReaderSpec("listObjectsV2", {"Bucket": "items"}, config), None)
    found = [read((await anext(reading)).text) for _ in range(5)]
    assert found == [{"n": number} for number in range(5)]
    assert sum(helper.started for helper in items._decoders._free) == 1
    assert await anext(reading, None) is None


async def test_a_reading_of_parquet_that_is_given_up_leaves_no_process(bucket: Path) -> None:
    written(bucket / "f", [{"n": n} for n in range(1200)])
    items = ObjectItems(FileBuckets({"items": bucket}))
    reading = items.read(reader("f", InputType="PARQUET"), None)
    await anext(reading)
    (helper,) = [one for one in items._decoders._free if one.started]
    process = helper._process
    assert process is not None and process.poll() is None
    await reading.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL


async def test_a_helper_that_is_killed_fails_what_it_reads_and_nothing_else(bucket: Path) -> None:
    written(bucket / "f", [{"n": n} for n in range(1200)])
    items = ObjectItems(FileBuckets({"items": bucket}))
    one, other = (items.read(reader("f", InputType="PARQUET"), None) for _ in range(2))
    await anext(one)
    (helper,) = [each for each in items._decoders._free if each.started]
    await anext(other)
    assert helper._process is not None
    helper._process.kill()
    with pytest.raises(StatesError, match="makes the decoder fail"):
        [item async for item in one]
    assert len([item async for item in other]) == 1199


async def test_parquet_that_is_damaged(bucket: Path) -> None:
    written(bucket / "f", [{"n": n, "text": str(n)} for n in range(1000)])
    whole = (bucket / "f").read_bytes()
    for spoiled in (
        b"",
        b"PAR1",
        whole[:-9] + whole[-8:],
        b"PAR1" + bytes(len(whole) // 2) + whole[len(whole) // 2 + 4 :],
    ):
        (bucket / "f").write_bytes(spoiled)
        await fails(bucket, reader("f", InputType="PARQUET"), "cannot be read as Parquet")


# ----------------------------------------------------------------------------------------------------------- manifests


@pytest.mark.parametrize(
    ("file", "fault"),
    (
        ({}, r"is none of S3 Inventory: Object missing required field `key` - at `\$.files"),
        ({"key": 5}, r"is none of S3 Inventory: Expected `str`, got `int` - at `\$.files\[0\].key`"),
        (5, "is none of S3 Inventory: Expected `object`, got `int`"),
        (None, "is none of S3 Inventory: Expected `object`, got `null`"),
        ({"key": ""}, "The manifest 'm.json' names a file without a key"),
    ),
)
async def test_a_manifest_that_names_a_file_without_a_key(bucket: Path, file: Json, fault: str) -> None:
    (bucket / "m.json").write_text(json.dumps({"fileFormat": "CSV", "fileSchema": "Bucket", "files": [file]}))
    await fails(bucket, reader("m.json", InputType="MANIFEST"), fault)


async def test_a_manifest_that_changes_meanwhile_is_not_read_on(bucket: Path) -> None:
    (bucket / "1.jsonl").write_text("1\n2\n")
    (bucket / "2.jsonl").write_text("3\n")
    (bucket / "m.csv").write_text("s3://items/1.jsonl\ns3://items/2.jsonl\n")
    spec = reader("m.csv", InputType="JSONL", ManifestType="ATHENA_DATA")
    first = (await all_of(bucket, spec))[0]
    (bucket / "m.csv").write_text("s3://items/2.jsonl\n")
    await fails(bucket, spec, "'m.csv' of bucket 'items' has changed while", first.cursor)


# --------------------------------------------------------------------------------------------------------- directories


async def test_a_pipe_is_no_object(bucket: Path) -> None:
    os.mkfifo(bucket / "pipe")
    await fails(bucket, reader("pipe", InputType="JSONL"), "no regular file")
    await fails(bucket, reader("pipe", InputType="PARQUET"), "no regular file")
    (bucket / "folder").mkdir()
    await fails(bucket, reader("folder", InputType="JSONL"), "no regular file")


@pytest.mark.parametrize("key", ("x" * 300, "x/" * 3000, "\ud800", "round"))
async def test_keys_that_no_file_has(bucket: Path, key: str) -> None:
    (bucket / "round").symlink_to("round")
    files = FileBuckets({"items": bucket})
    for what in (files.open("items", key), files.put("items", key, b"x")):
        with pytest.raises(ObjectError):
            await what


async def test_a_file_that_is_written_over_while_it_is_read(bucket: Path) -> None:
    (bucket / "f").write_bytes(bytes(2 * CHUNK_BYTES))
    opened = await FileBuckets({"items": bucket}).open("items", "f")
    await opened.read()
    (bucket / "f").write_bytes(b"else")
    with pytest.raises(ObjectError, match="has changed while"):
        await opened.read()
    await opened.close()


async def test_a_link_that_is_put_there_meanwhile_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    files = FileBuckets({"items": root})
    for key in ("link/secret", "file"):
        # what is looked up was a directory, and a link a moment later
        monkeypatch.setattr(files, "_parts", lambda _, key: tuple(key.split("/")))
        with pytest.raises(ObjectError, match="cannot be read"):
            await files.open("items", key)
    with pytest.raises(ObjectError, match="cannot be written"):
        await files.put("items", "link/new", b"x")
    assert [path.name for path in outside.iterdir()] == ["secret"]


async def test_a_listing_is_in_the_order_of_keys_and_holds_nothing_half_written(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAGE_KEYS", 2)
    keys = ["a-b", "a.txt", "a/1", "a/2/x", "a0", "b/c/d", "z"]
    files = FileBuckets({"items": bucket})
    for key in reversed(keys):
        await files.put("items", key, b"x")
    (bucket / "a" / ".stepwell-0123456789abcdef.part").write_bytes(b"half")
    os.mkfifo(bucket / "pipe")
    (bucket / os.fsdecode(b"\xff")).write_bytes(b"no text")
    deep = bucket.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "longer than a key").write_bytes(b"x")

    async def listed(prefix: str, after: str | None) -> list[str]:
        return [info.key async for info in files.listed("items", prefix, after)]

    assert await listed("", None) == keys
    for number, key in enumerate(keys):
        assert await listed("", key) == keys[number + 1 :]
    assert await listed("a/", None) == ["a/1", "a/2/x"]
    assert await listed("a/2", "a/1") == ["a/2/x"]
    assert await listed("b/c/d", None) == ["b/c/d"]
    with pytest.raises(ObjectError, match="Bucket 'none' cannot be listed: No such file"):
        [info async for info in FileBuckets({"none": bucket / "none"}).listed("none", "", None)]


async def test_a_write_that_fails_leaves_nothing(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StatesError, match="cannot be written: No space left on device") as caught:
        await ObjectItems(FileBuckets({"items": bucket})).write("items", "folder/out", b"x")
    assert caught.value.error == "States.ResultWriterFailed"
    assert list((bucket / "folder").iterdir()) == []


async def test_threads_that_others_occupy_are_not_waited_for(bucket: Path) -> None:
    (bucket / "f.json").write_text("[1, 2]")
    written(bucket / "f.parquet", [{"n": 1}])
    over = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        threads.submit(over.wait)
        try:
            async with asyncio.timeout(60):
                assert await values(bucket, reader("f.json", InputType="JSON")) == [1, 2]
                assert await values(bucket, reader("f.parquet", InputType="PARQUET")) == [{"n": 1}]
        finally:
            over.set()


# ------------------------------------------------------------------------------------------------------------------ S3


class Answers:
    """A client of S3 that answers with bodies or errors, one after the other."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments["Range"])
        return {"Body": Body(self.answers.pop(0))}


class Body:
    def __init__(self, answer: bytes | Exception) -> None:
        self._answer = answer

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, amount: int) -> bytes:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer[:amount]


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    client = Answers(ConnectionResetError("reset"), b"0123456789")
    assert S3Ranges(client, "b", "k", 10, '"1"').read_range(0, 4) == b"0123"
    assert client.asked == ["bytes=0-9"] * 2
    client = Answers(*[ConnectionResetError("reset")] * s3_objects.ATTEMPTS)
    with pytest.raises(ObjectError, match="'k' of bucket 'b' cannot be read to its end: reset"):
        S3Ranges(client, "b", "k", 10, '"1"').read_range(0, 4)
    with pytest.raises(ObjectError, match="does not answer with the range it is asked for"):
        S3Ranges(Answers(b"012345678901234567890"), "b", "k", 10, '"1"').read_range(0, 4)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_storage_that_does_not_answer_is_given_up(silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(s3_objects, "READ_SECONDS", 0.1)
    monkeypatch.setattr(s3_objects, "ATTEMPTS", 1)
    storage = S3Buckets(region="us-east-1", endpoint_url=silent_server)
    with pytest.raises(ObjectError, match="'k' of bucket 'b' cannot be read: Read timeout"):
        await asyncio.wait_for(storage.open("b", "k"), 30)
    await storage.close()
