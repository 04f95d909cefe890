"""`stepwell test`: finding tests, running them, telling what came of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from stepwell.cli.testing import discovery
from tests.cli.conftest import Invoke, machine
from tests.conftest import ROOT

Write = Callable[..., Path]

SHOP = machine(
    "Check",
    Check={
        "Type": "Choice",
        "Choices": [
            {"Variable": "$.total", "NumericGreaterThan": 1000, "Next": "Charge"},
            {"Variable": "$.total", "NumericEquals": 0, "Next": "Free"},
        ],
        "Default": "Charge",
    },
    Charge={
        "Type": "Task",
        "Resource": "arn:aws:lambda:us-east-1:000000000000:function:charge",
        "TimeoutSeconds": 60,
        "Retry": [
            {"ErrorEquals": ["Busy"], "IntervalSeconds": 10, "MaxAttempts": 2},
            {"ErrorEquals": ["Rare"]},
        ],
        "Catch": [{"ErrorEquals": ["Declined"], "ResultPath": "$.why", "Next": "Declined"}],
        "End": True,
    },
    Declined={"Type": "Fail", "ErrorPath": "$.why.Error", "Cause": "No money"},
    Free={"Type": "Succeed"},
)
CONFIG = {
    "StateMachines": {"shop": {"TestCases": {"Charged": {"Charge": "charged"}}}},
    "MockedResponses": {"charged": {"0": {"Return": {"StatusCode": 200, "Payload": {"id": 1}}}}},
}


@pytest.fixture
def shop(tmp_path: Path) -> Write:
    """Write the shop's definition and a test file with these cases; the test file."""

    def write(cases: Any = None, *, name: str = "shop.asl.test.json", **members: Any) -> Path:
        (tmp_path / "shop.asl.json").write_text(json.dumps(SHOP, indent=1))
        file = tmp_path / name
        if cases is not None:
            file.write_text(json.dumps({"TestCases": cases, **members}))
        return file

    return write


CHARGED = {"Input": {"total": 5}, "Mocks": {"Charge": {"Return": {"id": 1}}}}
DECLINED = {
    "Input": {"total": 5},
    "Mocks": {"Charge": {"Throw": {"Error": "Declined"}}},
    "Expect": {"Error": "Declined"},
}


def document(invoke: Invoke, *arguments: str | Path, code: int = 0) -> Any:
    ran = invoke("test", "--json", *arguments)
    assert ran.exit_code == code, ran.output
    return json.loads(ran.stdout)


def problems(invoke: Invoke, file: Path) -> list[str]:
    """What is said of the only case of a file, each problem with its details."""
    (case,) = document(invoke, file, code=1)["suites"][0]["cases"]
    return [" | ".join([one["message"], *one["details"]]) for one in case["problems"]]


def test_cases_that_pass(invoke: Invoke, shop: Write) -> None:
    ran = invoke("test", shop({"charged": CHARGED, "declined": DECLINED}))
    assert ran.exit_code == 0, ran.output
    assert "shop.asl.test.json .." in ran.stdout
    assert "2 passed" in ran.stdout


def test_a_failure_shows_what_happened(invoke: Invoke, shop: Write) -> None:
    mocks = {"Charge": [{"Throw": {"Error": "Busy", "Cause": "later"}}, {"Return": {"id": 2}}]}
    case = {"Input": {"total": 5}, "Mocks": mocks, "Expect": {"Output": {"id": 1}}}
    ran = invoke("test", shop({"retried": case, "charged": CHARGED}))
    assert ran.exit_code == 1
    assert "shop.asl.test.json F." in ran.stdout
    assert "shop::retried" in ran.stdout
    assert "/id: expected 1, got 2" in ran.stdout
    assert re.search(r"\+10.000 s ↻ Charge +attempt 2", ran.stdout)
    assert "1 failed, 1 passed" in ran.stdout


