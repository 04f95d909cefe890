"""Microseconds per evaluation of compiled paths, templates, intrinsic calls and Choice conditions.

Run `python bench/micro/query.py`. Each figure is the best of five rounds; parsing is timed on its own.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Final

from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import compile_condition
from stepwell.engine.query.intrinsics import compile_intrinsic
from stepwell.engine.query.jsonpath import compile_jsonpath
from stepwell.engine.query.paths import ReferencePath
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import compile_template

ITEMS: Final[list[Json]] = [{"id": n, "price": n % 50, "name": f"item {n}"} for n in range(1000)]
DOCUMENT: Final[Json] = {"a": {"b": {"c": 1, "n": [1, 2, 3]}}, "items": ITEMS, "name": "Ada", "total": 12.5}
TEMPLATE: Final[Json] = {
    "FunctionName": "charge",
    "Payload": {"name.$": "$.name", "total.$": "$.total", "run.$": "$$.Execution.Id", "tags": ["a", "b"]},
    "text.$": "States.Format('{} owes {}', $.name, $.total)",
}


def scope() -> Scope:
    return Scope(
        DOCUMENT, variables={"x": {"y": 1}}, context=lambda: {"Execution": {"Id": "run-1"}}, entropy=Entropy(1)
    )


def per_call(function: Callable[[], object]) -> float:
    timer = timeit.Timer(function)
    number, _ = timer.autorange()
    number = max(1, number // 4)
    return min(timer.repeat(5, number)) / number * 1e6


def cases() -> dict[str, Callable[[], object]]:
    here = scope()
    template = compile_template(TEMPLATE)
    reference = ReferencePath.parse("$.a.result")
    condition = compile_condition("$.total", "NumericGreaterThan", 10)
    format_call = compile_intrinsic("States.Format('{} owes {}', $.name, $.total)")
    found: dict[str, Callable[[], object]] = {}
    for text in ("$", "$.name", "$.a.b.c", "$.a.b.n[1]", "$.items[*].id", "$..price", "$.items[?(@.price < 10)].id"):
        evaluate = compile_jsonpath(text).evaluate
        found[f"evaluate {text}"] = lambda evaluate=evaluate: evaluate(DOCUMENT)  # type: ignore[misc]
    variable = compile_jsonpath("$x.y").expression
    found["scope $x.y"] = lambda: variable(here)
    found["parse $.a.b.c"] = lambda: compile_jsonpath("$.a.b.c")
    found["parse $.items[?(@.price < 10)].id"] = lambda: compile_jsonpath("$.items[?(@.price < 10)].id")
    found["template of five fields"] = lambda: template(here)
    found["parse that template"] = lambda: compile_template(TEMPLATE)
    found["States.Format of two"] = lambda: format_call(here)
    found["ResultPath $.a.result"] = lambda: reference.put(DOCUMENT, 1)
    found["NumericGreaterThan"] = lambda: condition(here)
    return found


def main() -> None:
    for name, function in cases().items():
        print(f"{per_call(function):10.3f} us  {name}")


if __name__ == "__main__":
    main()
