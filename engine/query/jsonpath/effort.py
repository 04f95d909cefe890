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

MAX_STEPS: Final = 10_000_000
"""Nodes looked at, which takes a few seconds in the worst case. A document of the largest size has some 130,000."""


class _Left:
    """What is left of the reading under way. Threads share it; a process evaluates in one."""

    steps = MAX_STEPS


_left: Final = _Left()


def begin() -> None:
    """A new reading."""
    _left.steps = MAX_STEPS


def spend(steps: int) -> None:
    """Count steps of the reading. Raises `QueryError` when it has done too many."""
    _left.steps -= steps
    if _left.steps < 0:
        raise QueryError(f"The path looks at more than {MAX_STEPS} nodes of this document; that takes too long")


def bounded(value: Json) -> Json:
    """The result of a reading that may hold the same data many times. Raises `QueryError` if it is too large."""
    if larger_than(value, MAX_EXPRESSION_BYTES):
        raise QueryError(f"The path gives more than {MAX_EXPRESSION_BYTES} bytes")
    return value
