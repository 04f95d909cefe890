"""What takes more than it may in the engine's process is carried out elsewhere, to the same end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Json
from stepwell.engine.query import effort
from stepwell.engine.query.choice_rules import compile_choice
from stepwell.engine.query.evaluation import Evaluation, Outcome, Outcomes, OverBudgetError, key_of
from stepwell.engine.query.evaluations import carry_out
from stepwell.engine.query.jsonata import FULL
from stepwell.engine.query.paths import compile_path_field
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.templates import compile_template, movable_field
from stepwell.engine.states_errors import StatesError

DATA: Json = {"a": [[0]] * 40_000, "n": 1}
HEAVY = "$..*.*.length()"


def scope(heavy: Callable[[Evaluation], Outcome] | None = None, entropy: Entropy | None = None) -> Scope:
    return Scope(DATA, variables={"v": 7}, context=lambda: {"k": 8}, entropy=entropy, heavy=heavy)


def read(expression: Expression, heavy: Callable[[Evaluation], Outcome] | None, entropy: Entropy | None = None) -> Json:
    with effort.of_state():
        return expression(scope(heavy, entropy))


def elsewhere(evaluation: Evaluation) -> Outcome:
    return carry_out(evaluation, FULL)


EXPRESSIONS: dict[str, Callable[[], Expression]] = {
    "path": lambda: compile_path_field("$..*.*"),
    "field": lambda: movable_field("States.ArrayLength(States.ArrayUnique($..*.*))", "ErrorPath"),
    "template": lambda: compile_template({"n.$": "$..*.*", "v.$": "$v", "k.$": "$$.k", "fix": [1, 2.5]}).expression,
    "choice": lambda: compile_choice(
        [{"Variable": "$..*.*", "IsNull": True}, {"Not": {"Variable": "$.n", "IsNull": True}}]
    ),
}


@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_what_takes_too_much_here_gives_the_same_elsewhere(kind: str) -> None:
    expression = EXPRESSIONS[kind]()
    with effort.carried_out() as left:
        value = expression(scope())
        steps = left.spent()
    with pytest.raises(OverBudgetError) as needs:
        read(expression, None)
    evaluation = needs.value.evaluation
    assert evaluation.kind == kind
    outcome = elsewhere(evaluation)
    assert (outcome.steps, outcome.limit) == (steps, False)
    assert steps > effort.MAX_STEPS_HERE
    known = Outcomes([(key_of(evaluation), outcome)])
    assert read(expression, known) == value
    assert known.spent
    assert read(expression, elsewhere) == value


def test_what_takes_little_is_not_asked_for() -> None:
    template = compile_template(
        {"n.$": "$.a[*][9]", "m.$": "States.ArrayLength($.a)", "x.$": "States.Format('{}', $.n)"}
    )
    assert read(template.expression, None) == {"n": [], "m": 40_000, "x": "1"}


def test_errors_are_the_same_elsewhere() -> None:
    template = compile_template({"a.$": "$..*.*", "b.$": "$.absent"}).expression
    with effort.carried_out(), pytest.raises(StatesError) as here:
        template(scope())
    with pytest.raises(StatesError) as there:
        read(template, elsewhere)
    assert (there.value.error, there.value.cause) == (here.value.error, here.value.cause)


def test_chance_is_drawn_alike_whenever_it_is_carried_out() -> None:
    template = compile_template({"id.$": "States.UUID()", "n.$": "$..*.*"}).expression
    after: list[bytes] = []
    values: list[Json] = []
    known = Outcomes(carry_out=elsewhere)
    for _ in range(2):
        entropy = Entropy(5)
        values.append(read(template, known, entropy))
        after.append(entropy.bytes16())
    assert values[0] == values[1]
    assert after[0] == after[1]
    assert len(known.holds) == 1
    assert values[0] != read(template, elsewhere, Entropy(6))


def test_what_takes_too_much_anywhere_is_an_error_and_marked_as_one_that_struck_a_limit() -> None:
    path = compile_path_field("$..*..*..*..*")
    deep: Json = 1
    for _ in range(200):
        deep = [deep]
    with effort.of_state(), pytest.raises(OverBudgetError) as needs:
        path(Scope(deep))
    outcome = elsewhere(needs.value.evaluation)
    assert outcome.limit
    with effort.of_state(), pytest.raises(StatesError, match=r"Invalid path '\$\.\.\*.*more than 1000000 steps"):
        path(Scope(deep, heavy=elsewhere))


def test_what_was_done_elsewhere_counts_for_the_state() -> None:
    path = compile_path_field("$..*.*")
    with effort.of_state():
        for _ in range(effort.MAX_SHARED_STEPS // 400_000):
            path(scope(elsewhere))
        with pytest.raises(StatesError, match=r"The data cannot be read.*more than 2000000 together"):
            path(scope(elsewhere))


def test_an_evaluation_that_was_ended_is_an_error_of_the_state() -> None:
    ended = Outcome(code="D1012", message="It takes longer than 1 s.", limit=True)
    with pytest.raises(StatesError, match=r"States\.Runtime: The data cannot be read: It takes longer than 1 s\."):
        read(compile_path_field("$..*.*"), lambda evaluation: ended)


def test_a_path_that_leads_nowhere_is_explained_when_nothing_more_may_be_done_here() -> None:
    with effort.of_state():
        effort.begin()
        effort.spend(effort.MAX_STEPS_HERE)
        with pytest.raises(StatesError, match="No results for path"):
            compile_path_field("$.a[0][7]")(scope())
