"""The lists of the machine are complete: state types, history events, error names."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_args

import pytest

from stepwell.engine.asl.resources import Resource, TargetKind
from stepwell.engine.asl.states import StateType
from stepwell.engine.machine import events, history
from stepwell.engine.machine.history import ABORTED, ENTERED, EVENT_SHAPES, EXITED, TERMINAL, EventShape
from stepwell.engine.machine.states.task import Family, family_of
from stepwell.engine.machine.transition import BODIES, CHILD_ENDED
from stepwell.engine.states_errors import ErrorName
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def api() -> Any:
    session = pytest.importorskip("botocore.session")
    return session.get_session().get_service_model("stepfunctions")


def test_every_state_type_has_a_body() -> None:
    assert set(BODIES) == set(StateType)
    assert set(CHILD_ENDED) == {StateType.PARALLEL, StateType.MAP}


def test_every_event_type_of_the_api_has_a_shape(api: Any) -> None:
    assert set(EVENT_SHAPES) == set(api.shape_for("HistoryEventType").enum)


@pytest.mark.parametrize("type_", sorted(EVENT_SHAPES))
def test_a_shape_names_members_the_api_knows(api: Any, type_: str) -> None:
    shape: EventShape = EVENT_SHAPES[type_]
    event = api.shape_for("HistoryEvent").members
    own = type_[0].lower() + type_[1:] + "EventDetails"
    if shape.details is None:
        # The API has a member for some of these, and AWS never fills it.
        assert shape.payload is None and shape.companion is None
        return
    assert shape.details in event
    assert shape.details == own or shape.details in ("stateEnteredEventDetails", "stateExitedEventDetails")
    members = event[shape.details].members
    data = {name for name in members if name in ("input", "output", "parameters")}
    assert data == ({shape.payload} if shape.payload else set())
    companions = {name for name in members if name in ("inputDetails", "outputDetails")}
    assert companions == ({shape.companion} if shape.companion else set())


def test_the_event_types_of_states_are_those_of_the_list() -> None:
    named = {*ENTERED.values(), *EXITED.values(), *ABORTED.values()}
    ours = {type_ for type_ in EVENT_SHAPES if type_.endswith(("StateEntered", "StateExited", "StateAborted"))}
    assert named == ours
    assert {f"Execution{end}" for end in ("Succeeded", "Failed", "TimedOut", "Aborted")} == TERMINAL
    assert set(EVENT_SHAPES) > TERMINAL
    assert history.HistoryEvent.__struct_config__.frozen


def test_every_resource_kind_has_a_family_of_events() -> None:
    families = {kind: family_of(Resource("r", kind)) for kind in TargetKind}
    assert {kind for kind, family in families.items() if family is Family.ACTIVITY} == {TargetKind.ACTIVITY}
    assert family_of(Resource("r", TargetKind.FUNCTION, plain_function=True)) is Family.FUNCTION
    for family in Family:
        for suffix in ("Scheduled", "Started", "Succeeded", "Failed", "TimedOut"):
            assert f"{family}{suffix}" in EVENT_SHAPES


def test_tags_of_events_are_unlike() -> None:
    tags = [member.__struct_config__.tag for member in get_args(events.Event)]
    assert len(tags) == len(set(tags)) == 12


def test_error_names_of_the_language_are_written_once() -> None:
    known = {name.value for name in ErrorName}
    for file in Path(ROOT, "engine", "machine").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in known, f"{file.name}:{node.lineno} spells {node.value!r}"
