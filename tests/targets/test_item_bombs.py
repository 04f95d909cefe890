"""Objects that are made to take more than there is: little that becomes much, one item without end, names without number.

Each is read in a process of its own, whose most memory is measured: it must end in an error that says what is wrong, and in bounds.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import zstandard

from stepwell.engine.machine.map_spec import ReaderSpec
from tests.support.reading import BUCKET, read_apart

MEBIBYTE: Final = 1024 * 1024
BARE: Final = 60 * MEBIBYTE
"""What a process has that reads nothing, about."""
MOST: Final = BARE + 340 * MEBIBYTE
"""What reading text may bring it to: an item of 8 MiB, as text and as values, is the most of it."""


def reader(key: str, **config: Any) -> ReaderSpec:
    return ReaderSpec("getObject", {"Bucket": BUCKET, "Key": key}, config)


def packed(path: Path, pieces: Iterator[bytes]) -> None:
    """Write pieces, compressed as the name says."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as file:
                file.writelines(pieces)
        elif path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False) as writer:
                for piece in pieces:
                    writer.write(piece)
        else:
            raw.writelines(pieces)


def times(piece: bytes, mebibytes: int, before: bytes = b"") -> Iterator[bytes]:
    """So much of a piece."""
    yield before
    block = piece * (MEBIBYTE // len(piece))
    for _ in range(mebibytes):
        yield block


@pytest.mark.parametrize(
    ("kind", "before", "piece", "cause"),
    (
        pytest.param("CSV", b"A,B\n", b"x", "holds an item larger than 8388608 bytes", id="a field"),
        pytest.param("CSV", b'A,B\n1,"', b"x\n", "holds an item larger", id="a field in quotes"),
        pytest.param("CSV", b"A,B\n", b",", "holds an item larger", id="a row of fields"),
        pytest.param("CSV", b"", b"ab,", "holds an item larger", id="headers"),
        pytest.param("JSON", b'["', b"x", "holds an item larger", id="a string"),
        pytest.param("JSON", b'[{"a":', b"[", "holds an item larger", id="nesting"),
        pytest.param("JSON", b'{"a":', b"[", "leads to nothing|ends too early", id="nesting that is passed over"),
        pytest.param("JSON", b"[", b"1", "holds an item larger", id="a number"),
        pytest.param("JSON", b"", b" ", "ends too early", id="spaces"),
        pytest.param("JSONL", b'{"a": "', b"x", "holds an item larger", id="a line"),
        pytest.param("MANIFEST", b'{"files": [', b'{"key":"x"},', "is larger than 16777216 bytes", id="a manifest"),
    ),
)
def test_text_without_end(tmp_path: Path, kind: str, before: bytes, piece: bytes, cause: str) -> None:
    packed(tmp_path / "f", times(piece, 20, before))
    config = {"InputType": kind} | ({"ItemsPointer": "/b"} if "leads" in cause else {})
    reading = read_apart(tmp_path, reader("f", **config))
    assert reading.error is not None and reading.error.startswith("States.ItemReaderFailed: ")
    assert any(words in reading.error for words in cause.split("|")), reading.error
    assert reading.items == 0
    assert reading.own < MOST, f"{reading.own / MEBIBYTE:.0f} MiB"


@pytest.mark.parametrize("suffix", (".gz", ".zst"))
@pytest.mark.parametrize(("kind", "before"), (("CSV", b"A,B\n"), ("JSON", b'["'), ("JSON", b""), ("MANIFEST", b"")))
def test_little_that_becomes_much(tmp_path: Path, kind: str, before: bytes, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    packed(path, times(b" ", 400, before))
    assert path.stat().st_size < 4 * MEBIBYTE
    reading = read_apart(tmp_path, reader(path.name, InputType=kind))
    assert reading.items == 0 and str(reading.error).startswith("States.ItemReaderFailed: "), reading
    assert reading.own < MOST, f"{reading.own / MEBIBYTE:.0f} MiB"


@pytest.mark.parametrize(
    ("kind", "text", "count", "cause"),
    (
        pytest.param("JSON", b"[[" + b"[]," * 2_700_000 + b"0]]", 1, None, id="many arrays in an item"),
        pytest.param("JSON", b"[[" + b"{}," * 2_700_000 + b"0]]", 1, None, id="many objects in an item"),
        pytest.param("JSON", b"[" + b"[" * 4_000_000 + b"]" * 4_000_000 + b"]", 0, "too deep", id="a deep item"),
        pytest.param("JSONL", b"[" * 4_000_000 + b"]" * 4_000_000, 0, "too deep", id="a deep line"),
        pytest.param("CSV", b"A,B\n" + b"ab," * 2_700_000 + b"\n", 1, None, id="many fields"),
        pytest.param("CSV", b"A,B\n" + b'"",' * 2_700_000 + b"\n", 1, None, id="many fields in quotes"),
        pytest.param("CSV", b"A\n" + b"\x01" * 8_000_000 + b"\n", 0, "holds an item larger", id="a field of controls"),
        pytest.param("CSV", b"a," * 6_000 + b"\n1\n", 0, "its headers are larger than 10240 bytes", id="long headers"),
        pytest.param(
            "MANIFEST",
            b'{"files": [' + b",".join(b'{"key":"%d"}' % n for n in range(900_000)) + b"]}",
            0,
            "No such file",
            id="many files",
        ),
        pytest.param("MANIFEST", b"[" * 16_000_000, 0, "is none of S3 Inventory|too deep", id="a deep manifest"),
        pytest.param(
            "MANIFEST", b'{"x":' * 3_000_000 + b'"files": []}', 0, "too deep", id="a deep member of a manifest"
        ),
    ),
)
def test_as_much_as_may_be(tmp_path: Path, kind: str, text: bytes, count: int, cause: str | None) -> None:
    (tmp_path / "f").write_bytes(text)
    reading = read_apart(tmp_path, reader("f", InputType=kind))
    assert (reading.items, reading.error is None) == (count, cause is None), reading
    assert cause is None or any(words in str(reading.error) for words in cause.split("|")), reading.error
    assert reading.own < MOST, f"{reading.own / MEBIBYTE:.0f} MiB"


def test_a_manifest_of_a_million_urls(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"s3://items/none\n" * 1_000_000)
    reading = read_apart(tmp_path, reader("f", InputType="JSONL", ManifestType="ATHENA_DATA"))
    assert reading.error is not None and "No such file" in reading.error
    assert reading.own < BARE + 100 * MEBIBYTE


@pytest.mark.parametrize("kind", ("CSV", "JSONL", "MANIFEST"))
def test_a_manifest_that_names_itself_is_read_once(tmp_path: Path, kind: str) -> None:
    """What it names is read as items, never as a manifest again."""
    (tmp_path / "athena").write_text('"s3://items/athena"\n')
    (tmp_path / "inventory").write_text(
        '{"fileFormat": "CSV", "fileSchema": "Key", "files": [{"key": "inventory"}]}', encoding="utf-8"
    )
    if kind == "MANIFEST":
        inventory = read_apart(tmp_path, reader("inventory", InputType="MANIFEST"))
        assert (inventory.items, inventory.error) == (1, None)
        athena = read_apart(tmp_path, reader("athena", InputType="MANIFEST", ManifestType="ATHENA_DATA"))
        assert athena.error is not None and "The InputType 'MANIFEST' cannot be read" in athena.error
    else:
        athena = read_apart(tmp_path, reader("athena", InputType=kind, ManifestType="ATHENA_DATA"))
        assert (athena.items, athena.error) == (1 if kind == "JSONL" else 0, None)


# ------------------------------------------------------------------------------------------------------------- Parquet

DECODER: Final = 590 * MEBIBYTE
"""What the process that decodes may come to: 512 MiB, and what it is itself."""
UNTOUCHED: Final = BARE + 60 * MEBIBYTE
"""What the engine's own process may come to while another one decodes."""


def written(path: Path, rows: Any, **options: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(rows), path, compression="zstd", **options)


def zeros(count: int) -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.array(memoryview(bytes(8 * count)).cast("q"), pyarrow.int64())


def varint(number: int, length: int = 0) -> bytes:
    """A number as Thrift's compact protocol has it, in no fewer than so many bytes."""
    left, found = number << 1, bytearray()
    while left > 0x7F or len(found) + 1 < length:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def lies(path: Path) -> None:
    """Let a file say of itself that it is decompressed to a thousand bytes."""
    metadata = pytest.importorskip("pyarrow.parquet").ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(each).total_uncompressed_size for each in range(group.num_columns)]
        for size in (group.total_byte_size, *columns):
            told = varint(size)
            data[footer:] = data[footer:].replace(told, varint(1000, len(told)))
    path.write_bytes(data)
    assert pytest.importorskip("pyarrow.parquet").ParquetFile(path).metadata.row_group(0).total_byte_size == 1000


def decoding_fails(directory: Path, cause: str) -> None:
    assert (directory / "f").stat().st_size < MEBIBYTE
    reading = read_apart(directory, reader("f", InputType="PARQUET"))
    assert reading.error is not None and reading.error.startswith("States.ItemReaderFailed: "), reading
    assert cause in reading.error
    assert reading.own < UNTOUCHED, f"{reading.own / MEBIBYTE:.0f} MiB"
    assert 0 < reading.child < DECODER, f"{reading.child / MEBIBYTE:.0f} MiB"


def test_one_row_with_a_list_without_end(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    values = zeros(50_000_000)
    written(tmp_path / "f", {"list": pyarrow.ListArray.from_arrays([0, len(values)], values)})
    decoding_fails(tmp_path, "takes more than 512 MiB of memory")


def test_one_row_with_a_text_without_end(tmp_path: Path) -> None:
    written(tmp_path / "f", {"text": ["x" * 300_000_000]}, use_dictionary=False)
    lies(tmp_path / "f")
    decoding_fails(tmp_path, "takes more than 512 MiB of memory")


def test_a_row_group_that_says_how_large_it_is(tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "row_group_size": 100_000_000}
    written(tmp_path / "f", {"n": zeros(50_000_000)}, **options)
    decoding_fails(tmp_path, "row group 0 is larger than 268435456 bytes")


def test_a_page_that_is_larger_than_it_says(tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "row_group_size": 100_000_000, "data_page_size": 1 << 30}
    options |= {"write_batch_size": 100_000_000, "max_rows_per_page": 100_000_000}
    written(tmp_path / "f", {"n": zeros(70_000_000)}, **options)
    lies(tmp_path / "f")
    decoding_fails(tmp_path, "takes more than 512 MiB of memory")


def test_types_within_types_without_end(tmp_path: Path) -> None:
    """A schema of groups, each of which holds the next; a decoder that goes into them calls itself that often."""
    depth = 200_000
    group = b"\x35\x00\x18\x01a\x15\x02\x00"
    schema = b"\x48\x01a\x15\x02\x00" + group * depth + b"\x15\x02\x25\x00\x18\x01x\x00"
    elements = depth + 2
    size = bytearray()
    while elements > 0x7F:
        size.append(elements & 0x7F | 0x80)
        elements >>= 7
    size.append(elements)
    footer = b"\x15\x02\x19\xfc" + bytes(size) + schema + b"\x16\x00\x19\x0c\x00"
    (tmp_path / "f").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    reading = read_apart(tmp_path, reader("f", InputType="PARQUET"))
    assert reading.error is not None and "cannot be read as Parquet" in reading.error
    assert reading.own < UNTOUCHED and 0 < reading.child < DECODER


def test_many_rows_of_one_long_value(tmp_path: Path) -> None:
    """600 MB of items, of which a few are there at a time."""
    text = "x" * 2_000_000
    pyarrow = pytest.importorskip("pyarrow")
    indices = pyarrow.array(memoryview(bytes(4 * 300)).cast("i"), pyarrow.int32())
    written(tmp_path / "f", {"text": pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([text]))})
    reading = read_apart(tmp_path, reader("f", InputType="PARQUET"))
    assert (reading.items, reading.error) == (300, None)
    assert reading.own < UNTOUCHED and 0 < reading.child < DECODER
