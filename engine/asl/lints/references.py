"""Which variables a state reads and assigns, in either query language.

JSONata expressions that validation could compile know what they read; paths are read by tokens. It must not know how states lead to
each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from stepwell.engine.asl import fields
from stepwell.engine.asl.fields import Field, FieldSet, Kind
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.walk import StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.query_rules import jsonata_strings
from stepwell.engine.asl.report import Place
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonata import Jsonata

_PATH_KINDS: Final = frozenset({Kind.PATH_OR_NULL, Kind.REFERENCE_PATH, Kind.PATH_OR_INTRINSIC})
_TEMPLATE_KINDS: Final = frozenset({Kind.TEMPLATE, Kind.OBJECT_TEMPLATE, Kind.ASSIGN, Kind.CREDENTIALS})
_CONTAINERS: Final = frozenset({Kind.BRANCHES, Kind.PROCESSOR, Kind.STATES})
_OBJECTS: Final[Mapping[Kind, FieldSet]] = {
    Kind.ITEM_READER: fields.ITEM_READER_FIELDS,
    Kind.READER_CONFIG: fields.READER_CONFIG_FIELDS,
    Kind.ITEM_BATCHER: fields.ITEM_BATCHER_FIELDS,
    Kind.RESULT_WRITER: fields.RESULT_WRITER_FIELDS,
}
_ENTRIES: Final = frozenset({Kind.CHOICES, Kind.CATCHERS})
_TABLES: Final[Mapping[str, FieldSet]] = {str(each): table for each, table in fields.STATE_FIELDS.items()}

_PATH_TOKEN: Final = re.compile(r"'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)|(?<![\w$])\$([A-Za-z_]\w*)")


def assigned(holder: Mapping[str, Json]) -> frozenset[str]:
    """The variables that the Assign of a state, rule or catcher sets."""
    names = holder.get("Assign")
    if not isinstance(names, dict):
        return frozenset()
    return frozenset(name.removesuffix(".$") for name in names)


def references(state: StateAt, expressions: Mapping[str, Jsonata]) -> dict[str, Place]:
    """The variables a state reads itself, each with the first place that does. Containers in it are not looked into."""
    found: dict[str, Place] = {}
    for text, place in expressions_of(state):
        if state.language is QueryLanguage.JSONPATH:
            names: Iterable[str] = _path_names(text)
        else:
            names = sorted(expressions[text].variables) if text in expressions else ()
        for name in names:
            found.setdefault(name, place)
    return found


def expressions_of(state: StateAt) -> tuple[tuple[str, Place], ...]:
    """Every path, intrinsic call or JSONata expression (as it is written) of a state with the place of its field."""
    found = state.expressions
    if found is None:
        table = _TABLES.get(state.type)
        found = state.expressions = () if table is None else tuple(_expressions(state.fields, table, state))
    return found


def _expressions(
    value: Mapping[str, Json], table: FieldSet, state: StateAt, place: Place | None = None
) -> Iterator[tuple[str, Place]]:
    """Every expression of an object's fields with the place of its field."""
    here = state.place if place is None else place
    for name, item in value.items():
        field: Field | None = table.fields.get(name)
        kind = field.kind(state.language) if field is not None else None
        if kind is None or kind in _CONTAINERS:
            continue
        inner: Place = (here, name)
        if kind in _OBJECTS:
            if isinstance(item, dict):
                yield from _expressions(item, _OBJECTS[kind], state, inner)
        elif state.language is QueryLanguage.JSONATA:
            yield from ((text, at) for text, at in jsonata_strings(item, inner) if not is_open(text))
        elif kind in _PATH_KINDS:
            if isinstance(item, str):
                yield item, inner
        elif kind in _TEMPLATE_KINDS:
            yield from template_strings(item, inner)
        elif kind in _ENTRIES:
            yield from _rule_strings(item, inner)


def template_strings(value: Json, place: Place) -> Iterator[tuple[str, Place]]:
    """The paths and intrinsic calls of a payload template, each with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not key.endswith(".$"):
                yield from template_strings(inner, (place, key))
            elif isinstance(inner, str) and not is_open(inner):
                yield inner, (place, key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from template_strings(inner, (place, index))


def _rule_strings(value: Json, place: Place) -> Iterator[tuple[str, Place]]:
    """Paths of choice rules and catchers: Variable, comparisons with a path, and the values of Assign."""
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _rule_strings(inner, (place, index))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "Assign":
                yield from template_strings(inner, (place, key))
            elif not isinstance(inner, str):
                yield from _rule_strings(inner, (place, key))
            elif (key == "Variable" or key.endswith("Path")) and key != "ResultPath" and not is_open(inner):
                yield inner, (place, key)


def _path_names(text: str) -> Iterator[str]:
    for token in _PATH_TOKEN.finditer(text):
        if token[1]:
            yield token[1]
