"""Evaluations that may be carried out elsewhere: what one needs, as plain data, and its outcome, as plain data.

An `Evaluation` gives the same `Outcome` wherever and whenever it is carried out, unless a limit strikes: in the engine's own
process it may use little, and one that needs more is carried out elsewhere. It must not know how that is done, nor states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from stepwell.engine.errors import StepwellError


class Evaluation(msgspec.Struct, frozen=True, array_like=True):
    """`source` is the expression with its prelude, `document` what the prelude reads, as JSON text. `now` is in milliseconds;
    `seed` feeds chance; `functions` names AWS's functions that the expression calls. With a `kind` it is no JSONata but what
    `query.movable` makes of it."""

    source: str
    document: str
    now: int = 0
    seed: int = 0
    functions: tuple[str, ...] = ()
    kind: str = ""


def key_of(evaluation: Evaluation) -> bytes:
    """Sixteen bytes that are equal for equal evaluations."""
    return hashlib.blake2b(msgspec.json.encode(evaluation), digest_size=16).digest()


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """`text` is the JSON text of the result; else `code` and `message` are the JSONata error, or name and cause of an error of the
    States Language. `limit`: a limit struck. `steps` are those of `query.effort` that it took."""

    text: str | None = None
    code: str | None = None
    message: str | None = None
    limit: bool = False
    steps: int = 0


Known: TypeAlias = tuple[bytes, Outcome]
"""The key of an evaluation and its outcome."""


class OverBudgetError(StepwellError):
    """An evaluation needs more than it may use in this process. Carry it out elsewhere, and apply the event again."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__("An expression needs more time or memory than it may use in this process.")
        self.evaluation = evaluation


class Outcomes:
    """Carries out, for one call of `transition`, what needs more than it may use in this process (`query.scope.Heavy`).

    A known outcome is taken. Another evaluation raises `OverBudgetError`, so that whoever applies the event can have it
    carried out, `add` its outcome and apply the event again; with `carry_out` it is carried out on the spot. With all that it
    `holds` afterwards the call can be replayed.
    """

    __slots__ = ("_carry_out", "_known", "_some", "_untaken")

    def __init__(self, known: Iterable[Known] = (), carry_out: Callable[[Evaluation], Outcome] | None = None) -> None:
        self._known = dict(known)
        self._untaken = set(self._known)
        self._some = bool(self._known)
        self._carry_out = carry_out

    def anew(self) -> Outcomes:
        """The same outcomes for another call."""
        return Outcomes(self._known.items(), self._carry_out)

    def add(self, evaluation: Evaluation, outcome: Outcome) -> None:
        """The outcome of an evaluation is known now."""
        self._known[key_of(evaluation)] = outcome

    def known(self, evaluation: Evaluation) -> Outcome | None:
        """The outcome of an evaluation, if it is known."""
        if not self._known:
            return None
        key = key_of(evaluation)
        outcome = self._known.get(key)
        if outcome is not None:
            self._untaken.discard(key)
        return outcome

    @property
    def some(self) -> bool:
        """Whether anything is known."""
        return bool(self._known)

    @property
    def spent(self) -> bool:
        """Whether all that was known has been taken: what comes next may need more, and what was done can be made durable."""
        return self._some and not self._untaken

    @property
    def wasted(self) -> bool:
        """Whether nothing of what was known has been taken."""
        return self._some and len(self._untaken) == len(self._known)

    @property
    def holds(self) -> list[Known]:
        """What is known."""
        return list(self._known.items())

    def __call__(self, evaluation: Evaluation) -> Outcome:
        if self._carry_out is None:
            raise OverBudgetError(evaluation)
        outcome = self._carry_out(evaluation)
        self.add(evaluation, outcome)
        return outcome
