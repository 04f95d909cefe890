"""The text of a definition in YAML: its JSON value by the core schema of YAML 1.2, and where each part of it stands.

`on`, `yes` and dates are strings, as they are in YAML 1.2 and as deployment tools read them; CloudFormation's short tags become the
objects they stand for. Nothing but plain JSON is ever made of a text. It must not know what a definition means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode
from stepwell.engine.asl.scanner import TOO_DEEP, escape_pointer
from stepwell.engine.jsontypes import Json, number_out_of_range

_Node: TypeAlias = Any
"""A node of ruamel.yaml, whose annotations leave out what a node is."""

MAX_NODES: Final = 500_000
"""Values a document may have with all its aliases followed."""

_TAG: Final = "tag:yaml.org,2002:"
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
"""What a boolean says; those of YAML 1.1 come here only from documents that declare `%YAML 1.1`."""
_SHORT: Final[Mapping[str, str]] = {"Ref": "Ref", "Condition": "Condition"}
"""CloudFormation's short tags whose function is not named `Fn::...`."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_MERGE: Final = "<<"
_CONTAINERS: Final = frozenset({f"{_TAG}map", f"{_TAG}seq", "!"})


class YamlDocument(NamedTuple):
    """A JSON value and, by JSON pointer, the line and column (from 1) of each part: of the key for a member of an object."""

    value: Json
    places: dict[str, tuple[int, int]]


def read_yaml(text: str) -> YamlDocument:
    """Read one document. Raises `DefinitionError` for what is no YAML or has no JSON value, `ImportError` without ruamel.yaml."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False  # YAML lets an anchor be used again
        node = yaml.compose(text)
        if node is None:
            raise _refusal("The document is empty", 1, 1)
        return _Reader().read(node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise _refusal(said, line, column) from None
    except YAMLError as error:
        raise _refusal(str(error).partition("\n")[0], *_character(text)) from None
    except RecursionError:
        raise DefinitionError([Diagnostic(DiagnosticCode.TOO_DEEPLY_NESTED, TOO_DEEP, "/")]) from None
    except (ValueError, AssertionError) as error:  # what ruamel.yaml lets out of odd escapes, directives and numbers
        raise _refusal(str(error).partition("\n")[0], 1, 1) from None


def _character(text: str) -> tuple[int, int]:
    """Where the first character is that no YAML may have."""
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: found.start()] if found is not None else ""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _refusal(message: str, line: int | None, column: int | None) -> DefinitionError:
    finding = Diagnostic(DiagnosticCode.INVALID_YAML, f"The YAML cannot be read: {message}", line=line, column=column)
    return DefinitionError([finding])


class _Reader:
    """Makes JSON of nodes. Aliases are copied, so both how deep and how many are bounded."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[int, int]] = {}
        self.nodes = 0

    def read(self, node: _Node) -> YamlDocument:
        self._note("", node)
        return YamlDocument(self._value(node, "", 0), self.places)

    def _note(self, pointer: str, node: _Node) -> None:
        self.places[pointer] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _value(self, node: _Node, pointer: str, depth: int) -> Json:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._fault(node, f"with its aliases it has more than {MAX_NODES} values")
        if depth > limits.MAX_DEFINITION_DEPTH:
            line, column = self.places[pointer]
            raise DefinitionError(
                [Diagnostic(DiagnosticCode.TOO_DEEPLY_NESTED, TOO_DEEP, "/", line=line, column=column)]
            )
        tag = str(node.tag)
        if tag.startswith("!") and len(tag) > 1:
            return self._short_tag(node, tag[1:], pointer, depth)
        kind: str = node.id
        if kind != "scalar" and tag not in _CONTAINERS:
            raise self._fault(node, f"a value of type {tag.removeprefix(_TAG)[:40]} has no form in JSON")
        if kind == "mapping":
            return self._mapping(node, pointer, depth)
        if kind == "sequence":
            return self._sequence(node, pointer, depth)
        return self._scalar(node)

    def _sequence(self, node: _Node, pointer: str, depth: int) -> Json:
        items: list[Json] = []
        for index, item in enumerate(node.value):
            inner = f"{pointer}/{index}"
            self._note(inner, item)
            items.append(self._value(item, inner, depth + 1))
        return items

    def _mapping(self, node: _Node, pointer: str, depth: int) -> dict[str, Json]:
        made: dict[str, Json] = {}
        merged: dict[str, Json] = {}
        for key, item in node.value:
            if key.id != "scalar":
                raise self._fault(key, "a name must be a string")
            name = str(key.value)
            if _SURROGATE.search(name):
                raise self._fault(key, "it has half of a surrogate pair, which is no character")
            if name == _MERGE and key.tag == f"{_TAG}merge":
                for each in item.value if item.id == "sequence" else [item]:
                    if each.id != "mapping":
                        raise self._fault(item, "'<<' takes a mapping or a list of mappings")
                    for inner, value in self._mapping(each, pointer, depth + 1).items():
                        merged.setdefault(inner, value)
                continue
            if name in made:
                raise self._fault(key, f"duplicate field '{name[:80]}'")
            inner = f"{pointer}/{escape_pointer(name)}"
            self._note(inner, key)
            made[name] = self._value(item, inner, depth + 1)
        return {**merged, **made} if merged else made

    def _short_tag(self, node: _Node, name: str, pointer: str, depth: int) -> Json:
        """`!Ref x`, `!GetAtt a.b`, `!Sub ...`: CloudFormation's functions."""
        if not name.isalnum():
            raise self._fault(node, f"the tag !{name[:40]} is not known")
        inner: Json
        if node.id == "mapping":
            inner = self._mapping(node, pointer, depth + 1)
        elif node.id == "sequence":
            inner = self._sequence(node, pointer, depth + 1)
        else:
            inner = str(node.value)
        return {_SHORT.get(name, f"Fn::{name}"): inner}

    def _scalar(self, node: _Node) -> Json:
        text = str(node.value)
        if not text.isascii() and _SURROGATE.search(text):
            raise self._fault(node, "it has half of a surrogate pair, which is no character")
        tag = str(node.tag).removeprefix(_TAG)
        if tag in ("str", "timestamp", "merge", "value", "!"):
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in _TRUE
        if tag in ("int", "float"):
            return self._number(node, text)
        raise self._fault(node, f"a value of type {tag[:40]} has no form in JSON")

    def _number(self, node: _Node, text: str) -> Json:
        if text.lower().lstrip("+-") in (".inf", ".nan"):
            raise self._fault(node, f"the number {text} has no form in JSON")
        if not (whole := _INTEGER.fullmatch(text)) and not _FLOAT.fullmatch(text):
            return text  # a number of YAML 1.1 alone, such as 1_000
        if number_out_of_range(text):
            raise self._fault(node, f"the number {text[:24]} is out of range")
        if not whole:
            return float(text)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text if base == 10 else text[2:], base)

    def _fault(self, node: _Node, message: str) -> DefinitionError:
        return _refusal(message, node.start_mark.line + 1, node.start_mark.column + 1)
