"""Which variables each state of a definition reads: `variableReferences` of the API's describing operations.

Field by field, by the kinds of `fields`, with the compilers that run the definition. Knows no execution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final

from stepwell.engine.asl import fields
from stepwell.engine.asl.fields import FieldSet, Kind
from stepwell.engine.asl.source import read_definition
from stepwell.engine.asl.states import QueryLanguage, StateType
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonata.templates import compile_jsonata_template
from stepwell.engine.query.templates import compile_field, compile_template

_PATHS: Final = frozenset({Kind.PATH_OR_NULL, Kind.REFERENCE_PATH, Kind.PATH_OR_INTRINSIC})
_TEMPLATES: Final = frozenset({Kind.TEMPLATE, Kind.OBJECT_TEMPLATE, Kind.ASSIGN, Kind.CREDENTIALS})
_CONTAINERS: Final = frozenset({Kind.STATES, Kind.BRANCHES, Kind.PROCESSOR})
_PLAIN: Final = frozenset(
    {
        Kind.STRING,
        Kind.STATE_NAME,
        Kind.RESOURCE,
        Kind.READER_RESOURCE,
        Kind.WRITER_RESOURCE,
        Kind.LABEL,
        Kind.QUERY_LANGUAGE,
        Kind.STATE_TYPE,
    }
)
_OBJECTS: Final[Mapping[Kind, FieldSet]] = {
    Kind.ITEM_READER: fields.ITEM_READER_FIELDS,
    Kind.READER_CONFIG: fields.READER_CONFIG_FIELDS,
    Kind.ITEM_BATCHER: fields.ITEM_BATCHER_FIELDS,
    Kind.RESULT_WRITER: fields.RESULT_WRITER_FIELDS,
}
_LISTS: Final[Mapping[Kind, FieldSet]] = {
    Kind.CATCHERS: fields.CATCHER_FIELDS,
    Kind.RETRIERS: fields.RETRIER_FIELDS,
    Kind.CHOICES: fields.JSONATA_RULE_FIELDS,
}


@lru_cache(maxsize=64)
def variable_references(definition: str) -> Mapping[str, list[str]]:
    """The names of the variables that each state reads, sorted; states that read none are left out. The text must be a valid
    definition. Not to be changed."""
    value = read_definition(definition)
    found: dict[str, set[str]] = {}
    if isinstance(value, dict):
        _container(value, _language(value, QueryLanguage.JSONPATH), found)
    return {name: sorted(found[name]) for name in sorted(found) if found[name]}


def _language(holder: Mapping[str, Json], outer: QueryLanguage) -> QueryLanguage:
    return QueryLanguage(str(holder["QueryLanguage"])) if "QueryLanguage" in holder else outer


def _container(container: Mapping[str, Json], language: QueryLanguage, found: dict[str, set[str]]) -> None:
    states = container.get("States")
    for name, state in states.items() if isinstance(states, dict) else ():
        if isinstance(state, dict):
            own = _language(state, language)
            allowed = fields.STATE_FIELDS[StateType(state["Type"])]
            found.setdefault(name, set()).update(_object(state, allowed, own))
            for inner in _inner(state):
                _container(inner, language, found)


def _inner(state: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    branches = state.get("Branches")
    for holder in (
        *(branches if isinstance(branches, list) else ()),
        state.get("ItemProcessor"),
        state.get("Iterator"),
    ):
        if isinstance(holder, dict):
            yield holder


def _object(value: Mapping[str, Json], allowed: FieldSet, language: QueryLanguage) -> set[str]:
    found: set[str] = set()
    for name, part in value.items():
        field = allowed.fields.get(name)
        kind = None if field is None else field.kind(language)
        if kind is not None and kind not in _CONTAINERS:
            found |= _value(part, name, kind, language)
    return found


def _value(value: Json, name: str, kind: Kind, language: QueryLanguage) -> set[str]:
    if kind in _OBJECTS:
        return _object(value, _OBJECTS[kind], language) if isinstance(value, dict) else set()
    if kind in _LISTS:
        found: set[str] = set()
        for one in value if isinstance(value, list) else ():
            if isinstance(one, dict):
                conditions = kind is Kind.CHOICES and language is QueryLanguage.JSONPATH
                found |= _rule(one) if conditions else _object(one, _LISTS[kind], language)
        return found
    if kind in _PLAIN:
        return set()
    return _jsonata(value, name) if language is QueryLanguage.JSONATA else _jsonpath(value, name, kind)


def _jsonata(value: Json, name: str) -> set[str]:
    with suppress(InvalidQueryError):  # what does not compile reads nothing
        return set(compile_jsonata_template(value, name).variables)
    return set()


def _jsonpath(value: Json, name: str, kind: Kind) -> set[str]:
    with suppress(InvalidQueryError):
        if kind in _TEMPLATES:
            return set(compile_template(value).variables)
        if kind in _PATHS and isinstance(value, str):
            return set(compile_field(value, name).variables)
    return set()


def _rule(rule: Mapping[str, Json]) -> set[str]:
    """A choice rule in JSONPath."""
    found: set[str] = set()
    for name, part in rule.items():
        if name == "Assign":
            found |= _jsonpath(part, name, Kind.ASSIGN)
        elif isinstance(part, dict):
            found |= _rule(part)
        elif isinstance(part, list):
            for one in part:
                found |= _rule(one) if isinstance(one, dict) else set()
        elif name == "Variable" or name.endswith("Path"):
            found |= _jsonpath(part, name, Kind.REFERENCE_PATH)
    return found
