"""One state by itself: its outcome, what its data flow shows, and that both are those of an execution."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stepwell.engine.asl.parse import parse_state
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.machine.single_state import Ending, Given, Mocked, Outcome, StateTest, TooManyFailuresError
from tests.support.local_machine import START, LocalMachine, info_of, succeeds
from tests.unit.machine.build import Definition, inner, map_, parallel, task

ARROWS: Definition = {
    "InputPath": "$.order",
    "Parameters": {"n.$": "$.n"},
    "ResultSelector": {"r.$": "$.result"},
    "ResultPath": "$.out",
    "OutputPath": "$.out",
}


def prepared(state: Definition, input: Json = None, **given: Any) -> StateTest:
    if "Next" not in state and state["Type"] not in ("Succeed", "Fail", "Choice"):
        state = {"End": True, **state}
    start = Given(input=Document.of({} if input is None else input), **given)
    return StateTest(parse_state(state, "S"), start, info_of(), now=START, entropy=Entropy(1))


def outcome_of(state: Definition, input: Json = None, mock: Mocked | None = None, **given: Any) -> Outcome:
    test = prepared(state, input, **given)
    test.begin(mock)
    return test.outcome()


def result(value: Json) -> Mocked:
    return Mocked(Document.of(value))


def error(name: str, cause: str | None = None) -> Mocked:
    return Mocked(None, name, cause)


def values(outcome: Outcome) -> dict[str, Json]:
    return {arrow.value: document.value for arrow, document in outcome.values.items()}


def test_every_arrow_of_a_task_is_shown() -> None:
    outcome = outcome_of(task(**ARROWS), {"order": {"n": 1, "m": 2}}, result({"result": 5, "more": 6}))
    assert outcome.status is Ending.SUCCEEDED
    assert outcome.output is not None and outcome.output.value == {"r": 5}
    assert values(outcome) == {
        "input": {"order": {"n": 1, "m": 2}},
        "afterInputPath": {"n": 1, "m": 2},
        "afterParameters": {"n": 1},
        "result": {"result": 5, "more": 6},
        "afterResultSelector": {"r": 5},
        "afterResultPath": {"order": {"n": 1, "m": 2}, "out": {"r": 5}},
    }


def test_a_state_without_fields_shows_the_same_arrows() -> None:
    outcome = outcome_of(task(), {"a": 1}, result([2]))
    assert values(outcome) == {
        "input": {"a": 1},
        "afterInputPath": {"a": 1},
        "afterParameters": {"a": 1},
        "result": [2],
        "afterResultSelector": [2],
        "afterResultPath": [2],
    }


@pytest.mark.parametrize(
    ("field", "shown"),
    (
        ({"InputPath": "$.missing"}, ["input"]),
        ({"Parameters": {"n.$": "$.missing"}}, ["input", "afterInputPath"]),
        ({"ResultSelector": {"n.$": "$.missing"}}, ["input", "afterInputPath", "afterParameters", "result"]),
    ),
)
def test_the_flow_is_shown_as_far_as_it_came(field: Definition, shown: list[str]) -> None:
    outcome = outcome_of(task(**field), {"a": 1}, result({"b": 2}))
    assert (outcome.status, outcome.error) == (Ending.FAILED, "States.Runtime")
    assert list(values(outcome)) == shown
    assert outcome.cause is not None and "An error occurred while executing" not in outcome.cause


def test_a_jsonata_task_shows_arguments_and_result() -> None:
    state = task(QueryLanguage="JSONata", Arguments={"n": "{% $states.input.n + $v %}"}, Output="{% $states.result %}")
    outcome = outcome_of(state, {"n": 1}, result("r"), variables={"v": 2})
    assert values(outcome) == {"input": {"n": 1}, "afterArguments": {"n": 3}, "result": "r"}
    assert outcome.variables == {"v": 2}


def test_variables_are_those_after_the_state() -> None:
    state = {"Type": "Pass", "Result": {"a": 5}, "Assign": {"old": 2, "new.$": "$.a"}}
    assert outcome_of(state, variables={"old": 1, "other": 3}).variables == {"old": 2, "other": 3, "new": 5}


def test_the_outcome_is_that_of_an_execution() -> None:
    for flow in ({}, ARROWS, {"Parameters": {"id.$": "States.UUID()"}}, {"OutputPath": None}, {"ResultPath": None}):
        state = task(**flow)
        input, answer = {"order": {"n": 1}}, {"result": {"x": [1]}}
        machine = {"StartAt": "S", "States": {"S": {**state, "End": True}}}
        execution = LocalMachine(machine, write(input).decode(), world=succeeds(answer)).run()
        outcome = outcome_of(state, input, result(answer))
        assert outcome.output is not None and outcome.output.value == execution.output


RETRY = [
    {"ErrorEquals": ["Other"]},
    {"ErrorEquals": ["Busy"], "IntervalSeconds": 3, "MaxAttempts": 3, "BackoffRate": 2},
]
CATCH = [{"ErrorEquals": ["Other"], "Next": "O"}, {"ErrorEquals": ["States.ALL"], "ResultPath": "$.e", "Next": "H"}]


@pytest.mark.parametrize(("retries", "seconds"), ((0, 3), (1, 6), (2, 12)))
def test_an_error_is_retried_after_the_delay_of_that_attempt(retries: int, seconds: int) -> None:
    outcome = outcome_of(task(Retry=RETRY, Catch=CATCH), mock=error("Busy", "later"), retries=retries)
    assert (outcome.status, outcome.error, outcome.cause) == (Ending.RETRIABLE, "Busy", "later")
    assert (outcome.retry_index, outcome.backoff_seconds, outcome.catch_index) == (1, seconds, None)
    assert outcome.output is None and outcome.next is None


def test_an_error_is_caught_when_its_retries_are_used_up() -> None:
    outcome = outcome_of(task(Retry=RETRY, Catch=CATCH), {"a": 1}, error("Busy", "later"), retries=3)
    assert (outcome.status, outcome.next) == (Ending.CAUGHT_ERROR, "H")
    assert (outcome.retry_index, outcome.backoff_seconds, outcome.catch_index) == (1, None, 1)
    assert outcome.output is not None
    assert outcome.output.value == {"a": 1, "e": {"Error": "Busy", "Cause": "later"}}


def test_an_error_that_nothing_matches_fails_the_state() -> None:
    outcome = outcome_of(task(Retry=RETRY), mock=error("Broken"), retries=1)
    assert (outcome.status, outcome.error, outcome.retry_index) == (Ending.FAILED, "Broken", None)


def test_a_catcher_that_cannot_be_evaluated_fails_the_state() -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Assign": {"v.$": "$.missing"}, "Next": "H"}]
    outcome = outcome_of(task(Catch=catch), mock=error("Busy"))
    assert (outcome.status, outcome.error, outcome.next) == (Ending.FAILED, "States.Runtime", None)


def test_what_the_context_object_holds() -> None:
    state = task(Parameters={"context.$": "$$"})
    context: Any = values(outcome_of(state, {"a": 1}, result(1), retries=2))["afterParameters"]
    assert context["context"]["State"] == {"Name": "S", "EnteredTime": "2026-01-02T03:04:05.678Z", "RetryCount": 2}
    assert "RedriveCount" not in context["context"]["Execution"]
    given = values(outcome_of(state, {"a": 1}, result(1), context={"mine": 2}, has_context=True))
    assert given["afterParameters"] == {"context": {"mine": 2}}


ITEM = {"Type": "Pass"}


def test_a_map_shows_what_each_iteration_gets() -> None:
    state = map_(ITEM, ItemSelector={"v.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index"}, MaxConcurrency=2)
    outcome = outcome_of(state, {"items": ["a", "b"]}, result([1, 2]))
    assert outcome.output is not None and outcome.output.value == [1, 2]
    assert values(outcome)["afterItemsPath"] == ["a", "b"]
    assert values(outcome)["afterItemSelector"] == [{"v": "a", "i": 0}, {"v": "b", "i": 1}]
    assert (outcome.max_concurrency, outcome.tolerated_count, outcome.tolerated_percentage) == (2, None, None)


@pytest.mark.parametrize(
    ("tolerated", "failed", "status"),
    (
        ({}, 4, Ending.SUCCEEDED),
        ({"ToleratedFailureCount": 1}, 1, Ending.SUCCEEDED),
        ({"ToleratedFailureCount": 1}, 2, Ending.FAILED),
        ({"ToleratedFailurePercentage": 50}, 2, Ending.SUCCEEDED),
        ({"ToleratedFailurePercentage": 50}, 3, Ending.FAILED),
        ({"ToleratedFailurePercentage": 50, "ToleratedFailureCount": 1}, 2, Ending.FAILED),
    ),
)
def test_a_map_fails_when_more_iterations_fail_than_it_tolerates(
    tolerated: Definition, failed: int, status: Ending
) -> None:
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **inner("I", ITEM)}
    state = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, **tolerated}
    outcome = outcome_of(state, {"items": [1, 2, 3, 4]}, result([0, 0, 0, 0]), failed_iterations=failed)
    assert outcome.status is status
    if status is Ending.FAILED:
        assert outcome.error == "States.ExceedToleratedFailureThreshold"
        assert outcome.cause == "The specified tolerated failure threshold was exceeded"


def distributed(**fields: Any) -> Definition:
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **inner("I", ITEM)}
    return {"Type": "Map", "ItemProcessor": processor, **fields}


def test_batches_are_made_of_selected_items() -> None:
    state = distributed(
        ItemsPath="$.items",
        ItemSelector={"v.$": "$$.Map.Item.Value"},
        ItemBatcher={"MaxItemsPerBatch": 2, "BatchInput": {"all.$": "$.all"}},
        MaxConcurrencyPath="$.most",
        ResultPath="$.r",
    )
    input: Definition = {"items": [1, 2, 3], "all": True, "most": 7}
    outcome = outcome_of(state, input, result(["x", "y"]))
    assert outcome.output is not None and outcome.output.value == {**input, "r": ["x", "y"]}
    shown = values(outcome)
    assert shown["afterItemsPath"] == [1, 2, 3]
    assert shown["afterItemSelector"] == [{"v": 1}, {"v": 2}, {"v": 3}]
    assert shown["afterItemBatcher"] == [
        {"BatchInput": {"all": True}, "Items": [{"v": 1}, {"v": 2}]},
        {"BatchInput": {"all": True}, "Items": [{"v": 3}]},
    ]
    assert outcome.max_concurrency == 7
    prepared(state, input, failed_iterations=2).begin(result([]))
    with pytest.raises(TooManyFailuresError):
        prepared(state, input, failed_iterations=3).begin(result([]))


def test_the_members_of_an_object_are_items_in_jsonata() -> None:
    selector = {"k": "{% $states.context.Map.Item.Key %}", "v": "{% $states.context.Map.Item.Value %}"}
    state = distributed(QueryLanguage="JSONata", Items="{% $states.input %}", ItemSelector=selector)
    shown = values(outcome_of(state, {"a": 1, "b": 2}, result([])))
    assert shown["afterItemSelector"] == [{"k": "a", "v": 1}, {"k": "b", "v": 2}]


def test_the_error_of_a_distributed_map_is_retried_and_caught() -> None:
    retried = outcome_of(distributed(Retry=RETRY), [1], error("Busy"))
    assert (retried.status, retried.backoff_seconds) == (Ending.RETRIABLE, 3)
    caught = outcome_of(distributed(Retry=RETRY, Catch=CATCH), {"items": 1}, error("Busy"))
    assert (caught.status, caught.error) == (Ending.FAILED, "States.Runtime"), "there is no array to map over"


def test_more_iterations_cannot_fail_than_there_are() -> None:
    test = prepared(map_(ITEM), {"items": [1]}, failed_iterations=2)
    with pytest.raises(TooManyFailuresError):
        test.begin(result([1]))


def test_a_parallel_puts_the_mocked_results_where_it_says() -> None:
    outcome = outcome_of(parallel(ITEM, ITEM, ResultPath="$.r"), {"a": 1}, result([1, 2]))
    assert outcome.output is not None and outcome.output.value == {"a": 1, "r": [1, 2]}
    assert list(values(outcome)) == ["input", "afterResultSelector", "afterResultPath"]


def test_a_task_without_a_mock_waits_for_its_outcome() -> None:
    test = prepared(task(Parameters={"a": 1}, Catch=CATCH))
    test.begin()
    open_task = test.open_task
    assert open_task is not None and open_task.payload.value == {"a": 1}
    test.finish_task(TaskFailed(open_task.task, "Broken", "so"))
    outcome = test.outcome()
    assert (outcome.status, outcome.error, outcome.catch_index) == (Ending.CAUGHT_ERROR, "Broken", 1)
    again = prepared(task())
    again.begin()
    assert again.open_task is not None
    again.finish_task(TaskSucceeded(again.open_task.task, msgspec.Raw(b"[1]")))
    assert again.outcome().status is Ending.SUCCEEDED and again.open_task is None


def test_a_task_that_takes_too_long_times_out() -> None:
    test = prepared(task(Retry=[{"ErrorEquals": ["States.Timeout"]}]))
    test.begin()
    test.time_out()
    assert (test.outcome().status, test.outcome().error) == (Ending.RETRIABLE, "States.Timeout")


def test_a_wait_tells_how_long_and_hands_its_input_on() -> None:
    test = prepared({"Type": "Wait", "Seconds": 7, "Next": "N"}, {"a": 1})
    test.begin()
    assert test.waits_ms == 7000
    test.finish_wait()
    outcome = test.outcome()
    assert (outcome.status, outcome.next) == (Ending.SUCCEEDED, "N")
    assert outcome.output is not None and outcome.output.value == {"a": 1}
    late = prepared({"Type": "Wait", "Seconds": 700, "Next": "N"})
    late.begin()
    late.time_out()
    assert (late.outcome().status, late.outcome().error) == (Ending.FAILED, "States.Timeout")


@pytest.mark.parametrize(
    ("input", "status", "next"),
    (({"n": 1}, Ending.SUCCEEDED, "One"), ({"n": 2}, Ending.SUCCEEDED, "Two"), ({}, Ending.FAILED, None)),
)
def test_a_choice_tells_where_it_leads(input: Json, status: Ending, next: str | None) -> None:
    rules = [{"Variable": "$.n", "NumericEquals": number, "Next": name} for number, name in ((1, "One"), (2, "Two"))]
    outcome = outcome_of({"Type": "Choice", "Choices": rules}, input)
    assert (outcome.status, outcome.next) == (status, next)


def test_a_fail_state_fails_with_its_error() -> None:
    outcome = outcome_of({"Type": "Fail", "ErrorPath": "$.e", "Cause": "because"}, {"e": "Mine"})
    assert (outcome.status, outcome.error, outcome.cause) == (Ending.FAILED, "Mine", "because")
