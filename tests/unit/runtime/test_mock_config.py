"""Reading MockConfigFile.json: what it says, and every way in which it can be wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.runtime.mock_config import (
    Entry,
    MockConfigError,
    MockedResponse,
    Notes,
    Return,
    Throw,
    check_case,
    parse_mock_config,
    read_response,
)

MOCKABLE = "Only what a Task performs can be mocked, and what the ItemReader of a Map reads."


def config(responses: Any, case: Any = None, **more: Any) -> str:
    machines = {"Orders": {"TestCases": {"Happy": case if case is not None else {}}}}
    return json.dumps({"StateMachines": machines, "MockedResponses": responses, **more})


def findings(text: str) -> list[str]:
    with pytest.raises(MockConfigError) as caught:
        parse_mock_config(text)
    return [f"{one.pointer} {one.message}" for one in caught.value.findings]


def test_what_answers_each_invocation() -> None:
    mocked = {
        "flaky": {
            "0": {"Throw": {"Error": "Busy", "Cause": "later"}},
            "1-2": {"Throw": {"Error": "Busy"}},
            "3": {"Return": [1, None]},
        }
    }
    case = parse_mock_config(config(mocked, {"Charge": "flaky"})).case("Orders", "Happy")
    response = case["Charge"]
    given = [entry.answer if entry is not None else None for entry in map(response.at, range(5))]
    assert given == [Throw("Busy", "later"), Throw("Busy"), Throw("Busy"), Return([1, None]), None]
    assert [entry.invocations for entry in response.entries] == ["0", "1-2", "3"]


def test_the_order_of_the_members_is_free() -> None:
    mocked = {"r": {"1": {"Return": "b"}, "0": {"Return": "a"}}}
    response = parse_mock_config(config(mocked, {"S": "r"})).responses["r"]
    assert [entry.answer for entry in response.entries] == [Return("a"), Return("b")]


@pytest.mark.parametrize(
    ("response", "says"),
    (
        ([], "must be an object of invocations"),
        ({}, "is empty"),
        ({"one": {"Return": 1}}, "'one' names no invocations"),
        ({"01": {"Return": 1}}, "'01' names no invocations"),
        ({"-1": {"Return": 1}}, "'-1' names no invocations"),
        ({"1": {"Return": 1}}, "leave out 0"),
        ({"0": {"Return": 1}, "3-4": {"Return": 1}}, "leave out 1-2"),
        ({"0-2": {"Return": 1}, "2": {"Return": 1}}, "invocation 2 of 'r' is given twice"),
        ({"2-0": {"Return": 1}}, "end before they begin"),
        ({"0": 1}, "must have one of Return and Throw"),
        ({"0": {}}, "must have one of Return and Throw"),
        ({"0": {"Return": 1, "Throw": {"Error": "E"}}}, "must have one of Return and Throw"),
        ({"0": {"Return": 1, "After": 1}}, "An answer has no member 'After'"),
        ({"0": {"Return": 1, "AfterSeconds": 1}}, "An answer has no member 'AfterSeconds'"),
        ({"0": {"Throw": "E"}}, "Throw must be an object"),
        ({"0": {"Throw": {"Cause": "c"}}}, "Throw has no Error"),
        ({"0": {"Throw": {"Error": 5}}}, "Error must be a string"),
        ({"0": {"Throw": {"Error": "E", "Cause": {}}}}, "Cause must be a string"),
        ({"0": {"Throw": {"Error": "States.ALL"}}}, "No error is named States.ALL"),
    ),
)
def test_a_response_that_is_none(response: Any, says: str) -> None:
    assert any(says in one for one in findings(config({"r": response}, {"S": "r"})))


def test_all_faults_are_found_at_once_each_with_its_line() -> None:
    text = """{
  "StateMachines": {
    "Orders": {"TestCases": {"Happy": {"A": "answr", "B": 7}}},
    "Empty": {"Testcases": {}}
  },
  "MockedResponses": {"answer": {"0": {"Return": 1}}}
}"""
    with pytest.raises(MockConfigError) as caught:
        parse_mock_config(text)
    first = str(caught.value).splitlines()[0]
    place = "/StateMachines/Orders/TestCases/Happy/A (line 3, column 40)"
    assert first == f"There is no mocked response 'answr' at {place}. Did you mean 'answer'?"
    assert [(one.message, one.line, one.column) for one in caught.value.findings[1:]] == [
        ("The mock of the state 'B' must be the name of a mocked response", 3, 54),
        ("A state machine has no member 'Testcases'", 4, 15),
        ("The state machine 'Empty' has no TestCases", 4, 5),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    (
        ("", "there is nothing in it"),
        ("[]", "must be a JSON object"),
        ("{}", "The member 'MockedResponses' is missing"),
        ('{"StateMachines": [], "MockedResponses": {}}', "StateMachines must be an object"),
        ('{"StateMachines": {}, "StateMachines": {}, "MockedResponses": {}}', "Duplicate field 'StateMachines'"),
    ),
)
def test_a_file_that_is_none(text: str, says: str) -> None:
    assert any(says in one for one in findings(text))


def test_what_nobody_uses_and_what_nobody_knows_is_a_warning() -> None:
    read = parse_mock_config(config({"r": {"0": {"Return": 1}}}, StateMachine={}))
    assert [(one.pointer, one.warning) for one in read.findings] == [
        ("/StateMachine", True),
        ("/MockedResponses/r", True),
    ]


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_mock_config(b"\xef\xbb\xbf" + config({}).encode()).machines == {"Orders": {"Happy": {}}}


def test_names_that_are_not_there() -> None:
    read = parse_mock_config(config({}))
    with pytest.raises(MockConfigError, match=r"no state machine 'orders' at /StateMachines\. Did you mean 'Orders'"):
        read.case("orders", "Happy")
    with pytest.raises(
        MockConfigError, match=r"no test case 'Sad' at /StateMachines/Orders/TestCases\. There is 'Happy'"
    ):
        read.case("Orders", "Sad")


def test_the_states_of_a_case_are_task_states_nested_ones_too() -> None:
    task = {"Type": "Task", "Resource": "celery:x", "End": True}
    inner = {"StartAt": "I", "States": {"I": task}}
    branch: Any = {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": inner, "End": True}}}
    machine = parse_definition(
        {"StartAt": "P", "States": {"P": {"Type": "Parallel", "Branches": [branch], "End": True}}}
    )
    found = check_case(machine, ["I", "J", "P", "M"], "/here")
    assert [(one.pointer, one.message, one.hint) for one in found] == [
        ("/here/J", "The definition has no Task state 'J'", "There is 'I'."),
        ("/here/P", "'P' is a Parallel state", MOCKABLE),
        ("/here/M", "'M' is a Map state", MOCKABLE),
    ]


@pytest.mark.parametrize(
    ("given", "entries"),
    (
        ({"Return": 1}, [Entry(0, None, Return(1), "/m")]),
        ([{"Return": 1}], [Entry(0, None, Return(1), "/m")]),
        (
            [{"Return": 1}, {"Throw": {"Error": "E"}}],
            [Entry(0, 0, Return(1), "/m/0"), Entry(1, None, Throw("E"), "/m/1")],
        ),
        ({"Return": 1, "AfterSeconds": 1.5}, [Entry(0, None, Return(1, 1500), "/m")]),
        ({"0": {"Return": 1, "AfterSeconds": 2}}, [Entry(0, 0, Return(1, 2000), "/m/0")]),
    ),
)
def test_the_short_form(given: Any, entries: list[Entry]) -> None:
    notes = Notes()
    assert read_response(notes, given, "/m", "S", short=True) == MockedResponse("S", tuple(entries))
    assert notes.findings == []


@pytest.mark.parametrize("given", ([], {}, 5, [{"Return": 1}, {}], {"Return": 1, "AfterSeconds": -1}))
def test_a_short_form_that_is_none(given: Any) -> None:
    notes = Notes()
    read_response(notes, given, "/m", "S", short=True)
    assert len(notes.findings) == 1
