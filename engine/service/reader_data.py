"""The text that an ItemReader is said to have found, as items: JSON, JSON Lines, or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stepwell.engine.csv_records import OpenQuoteError, UnfitConfigError, delimiter_of, headers_of, records_in, row
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import ErrorName, StatesError

_MAX_INDEX_DIGITS: Final = 9
"""An index of more digits lies beyond every array that can be given as text."""


def items_in(text: str, reader: ReaderSpec) -> Iterator[SourceItem]:
    """The items that a reader finds in a text. Raises `StatesError` States.ItemReaderFailed."""
    kind = reader.config.get("InputType", "JSON")
    try:
        if kind == "JSONL":
            yield from (SourceItem(write(read(line))) for line in text.splitlines() if line.strip())
        elif kind == "CSV":
            yield from _rows(text, reader.config)
        elif kind == "JSON" or reader.action == "listObjectsV2":
            yield from (SourceItem(write(item)) for item in _array(read(text), reader.config.get("ItemsPointer")))
        else:
            raise _failed(f"Items of the InputType {kind} cannot be given as text")
    except JsonTextError as error:
        raise _failed(str(error)) from None


def _array(value: Json, pointer: Json) -> list[Json]:
    """The array at a JSON Pointer (RFC 6901)."""
    for token in str(pointer).split("/")[1:] if pointer else ():
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and _is_index(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise _failed(f"There is nothing at the ItemsPointer {pointer}")
    if not isinstance(value, list):
        raise _failed("Attempting to map over non-iterable node.")
    return value


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= _MAX_INDEX_DIGITS


def _rows(text: str, config: Mapping[str, Json]) -> Iterator[SourceItem]:
    try:
        records = records_in(text.removeprefix("\ufeff"), delimiter_of(config))
        given = headers_of(config)
        names = next(records, []) if given is None else given
        for values in records:
            if values:
                yield SourceItem(row(names, values))
    except OpenQuoteError as error:
        raise _failed(f"The text cannot be read as CSV: {error}.") from None
    except UnfitConfigError as error:
        raise _failed(str(error)) from None


def _failed(why: str) -> StatesError:
    return StatesError(ErrorName.ITEM_READER_FAILED, why)
