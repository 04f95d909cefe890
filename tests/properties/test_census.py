"""That the random machines and what happens to them reach everything they are meant to reach."""

from __future__ import annotations

import random

import pytest

from stepwell.engine.asl.fields import STATE_FIELDS
from stepwell.engine.asl.states import StateType
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.history import EVENT_SHAPES
from tests.properties.census import Census
from tests.properties.chance import Seeded
from tests.properties.machines import MachineMaker, Traits
from tests.properties.runs import Played, again, play

pytestmark = pytest.mark.xdist_group("census")

EXAMPLES = 1000

_MAP_RUN_ERRORS = ("ExceedToleratedFailureThreshold", "ItemReaderFailed", "ResultWriterFailed")
FIELDS_NOT_YET = {"Comment"}


@pytest.fixture(scope="module")
def census() -> Census:
    census = Census()
    chance = Seeded(random.Random(1))
    for _ in range(EXAMPLES):
        played = Played.of(MachineMaker(chance).definition())
        play(played, chance)
        census.take(played)
        played.close()
    return census


def test_every_state_type_is_there(census: Census) -> None:
    assert set(census.tables["states"]) == set(StateType)


def test_every_field_is_there(census: Census) -> None:
    known = {name for field_set in STATE_FIELDS.values() for name in field_set.fields}
    assert known - set(census.tables["fields"]) - {"Type", "Next", "End"} == FIELDS_NOT_YET


def test_executions_end_in_every_way(census: Census) -> None:
    assert set(census.tables["end"]) == {*(set(Status) - {Status.RUNNING}), "still running"}


def test_every_type_of_event_comes_up(census: Census) -> None:
    assert set(census.tables["events"]) == EVENT_SHAPES.keys()


def test_map_runs_and_children_end_in_every_way(census: Census) -> None:
    ends = {"SUCCEEDED", "ABORTED", *(f"States.{name}" for name in _MAP_RUN_ERRORS)}
    assert set(census.tables["end of a Map Run"]) >= ends
    assert set(census.tables["end of a child execution"]) >= {"SUCCEEDED", "FAILED", "ABORTED"}
    assert "21-40" in census.tables["children of a Map Run"], "more than one page of items"
    assert set(census.tables["what happened to Map Runs"]) == {
        "redriven",
        "new_bounds",
        "child_finished",
        "map_run_stopped",
    }


def test_map_runs_are_interrupted() -> None:
    """When they are to die at their commits, they do."""
    chance = Seeded(random.Random(2))
    runs = interruptions = 0
    for _ in range(40):
        played = Played.of(MachineMaker(chance, Traits(depth=1, distributed=100)).definition())
        play(played, chance)
        runs += len(played.family.map_runs)
        interruptions += again(played, dying=chance).interruptions
        played.close()
    assert interruptions > runs > 10


def test_every_kind_of_timer_fires(census: Census) -> None:
    assert set(census.tables["timers that fired"]) == set(TimerKind)


def test_errors_are_retried_and_caught_and_executions_redriven(census: Census) -> None:
    points = census.tables["turning points"]
    assert min(points["error caught"], points["retry begun"], points["redrive"]) > EXAMPLES // 10
