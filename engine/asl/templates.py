"""The definitions inside of a deployment template: CloudFormation, SAM, and the Serverless Framework's Step Functions plugin.

Where each stands, of which type its machine is, and which substitutions its template fills in. It must not know any rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read

_MACHINES: Final = frozenset({"AWS::StepFunctions::StateMachine", "AWS::Serverless::StateMachine"})
_TYPES: Final = ("STANDARD", "EXPRESS")
_LITERAL_NAME: Final = re.compile(r"\$\{!([^{}]*)\}")
_NAME: Final = re.compile(r"\$\{([^{}]+)\}")
_BLOCK: Final = re.compile(r"(?:^|[\s:-])\|[+-]?(?:\s+#.*)?$")
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)


class Embedded(NamedTuple):
    """A definition in a template: a `value`, or `text` that holds one.

    `pointer` is where it stands and `places` are pointers to where its text may stand, the best first. `filled` names the
    substitutions that its template fills in; None for all of them.
    """

    name: str
    pointer: str
    machine_type: str
    value: Json = None
    text: str | None = None
    places: tuple[str, ...] = ()
    filled: frozenset[str] | None = None


def is_template(value: Json) -> bool:
    """Whether a document is a template and no definition."""
    if not isinstance(value, dict) or "StartAt" in value or "States" in value:
        return False
    return isinstance(value.get("Resources"), dict) or "AWSTemplateFormatVersion" in value or _has_plugin(value)


def _has_plugin(value: Mapping[str, Json]) -> bool:
    plugin = value.get("stepFunctions")
    return isinstance(plugin, dict) and isinstance(plugin.get("stateMachines"), dict)


def embedded_definitions(template: Json) -> Iterator[Embedded]:
    """Every definition that a template holds itself; those it names by their file are not looked for."""
    if not isinstance(template, dict):
        return
    resources = template.get("Resources")
    for name, resource in resources.items() if isinstance(resources, dict) else ():
        if isinstance(resource, dict) and resource.get("Type") in _MACHINES:
            properties = resource.get("Properties")
            if isinstance(properties, dict):
                yield from _of_resource(name, properties, f"/Resources/{escape_pointer(name)}/Properties")
    plugin = template.get("stepFunctions")
    machines = plugin.get("stateMachines") if isinstance(plugin, dict) else None
    for name, machine in machines.items() if isinstance(machines, dict) else ():
        if isinstance(machine, dict) and isinstance(machine.get("definition"), dict):
            pointer = f"/stepFunctions/stateMachines/{escape_pointer(name)}/definition"
            yield Embedded(name, pointer, _type(machine.get("type")), machine["definition"])


def _type(given: Json) -> str:
    return given if isinstance(given, str) and given in _TYPES else _TYPES[0]


def _of_resource(name: str, properties: Mapping[str, Json], inside: str) -> Iterator[Embedded]:
    type_name = _type(properties.get("StateMachineType", properties.get("Type")))
    substitutions = properties.get("DefinitionSubstitutions")
    filled = frozenset(substitutions) if isinstance(substitutions, dict) else frozenset[str]()
    if isinstance(properties.get("Definition"), dict):
        yield Embedded(name, f"{inside}/Definition", type_name, properties["Definition"], filled=filled)
    text = properties.get("DefinitionString")
    pointer = f"{inside}/DefinitionString"
    if isinstance(text, str):
        yield Embedded(name, pointer, type_name, text=text, places=(pointer,), filled=filled)
    elif isinstance(text, dict):
        sub, join = text.get("Fn::Sub"), text.get("Fn::Join")
        if isinstance(sub, str | list):
            first = sub[0] if isinstance(sub, list) and sub else sub
            if isinstance(first, str):
                plain = _LITERAL_NAME.sub(lambda match: "$__" + match[1] + "_", first)  # of the same length
                places = (f"{pointer}/Fn::Sub/0", f"{pointer}/0", f"{pointer}/Fn::Sub", pointer)
                yield Embedded(name, pointer, type_name, text=plain, places=places)
        elif isinstance(join, list) and len(join) == 2 and isinstance(join[1], list):
            yield Embedded(name, pointer, type_name, text=str(join[0]).join(map(_part, join[1])))


def _part(part: Json) -> str:
    """A part of what Fn::Join joins: text, or a function whose result is not known."""
    if isinstance(part, str):
        return part
    return "${" + (next(iter(part)).replace("::", "") if isinstance(part, dict) and part else "unknown") + "}"


def unfilled(text: str, filled: frozenset[str] | None) -> list[str]:
    """The names of substitutions in a text that its template does not fill in."""
    return [] if filled is None else [name for name in _NAME.findall(text) if name not in filled]


class Nested:
    """Where the places of a text that stands inside of another are in it. Where the way it is written is not followed, they are all
    where it begins."""

    def __init__(self, outer: str, begins: tuple[int, int], inner: str) -> None:
        self._begins = begins
        lines = outer.split("\n")
        line, column = begins
        head = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
        self._indent: int | None = None
        self._columns: tuple[int, list[int]] | None = None
        if _BLOCK.search(head[column - 1 :]):
            first = next((one for one in lines[line:] if one.strip()), "")
            indent = len(first) - len(first.lstrip(" "))
            if first[indent:].rstrip("\r") == next((one for one in inner.split("\n") if one.strip()), ""):
                self._indent = indent
        else:
            self._columns = _columns(head, column, inner)

    def place(self, line: int | None, column: int | None, inner: str) -> tuple[int, int]:
        """Line and column in the outer text of a place in the inner one."""
        if line is None:
            return self._begins
        if self._indent is not None:
            return self._begins[0] + line, (column or 1) + self._indent
        if self._columns is not None:
            start, columns = self._columns
            offset = sum(len(one) + 1 for one in inner.split("\n")[: line - 1]) + (column or 1) - 1
            return self._begins[0], start + columns[min(offset, len(columns) - 1)]
        return self._begins


def _columns(head: str, column: int, inner: str) -> tuple[int, list[int]] | None:
    """Where a JSON string on one line begins, and how far from there each of its characters is written."""
    written = re.compile(r'"(?:[^"\\]|\\.)*+"').finditer(head, column - 1)
    for match in written:
        try:
            if read(match[0]) != inner:
                continue
        except JsonTextError:
            continue
        columns = []
        at = 1
        for _ in range(len(inner) + 1):
            columns.append(at)
            escape = _ESCAPE.match(match[0], at)
            at += len(escape[0]) if escape else 1
        return match.start() + 1, columns
    return None
