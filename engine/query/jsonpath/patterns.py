"""Regular expressions a definition brings along (`=~ /.../`), bounded so that none can hold the engine for long.

Python's engine backtracks. What can make it explode is refused at compile time (a repetition inside a repetition,
alternatives inside a repetition that may begin alike, back references); what then remains costs at most about
`length ** repetitions` steps, and a text too long for that is refused at evaluation. It must not know where patterns
come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stepwell.engine.errors import InvalidQueryError, QueryError

MAX_PATTERN_LENGTH: Final = 500
MAX_STEPS: Final = 50_000_000
"""About half a second of backtracking in the worst case; ordinary matches are far below."""
MAX_BOUNDED_REPEAT: Final = 100

_FLAGS: Final = {"i": re.I, "m": re.M, "s": re.S, "x": re.X, "u": re.U, "U": re.U, "d": re.NOFLAG}
_REPEAT: Final = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")


@dataclass(slots=True)
class _Group:
    repeats: bool = False
    alternatives: bool = False
    first_chars: list[str] = field(default_factory=list)
    expects_first: bool = True


def compile_pattern(pattern: str, flags: str) -> Callable[[str], bool]:
    """A test whether the whole of a text matches. Raises `InvalidQueryError` for a pattern refused or not understood."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidQueryError(f"A regular expression may have at most {MAX_PATTERN_LENGTH} characters.")
    bits = re.NOFLAG
    for flag in flags:
        if flag not in _FLAGS:
            raise InvalidQueryError(f"The regular expression flag '{flag}' is not known; use any of {''.join(_FLAGS)}.")
        bits |= _FLAGS[flag]
    repeats = _count_repeats(pattern)
    try:
        compiled = re.compile(pattern, bits)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidQueryError(f"The regular expression /{pattern}/ is not valid: {error}.") from None
    longest = max(256, int(MAX_STEPS ** (1 / repeats))) if repeats > 1 else MAX_STEPS

    def matches(text: str) -> bool:
        if len(text) > longest:
            raise QueryError(
                f"The regular expression /{pattern}/ may take too long on a text of {len(text)} characters; "
                f"with {repeats} repetitions it is applied to {longest} at most."
            )
        return compiled.fullmatch(text) is not None

    return matches


def _count_repeats(pattern: str) -> int:
    """How many unbounded repetitions there are. Refuses those whose backtracking is exponential."""
    groups = [_Group()]
    closed: _Group | None = None
    count = position = 0
    while position < len(pattern):
        char = pattern[position]
        group = groups[-1]
        repeat = _REPEAT.match(pattern, position) if char in "*+?{" else None
        if repeat is not None and position > 0 and pattern[position - 1] != "(":
            position = repeat.end()
            if _unbounded(repeat):
                count += 1
                group.repeats = True
                if closed is not None and (closed.repeats or _ambiguous(closed)):
                    raise _refused(pattern, "a repetition inside a repetition")
            closed = None
            continue
        closed = None
        if char == "(":
            groups.append(_Group())
            position = _after_group_prefix(pattern, position + 1)
            continue
        if char == ")":
            if len(groups) == 1:
                raise InvalidQueryError(f"The regular expression /{pattern}/ is not valid: unbalanced ')'.")
            closed = groups.pop()
            groups[-1].repeats |= closed.repeats
            groups[-1].expects_first = False
            groups[-1].first_chars.append("")
        elif char == "|":
            group.alternatives = True
            group.expects_first = True
        else:
            end = _after_atom(pattern, position)
            if group.expects_first:
                atom = pattern[position:end]
                group.first_chars.append(atom if len(atom) == 1 and atom not in ".^$" else "")
                group.expects_first = False
            position = end
            continue
        position += 1
    return count


def _unbounded(repeat: re.Match[str]) -> bool:
    text = repeat[0]
    if text == "?":
        return False
    if text in "*+":
        return True
    return bool(repeat[2] and not repeat[3]) or int(repeat[3] or repeat[1] or 0) > MAX_BOUNDED_REPEAT


def _ambiguous(group: _Group) -> bool:
    """Alternatives that may begin with the same character can be tried in exponentially many ways when repeated."""
    firsts = group.first_chars
    return group.alternatives and ("" in firsts or len({char.lower() for char in firsts}) < len(firsts))


def _after_group_prefix(pattern: str, position: int) -> int:
    if pattern.startswith("?", position):
        if pattern.startswith(("?P=", "?("), position):
            raise _refused(pattern, "a back reference")
        named = re.compile(r"\?P?<[A-Za-z_]\w*>").match(pattern, position)
        if named:
            return named.end()
        prefix = re.compile(r"\?(?:<[=!]|[=!:>]|[aiLmsux-]+[:)])").match(pattern, position)
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
