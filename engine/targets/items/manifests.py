"""Manifests: objects that name the objects with items. One of S3 Inventory is a JSON document, one of Athena a list of URLs.

A manifest is held as it was read and its files are named one after the other: it may name a million of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from stepwell.engine.jsontypes import fault_of
from stepwell.engine.targets.items.formats import Format
from stepwell.engine.targets.objects import ObjectError

MAX_BYTES: Final = 16 * 1024 * 1024
_QUOTE: Final = b'" \t\r'
_KINDS: Final = ("CSV", "PARQUET")


class _File(msgspec.Struct, gc=False):
    key: str


class _Inventory(msgspec.Struct, rename="camel"):
    files: list[_File]
    file_format: str = "CSV"
    file_schema: str = ""
    destination_bucket: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files that a manifest names, and how they are read. `url_encoded`: the keys in them are."""

    bucket: str
    format: Format
    url_encoded: bool
    _files: list[_File] | bytes

    def files(self, first: int) -> Iterator[tuple[str, str]]:
        """Bucket and key of each file, from number `first` on."""
        if isinstance(self._files, bytes):
            return islice(_urls(self._files), first, None)
        return ((self.bucket, file.key) for file in islice(self._files, first, None))


def inventory(name: str, bucket: str, text: bytes) -> Manifest:
    """A manifest of S3 Inventory, which lies in a bucket. Raises `ObjectError`."""
    try:
        found = msgspec.json.decode(text, type=_Inventory)
    except msgspec.ValidationError as error:
        raise ObjectError(f"The manifest '{name}' is none of S3 Inventory: {error}.") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ObjectError(f"The manifest '{name}' is not valid JSON: {fault_of(text, error)}.") from None
    if not all(file.key for file in found.files):
        raise ObjectError(f"The manifest '{name}' names a file without a key.")
    kind = found.file_format.upper()
    if kind not in _KINDS:
        raise ObjectError(
            f"The manifest '{name}' names files of the format '{kind[:100]}', which cannot be read: "
            "have S3 Inventory write CSV or Apache Parquet."
        )
    home = found.destination_bucket.rpartition(":")[2] or bucket
    if kind == "PARQUET":
        return Manifest(home, Format(kind), False, found.files)
    columns = [column.strip() for column in found.file_schema.split(",")]
    return Manifest(home, Format(kind, headers=columns), "Key" in columns, found.files)


def athena(name: str, bucket: str, text: bytes, format: Format) -> Manifest:
    """A manifest that an UNLOAD of Athena has written, with a URL in each line. Raises `ObjectError`."""
    for home, key in _urls(text):
        if not home or not key:
            raise ObjectError(f"The manifest '{name}' holds a line that names no object of S3: {(home or key)[:200]}")
    return Manifest(bucket, format, False, text)


def _urls(text: bytes) -> Iterator[tuple[str, str]]:
    """Bucket and key of each line that is not empty; one of them is empty where it is no URL of S3."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].strip(_QUOTE).decode("utf-8", "replace")
        at = end + 1
        if line:
            scheme, _, rest = line.partition("://")
            home, _, key = rest.partition("/")
            yield (home, key) if scheme == "s3" and home and key else ("", line)
