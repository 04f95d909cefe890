"""Carries out one evaluation of a JSONata expression within a budget: a small one in the engine's own process, and a full one
elsewhere. The only importer of the JSONata library. It must not know states.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import jlens
import msgspec

from stepwell.engine import limits
from stepwell.engine.query.evaluation import Evaluation, Outcome
from stepwell.engine.query.jsonata.functions import FunctionError, functions_for
from stepwell.engine.query.jsonata.wording import TIMED_OUT, reworded

_OUTPUT_LIMITS: Final = frozenset({"D1011", TIMED_OUT, "U1001", "U1006"})
"""The library's codes for a limit that struck: depth, time, size of a string or array, steps."""
_PANIC: Final = "PanicException"
"""What the library raises where it has a fault. It is no `Exception`, and can be told by its name alone."""


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