def test_verbose_names_each_case(invoke: Invoke, shop: Write) -> None:
    ran = invoke("test", "-v", shop({"declined": DECLINED}))
    assert "✓ declined  FAILED, 3 states, 0 ms" in ran.stdout


@pytest.mark.parametrize(
    ("expect", "says"),
    (
        ({"Status": "FAILED"}, ["The execution SUCCEEDED, expected FAILED"]),
        ({"Error": "E"}, ["The execution SUCCEEDED, expected a failure"]),
        ({"Output": {"id": 1}}, ["The output is something else | /more: unexpected [1,2]"]),
        ({"Output": {"id": True, "more": [1]}}, ["/id: expected true, got 1 | /more: 2 items, expected 1"]),
        ({"OutputContains": {"more": [1, 3], "x": None}}, ["/more/1: expected 3, got 2 | /x: missing, expected null"]),
        ({"Path": ["Check"]}, ["The states entered are others | expected Check | actual   Check → Charge"]),
        ({"Visits": {"Free": 1}}, ["The state 'Free' was entered never, expected once"]),
        ({"Attempts": {"Charge": 3}}, ["The task of 'Charge' was called once, expected 3 times"]),
        ({"Calls": {"Charge": [{"total": 6}]}}, ["(call 0) is something else | /total: expected 6, got 5"]),
        ({"Calls": {"Charge": []}}, ["The task of 'Charge' was called once, expected never"]),
        ({"DurationSeconds": 30}, ["It took 20 s of virtual time, expected 30 s"]),
        ({"DurationSeconds": {"AtMost": 19.5}}, ["It took 20 s of virtual time, expected at most 19.5 s"]),
        ({"DurationSeconds": {"AtLeast": 21}}, ["It took 20 s of virtual time, expected at least 21 s"]),
    ),
)
def test_what_is_not_as_expected(invoke: Invoke, shop: Write, expect: Any, says: list[str]) -> None:
    mocks = {"Charge": {"Return": {"id": 1, "more": [1, 2]}, "AfterSeconds": 20}}
    found = problems(invoke, shop({"c": {"Input": {"total": 5}, "Mocks": mocks, "Expect": expect}}))
    assert len(found) == len(says)
    assert all(said in one for one, said in zip(found, says, strict=True)), found


@pytest.mark.parametrize(
    "expect",
    (
        {"OutputContains": {"id": 1}},
        {"Output": {"id": 1, "more": [1, 2]}},
        {"Status": "SUCCEEDED", "Path": ["Check", "Charge"], "Visits": {"Free": 0, "Check": 1}},
        {"Attempts": {"Charge": 1}, "Calls": {"Charge": [{"total": 5}]}, "DurationSeconds": 20},
        {"DurationSeconds": {"AtLeast": 20, "AtMost": 20}},
    ),
)
def test_what_is_as_expected(invoke: Invoke, shop: Write, expect: Any) -> None:
    mocks = {"Charge": {"Return": {"id": 1, "more": [1, 2]}, "AfterSeconds": 20}}
    document(invoke, shop({"c": {"Input": {"total": 5, "x": 1}, "Mocks": mocks, "Expect": expect}}))


def test_failures_as_expected_and_not(invoke: Invoke, shop: Write) -> None:
    good = {
        "Error": "Declined",
        "Cause": "No money",
        "CauseContains": "mon",
        "FailedState": "Declined",
        "Status": "FAILED",
    }
    document(invoke, shop({"c": {**DECLINED, "Expect": good}}))
    bad = {"Error": "E", "Cause": "C", "CauseContains": "D", "FailedState": "Free"}
    assert problems(invoke, shop({"c": {**DECLINED, "Expect": bad}})) == [
        'The error is another | expected "E" | actual   "Declined"',
        'The cause is another | expected "C" | actual   "No money"',
        'The state it failed in is another | expected "Free" | actual   "Declined"',
        'The cause does not contain what is expected | expected "D" | actual   "No money"',
    ]


