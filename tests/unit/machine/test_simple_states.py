"""Pass, Succeed, Choice, Wait and Fail, and the execution's own beginning and end."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.jsontypes import Json
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Finish, Status
from tests.support.local_machine import START, LocalMachine, info_of, raw, run
from tests.unit.machine.build import Definition, machine, pass_, task

WAIT_ERROR = "An error occurred while executing the state 'A' (entered at the event id #2). The "


def finish_of(machine: LocalMachine) -> Finish:
    assert machine.finish is not None
    return machine.finish


def test_an_execution_is_told_from_its_start_to_its_end() -> None:
    done = run(machine(pass_(), {"Type": "Succeed"}), '{ "kept":  "as sent" }')
    assert done.lines == [
        "1<-0 ExecutionStarted",
        "2<-0 PassStateEntered A",
        "3<-2 PassStateExited A",
        "4<-3 SucceedStateEntered B",
        "5<-4 SucceedStateExited B",
        "6<-5 ExecutionSucceeded",
    ]
    assert {bytes(event.payload or b"") for event in done.seen} == {b'{ "kept":  "as sent" }'}
    assert {event.timestamp for event in done.seen} == {START}


@pytest.mark.parametrize(
    ("state", "output"),
    (
        (pass_(), {"a": {"b": [1, 2]}, "c": 3}),
        (pass_(Result=None), None),
        (pass_(Result={"x": 1}, ResultPath="$.a.r"), {"a": {"b": [1, 2], "r": {"x": 1}}, "c": 3}),
        (pass_(Result=1, ResultPath=None), {"a": {"b": [1, 2]}, "c": 3}),
        (pass_(InputPath="$.a"), {"b": [1, 2]}),
        (pass_(InputPath=None), {}),
        (pass_(OutputPath="$.c"), 3),
        (pass_(OutputPath=None), {}),
        (pass_(InputPath="$.a", Parameters={"first.$": "$.b[0]"}, ResultPath="$.p"),
         {"a": {"b": [1, 2]}, "c": 3, "p": {"first": 1}}),
        (pass_(Result=9, Parameters={"x": 1}), 9),
    ),
)  # fmt: skip
def test_pass_hands_on(state: Definition, output: Json) -> None:
    assert run(machine(state), '{"a": {"b": [1, 2]}, "c": 3}').output == output


def test_assigned_variables_are_seen_by_later_states_and_not_by_their_own() -> None:
    first = pass_(Assign={"x": 1, "all.$": "$"})
    second = pass_(Assign={"x": 2, "before.$": "$x"})
    done = run(machine(first, second, pass_(Parameters={"x.$": "$x", "before.$": "$before", "all.$": "$all"})), "[7]")
    assert done.output == {"x": 2, "before": 1, "all": [7]}


@pytest.mark.parametrize(
    ("number", "leads_to"), ((1, "small"), (50, "large"), (15, "default"))
)  # fmt: skip
def test_choice_takes_the_first_rule_that_matches(number: int, leads_to: str) -> None:
    rules = [
        {"Variable": "$.n", "NumericLessThan": 10, "Next": "small", "Assign": {"by": "rule 1"}},
        {"Variable": "$.n", "NumericLessThan": 5, "Next": "default"},
        {"Variable": "$.n", "NumericGreaterThan": 20, "Next": "large", "Assign": {"by": "rule 3"}},
    ]
    show = pass_(Parameters={"by.$": "$by", "state.$": "$$.State.Name"}, End=True)
    definition = {
        "StartAt": "A",
        "States": {
            "A": {"Type": "Choice", "Choices": rules, "Default": "default", "Assign": {"by": "default"}},
            "small": show,
            "large": show,
            "default": show,
        },
    }
    by = {"small": "rule 1", "large": "rule 3", "default": "default"}[leads_to]
    assert run(definition, f'{{"n": {number}}}').output == {"by": by, "state": leads_to}


def test_a_choice_that_leads_nowhere_fails() -> None:
    choice = {"Type": "Choice", "Choices": [{"Variable": "$.n", "IsNull": True, "Next": "B"}]}
    finish = finish_of(run(machine(choice, pass_()), '{"n": 1}'))
    assert finish.error == "States.NoChoiceMatched"
    assert finish.cause == (
        "An error occurred while executing the state 'A' (entered at the event id #2). "
        "Failed to transition out of the state. The state does not point to a next state."
    )


@pytest.mark.parametrize(
    ("fields", "milliseconds"),
    (
        ({"Seconds": 90}, 90_000),
        ({"Seconds": 0}, 0),
        ({"SecondsPath": "$.s"}, 7000),
        ({"SecondsPath": "$.text"}, 8000),
        ({"Timestamp": "2026-01-02T03:04:06Z"}, 322),
        ({"Timestamp": "2026-01-02T04:04:06+01:00"}, 322),
        ({"Timestamp": "2020-01-01T00:00:00Z"}, 0),
        ({"TimestampPath": "$.t"}, 3_600_000 - 678 + 15_000),
    ),
)
def test_wait_ends_at_its_moment(fields: Definition, milliseconds: int) -> None:
    done = run(machine({"Type": "Wait", **fields}), '{"s": 7, "text": "8", "t": "2026-01-02T04:04:20Z"}')
    assert done.now - START == milliseconds
    assert done.types == [
        "ExecutionStarted", "WaitStateEntered", "WaitStateExited", "ExecutionSucceeded",
    ]  # fmt: skip
    assert len(done.chunks) == (2 if milliseconds else 1)


@pytest.mark.parametrize(
    ("input", "why"),
    (
        ("{}", "does not reference an input value: $.s"),
        ('{"s": -1}', "references a negative value: $.s == -1"),
        ('{"s": -1.5}', "cannot be parsed as a long value: $.s == -1.5"),
        ('{"s": "7.5"}', "cannot be parsed as a long value: $.s == 7.5"),
        ('{"s": true}', "cannot be parsed as a long value: $.s == true"),
        ('{"s": null}', "cannot be parsed as a long value: $.s == null"),
        ('{"s": 100000000}', "references a value above 99999999: $.s == 100000000"),
    ),
)
def test_a_wait_for_no_number_of_seconds_fails(input: str, why: str) -> None:
    finish = finish_of(run(machine({"Type": "Wait", "SecondsPath": "$.s"}), input))
    assert finish.error == "States.Runtime"
    assert finish.cause == f"{WAIT_ERROR}SecondsPath parameter {why}"


@pytest.mark.parametrize("text", ("2026-13-01T00:00:00Z", "tomorrow", "2026-01-02"))
def test_a_wait_for_no_timestamp_fails(text: str) -> None:
    finish = finish_of(run(machine({"Type": "Wait", "TimestampPath": "$.t"}), f'{{"t": "{text}"}}'))
    assert finish.cause == (
        f"{WAIT_ERROR}TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format "
        f"string: $.t == {text}"
    )


def test_wait_may_assign() -> None:
    done = run(
        machine({"Type": "Wait", "Seconds": 1, "Assign": {"x.$": "$.a"}}, pass_(Parameters={"x.$": "$x"})), '{"a": 4}'
    )
    assert done.output == {"x": 4}


@pytest.mark.parametrize(
    ("fields", "error", "cause"),
    (
        ({}, None, None),
        ({"Error": "E"}, "E", None),
        ({"Error": "E", "Cause": "because"}, "E", "because"),
        ({"ErrorPath": "$.e", "CausePath": "States.Format('it was {}', $.c)"}, "Mine", "it was late"),
    ),
)
def test_fail_ends_with_its_error(fields: Definition, error: str | None, cause: str | None) -> None:
    done = run(machine({"Type": "Fail", **fields}), '{"e": "Mine", "c": "late"}')
    assert (finish_of(done).status, finish_of(done).error, finish_of(done).cause) == (Status.FAILED, error, cause)
    expected = {key: value for key, value in (("error", error), ("cause", cause)) if value is not None}
    assert (done.types[-1], done.seen[-1].details) == ("ExecutionFailed", expected)
    assert finish_of(done).state == "A"


def test_long_causes_are_cut_to_what_the_api_may_show() -> None:
    done = run(machine({"Type": "Fail", "CausePath": "$.c", "ErrorPath": "$.c"}), f'{{"c": "{"x" * 40_000}"}}')
    assert (len(finish_of(done).error or ""), len(finish_of(done).cause or "")) == (256, 32_768)
    assert done.seen[-1].details == {"error": finish_of(done).error, "cause": finish_of(done).cause}


def test_an_error_in_reading_data_ends_the_execution_and_says_where() -> None:
    finish = finish_of(run(machine(pass_(), pass_(InputPath="$.absent"))))
    assert finish.error == "States.Runtime"
    assert finish.cause == (
        "An error occurred while executing the state 'B' (entered at the event id #4). "
        "Invalid path '$.absent' : No results for path: $['absent']"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    (
        (
            "$x.a",
            "The JSONPath '$x.a' specified for the field 'v.$' could not be found: the variable '$x' is not defined",
        ),
        (
            "States.Array($x)",
            "The function 'States.Array($x)' had the following error: The variable '$x' is not defined",
        ),
        ("$y.a", "The JSONPath '$y.a' specified for the field 'v.$' could not be found in the input '{}'"),
    ),
)
def test_a_variable_that_nothing_assigned_is_named(text: str, why: str) -> None:
    finish = finish_of(run(machine(pass_(Assign={"y": {}}), pass_(Parameters={"v.$": text}))))
    assert (finish.error, finish.cause) == (
        "States.Runtime", f"An error occurred while executing the state 'B' (entered at the event id #4). {why}",
    )  # fmt: skip


def test_an_execution_may_time_out() -> None:
    waiting = LocalMachine(machine({"Type": "Wait", "Seconds": 60}, TimeoutSeconds=5)).start()
    waiting.now += 9_999  # the timer is late
    waiting.fire()
    assert waiting.lines[-1] == "3<-0 ExecutionTimedOut"
    assert waiting.seen[-1].details == {"error": "States.Timeout"}
    assert finish_of(waiting) == Finish(Status.TIMED_OUT, START + 5000)
    assert waiting.timers == {}


def test_a_stopped_execution_keeps_the_reasons_given() -> None:
    stopped = LocalMachine(machine(task(TimeoutSeconds=9))).start()
    stopped.now += 1
    stopped.apply(events.StopRequested("Enough", "by hand"))
    assert stopped.lines[-1].endswith("<-0 ExecutionAborted")
    assert stopped.seen[-1].details == {"error": "Enough", "cause": "by hand"}
    assert finish_of(stopped) == Finish(Status.ABORTED, START + 1, error="Enough", cause="by hand")
    assert stopped.tasks == {} and stopped.timers == {}
    again = LocalMachine(machine(task())).start()
    again.apply(events.StopRequested())
    assert again.seen[-1].details == {}


def test_what_cannot_be_written_ends_the_execution() -> None:
    poisoned = LocalMachine(machine(task())).start()
    poisoned.apply(events.Poisoned("The text holds U+0000."))
    assert (finish_of(poisoned).error, finish_of(poisoned).cause) == ("States.Runtime", "The text holds U+0000.")


def test_nothing_happens_before_the_start_nor_by_a_second_one() -> None:
    fresh = LocalMachine(machine(pass_()))
    early: tuple[events.Event, ...] = (
        events.Poisoned("x"), events.StopRequested(), events.Continued(), events.Redriven(), events.TimerFired(1),
    )  # fmt: skip
    for event in early:
        assert fresh.apply(event) == []
    fresh.start()
    assert fresh.apply(events.Started(raw({}))) == []


def test_versions_and_aliases_are_told_at_the_start() -> None:
    info = info_of()
    known: Any = {field: getattr(info, field) for field in info.__struct_fields__}
    known.update(version_arn="m:3", alias_arn="m:live")
    done = LocalMachine(machine(pass_()), info=type(info)(**known)).run()
    assert done.seen[0].details == {
        "roleArn": info.role_arn, "stateMachineAliasArn": "m:live", "stateMachineVersionArn": "m:3",
    }  # fmt: skip
