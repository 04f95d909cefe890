"""How much may be done to read data by paths, intrinsic functions and Choice rules, so that none can hold the engine for long or
fill its memory.

Scans inside scans, filters that join arrays and the like multiply. Each reading of a document by a path begins anew with `begin`
and pays with `spend` for every node it looks at; functions, templates and rules pay for what they look through. Readings never
interleave: an evaluation runs from its begin to its end in one go. What runs in a thread beside others has to count `apart`
from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from stepwell.engine.errors import EffortError, QueryError, TooMuchHereError
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.values import larger_than

MAX_STEPS: Final = 1_000_000
"""Steps of one reading: nodes looked at, tests made of them. A step takes a quarter to half a microsecond; a document of the largest
size has some 130,000 nodes."""
MAX_SHARED_STEPS: Final = 2_000_000
"""Steps of all that one state reads."""
FIELD_STEPS: Final = 1
"""Steps that a field of a template takes, whatever it reads."""
RULE_STEPS: Final = 2
"""Steps that a Choice rule takes, whatever it compares."""
FEW: Final = 16
"""Fields or rules that do not count."""
LONG_TEXT: Final = 1_024
"""Characters from which on looking at a text counts."""


MAX_STEPS_HERE: Final = 100_000
"""Steps that one state may take in the engine's own process, a twentieth of a second; what needs more is carried out elsewhere."""

_NOT_FRESH: Final = -1


class Effort:
    """What is left of the reading under way, and for the readings of the state: in all, and in this process. `bound` tells whether
    there is a state; without one, each reading is by itself."""

    __slots__ = ("bound", "fresh", "granted", "here", "shared", "steps", "total")

    def __init__(self, here: int | None = None) -> None:
        self.bound = False
        self.here = MAX_STEPS_HERE if here is None else here
        self.shared = MAX_SHARED_STEPS
        self.total = 0
        self.granted = self.steps = min(MAX_STEPS, self.here, self.shared)
        self.fresh = self.steps
        """What is left where nothing has been read."""

    def begin_state(self) -> int:
        """The readings that come now are those of one state. Gives the steps that have been spent here so far."""
        if self.steps != self.fresh:  # else nothing was read since the last one
            self._begin()
        return self.total

    def _begin(self) -> None:
        self.total += self.granted - self.steps
        self.here, self.shared = MAX_STEPS_HERE, MAX_SHARED_STEPS
        self.fresh = self.granted = self.steps = min(MAX_STEPS, self.here, self.shared)

    def settle(self) -> None:
        """The reading under way is over."""
        spent = self.granted - self.steps
        if not spent:
            return
        if not self.bound:
            self._begin()
            return
        self.total += spent
        self.shared = max(self.shared - spent, 0)
        self.here = max(self.here - spent, 0)
        self.granted = self.steps = min(MAX_STEPS, self.shared, self.here)

    def took(self, steps: int) -> None:
        """So many steps were taken elsewhere. Raises `EffortError` when the state has taken too many."""
        self.settle()
        self.fresh = _NOT_FRESH
        self.shared -= steps
        if self.shared < 0:
            self.shared = 0
            raise _too_much()
        self.granted = self.steps = min(MAX_STEPS, self.shared, self.here)

    def used_up(self) -> None:
        """More has been spent than was granted. Raises what follows from that, if anything."""
        if not self.bound and self.granted < MAX_STEPS:
            self.steps += MAX_STEPS - self.granted
            self.granted = MAX_STEPS
            if self.steps >= 0:
                return
        self.steps = 0
        if self.bound and self.granted == self.here:
            raise TooMuchHereError("Reading the data takes more than it may in this process.")
        raise _too_much()

    def spent(self) -> int:
        """The steps that have been spent so far."""
        return self.total + self.granted - self.steps


_EVERYBODY: Final = Effort()
_current: Final[ContextVar[Effort]] = ContextVar("effort", default=_EVERYBODY)


def apart() -> None:
    """The readings of this context (`contextvars`) are counted by themselves from here on."""
    _current.set(Effort())


def begin() -> None:
    """A new reading."""
    _current.get().settle()


def begin_states() -> Effort:
    """The readings that come now are those of one state; call `begin_state` of what is given for the next one."""
    left = _current.get()
    left.bound = True
    left.begin_state()
    return left


def end_states() -> None:
    """The readings that come now are nobody's in particular."""
    _current.get().bound = False


@contextmanager
def of_state() -> Iterator[None]:
    """The readings in here are those of one state."""
    begin_states()
    try:
        yield
    finally:
        end_states()


@contextmanager
def carried_out() -> Iterator[Effort]:
    """The readings in here are what one state asked to have carried out: counted by themselves, and held to nothing but what any
    state may do."""
    left = Effort(here=MAX_SHARED_STEPS + 1)
    left.bound = True
    before = _current.set(left)
    try:
        yield left
    finally:
        _current.reset(before)


@contextmanager
def uncounted() -> Iterator[None]:
    """What is read in here is not counted: it cannot be much."""
    before = _current.set(Effort())
    try:
        yield
    finally:
        _current.reset(before)


def took(steps: int) -> None:
    """Count steps that were taken elsewhere. Raises `EffortError` when the state has taken too many."""
    _current.get().took(steps)


def spend(steps: int) -> None:
    """Count steps of the reading. Raises `EffortError` when it has done too many, `TooMuchHereError` when that many may be done elsewhere
    only."""
    left = _current.get()
    left.steps -= steps
    if left.steps < 0:
        left.used_up()


def _too_much() -> EffortError:
    return EffortError(
        f"Reading it takes more than {MAX_STEPS} steps, or all that the state reads takes more than {MAX_SHARED_STEPS} "
        "together (a step is a node that is looked at); that takes too long. Read less of the data at once, or do it in a task"
    )


def spend_on_text(text: str, chars: int) -> None:
    """Count the looking through a text, so many characters a step."""
    if len(text) > LONG_TEXT:
        spend(len(text) // chars)


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
    if larger_than(value, MAX_EXPRESSION_BYTES, spend):
        raise QueryError(f"The path gives more than {MAX_EXPRESSION_BYTES} bytes")
    return value