def test_without_expectations_a_case_must_succeed(invoke: Invoke, shop: Write) -> None:
    case = {name: value for name, value in DECLINED.items() if name != "Expect"}
    (said,) = problems(invoke, shop({"c": case}))
    assert said.startswith("The execution FAILED in 'Declined', expected SUCCEEDED | error: Declined")
    assert "A case without Expect must succeed" in said


def test_a_task_without_a_mock_and_one_with_too_few(invoke: Invoke, shop: Write) -> None:
    (said,) = problems(invoke, shop({"c": {"Input": {"total": 1}, "Expect": {"Error": "States.Runtime"}}}))
    assert "State 'Charge' calls arn:aws:lambda" in said and '"Mocks": {"Charge": {"Return": ...}}' in said
    mocks = {"Charge": {"0": {"Throw": {"Error": "Busy"}}}}
    (said,) = problems(invoke, shop({"c": {"Input": {"total": 1}, "Mocks": mocks, "Expect": {"Status": "FAILED"}}}))
    assert "'Charge' answers the invocations 0, and this is number 1" in said


def test_the_same_run_gives_the_same_output_at_the_same_time(invoke: Invoke, shop: Write) -> None:
    show = {"Type": "Pass", "Parameters": {"at.$": "$$.Execution.StartTime", "id.$": "States.UUID()"}, "End": True}
    file = shop({"c": {}, "later": {"StartTime": "2030-05-01T12:00:00+02:00"}}, StartTime="2020-02-29T00:00:00Z")
    file.with_name("shop.asl.json").write_text(json.dumps(machine("S", S=show)))
    first, second = (document(invoke, file)["suites"][0]["cases"] for _ in range(2))
    assert first == second
    assert [one["output"]["at"] for one in first] == ["2020-02-29T00:00:00.000Z", "2030-05-01T10:00:00.000Z"]


@pytest.mark.parametrize(
    ("cases", "members", "says"),
    (
        ({}, {}, "There are no test cases"),
        ({"c": {"Inputs": {}}}, {}, "A test case has no member 'Inputs' at /TestCases/c/Inputs (line 1, column 22)"),
        ({"c": {"Expect": {"Outputs": 1}}}, {}, "Did you mean 'Output'?"),
        ({"c": {"Mocks": {"Charg": {"Return": 1}}}}, {}, "no Task state 'Charg' at /TestCases/c/Mocks/Charg"),
        ({"c": {"Mocks": {"Check": {"Return": 1}}}}, {}, "'Check' is a Choice state"),
        ({"c": {"Mocks": {"Charge": "nowhere"}}}, {}, "There is no mocked response 'nowhere'"),
        ({"c": {"Expect": {"Status": "DONE"}}}, {}, "'DONE' is no status"),
        ({"c": {"Expect": {"Path": ["Chek"]}}}, {}, "no state 'Chek' at /TestCases/c/Expect/Path/0"),
        ({"c": {"Expect": {"Visits": {"Check": -1}}}}, {}, "a whole number, 0 or more"),
        ({"c": {"Expect": {"Attempts": {"Check": 1}}}}, {}, "'Check' is no Task state"),
        ({"c": {"Expect": {"Calls": {"Charge": {}}}}}, {}, "Calls must be an array"),
        ({"c": {"Expect": {"DurationSeconds": "1"}}}, {}, "DurationSeconds must be a number"),
        ({"c": {"Expect": {"DurationSeconds": {"Max": 1}}}}, {}, "DurationSeconds has no member 'Max'"),
        ({"c": {"InputFile": "nowhere.json"}}, {}, "The input nowhere.json cannot be used"),
        ({"c": {"StartTime": "soon"}}, {}, "'soon' is no time"),
        ({"c": {}}, {"StateMachine": "other.asl.json"}, "other.asl.json cannot be read"),
        ({"c": {}}, {"MockConfigFile": "none.json"}, "none.json: The file cannot be read"),
        ([], {}, "TestCases must be an object"),
    ),
)
def test_files_that_cannot_be_used(invoke: Invoke, shop: Write, cases: Any, members: Any, says: str) -> None:
    file = shop(cases, **members)
    ran = invoke("test", file)
    assert ran.exit_code == 2
    assert says in ran.stdout
    assert "1 unusable" in ran.stdout
    assert says in document(invoke, file, code=2)["suites"][0]["error"]


