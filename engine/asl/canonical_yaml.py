"""The canonical form of a definition in YAML: fields in order, comments and quotes as they were, indentation even.

Fields are moved as the lines they are written on, with the comments above them. Whatever would change the value of a document - an alias
that would come before its anchor, say - is left as it is. It must not know what fields mean.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any, Final, TypeAlias

from stepwell.engine.asl.canonical import INDENT, Role, in_order, role_inside
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.yaml_source import read_yaml

_Node: TypeAlias = Any
_NO_FOLDING: Final = 1 << 20


def canonical_yaml(text: str) -> str:
    """The canonical text of a document that `read_yaml` reads."""
    value = read_yaml(text).value
    tidy = _with_line_ends(text)
    ordered = _reordered(tidy)
    for candidate in (_indented(ordered), ordered, _indented(tidy)):
        if candidate is not None and _means(candidate, value) and _is_stable(candidate):
            return candidate
    return tidy


def _with_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").rstrip("\n") + "\n"


def _means(text: str, value: object) -> bool:
    try:
        return _same(read_yaml(text).value, value)
    except DefinitionError:
        return False


def _same(one: object, other: object) -> bool:
    """Equality that tells 1 from 1.0 and from true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _is_stable(text: str) -> bool:
    ordered = _reordered(text)
    return ordered == text and _indented(text) in (text, None)


def _indented(text: str) -> str | None:
    """Even indentation, by reading and writing with all comments; None where that cannot be done."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.composer.warn_double_anchors = False
    yaml.preserve_quotes = True
    yaml.width = _NO_FOLDING
    yaml.indent(mapping=INDENT, sequence=2 * INDENT, offset=INDENT)
    yaml.explicit_start = text.startswith("---") or "\n---" in text
    yaml.allow_duplicate_keys = True
    stream = io.StringIO()
    try:
        yaml.dump(yaml.load(text), stream)
    except (YAMLError, RecursionError, ValueError, AttributeError, TypeError, KeyError, AssertionError):
        return None
    return _aligned(stream.getvalue().rstrip("\n") + "\n")


def _aligned(text: str) -> str | None:
    """Comments on lines of their own at the column of what they stand above."""
    root = _composed(text)
    if root is None:
        return None
    lines = text.split("\n")
    inside = _lines_inside_scalars(root)
    column: int | None = None
    for number in range(len(lines) - 1, -1, -1):
        plain = lines[number].lstrip(" ")
        if not plain or number in inside:
            continue
        if not plain.startswith("#"):
            column = len(lines[number]) - len(plain)
        elif column is not None:
            lines[number] = " " * column + plain
    return "\n".join(lines)


def _lines_inside_scalars(root: _Node) -> set[int]:
    """The lines that continue a text of several lines."""
    found: set[int] = set()
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id == "scalar":
            found.update(range(node.start_mark.line + 1, node.end_mark.line))
        elif node.id == "sequence":
            pending.extend(node.value)
        else:
            pending.extend(part for member in node.value for part in member)
    return found


def _composed(text: str) -> _Node:
    """The nodes of a text; None where there are none, or no YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False
        return yaml.compose(text)
    except (YAMLError, RecursionError, ValueError, AssertionError):
        return None


def _reordered(text: str) -> str:
    """The fields of the language in canonical order, line by line."""
    root = _composed(text)
    if root is None:
        return text
    lines = text.split("\n")
    mover = _Mover(lines)
    last = mover.lead_of(len(lines), 0)
    moved = mover.node(root, Role.CONTAINER, 0, last)
    return "\n".join([*moved, *lines[last:]])


class _Mover:
    """Gives back the lines of a node with the fields in it in order."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.seen: set[int] = set()

    def lead_of(self, line: int, column: int) -> int:
        """The line at which what stands above `line` begins to belong to it: comments at its column, and blank lines."""
        while line > 0:
            above = self.lines[line - 1]
            plain = above.lstrip(" ")
            if plain and not (plain.startswith("#") and len(above) - len(plain) <= column):
                break
            line -= 1
        return line

    def node(self, node: _Node, role: Role, first: int, end: int) -> list[str]:
        """The lines from `first` to before `end`, which hold this node and what is written above it."""
        if id(node) in self.seen or node.id == "scalar" or node.flow_style or role is Role.DATA:
            return self.lines[first:end]
        self.seen.add(id(node))  # an alias leads to a node that stands elsewhere
        if not first <= node.start_mark.line < end or not node.value:
            return self.lines[first:end]
        return self._mapping(node, role, first, end) if node.id == "mapping" else self._sequence(node, role, first, end)

    def _sequence(self, node: _Node, role: Role, first: int, end: int) -> list[str]:
        starts = [item.start_mark.line for item in node.value]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            return self.lines[first:end]
        column = node.start_mark.column
        leads = [first, *(self.lead_of(line, column) for line in starts[1:]), end]
        made: list[str] = []
        for item, lead, following in zip(node.value, leads, leads[1:], strict=False):
            made += self.node(item, role, lead, following)
        return made

    def _mapping(self, node: _Node, role: Role, first: int, end: int) -> list[str]:
        keys = [key for key, _ in node.value]
        column = keys[0].start_mark.column
        starts = [key.start_mark.line for key in keys]
        alone = all(
            key.start_mark.column == column and not self.lines[key.start_mark.line][:column].strip() for key in keys[1:]
        )
        if not alone or any(later <= earlier for earlier, later in pairwise(starts)):
            return self.lines[first:end]
        # What stands before the first key on its line: spaces, or the dash of the sequence that the mapping is in.
        before = self.lines[starts[0]][:column]
        top = self.lead_of(starts[0], column) if not before.strip() else starts[0]
        top = max(top, first)
        leads = [top, *(self.lead_of(line, column) for line in starts[1:]), end]
        entries = []
        for (key, value), start, lead, following in zip(node.value, starts, leads, leads[1:], strict=False):
            name = str(key.value) if key.id == "scalar" else ""
            body = self._entry(value, role_inside(role, name), start, following)
            body[0] = " " * column + body[0][column:]
            entries.append((name, self.lines[lead:start], body))
        made: list[str] = list(self.lines[first:top])
        for index, (_, lead_lines, body) in enumerate(in_order(entries, role, lambda entry: entry[0])):
            if index == 0:
                body = [before + body[0][column:], *body[1:]]
            made += [*lead_lines, *body]
        return made

    def _entry(self, value: _Node, role: Role, start: int, end: int) -> list[str]:
        line = value.start_mark.line
        if line <= start:
            return self.lines[start:end]
        return [*self.lines[start:line], *self.node(value, role, line, end)]
