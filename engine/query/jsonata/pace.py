"""How often an expression that has taken too long is tried again in the engine's own process.

Time tells less than the other limits: whoever is kept from the processor for a moment takes long over anything. An expression
that once took too long is tried again, and one that does so again and again now and then, in case it no longer does.
"""

from __future__ import annotations

from typing import Final

STRIKES: Final = 3
"""Evaluations in a row that take too long before an expression rests."""
REST: Final = 1_000
"""Evaluations that are carried out elsewhere then."""


class Pace:
    """Of one expression. What is said of a size holds for as much data or more."""

    __slots__ = ("_resting", "_size", "_strikes")

    def __init__(self) -> None:
        self._size = 0
        self._strikes = 0
        self._resting = 0

    def allows(self, size: int) -> bool:
        """Whether to try it with so much data. Counts as one of the evaluations that are carried out elsewhere if not."""
        if self._resting == 0 or size < self._size:
            return True
        self._resting -= 1
        return False

    def took(self, size: int, *, too_long: bool) -> None:
        """It has been tried."""
        if too_long:
            self._size = size if self._strikes == 0 else min(self._size, size)
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._resting = REST
        elif size >= self._size:
            self._strikes = 0
