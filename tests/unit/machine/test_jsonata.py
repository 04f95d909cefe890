"""States written in JSONata."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.clock import Entropy
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import ScheduleTask, Status
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.transition import transition
from stepwell.engine.query.jsonata import OverBudgetError
from tests.support.local_machine import LocalMachine, fails, raw, run, succeeds
from tests.unit.machine.build import Definition, inner, machine, parallel, pass_, task

JSONATA: dict[str, Any] = {"QueryLanguage": "JSONata"}


def each(state: Definition, name: str = "Y", **fields: Any) -> Definition:
    """A Map in JSONata whose processor is one state."""
    return {"Type": "Map", "ItemProcessor": inner(name, state), **fields}


def jsonata(*states: Definition, **more: Any) -> Definition:
    return machine(*states, **JSONATA, **more)


def test_output_and_assign_read_the_variables_from_before() -> None:
    done = run(
        jsonata(
            pass_(Assign={"n": "{% $states.input.n %}"}),
            pass_(Assign={"n": "{% $n + 1 %}", "old": "{% $n %}"}, Output={"seen": "{% $n %}"}),
            pass_(Output="{% [$n, $old, $states.input.seen] %}"),
        ),
        '{"n": 1}',
    )
    assert done.output == [2, 1, 1]
    assert done.seen[4].details == {"name": "B", "assignedVariables": {"n": "2", "old": "1"}}


def test_a_state_without_output_hands_on_its_result_or_its_input() -> None:
    text = '{"a":  1}'
    done = run(
        jsonata(pass_(), {"Type": "Wait", "Seconds": "{% 0 %}"}, task(), {"Type": "Succeed"}), text, world=succeeds([7])
    )
    assert bytes(done.seen[2].payload or b"") == text.encode()
    assert done.output == [7]


def test_arguments_and_result() -> None:
    state = task(
        Arguments={"who": "{% $states.input.name %}"},
        Output={"greeting": "{% $states.result & '!' %}", "of": "{% $states.input.name %}"},
        TimeoutSeconds="{% $states.input.limit %}",
    )
    done = run(jsonata(state), '{"name": "Ann", "limit": 3}', world=succeeds("hello"))
    assert done.payload(3) == {"who": "Ann"}
    assert done.seen[2].details == {"resource": state["Resource"], "timeoutInSeconds": 3}
    assert done.output == {"greeting": "hello!", "of": "Ann"}


def test_without_arguments_the_work_gets_the_input() -> None:
    assert run(jsonata(task()), '{"a": 1}', world=succeeds(1)).payload(3) == {"a": 1}
    assert run(jsonata(task(Arguments={})), '{"a": 1}', world=succeeds(1)).payload(3) == {}


def test_the_languages_can_be_mixed() -> None:
    done = run(
        machine(
            pass_(Assign={"v.$": "$.a"}),
            pass_(QueryLanguage="JSONata", Assign={"w": "{% $v + 1 %}"}, Output={"b": "{% $v %}"}),
            pass_(Parameters={"w.$": "$w", "b.$": "$.b"}),
        ),
        '{"a": 1}',
    )
    assert done.output == {"w": 2, "b": 1}


@pytest.mark.parametrize(
    ("input", "output"), (('{"n": 1}', "small"), ('{"n": 5}', {"n": 5}), ('{"n": 9}', "default"), ('{"n": 7}', "seven"))
)
def test_a_choice_has_output_of_its_rule_or_of_its_default(input: str, output: object) -> None:
    choice = {
        "Type": "Choice",
        "Choices": [
            {"Condition": "{% $states.input.n < 3 %}", "Output": "small", "Next": "B"},
            {"Condition": "{% $states.input.n < 6 %}", "Next": "B"},
            {"Condition": "{% $states.input.n = 7 %}", "Assign": {"v": "seven"}, "Next": "C"},
        ],
        "Default": "B",
        "Output": "default",
    }
    done = run(jsonata(choice, {"Type": "Succeed"}, pass_(Output="{% $v %}")), input)
    assert done.output == output


def test_a_catcher_sees_the_error_and_the_input() -> None:
    catcher = {
        "ErrorEquals": ["E"],
        "Assign": {"why": "{% $states.errorOutput.Cause %}"},
        "Output": {"error": "{% $states.errorOutput.Error %}", "input": "{% $states.input %}"},
        "Next": "B",
    }
    done = run(
        jsonata(task(Catch=[catcher]), pass_(Output="{% [$why, $states.input] %}")), '"in"', world=fails("E", "because")
    )
    assert done.output == ["because", {"error": "E", "input": "in"}]


def test_a_catcher_without_output_hands_on_the_error() -> None:
    state = task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}])
    done = run(jsonata(state, pass_()), world=fails("E", "because"))
    assert done.output == {"Error": "E", "Cause": "because"}


def test_a_fail_state_computes_its_error_and_cause() -> None:
    done = run(
        jsonata({"Type": "Fail", "Error": "{% $states.input.e %}", "Cause": "{% 'no ' & $states.input.e %}"}),
        '{"e": "E"}',
    )
    assert done.finish is not None
    assert (done.finish.error, done.finish.cause) == ("E", "no E")


def test_parallel_and_map() -> None:
    branch = pass_(Output="{% $states.input.n + $v %}")
    both = parallel(
        branch, branch, Arguments={"n": "{% $states.input.n * 10 %}"}, Output={"sum": "{% $sum($states.result) %}"}
    )
    mapped = each(
        pass_(Output="{% $states.input.value * $states.input.by %}"),
        Items="{% [1..$states.input.sum] %}",
        ItemSelector={"value": "{% $states.context.Map.Item.Value %}", "by": "{% $states.input.sum %}"},
        MaxConcurrency="{% 2 %}",
        Output="{% $reverse($states.result) %}",
    )
    done = run(jsonata(pass_(Assign={"v": 1}), both, mapped), '{"n": 0}')
    assert done.output == [4, 2]


def test_items_may_be_written_out_with_expressions_in_them() -> None:
    done = run(jsonata(each(pass_(), Items=[1, "{% $states.input.a %}"])), '{"a": 2}')
    assert done.output == [1, 2]


def test_items_drawn_by_chance_are_the_same_after_a_crash() -> None:
    mapped = each(task(Arguments="{% $states.input %}"), Items="{% [$uuid(), $uuid(), $uuid()] %}", MaxConcurrency=1)
    running = LocalMachine(
        jsonata(mapped), crash_always=True, world=lambda at: (events.TaskSucceeded(at.task, raw(at.payload.value)),)
    )
    done = running.run()
    items = [done.payload(id) for id, event in enumerate(done.seen, 1) if event.type == "LambdaFunctionScheduled"]
    assert done.output == items
    assert len({str(item) for item in items}) == 3


def test_each_map_has_its_own_items_after_a_crash() -> None:
    work = task(Arguments="{% $states.input %}")
    maps = (
        each(work, "Y1", Items="{% [7, 8] %}"),
        each(work, "Y2", MaxConcurrency=1, Output="{% [$states.result, 9] %}"),
        each(work, "Y3", Items=[1, 2], MaxConcurrency=1),
    )

    def echo(at: ScheduleTask) -> list[Event]:
        return [events.TaskSucceeded(at.task, raw([at.payload.value]))]

    done = LocalMachine(jsonata(*maps), crash_always=True, world=echo).run()
    assert [done.payload(id) for id, event in enumerate(done.seen, 1) if event.type == "LambdaFunctionScheduled"] == [
        7, 8, [7], [8], 1, 2,
    ]  # fmt: skip


def test_deltas_hold_the_items_once() -> None:
    mapped = each(task(), Items="{% [1..200] %}", MaxConcurrency=1)
    running = LocalMachine(jsonata(mapped), world=succeeds(1))
    running.run()
    sizes = running.delta_bytes()
    assert sizes[0] > 600
    assert max(sizes[1:-1]) < sizes[0] / 2  # the last one names the frames that are gone


# -------------------------------------------------------------------------------------------------------------- errors


def failed(definition: Definition, input: str = "{}", **more: Any) -> LocalMachine:
    done = run(definition, input, **more)
    assert done.finish is not None and done.finish.status is Status.FAILED
    assert done.finish.error == "States.QueryEvaluationError"
    return done


def evaluation(done: LocalMachine) -> tuple[int, dict[str, Any]]:
    (found,) = [event for event in done.seen if event.type == "EvaluationFailed"]
    return found.previous, found.details or {}


def test_an_evaluation_that_fails_is_in_the_history() -> None:
    done = failed(jsonata(pass_(Output={"a": "{% $missing %}"})))
    cause = (
        "An error occurred while executing the state 'A' (entered at the event id #2). The JSONata expression '$missing' "
        "specified for the field 'Output/a' returned nothing (undefined)."
    )
    assert done.lines == [
        "1<-0 ExecutionStarted",
        "2<-0 PassStateEntered A",
        "3<-0 EvaluationFailed",
        "4<-3 ExecutionFailed",
    ]
    details = {"error": "States.QueryEvaluationError", "cause": cause, "location": "Output/a", "state": "A"}
    assert evaluation(done) == (0, details)
    assert done.seen[-1].details == {"error": "States.QueryEvaluationError", "cause": cause}


def test_an_evaluation_after_the_work_follows_its_last_event() -> None:
    done = failed(jsonata(task(Output="{% $missing %}")), world=succeeds(1))
    assert evaluation(done)[0] == 5


def test_an_evaluation_that_fails_can_be_retried_and_caught() -> None:
    state = task(
        Arguments="{% $missing %}",
        Retry=[{"ErrorEquals": ["States.QueryEvaluationError"], "MaxAttempts": 1}],
        Catch=[{"ErrorEquals": ["States.ALL"], "Output": "{% $states.errorOutput.Error %}", "Next": "B"}],
    )
    done = run(jsonata(state, pass_()))
    assert done.output == "States.QueryEvaluationError"
    assert done.types.count("EvaluationFailed") == 2


@pytest.mark.parametrize(
    ("state", "location", "words"),
    (
        (each(pass_()), None, "Map state input must be an array but was: {}"),
        (each(pass_(), Items="{% 1 %}"), "Items", "Expected 'array', but was 'number' for value: 1"),
        (each(pass_(), MaxConcurrency="{% 'a' %}"), "MaxConcurrency", "Expected 'number', but was 'string'"),
        (task(TimeoutSeconds="{% 1.5 %}"), "TimeoutSeconds", "must be an integer but was: 1.5"),
        (task(TimeoutSeconds="{% 0 %}"), "TimeoutSeconds", "below 1"),
        ({"Type": "Wait", "Seconds": "{% -1 %}"}, "Seconds", "but was: -1"),
        ({"Type": "Wait", "Seconds": "{% true %}"}, "Seconds", "Expected 'number', but was 'boolean' for value: true"),
        ({"Type": "Wait", "Timestamp": "{% 'noon' %}"}, "Timestamp", "cannot be parsed as an ISO-8601 extended"),
        ({"Type": "Wait", "Timestamp": "{% 12 %}"}, "Timestamp", "Expected 'string', but was 'number' for value: 12"),
        ({"Type": "Fail", "Error": "{% 12 %}"}, "Error", "Expected 'string', but was 'number' for value: 12"),
        (
            {"Type": "Choice", "Choices": [{"Condition": "{% 1 %}", "Next": "B"}]},
            "Condition",
            "Expected 'boolean', but was 'number' for value: 1",
        ),
    ),
)  # fmt: skip
def test_values_a_field_cannot_use(state: Definition, location: str | None, words: str) -> None:
    states = [state] if state["Type"] == "Fail" else [state, pass_()]
    done = failed(jsonata(*states))
    details = evaluation(done)[1]
    assert details.get("location") == location
    assert words in details["cause"]


def test_what_needs_too_much_leaves_the_transition() -> None:
    definition = jsonata(pass_(Output="{% ($f := function($x) {$f($x)}; $f(1)) %}"))
    local = LocalMachine(definition)
    with pytest.raises(OverBudgetError):
        transition(local.machine, local.state, events.Started(raw({})), local.now, Entropy(1))
