"""The parts of a parsed path, in the vocabulary of the Jayway dialect. It must not know how they are evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stepwell.engine.jsontypes import Json


@dataclass(frozen=True, slots=True)
class Property:
    """`.name`, `['name']` or `['a','b']`. Several names at the end of a path make one object of those that exist."""

    names: tuple[str, ...]
    quote: str = "'"

    @property
    def fragment(self) -> str:
        return "[" + ",".join(f"{self.quote}{name}{self.quote}" for name in self.names) + "]"


@dataclass(frozen=True, slots=True)
class Index:
    """`[0]`, `[-1]` or `[0,2]`. Negative counts from the end; outside the array is nothing."""

    indexes: tuple[int, ...]

    @property
    def fragment(self) -> str:
        return "[" + ",".join(map(str, self.indexes)) + "]"


@dataclass(frozen=True, slots=True)
class Slice:
    """`[1:3]`, `[1:]` or `[:3]`. A step is read and ignored, as the dialect does."""

    start: int | None
    stop: int | None

    @property
    def fragment(self) -> str:
        return f"[{'' if self.start is None else self.start}:{'' if self.stop is None else self.stop}]"


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`*` or `[*]`: every member of an object or array."""

    fragment: str = "[*]"


@dataclass(frozen=True, slots=True)
class Scan:
    """`..`: the node and everything below it, parents first."""

    fragment: str = ".."


@dataclass(frozen=True, slots=True)
class Filter:
    """`[?( ... )]`; `criteria` is what the parentheses hold."""

    criteria: str
    fragment: str = "[?]"


@dataclass(frozen=True, slots=True)
class Function:
    """`name()` or `name(argument, ...)`; an argument is a path or a JSON literal."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def fragment(self) -> str:
        return f".{self.name}({'...' if self.arguments else ''})"


@dataclass(frozen=True, slots=True)
class Literal:
    """A JSON literal given to a function."""

    value: Json


Token: TypeAlias = Property | Index | Slice | Wildcard | Scan | Filter | Function


@dataclass(frozen=True, slots=True)
class ParsedPath:
    """The tokens after the root; `current` tells `@` (the item a filter looks at) from `$` (the document)."""

    tokens: tuple[Token, ...]
    current: bool = False

    @property
    def definite(self) -> bool:
        return is_definite(self.tokens)

    @property
    def normalized(self) -> str:
        """The path as error messages show it: `$['a'][0]`."""
        return ("@" if self.current else "$") + "".join(token.fragment for token in self.tokens)


Argument: TypeAlias = ParsedPath | Literal


def is_definite(tokens: tuple[Token, ...]) -> bool:
    """Whether the tokens can lead to one value at most, so that the value itself is the result and not a list."""
    last = len(tokens) - 1
    for position, token in enumerate(tokens):
        match token:
            case Function():
                continue
            case Property(names=names):
                if len(names) > 1 and position != last:
                    return False
            case Index(indexes=indexes):
                if len(indexes) > 1:
                    return False
            case _:
                return False
    return True