def test_a_definition_that_is_invalid(invoke: Invoke, shop: Write) -> None:
    file = shop({"c": {}})
    file.with_name("shop.asl.json").write_text('{"StartAt": "X", "States": {}}')
    ran = invoke("test", file)
    assert (ran.exit_code, "its definition is invalid" in ran.stdout) == (2, True)


def test_tests_in_yaml(invoke: Invoke, shop: Write) -> None:
    file = shop(name="shop.asl.test.yaml")
    text = """
    TestCases:
      charged:
        Input: {total: 5}
        Mocks:
          Charge: {0: {Throw: {Error: Busy}}, 1: {Return: {id: 1}}}
        Expect: {Output: {id: 1}, DurationSeconds: 10}
    """
    file.write_text(text)
    assert document(invoke, file)["passed"] == 1
    file.write_text("TestCases: [")
    assert "YAML cannot be read: while parsing" in document(invoke, file, code=2)["suites"][0]["error"]
    file.write_text("TestCases: {c: {Inputs: 1}}")
    assert (
        "no member 'Inputs' at /TestCases/c/Inputs (line 1, column 17)"
        in document(invoke, file, code=2)["suites"][0]["error"]
    )


def test_a_mock_config_file_has_cases_too(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    shop()
    config = tmp_path / "mocks.json"
    config.write_text(json.dumps(CONFIG))
    definition = tmp_path / "shop.asl.json"
    ran = invoke("test", definition, "--mock-config", config)
    assert (ran.exit_code, "States.Runtime" in ran.stdout) == (1, True)  # a MockConfigFile has no inputs
    found = document(invoke, definition, "--mock-config", config, "--input", '{"total": 5}')
    assert found["suites"][0]["cases"][0]["output"] == {"id": 1}
    beside = config.rename(tmp_path / "MockConfigFile.json")
    file = shop({"Charged": {"Input": {"total": 5}, "Expect": {"Output": {"id": 1}}}})
    for place in (file, definition, tmp_path):
        assert [suite["file"] for suite in document(invoke, place)["suites"]] == [str(file)]
    file.unlink()
    for place in (definition, tmp_path, beside):
        assert [suite["file"] for suite in document(invoke, place, code=1)["suites"]] == [str(beside)]


def test_cases_of_the_mock_config_that_the_test_file_does_not_name_run_as_well(
    invoke: Invoke, shop: Write, tmp_path: Path
) -> None:
    (tmp_path / "MockConfigFile.json").write_text(json.dumps(CONFIG))
    file = shop({"mine": CHARGED})
    cases = document(invoke, file, code=1)["suites"][0]["cases"]
    assert [(one["name"], one["passed"]) for one in cases] == [("mine", True), ("Charged", False)]


def test_a_broken_mock_config_file(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    shop()
    (tmp_path / "MockConfigFile.json").write_text("{}")
    assert "'MockedResponses' is missing" in document(invoke, tmp_path, code=2)["suites"][0]["error"]


def test_folders_globs_and_what_is_left_out(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    file = shop({"c": CHARGED})
    for folder in ("node_modules", ".hidden", "deep/er"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("shop.asl.json", "shop.asl.test.json"):
            (tmp_path / folder / name).write_bytes((tmp_path / name).read_bytes())
    deep = str(tmp_path / "deep" / "er" / "shop.asl.test.json")
    assert [suite["file"] for suite in document(invoke, tmp_path)["suites"]] == [str(file), deep]
    assert [suite["file"] for suite in document(invoke, f"{tmp_path}/d*/**/*.test.json")["suites"]] == [deep]
    assert len(document(invoke, file, tmp_path / "shop.asl.json")["suites"]) == 1


def test_where_there_are_no_tests(invoke: Invoke, tmp_path: Path) -> None:
    for place, said in (
        (tmp_path, "there are no tests"),
        (tmp_path / "nowhere.asl.json", "leads to no file"),
        (f"{tmp_path}/*.json", "leads to no file"),
    ):
        ran = invoke("test", place)
        assert ran.exit_code == 2
        assert said in ran.stderr


def test_only_some_cases(invoke: Invoke, shop: Write) -> None:
    file = shop({"charged": CHARGED, "declined": DECLINED})
    for glob in ("char*", "shop::charged"):
        assert [one["name"] for one in document(invoke, file, "-k", glob)["suites"][0]["cases"]] == ["charged"]
    ran = invoke("test", file, "--case", "nothing*")
    assert (ran.exit_code, "No case is named nothing*" in ran.stderr) == (2, True)


def test_mocks_that_nobody_needs_are_warned_of(invoke: Invoke, shop: Write) -> None:
    responses = {"never": {"Return": 1}, "some": {"0": {"Return": 1}, "1": {"Return": 2}}}
    free = {"Input": {"total": 0}, "Mocks": {"Charge": {"Return": 1}}}
    one = {"Input": {"total": 1}, "Mocks": {"Charge": "some"}}
    file = shop({"free": free, "one": one}, MockedResponses=responses)
    ran = invoke("test", file)
    assert ran.exit_code == 0
    assert "No test case uses the response 'never' at /MockedResponses/never" in ran.stdout
    assert "shop::free: The mock of 'Charge' was never asked for" in ran.stdout
    assert "No case came to the answer of 'some' to the invocation 1" in ran.stdout
    assert "2 passed, 3 warnings" in ran.stdout
    assert invoke("test", file, "--strict").exit_code == 1


def test_functions_answer_what_has_no_mock(invoke: Invoke, shop: Write, functions: str) -> None:
    definition = machine("T", T={"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:0:function:charge", "End": True})
    file = shop({"c": {"Input": {"amount": 3}, "Expect": {"Output": {"charged": 3, "by": "charge"}}}})
    file.with_name("shop.asl.json").write_text(json.dumps(definition).replace(":0:", ":000000000000:"))
    document(invoke, file, "-f", functions)


# -- coverage and reports ------------------------------------------------------------------------------------------------


def test_coverage_counts_what_the_machine_really_did(invoke: Invoke, shop: Write) -> None:
    retried = {"Input": {"total": 5}, "Mocks": {"Charge": [{"Throw": {"Error": "Busy"}}, {"Return": 1}]}}
    file = shop({"retried": retried, "free": {"Input": {"total": 0}}})
    (found,) = document(invoke, file)["coverage"]["machines"]
    assert found["name"] == "shop"
    assert {group: found[group] for group in ("states", "choices", "retriers", "catchers")} == {
        "states": {"covered": 3, "total": 4},
        "choices": {"covered": 2, "total": 3},
        "retriers": {"covered": 1, "total": 2},
        "catchers": {"covered": 0, "total": 1},
    }
    # the first rule leads where Default leads, and is told apart
    assert [one["pointer"] for one in found["missing"]] == [
        "/States/Check/Choices/0",
        "/States/Charge/Retry/1",
        "/States/Charge/Catch/0",
        "/States/Declined",
    ]
    assert found["percent"] == 60.0


def test_coverage_of_nested_states_and_of_two_test_files(invoke: Invoke, shop: Write) -> None:
    inner = machine("I", I={"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 1, "Next": "J"}], "Default": "K"},
                    J={"Type": "Succeed"}, K={"Type": "Succeed"})  # fmt: skip
    branch = machine("M", M={"Type": "Map", "ItemProcessor": inner, "End": True})
    file = shop({"one": {"Input": [1]}})
    other = file.with_name("more.asl.test.json")
    other.write_text(json.dumps({"StateMachine": "shop.asl.json", "TestCases": {"two": {"Input": [2]}}}))
    file.with_name("shop.asl.json").write_text(
        json.dumps(machine("P", P={"Type": "Parallel", "Branches": [branch], "End": True}))
    )
    (missing,) = [one["missing"] for one in document(invoke, file)["coverage"]["machines"]]
    assert [one["pointer"].removeprefix("/States/P/Branches/0/States/M/ItemProcessor") for one in missing] == [
        "/States/I/Default",
        "/States/K",
    ]
    both = document(invoke, file, other)
    assert both["coverage"]["percent"] == 100.0
    assert len(both["coverage"]["machines"]) == 1


def test_children_of_a_distributed_map_count(invoke: Invoke, shop: Write) -> None:
    states = {"I": {"Type": "Task", "Resource": "celery:x", "Retry": [{"ErrorEquals": ["E"]}], "End": True}}
    processor = {
        "StartAt": "I",
        "States": states,
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
    }
    mocks = {"I": {"0": {"Throw": {"Error": "E"}}, "1-2": {"Return": "x"}}}
    expect = {"Output": ["x", "x"], "Path": ["M"], "Visits": {"I": 2}, "Attempts": {"I": 3}, "Calls": {"I": [1, 1, 2]}}
    file = shop({"c": {"Input": [1, 2], "Mocks": mocks, "Expect": expect}})
    definition = machine("M", M={"Type": "Map", "ItemProcessor": processor, "End": True})
    file.with_name("shop.asl.json").write_text(json.dumps(definition))
    assert document(invoke, file)["coverage"]["percent"] == 100.0


def test_too_little_coverage_fails(invoke: Invoke, shop: Write) -> None:
    file = shop({"free": {"Input": {"total": 0}}})
    ran = invoke("test", file, "--fail-under", "30")
    assert (ran.exit_code, "shop" in ran.stdout, "30 %" in ran.stdout) == (0, True, True)
    ran = invoke("test", file, "--fail-under", "31")
    assert (ran.exit_code, "Only 30.0 % is covered, wanted are 31 %" in ran.stdout) == (1, True)
    assert "not covered" not in invoke("test", file, "--no-coverage").stdout


def test_junit_xml(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    wrong = {**CHARGED, "Expect": {"Output": {"id": '<&"\u0000\u001b>'}}}
    file = shop({"charged": CHARGED, '<wrong> & "so"': wrong})
    broken = file.with_name("broken.asl.test.json")
    broken.write_text("{")
    report = tmp_path / "junit.xml"
    assert invoke("test", file, broken, "--junit", report).exit_code == 2
    root = ET.fromstring(report.read_text())
    assert (root.tag, root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == (
        "testsuites",
        "3",
        "1",
        "1",
    )
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert cases["charged"].find("failure") is None
    failure = cases['<wrong> & "so"'].find("failure")
    assert failure is not None and failure.text is not None
    assert failure.attrib["message"] == "The output is something else"
    assert "/id: expected" in failure.text
    assert cases["(reading the tests)"].find("error") is not None


def test_the_html_report_is_one_file_and_escapes_what_it_shows(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    states: dict[str, Any] = {
        "Go": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.x", "StringEquals": evil, "Next": evil}],
            "Default": "Go on",
        },
        evil: {"Type": "Task", "Resource": "celery:x", "Retry": [{"ErrorEquals": [evil]}], "Next": "Go"},
        "Go on": {"Type": "Task", "Resource": "celery:y", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Go on"}], "End": True},
    }  # fmt: skip
    file = shop({evil: {"Mocks": {"Go on": {"Throw": {"Error": evil}}}, "Input": {"x": "y"}}})
    file.with_name("shop.asl.json").write_text(json.dumps(machine("Go", **states)))
    mocks = [{"Throw": {"Error": evil}}, {"Return": evil}]
    case = {"Mocks": {"Go on": mocks}, "Input": {"x": "y"}, "Expect": {"Output": evil + "!"}}
    file.write_text(json.dumps({"TestCases": {evil: case}, "Name": evil}))
    report = tmp_path / "report.html"
    assert invoke("test", file, "--html", report).exit_code == 1
    text = report.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text)
    assert text.count("<svg") == 1
    drawn = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])

    def classes(*wanted: str) -> int:
        groups = (one.attrib.get("class", "").split() for one in drawn.iter("{http://www.w3.org/2000/svg}g"))
        return sum(set(wanted) <= set(group) for group in groups)

    assert classes("state", "hit") == 2 and classes("state", "miss") == 1
    assert classes("edge", "hit") == 2 and classes("edge", "miss") == 1


def test_what_names_hold_does_no_harm_to_a_terminal(invoke: Invoke, shop: Write) -> None:
    case = {**DECLINED, "Mocks": {"Charge": {"Throw": {"Error": "\x1b[2J", "Cause": "\x1b]0;x\x07"}}}}
    ran = invoke("test", "-v", shop({"\x1b[31mred": case}))
    assert ran.exit_code == 1
    assert "\x1b" not in ran.stdout and "\x07" not in ran.stdout


def test_the_first_failure_can_be_the_end(invoke: Invoke, shop: Write) -> None:
    wrong = {**CHARGED, "Expect": {"Output": 7}}
    found = document(invoke, shop({"a": CHARGED, "b": wrong, "c": wrong}), "-x", code=1)
    assert [one["name"] for one in found["suites"][0]["cases"]] == ["a", "b"]


def test_definitions_in_yaml(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    text = "StartAt: T\nStates:\n  T:\n    Type: Task\n    Resource: celery:x\n    End: true\n"
    (tmp_path / "pick.asl.yaml").write_text(text)
    cases = "TestCases: {c: {Mocks: {T: {Return: 1}}, Expect: {Output: 1}}}"
    (tmp_path / "pick.asl.test.yaml").write_text(cases)
    report = tmp_path / "report.html"
    assert document(invoke, tmp_path, "--html", report)["coverage"]["percent"] == 100.0
    assert '<tr class="hit"><td class="number">3</td><td class="count">1×</td>' in report.read_text()
    assert document(invoke, tmp_path / "pick.asl.yaml")["passed"] == 1
    (tmp_path / "pick.asl.test.yaml").unlink()
    config = {
        "StateMachines": {"pick": {"TestCases": {"c": {"T": "r"}}}},
        "MockedResponses": {"r": {"0": {"Return": 1}}},
    }
    (tmp_path / "MockConfigFile.json").write_text(json.dumps(config))
    assert document(invoke, tmp_path)["passed"] == 1
    (tmp_path / "pick.asl.yaml").write_text(text.replace("StartAt: T", "StartAt: U"))
    assert "definition is invalid" in document(invoke, tmp_path, code=2)["suites"][0]["error"]


def test_a_report_that_cannot_be_written(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    ran = invoke("test", shop({"c": CHARGED}), "--html", tmp_path / "nowhere" / "report.html")
    assert (ran.exit_code, "cannot be written" in ran.stderr) == (2, True)


def test_processes_give_what_one_gives(invoke: Invoke, shop: Write, tmp_path: Path) -> None:
    cases = {f"c{number}": {**CHARGED, "Expect": {"Output": {"id": number % 2}}} for number in range(5)}
    file = shop(cases)
    (tmp_path / "x.asl.test.json").write_text("{")
    alone, together = (document(invoke, tmp_path, "--jobs", jobs, code=2) for jobs in ("1", "2"))
    assert alone == together
    assert (alone["passed"], alone["failed"], alone["unusable"]) == (2, 3, 1)
    assert [one["name"] for suite in alone["suites"] if suite["file"] == str(file) for one in suite["cases"]] == list(
        cases
    )


def test_few_cases_are_worth_no_process() -> None:
    assert discovery.CASES_WORTH_PROCESSES > 100


def test_the_examples_pass_their_tests(invoke: Invoke) -> None:
    found = document(invoke, ROOT / "asl_examples", "--strict", "--fail-under", "100")
    assert found["passed"] >= 6
