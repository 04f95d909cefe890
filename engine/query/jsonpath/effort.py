"""How much one reading of a document may do, so that no path can hold the engine for long or fill its memory.

Scans inside scans, filters that join arrays and the like multiply. Each such reading begins anew with `begin` and pays with
`spend` for every node it looks at. Readings never interleave: an evaluation runs from its begin to its end in one go.
"""

from __future__ import annotations

from typing import Final

from stepwell.engine.errors import QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.values import larger_than

MAX_STEPS: Final = 1_000_000
"""Steps of one reading: nodes looked at, tests made of them. A document of the largest size has some 130,000 nodes; the worst of
readings takes half a second."""
MAX_SHARED_STEPS: Final = 2_000_000
"""Steps of all the readings of one state together."""


_UNBOUNDED: Final = 1 << 62


class _Left:
    """What is left of the reading under way, and for the readings of the state. Threads share it; a process evaluates in one."""

    granted = steps = MAX_STEPS
    shared = _UNBOUNDED
    total = 0


_left: Final = _Left()


def begin() -> None:
    """A new reading."""
    _settle()


def begin_state() -> int:
    """The readings that come now are those of one state. Gives the steps that have been spent in this process so far."""
    _settle()
    _left.shared = MAX_SHARED_STEPS
    return _left.total


def end_states() -> None:
    """The readings that come now are nobody's in particular."""
    _settle()
    _left.shared = _UNBOUNDED


def _settle() -> None:
    spent = _left.granted - _left.steps
    _left.total += spent
    _left.shared = max(_left.shared - spent, 0)
    _left.granted = _left.steps = min(MAX_STEPS, _left.shared)


def spend(steps: int) -> None:
    """Count steps of the reading. Raises `QueryError` when it has done too many."""
    _left.steps -= steps
    if _left.steps < 0:
        _left.steps = 0
        raise QueryError(
            f"The path looks at more than {MAX_STEPS} nodes of this document, or those of the state look at more than "
            f"{MAX_SHARED_STEPS} together; that takes too long"
        )


def spend_on(value: Json) -> None:
    """Count the parts of a value that is looked at whole."""
    if isinstance(value, str):
        spend(len(value) >> 8)
    elif isinstance(value, dict | list):
        stack: list[Json] = [value]
        while stack:
            each = stack.pop()
            members = list(each.values()) if isinstance(each, dict) else each
            if isinstance(members, list):
                spend(1 + len(members))
                stack.extend(member for member in members if isinstance(member, dict | list))


def bounded(value: Json) -> Json:
    """The result of a reading that may hold the same data many times. Raises `QueryError` if it is too large."""
    if larger_than(value, MAX_EXPRESSION_BYTES):
        raise QueryError(f"The path gives more than {MAX_EXPRESSION_BYTES} bytes")
    return value
