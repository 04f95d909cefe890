from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DiagnosticCode
from tests.unit.asl.definitions import FUNCTION, body, errors, texts

END: dict[str, Any] = {"Type": "Succeed"}


def to(target: str) -> dict[str, Any]:
    return {"Type": "Pass", "Next": target}


def machine(start: str, **states: Any) -> dict[str, Any]:
    return {"StartAt": start, "States": states}


def test_a_machine_whose_states_all_count() -> None:
    task = {
        "Type": "Task",
        "Resource": FUNCTION,
        "Next": "C",
        "Catch": [{"ErrorEquals": ["E"], "Next": "D"}],
    }
    choice = {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsNull": True, "Next": "E"}], "Default": "A"}
    assert texts(machine("A", A=to("B"), B=task, C=choice, D=END, E={"Type": "Fail"})) == []


def test_a_missing_target_as_recorded() -> None:
    assert texts(machine("pass1", pass1=to("pass3"), pass2=END))[0] == (
        "MISSING_TRANSITION_TARGET: Missing 'Next' target: pass3 at /States/pass1/Next"
    )


@pytest.mark.parametrize(
    ("state", "location"),
    (
        (body("Choice", Default="Q", Choices=[{"Variable": "$", "IsNull": True, "Next": "E"}]), "/States/A/Default"),
        (
            body("Choice", Default="E", Choices=[{"Variable": "$", "IsNull": True, "Next": "Q"}]),
            "/States/A/Choices[0]/Next",
        ),
        (
            body(
                "Task",
                End=...,
                Next="E",
                Catch=[{"ErrorEquals": ["E"], "Next": "E"}, {"ErrorEquals": ["F"], "Next": "Q"}],
            ),
            "/States/A/Catch[1]/Next",
        ),
    ),
)
def test_missing_targets_of_every_kind(state: dict[str, Any], location: str) -> None:
    assert texts(machine("A", A=state, E=END)) == [f"MISSING_TRANSITION_TARGET: Missing 'Next' target: Q at {location}"]


def test_a_missing_start() -> None:
    assert texts(machine("Q", A=END)) == ["MISSING_TRANSITION_TARGET: Missing 'Next' target: Q at /StartAt"]


def test_an_unreachable_state_as_recorded() -> None:
    assert texts(machine("pass1", pass1=END, pass2=END)) == [
        'MISSING_TRANSITION_TARGET: State "pass2" is not reachable. at /States/pass2'
    ]


def test_states_that_only_reach_each_other_are_unreachable() -> None:
    found = errors(machine("A", A=END, B=to("C"), C=to("B")))
    assert [finding.location for finding in found] == ["/States/B", "/States/C"]


def test_no_terminal_state_as_recorded() -> None:
    (found,) = errors(machine("A", A=to("B"), B=to("A")))
    assert (found.code, found.message, found.location) == (
        DiagnosticCode.MISSING_END_STATE,
        "Workflow has no terminal state",
        None,
    )
    assert str(found) == "MISSING_END_STATE: Workflow has no terminal state at null"


@pytest.mark.parametrize("last", ({"Type": "Succeed"}, {"Type": "Fail"}, {"Type": "Pass", "End": True}))
def test_terminal_states(last: dict[str, Any]) -> None:
    assert texts(machine("A", A=to("B"), B=last)) == []


@pytest.mark.parametrize("field", ("ItemProcessor", "Iterator"))
def test_nested_graphs_are_checked_by_themselves(field: str) -> None:
    inner = machine("I", I=to("Outer"), J=END)
    definition = machine("M", M={"Type": "Map", field: inner, "Next": "Outer"}, Outer=END)
    assert texts(definition) == [
        f"MISSING_TRANSITION_TARGET: Missing 'Next' target: Outer at /States/M/{field}/States/I/Next",
        f'MISSING_TRANSITION_TARGET: State "J" is not reachable. at /States/M/{field}/States/J',
    ]


def test_no_way_into_a_branch() -> None:
    definition = machine("P", P={"Type": "Parallel", "Branches": [machine("B", B=END)], "Next": "B"})
    assert "MISSING_TRANSITION_TARGET: Missing 'Next' target: B at /States/P/Next" in texts(definition)


def test_a_name_is_used_once_in_a_whole_machine() -> None:
    branches = [machine("B", B=END), machine("B", B=END)]
    (found,) = errors(machine("P", P={"Type": "Parallel", "Branches": branches, "End": True}))
    assert (found.code, found.location) == (
        DiagnosticCode.DUPLICATE_STATE_NAME,
        "/States/P/Branches[1]/States/B",
    )


@pytest.mark.parametrize(("name", "count"), (("x" * 80, 0), ("x" * 81, 1), ("", 1), ("a b/c~d€", 0)))
def test_state_names(name: str, count: int) -> None:
    found = errors({"StartAt": name, "States": {name: END}})
    assert [finding.code for finding in found] == [DiagnosticCode.INVALID_STATE_NAME] * count


def test_a_long_chain_is_walked_without_recursion() -> None:
    states: dict[str, Any] = {str(index): to(str(index + 1)) for index in range(20_000)}
    states["20000"] = END
    assert texts({"StartAt": "0", "States": states}) == []


@pytest.mark.parametrize(
    "states", ({}, [], None, "x", {"A": None}, {"A": []}, {"A": {"Type": "Choice", "Choices": {"a": 1}}})
)
def test_states_that_are_none(states: Any) -> None:
    assert errors({"StartAt": "A", "States": states}) != []


def test_a_near_name_is_suggested() -> None:
    states = {"A": {"Type": "Pass", "Next": "chrage"}, "Charge": {"Type": "Succeed"}}
    found = [one for one in errors({"StartAt": "A", "States": states}) if "Missing" in one.message]
    assert [one.hint for one in found] == [
        "A state can lead only to states beside it, in the same States object. Did you mean 'Charge'?"
    ]


def test_few_names_are_guessed_at() -> None:
    states = {f"State{n}": {"Type": "Pass", "Next": f"Stat{n}"} for n in range(50)}
    found = [one for one in errors({"StartAt": "State0", "States": states}) if "Missing" in one.message]
    assert len(found) == 50
    assert 0 < sum("Did you mean" in str(one.hint) for one in found) <= 20
