"""What a ReaderConfig says about the objects with items: their format, checked once, before anything is read.

A definition is checked when it is saved; what its expressions give is known only when the state runs. It must not know storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from stepwell.engine.csv_records import UnfitConfigError, delimiter_of, headers_of
from stepwell.engine.jsontypes import Json
from stepwell.engine.targets.objects import ObjectError

_KINDS: Final = ("CSV", "JSON", "JSONL", "PARQUET")


@dataclass(frozen=True, slots=True)
class Format:
    """How an object is read. `headers` None: they are its first row. `pointer`: to the array of items in a JSON document."""

    kind: str
    delimiter: str = ","
    headers: list[str] | None = None
    pointer: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Json]) -> Self:
        """The format that a ReaderConfig names. Raises `ObjectError`."""
        kind = config.get("InputType") or "JSON"
        if kind not in _KINDS:
            raise ObjectError(f"The InputType {kind!r} cannot be read: it is none of {', '.join(_KINDS)}.")
        pointer = config.get("ItemsPointer")
        if pointer is not None and (not isinstance(pointer, str) or (pointer and not pointer.startswith("/"))):
            raise ObjectError(f"The ItemsPointer {pointer!r} is no JSON Pointer: it must begin with '/'.")
        if kind != "CSV":
            return cls(kind, pointer=pointer)
        try:
            return cls(kind, delimiter_of(config), headers_of(config))
        except UnfitConfigError as error:
            raise ObjectError(str(error)) from None
