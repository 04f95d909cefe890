"""The longest that one transition can take: definitions written to hold up the engine, run within the limits on their size.

Run `python bench/micro/worst.py [PART OF A NAME ...]`. Each line tells the processor time of the longest single call of `transition`
(what holds the event loop), how many calls there were, the longest time (by the clock) an expression was carried out elsewhere, how
many were, and how it ended. A call of more than ten seconds is broken off.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from bench.micro.machine import INFO, NOW
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.clock import Entropy
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Finish
from stepwell.engine.machine.snapshot import ExecutionState
from stepwell.engine.machine.transition import Step, transition
from stepwell.engine.query.jsonata import Evaluation, Outcomes, OverBudgetError
from stepwell.engine.runtime.expressions import Helper

Tree: TypeAlias = "dict[str, Any]"
"""A definition or the data for one."""

MOST_SECONDS: Final = 10
MOST_CALLS: Final = 300
DEFINITION_BYTES: Final = 1_000_000
DATA_BYTES: Final = 250_000


def one(**fields: object) -> Tree:
    return {"StartAt": "S", "States": {"S": {"Type": "Pass", "End": True, **fields}}}


def many(text: str, **fields: object) -> Tree:
    """A template with as many fields of this text as a definition has room for, none of which gives much."""
    count = DEFINITION_BYTES // (len(text) + 16)
    return one(Parameters={f"f{index}.$": text for index in range(count)}, **fields)


def choices(rule: Tree, count: int | None = None) -> Tree:
    size = len(msgspec.json.encode(rule)) + 14
    rules: list[Tree] = [{**rule, "Next": "E"}] * (count or DEFINITION_BYTES // size)
    return {
        "StartAt": "S",
        "States": {"S": {"Type": "Choice", "Choices": rules, "Default": "E"}, "E": {"Type": "Succeed"}},
    }


def each(selector: Tree, **fields: object) -> Tree:
    item: Tree = {"StartAt": "I", "States": {"I": {"Type": "Pass", "Result": 0, "End": True}}}
    state: Tree = {"Type": "Map", "ItemSelector": selector, "ItemProcessor": item, "End": True, **fields}
    return {"StartAt": "S", "States": {"S": state}}


ZEROS: Final[Tree] = {"a": [0] * (DATA_BYTES // 2)}
LISTS: Final[Tree] = {"a": [[0]] * (DATA_BYTES // 4)}
DEEP: Final[Tree] = {"a": msgspec.json.decode(b"[" * 300 + b"]" * 300)}
NAMED: Final[Tree] = {"a": [{"b": {"c": "x"}}] * (DATA_BYTES // 16)}
TEXTS: Final[Tree] = {"a": ["a" * 20] * (DATA_BYTES // 23)}
TEXT: Final[Tree] = {"t": "a" * DATA_BYTES, "a": ["a" * (DATA_BYTES // 2), "b" * (DATA_BYTES // 2)]}
QUOTED: Final[Tree] = {"t": "[" + "0," * (DATA_BYTES // 2 - 2) + "0]"}
OBJECTS: Final[Tree] = {"a": [{"b": index} for index in range(DATA_BYTES // 13)]}
WIDE: Final[Tree] = {f"k{index}": 0 for index in range(DATA_BYTES // 9)}
TIMES: Final[Tree] = {"t": "2026-01-02T03:04:05." + "0" * (DATA_BYTES - 100) + "Z"}
HUNDRED: Final[Tree] = {"a": [{"id": index, "s": "x" * 60} for index in range(2_000)]}

CASES: Final[dict[str, Callable[[], tuple[Tree, Tree]]]] = {
    "path: scans in scans": lambda: (one(InputPath="$..*..*..*.length()"), LISTS),
    "path: scans in scans of depth": lambda: (one(InputPath="$..*..*..*"), DEEP),
    "path: scan for a name": lambda: (one(InputPath="$..zzz"), NAMED),
    "path: slices of slices": lambda: (one(InputPath="$..[0:99999][0:99999]"), LISTS),
    "path: indexes": lambda: (one(InputPath="$.a[*][" + ",".join(["0"] * 900) + "].zzz"), LISTS),
    "path: names": lambda: (one(InputPath="$..[" + ",".join(f"'{n}'" for n in range(900)) + "].zzz"), NAMED),
    "path: wildcards": lambda: (one(InputPath="$.a[*].*.*.zzz"), NAMED),
    "path: join": lambda: (one(InputPath="$.a[?(@.b in $.a[*].b)]"), OBJECTS),
    "path: join within filter": lambda: (one(InputPath="$.a[?(@.b == $.a[?(@.b == 9)].length())]"), OBJECTS),
    "path: long filter": lambda: (
        one(InputPath="$.a[?(" + " || ".join(["@.b.c == 'y'"] * 450) + ")]"),
        NAMED,
    ),
    "path: filter of negations": lambda: (one(InputPath="$.a[?(" + "!(" * 9 + "@.b" + ")" * 9 + ")]"), NAMED),
    "path: regex": lambda: (one(InputPath="$.a[?(@ =~ /.*.*.*x/)]"), TEXTS),
    "path: regex on a long text": lambda: (one(InputPath="$.a[?(@ =~ /.*b/)]"), TEXT),
    "path: regex of options": lambda: (one(InputPath="$.a[?(@ =~ /" + "a?" * 20 + "a{20}x/)]"), TEXTS),
    "path: equal texts": lambda: (one(InputPath="$.a[?(@ == '" + "a" * 20 + "b')]"), TEXTS),
    "path: contains": lambda: (one(InputPath="$.a[?(@ contains 'ab')]"), TEXTS),
    "path: contains in long": lambda: (one(InputPath="$.a[?(@ contains '" + "a" * 500 + "b')]"), TEXT),
    "path: sum": lambda: (one(InputPath="$..a.sum()"), ZEROS),
    "path: concat": lambda: (one(InputPath="$.a.concat()"), ZEROS),
    "path: OutputPath and InputPath": lambda: (one(InputPath="$.a..*.length()", OutputPath="$..*.length()"), LISTS),
    "template: plain paths": lambda: (many("$.a"), {"a": 1}),
    "template: plain paths to nothing": lambda: (many("$.t.t.t"), TEXT),
    "template: context": lambda: (many("$$.Execution.Id"), {}),
    "template: large values": lambda: (many("$.a"), ZEROS),
    "template: scans": lambda: (many("$..zzz"), NAMED),
    "template: counts": lambda: (many("$.length()"), ZEROS),
    "template: slices": lambda: (many("$.a[1:].length()"), ZEROS),
    "template: slices of depth": lambda: (many("$.a[-9:-1]"), ZEROS),
    "template: nested": lambda: (one(Parameters=deep_template()), {"a": 1}),
    "intrinsic: Format of numbers": lambda: (many("States.ArrayLength(States.Array(States.Format('{}', $)))"), ZEROS),
    "intrinsic: JsonToString": lambda: (many("States.ArrayLength(States.Array(States.JsonToString($)))"), ZEROS),
    "intrinsic: StringToJson": lambda: (many("States.ArrayLength(States.StringToJson($.t))"), QUOTED),
    "intrinsic: ArrayUnique": lambda: (many("States.ArrayLength(States.ArrayUnique($.a))"), OBJECTS),
    "intrinsic: ArrayUnique once": lambda: (one(Parameters={"a.$": "States.ArrayUnique($.a)"}), LISTS),
    "intrinsic: ArrayPartition": lambda: (many("States.ArrayLength(States.ArrayPartition($.a, 1))"), ZEROS),
    "intrinsic: ArrayContains": lambda: (many("States.ArrayContains($.a, 1)"), ZEROS),
    "intrinsic: ArrayContains of objects": lambda: (
        many("States.ArrayContains($.a, $.z)"),
        {**OBJECTS, "z": {"b": -1}},
    ),
    "intrinsic: ArrayRange": lambda: (many("States.ArrayLength(States.ArrayRange(1, 1000, 1))"), {}),
    "intrinsic: StringSplit": lambda: (many("States.ArrayLength(States.StringSplit($.t, ','))"), QUOTED),
    "intrinsic: StringSplit at many": lambda: (many("States.ArrayLength(States.StringSplit($.t, '0,-'))"), QUOTED),
    "intrinsic: Hash": lambda: (many("States.Hash($.t, 'SHA-512')"), {"t": "a" * 10_000}),
    "intrinsic: Base64": lambda: (
        many("States.ArrayLength(States.Array(States.Base64Encode($.t)))"),
        {"t": "a" * 9_000},
    ),
    "intrinsic: JsonMerge": lambda: (many("States.ArrayLength(States.Array(States.JsonMerge($, $, false)))"), WIDE),
    "intrinsic: UUID": lambda: (many("States.UUID()"), {}),
    "intrinsic: MathRandom": lambda: (many("States.MathRandom(1, 9)"), {}),
    "intrinsic: grown once": lambda: (one(Parameters={"a.$": grown()}), TEXT),
    "intrinsic: grown": lambda: (many(f"States.ArrayLength(States.Array({grown()}))"), TEXT),
    "choice: plain rules": lambda: (choices({"Variable": "$.t", "StringEquals": "b"}), TEXT),
    "choice: StringMatches": lambda: (choices({"Variable": "$.t", "StringMatches": "*" + "a*" * 30 + "b*"}), TEXT),
    "choice: StringMatches of pieces": lambda: (
        choices({"Variable": "$.t", "StringMatches": "*" + "a" * 50 + "b" + "a" * 50 + "*"}),
        TEXT,
    ),
    "choice: StringMatches once": lambda: (
        choices({"Variable": "$.t", "StringMatches": "*" + "a*" * 490_000 + "b"}, 1),
        TEXT,
    ),
    "choice: StringLessThan": lambda: (choices({"Variable": "$.t", "StringLessThan": "a"}), TEXT),
    "choice: StringEqualsPath": lambda: (choices({"Variable": "$.t", "StringLessThanPath": "$.t"}), TEXT),
    "choice: IsTimestamp": lambda: (choices({"Variable": "$.t", "IsTimestamp": True}), {**TIMES, "t": "x"}),
    "choice: IsTimestamp of a long text": lambda: (choices({"Variable": "$.t", "IsTimestamp": False}), TIMES),
    "choice: scans": lambda: (choices({"Variable": "$..zzz", "IsNull": True}), NAMED),
    "choice: Or of ten thousand": lambda: (
        choices({"Or": [{"Variable": "$.t", "StringLessThan": "a"}] * 20_000}, 1),
        TEXT,
    ),
    "map: plain ItemSelector": lambda: (each({"i.$": "$$.Map.Item.Value"}, ItemsPath="$.a"), OBJECTS),
    "map: scan in ItemSelector": lambda: (each({"i.$": "$..zzz"}, ItemsPath="$.a"), OBJECTS),
    "map: large ItemSelector": lambda: (each({"i.$": "$"}, ItemsPath="$.a"), HUNDRED),
    "map: join in ItemSelector": lambda: (
        each({"i.$": "$.a[?(@.b in $.a[*].b)]"}, ItemsPath="$.a"),
        {"a": OBJECTS["a"][:300]},
    ),
    "loop: choice of plain rules": lambda: (loop_of(choices({"Variable": "$.t", "StringEquals": "b"})), {"t": "a"}),
    "loop: template of plain paths": lambda: (loop_of(many("$.t", OutputPath="$.f0")), {"t": {"t": 0}}),
    "loop: JSONata": lambda: (jsonata_loop("$states.input.t"), {"t": list(range(1500))}),
    "loop: JSONata without data": lambda: (jsonata_loop("[1..4000]"), {}),
    "parallel: many branches": lambda: (parallel(), ZEROS),
}


def parallel() -> Tree:
    branches: list[Tree] = [
        {"StartAt": f"B{index}", "States": {f"B{index}": {"Type": "Pass", "End": True}}} for index in range(12_000)
    ]
    state: Tree = {"Type": "Parallel", "Branches": branches, "Parameters": {"a.$": "$..zzz"}, "End": True}
    return {"StartAt": "S", "States": {"S": state}}


def loop_of(definition: Tree) -> Tree:
    """The same state again and again."""
    state = definition["States"]["S"]
    if state["Type"] == "Choice":
        return {"StartAt": "S", "States": {"S": {**state, "Default": "S"}, "E": {"Type": "Succeed"}}}
    return again({key: value for key, value in state.items() if key != "End"})


def again(state: Tree) -> Tree:
    back: Tree = {"Type": "Choice", "Choices": [{"Variable": "$.zzz", "IsPresent": True, "Next": "E"}], "Default": "S"}
    return {"StartAt": "S", "States": {"S": {**state, "Next": "C"}, "C": back, "E": {"Type": "Succeed"}}}


def jsonata_loop(items: str) -> Tree:
    body = f"$sum($map({items}, function($v){{ $v * 2 + $v * 3 + $v * 4 }}))"
    state: Tree = {"Type": "Pass", "QueryLanguage": "JSONata", "Assign": {"x": f"{{% {body} %}}"}}
    return again(state)


def deep_template() -> Tree:
    template: Tree = {"x.$": "$.a"}
    for _ in range(100):
        template = {"a": template, "b": template} if len(msgspec.json.encode(template)) < 400_000 else {"a": template}
    return template


def grown() -> str:
    text = "States.Format('{}{}', $.t, $.t)"
    for _ in range(3):
        text = f"States.Format('{{}}{{}}', {text}, {text})"
    return text


class TooLongError(Exception):
    """A call takes too long to wait for its end."""


def interrupt(number: int, frame: object) -> None:
    raise TooLongError


def seconds_of(call: Callable[[], object]) -> float:
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def measure(definition: Tree, data: Tree, helper: Helper) -> tuple[float, int, float, int, str]:
    machine = parse_definition(definition)
    input = msgspec.json.encode(data)
    longest = elsewhere = 0.0
    calls = asked = 0
    state = ExecutionState(INFO)
    event: events.Event = events.Started(msgspec.Raw(input))
    before: list[tuple[events.Event, Outcomes | None]] = []
    outcomes: Outcomes | None = None
    start = time.thread_time()
    while True:
        begin = time.thread_time()
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        step: Step | None = None
        needed: Evaluation | None = None
        try:
            step = transition(machine, state, event, NOW, Entropy(1), heavy=outcomes.anew() if outcomes else None)
        except OverBudgetError as error:
            needed = error.evaluation
        except TooLongError:
            return time.thread_time() - begin, calls, elsewhere, asked, "was broken off"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            longest = max(longest, time.thread_time() - begin)
            calls += 1
        if step is not None and needed is None:
            if not step.more or calls > MOST_CALLS or time.thread_time() - start > 2 * MOST_SECONDS:
                finish = next((one for one in step.commands if isinstance(one, Finish)), None)
                return longest, calls, elsewhere, asked, told(finish)
            before.append((event, outcomes))
            state, event, outcomes = step.state, events.Continued(), None
            continue
        begin = time.monotonic()
        outcomes = outcomes or Outcomes()
        assert needed is not None
        outcomes.add(needed, helper.carry_out(needed))
        elsewhere, asked = max(elsewhere, time.monotonic() - begin), asked + 1
        state = ExecutionState(INFO)  # read back: here by doing all of it again
        for past, known in before:
            redone = Outcomes(known.holds if known else (), helper.carry_out)
            state = transition(machine, state, past, NOW, Entropy(1), heavy=redone).state


def told(finish: Finish | None) -> str:
    if finish is None:
        return "goes on"
    return f"{finish.status} {finish.error or ''} {(finish.cause or '')[-70:]}".replace("\n", " ")


def main() -> None:
    signal.signal(signal.SIGALRM, interrupt)
    wanted = sys.argv[1:]
    helper = Helper()
    print(f"{'':40}{'on loop':>10}{'calls':>7}{'elsewhere':>11}{'asked':>6}  end")
    for name, make in CASES.items():
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            longest, calls, elsewhere, asked, end = measure(*make(), helper)
        except Exception as error:  # noqa: BLE001 - a definition that is refused holds up nobody
            print(f"{name:40}{type(error).__name__}: {str(error)[:100]}")
            continue
        print(f"{name:40}{longest * 1000:8.0f}ms{calls:7}{elsewhere * 1000:9.0f}ms{asked:6}  {end}", flush=True)
    helper.kill()


if __name__ == "__main__":
    main()
