"""The variants of `queries/commit.sql`: the same statement, without the parts that a batch has no rows for.

Every part costs Postgres and the driver some microseconds even when it is empty: for a lone start, half of the whole. So a
batch of starts and a batch of tasks have variants of their own, few enough that their plans stay warm. It must not know
what the rows mean.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from stepwell.engine.store.sql import QUERIES

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "closing": ("uuid", "int", "bool", "uuid"),
    "stepped": ("uuid", "smallint", "int", "smallint", "bigint", "int", "bool", "smallint", "bigint", "text"),
    "begun": (
        "uuid", "smallint", "smallint", "bigint", "int", "int", "int", "text", "text", "int", "bigint", "text", "text", "text",
    ),
    "chunks": ("uuid", "int", "int", "bytea"),
    "tasks_new": ("uuid", "int", "smallint", "text", "int", "int", "bytea", "text", "int", "int", "int"),
    "tasks_closed": ("uuid", "int"),
    "tasks_started": ("uuid", "int", "uuid"),
    "timers_new": ("uuid", "int", "bigint", "smallint", "int"),
    "timers_gone": ("uuid", "int"),
    "inbox_gone": ("uuid", "smallint", "bigint"),
    "letters": ("text", "uuid", "text", "int", "text", "text"),
    "redriven": ("uuid",),
    "map_runs_new": ("uuid", "uuid", "smallint", "int", "text", "text", "int", "bigint", "float8", "bytea", "bool"),
    "posts": ("uuid", "uuid", "smallint", "bytea"),
}  # fmt: skip
"""Groups of rows by name, with the types of their columns."""
SCALARS: Final = {"shards": "smallint[]", "node": "uuid", "now": "bigint"}
_NAME: Final = re.compile(r"(?<![:\w]):([a-z_]+)\b")


@dataclass(frozen=True, slots=True)
class CommitStatement:
    """One variant: its text, the groups it has parts for, and the names of its parameters in order."""

    text: str
    groups: frozenset[str]
    names: tuple[str, ...]


def _variant(groups: Set[str]) -> CommitStatement:
    lines: list[str] = []
    kept = [True]  # inside how many conditions we are, and whether each holds
    for line in QUERIES["commit"].splitlines():
        if line.startswith("-- if "):
            kept.append(groups >= set(line.removeprefix("-- if ").split()))
        elif line == "-- end":
            kept.pop()
        elif all(kept) and not line.lstrip().startswith("--"):
            lines.append(line)
    names: dict[str, str] = {}
    count = 0

    def place(match: re.Match[str]) -> str:
        nonlocal count
        name = match[1]
        if name not in names:
            types = [SCALARS[name]] if name in SCALARS else [f"{type}[]" for type in GROUPS[name]]
            names[name] = ", ".join(f"${number}::{type}" for number, type in enumerate(types, count + 1))
            count += len(types)
        return names[name]

    text = _NAME.sub(place, "\n".join(lines))
    return CommitStatement(text, frozenset(groups), tuple(names))


VARIANTS: Final = (
    _variant({"begun", "chunks"}),
    _variant({"begun", "stepped", "chunks", "closing", "tasks_new", "tasks_closed"}),
    _variant(set(GROUPS) - {"map_runs_new", "posts"}),
    _variant(set(GROUPS)),
)
"""From the smallest to the one that takes any batch."""


def statement_for(groups: Set[str]) -> CommitStatement:
    """The smallest variant that takes these groups of rows."""
    return next(one for one in VARIANTS if groups <= one.groups)
