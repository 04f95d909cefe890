"""What readings may do together, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context

import pytest

from stepwell.engine.errors import EffortError, QueryError, TooMuchHereError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query import effort
from stepwell.engine.query.choice_operators import compile_condition
from stepwell.engine.query.choice_rules import compile_rule
from stepwell.engine.query.intrinsics import compile_intrinsic
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import compile_template
from stepwell.engine.states_errors import StatesError


def spend_all() -> None:
    for _ in range(2):
        effort.begin()
        effort.spend(effort.MAX_STEPS)


def test_the_readings_of_a_state_share_what_it_may_do() -> None:
    with effort.carried_out():
        spend_all()
        effort.begin()
        with pytest.raises(QueryError, match="together"):
            effort.spend(1)
    effort.begin()
    effort.spend(effort.MAX_STEPS)


def test_a_state_may_do_less_here_than_it_may_do() -> None:
    with effort.of_state():
        for _ in range(2):
            effort.begin()
            effort.spend(effort.MAX_STEPS_HERE // 2)
        effort.begin()
        with pytest.raises(TooMuchHereError):
            effort.spend(1)
        assert effort.begin_states().here == effort.MAX_STEPS_HERE
        effort.spend(effort.MAX_STEPS_HERE)


def test_what_runs_apart_takes_nothing_from_the_others() -> None:
    def beside() -> None:
        effort.apart()
        effort.begin_states()
        effort.spend(effort.MAX_STEPS_HERE)

    with effort.of_state():
        spent = effort.begin_states()
        before = spent.begin_state()
        Context().run(beside)
        effort.begin()
        effort.spend(effort.MAX_STEPS_HERE)
        assert spent.begin_state() - before == effort.MAX_STEPS_HERE


BIG: Json = {
    "numbers": [0] * 100_000,
    "objects": [{"b": index} for index in range(20_000)],
    "wide": {f"k{index}": 0 for index in range(25_000)},
    "text": "0," * 100_000,
    "json": "[" + "0," * 100_000 + "0]",
    "time": "2026-01-02T03:04:05." + "0" * 200_000 + "Z",
}


def steps_of(read: Callable[[], object]) -> int:
    with effort.carried_out() as left:
        read()
        return left.spent()


@pytest.mark.parametrize(
    ("call", "least"),
    (
        ("States.ArrayUnique($.numbers)", 100_000),
        ("States.ArrayPartition($.numbers, 1)", 100_000),
        ("States.ArrayContains($.numbers, 1)", 50_000),
        ("States.ArrayContains($.objects, $.wide)", 20_000),
        ("States.Array($.objects)", 20_000),
        ("States.Format('{}', $.numbers)", 700),
        ("States.JsonToString($.numbers)", 700),
        ("States.StringToJson($.json)", 8_000),
        ("States.StringSplit($.text, ',')", 25_000),
        ("States.StringSplit($.text, ',-')", 35_000),
        ("States.JsonMerge($.wide, $.wide, false)", 3_000),
    ),
)
def test_what_intrinsic_functions_look_through_counts(call: str, least: int) -> None:
    compiled = compile_intrinsic(call)
    assert steps_of(lambda: compiled(Scope(BIG))) >= least


@pytest.mark.parametrize(
    ("variable", "name", "operand", "least"),
    (
        ("$.text", "StringMatches", "*a*b", 3_000),
        ("$.text", "StringLessThan", "a", 150),
        ("$.text", "StringGreaterThanPath", "$.text", 300),
        ("$.time", "IsTimestamp", False, 3_000),
    ),
)
def test_long_texts_that_choice_rules_look_through_count(variable: str, name: str, operand: Json, least: int) -> None:
    condition = compile_condition(variable, name, operand)
    assert steps_of(lambda: condition(Scope(BIG))) >= least
    assert steps_of(lambda: condition(Scope({"text": "a", "time": "b"}))) == 0


def test_many_rules_and_fields_count_and_few_do_not() -> None:
    rule: Json = {"Variable": "$.a", "NumericEquals": 1}
    for many in (10, 1_000):
        condition = compile_rule({"Or": [rule] * many})
        template = compile_template({f"f{index}.$": "$.a" for index in range(many)})
        scope = Scope({"a": 0})
        assert (steps_of(lambda: condition(scope)) >= many) is (many > 10)  # noqa: B023 - called at once
        assert (steps_of(lambda: template(scope)) >= many) is (many > 10)  # noqa: B023


def test_a_template_of_calls_that_are_each_allowed_is_given_up() -> None:
    template = compile_template({f"f{index}.$": "States.ArrayUnique($.numbers)" for index in range(12)})
    with effort.carried_out(), pytest.raises(StatesError, match=r"States\.ArrayUnique.*more than 2000000 together"):
        template(Scope(BIG))


def test_is_present_does_not_take_a_path_that_takes_too_long_for_absent() -> None:
    deep: Json = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(EffortError):
        compile_condition("$..*..*..*..*", "IsPresent", True)(Scope(deep))


@pytest.mark.parametrize("compiled", (compile_intrinsic, lambda text: compile_template({"v.$": text})))
def test_outside_of_a_state_nothing_pays_for_what_was_read_before(
    compiled: Callable[[str], Callable[[Scope], Json]],
) -> None:
    call = compiled("States.ArrayContains($, 1)")
    with pytest.raises(EffortError):
        effort.spend(effort.MAX_STEPS + 1)
    assert call(Scope([1, 2])) in (True, {"v": True})
    effort.begin()
    effort.spend(effort.MAX_STEPS)
    assert call(Scope([1, 2])) in (True, {"v": True})
