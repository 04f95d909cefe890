"""One evaluation of a JSONata expression: what it needs, as plain data, and its outcome, as plain data.

An `Evaluation` gives the same `Outcome` wherever and whenever it is carried out, unless a limit strikes: in the engine's own
process it gets a small budget, and one that exceeds it is carried out elsewhere. The only importer of the JSONata library.
It must not know states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeAlias

import jlens
import msgspec

from stepwell.engine import limits
from stepwell.engine.errors import StepwellError
from stepwell.engine.query.jsonata.functions import FunctionError, functions_for
from stepwell.engine.query.jsonata.wording import TIMED_OUT, reworded

_OUTPUT_LIMITS: Final = frozenset({"D1011", TIMED_OUT, "U1001", "U1006"})
"""The library's codes for a limit that struck: depth, time, size of a string or array, steps."""
_PANIC: Final = "PanicException"
"""What the library raises where it has a fault. It is no `Exception`, and can be told by its name alone."""


class Evaluation(msgspec.Struct, frozen=True, array_like=True):
    """`source` is the expression with its prelude, `document` what the prelude reads, as JSON text. `now` is in milliseconds;
    `seed` feeds chance; `functions` names AWS's functions that the expression calls."""

    source: str
    document: str
    now: int = 0
    seed: int = 0
    functions: tuple[str, ...] = ()


def key_of(evaluation: Evaluation) -> bytes:
    """Sixteen bytes that are equal for equal evaluations."""
    return hashlib.blake2b(msgspec.json.encode(evaluation), digest_size=16).digest()


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """`text` is the JSON text of the result; else `code` and `message` are the JSONata error. `limit`: a limit struck."""

    text: str | None = None
    code: str | None = None
    message: str | None = None
    limit: bool = False


Known: TypeAlias = tuple[bytes, Outcome]
"""The key of an evaluation and its outcome."""


class Budget(msgspec.Struct, frozen=True):
    """The limits of one evaluation: seconds, steps, depth of calls, bytes of a string, items of an array, bytes of the result."""

    seconds: float
    steps: int
    depth: int
    string_bytes: int
    array_items: int
    result_bytes: int


IN_PROCESS: Final = Budget(
    seconds=limits.JSONATA_QUICK_SECONDS,
    steps=limits.JSONATA_QUICK_STEPS,
    depth=limits.JSONATA_QUICK_DEPTH,
    string_bytes=limits.JSONATA_QUICK_STRING_BYTES,
    array_items=limits.JSONATA_QUICK_ARRAY_ITEMS,
    result_bytes=limits.MAX_EXPRESSION_BYTES,
)
"""What an evaluation may use in the process that asks for it."""

IN_PROCESS_SMALL: Final = msgspec.structs.replace(
    IN_PROCESS, string_bytes=limits.JSONATA_SMALL_STRING_BYTES, array_items=limits.JSONATA_SMALL_ARRAY_ITEMS
)
"""The same for expressions with functions whose work grows with the square of what they are given."""

FULL: Final = Budget(
    seconds=limits.JSONATA_SECONDS,
    steps=limits.JSONATA_STEPS,
    depth=limits.JSONATA_DEPTH,
    string_bytes=limits.JSONATA_STRING_BYTES,
    array_items=limits.JSONATA_ARRAY_ITEMS,
    result_bytes=limits.MAX_EXPRESSION_BYTES,
)
"""What an expression may use at all."""


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


def _reworded(error: jlens.JlensError, source: str) -> tuple[str, str]:
    start, end = error.start, error.end
    around = ("", "") if start is None or end is None else (source[:start], source[end:])
    return reworded(error.code, str(error), *around)


@lru_cache(maxsize=4096)
def _compiled(source: str) -> jlens.Expression:
    return jlens.Expression(source)


def carry_out(evaluation: Evaluation, budget: Budget) -> Outcome:
    """Evaluate within a budget. Never raises for what the expression does."""
    bindings = (
        functions_for(evaluation.functions, evaluation.seed, budget.array_items) if evaluation.functions else None
    )
    try:
        text = _compiled(evaluation.source).evaluate_json(
            evaluation.document,
            bindings,
            timeout=budget.seconds,
            max_depth=budget.depth,
            max_steps=budget.steps,
            max_string_length=budget.string_bytes,
            max_array_length=budget.array_items,
            max_result_size=budget.result_bytes,
            now=evaluation.now,
            seed=evaluation.seed & 0x7FFFFFFFFFFFFFFF,
        )
    except jlens.JlensError as error:
        code, message = _reworded(error, evaluation.source)
        return Outcome(code=code, message=message, limit=code in _OUTPUT_LIMITS)
    except FunctionError as error:
        return Outcome(code=error.code, message=str(error), limit=error.limit)
    except (ValueError, RecursionError, MemoryError) as error:
        return Outcome(code="U1001", message=f"The data cannot be evaluated: {error}", limit=True)
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        return Outcome(code="U1001", message="The JSONata library cannot evaluate the expression", limit=True)
    return Outcome(text)
