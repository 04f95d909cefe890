"""Regular expressions a definition brings along (`=~ /.../`), bounded so that none can hold the engine for long.

Python's engine backtracks. What can make it explode is refused at compile time: a repetition or an option inside an
endless repetition, alternatives inside one that may begin alike, back references. So that a repetition always stands
right behind what it repeats, comments and the flag `x`, which allows blanks in between, are refused as well. What remains
can be tried in at most `comb(length + repetitions, repetitions) * 2 ** options` ways, and a text too long for that is
refused at evaluation.
It must not know where patterns come from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stepwell.engine.errors import InvalidQueryError, QueryError
from stepwell.engine.query.effort import spend

MAX_PATTERN_LENGTH: Final = 500
MAX_WAYS: Final = 20_000_000
"""Ways to try, which bounds the time to about a second in the worst case; ordinary matches try a few."""
WAYS_A_STEP: Final = 500
"""Ways that are tried in the time of one step of a reading."""
MAX_TEXT_LENGTH: Final = 262_144
MIN_TEXT_LENGTH: Final = 16
"""A pattern that could not be applied even to so short a text is refused."""

MAX_BOUNDED_REPEAT: Final = 100
"""A repetition of more times than this counts as endless."""

_FLAGS: Final = {"i": re.I, "m": re.M, "s": re.S, "u": re.U, "U": re.U, "d": re.NOFLAG}
_REPEAT: Final = re.compile(r"[*+?]|\{(?!\})(\d*)(,?)(\d*)\}", re.ASCII)


@dataclass(slots=True)
class _Group:
    """What one group, or the whole pattern, holds: repetitions, options (`?`, and branches that begin alike) and the
    first character of each branch, "" where that is not one certain character."""

    repeats: int = 0
    options: int = 0
    branches: int = 1
    first_chars: list[str] = field(default_factory=list)
    expects_first: bool = True

    def add(self, inner: _Group, times: int) -> None:
        self.repeats += inner.repeats * times
        self.options += (inner.options + (inner.branches - 1 if inner.ambiguous else 0)) * times

    @property
    def ambiguous(self) -> bool:
        """Branches that may begin with the same character can be tried in exponentially many ways when repeated."""
        firsts = [char.lower() for char in self.first_chars]
        return self.branches > 1 and ("" in firsts or len(firsts) < self.branches or len(set(firsts)) < len(firsts))


def compile_pattern(pattern: str, flags: str) -> Callable[[str], bool]:
    """A test whether the whole of a text matches. Raises `InvalidQueryError` for a pattern refused or not understood."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidQueryError(f"A regular expression may have at most {MAX_PATTERN_LENGTH} characters.")
    bits = re.NOFLAG
    for flag in flags:
        if flag not in _FLAGS:
            raise InvalidQueryError(f"The regular expression flag '{flag}' is not known; use any of {''.join(_FLAGS)}.")
        bits |= _FLAGS[flag]
    try:
        compiled = re.compile(pattern, bits)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidQueryError(f"The regular expression /{pattern}/ is not valid: {error}.") from None
    whole = _measure(pattern)
    longest = _longest_text(whole)
    if longest < MIN_TEXT_LENGTH:
        raise _refused(pattern, "so many repetitions")

    def matches(text: str) -> bool:
        if len(text) > longest:
            raise QueryError(
                f"The regular expression /{pattern}/ may take too long on a text of {len(text)} characters; "
                f"with its repetitions it is applied to {longest} at most"
            )
        spend(1 + _ways(whole, len(text)) // WAYS_A_STEP)
        return compiled.fullmatch(text) is not None

    return matches


def _ways(whole: _Group, length: int) -> int:
    return math.comb(length + whole.repeats, min(whole.repeats, 64)) << min(whole.options, 64)


def _longest_text(whole: _Group) -> int:
    ways = MAX_WAYS >> min(whole.options, 64)
    low, high = 0, MAX_TEXT_LENGTH
    while low < high:
        middle = (low + high + 1) // 2
        if math.comb(middle + whole.repeats, min(whole.repeats, 64)) <= ways:
            low = middle
        else:
            high = middle - 1
    return low


def _measure(pattern: str) -> _Group:
    """Add up a pattern that Python accepts. Refuses one whose backtracking is exponential."""
    groups = [_Group()]
    closed: _Group | None = None
    position = 0
    while position < len(pattern):
        char, group = pattern[position], groups[-1]
        repeat = _REPEAT.match(pattern, position) if char in "*+?{" else None
        if repeat is not None:
            _add_repeat(pattern, group, closed, repeat)
            position, closed = repeat.end(), None
            continue
        if closed is not None:
            group.add(closed, 1)
            closed = None
        if char == "(":
            groups.append(_Group())
            position = _after_group_prefix(pattern, position + 1)
        elif char == ")" and len(groups) > 1:
            closed = groups.pop()
            _begin(groups[-1], "")
            position += 1
        elif char == "|":
            group.branches += 1
            group.expects_first = True
            position += 1
        else:
            end = _after_atom(pattern, position)
            atom = pattern[position:end]
            # Beyond ASCII, several characters may match one another where case is ignored.
            _begin(group, atom if len(atom) == 1 and atom.isascii() and atom not in ".^$" else "")
            position = end
    if closed is not None:
        groups[-1].add(closed, 1)
    return groups[0]


def _begin(group: _Group, char: str) -> None:
    if group.expects_first:
        group.first_chars.append(char)
        group.expects_first = False


def _add_repeat(pattern: str, group: _Group, closed: _Group | None, repeat: re.Match[str]) -> None:
    least, most = _bounds(repeat)
    if most is None or most > MAX_BOUNDED_REPEAT:
        if closed is not None and (closed.repeats or closed.options or closed.ambiguous):
            raise _refused(pattern, "a repetition inside a repetition")
        group.repeats += 1
        return
    if closed is not None:
        group.add(closed, most)
    if most == 1:
        group.options += 1 - least
    elif most > least:
        group.repeats += 1
    if least == 0 and group.first_chars and len(group.first_chars) == group.branches:
        group.first_chars[-1] = ""  # an atom that may be absent does not tell how the branch begins


def _bounds(repeat: re.Match[str]) -> tuple[int, int | None]:
    if repeat[0][0] != "{":
        return (1 if repeat[0] == "+" else 0), (1 if repeat[0] == "?" else None)
    least = int(repeat[1] or 0)
    return least, (int(repeat[3]) if repeat[3] else (None if repeat[2] else least))


def _after_group_prefix(pattern: str, position: int) -> int:
    if pattern.startswith("?", position):
        if pattern.startswith(("?P=", "?("), position):
            raise _refused(pattern, "a back reference")
        if pattern.startswith("?#", position):
            raise _refused(pattern, "a comment")
        named = re.compile(r"\?P?<[A-Za-z_]\w*>").match(pattern, position)
        if named:
            return named.end()
        prefix = re.compile(r"\?(?:<[=!]|[=!:>]|([aiLmsux-]+)[:)])").match(pattern, position)
        if prefix and "x" in (prefix[1] or ""):
            raise _refused(pattern, "the flag x")
        return prefix.end() if prefix else position + 1
    return position


def _after_atom(pattern: str, position: int) -> int:
    if pattern[position] == "\\":
        if pattern[position + 1 : position + 2].isdigit():
            raise _refused(pattern, "a back reference")
        return position + 2
    if pattern[position] == "[":
        end = position + 1
        if pattern[end : end + 1] == "^":
            end += 1
        if pattern[end : end + 1] == "]":
            end += 1
        while end < len(pattern) and pattern[end] != "]":
            end += 2 if pattern[end] == "\\" else 1
        return end + 1
    return position + 1


def _refused(pattern: str, what: str) -> InvalidQueryError:
    return InvalidQueryError(
        f"The regular expression /{pattern}/ is refused because {what} can take exponentially long; write it without."
    )
