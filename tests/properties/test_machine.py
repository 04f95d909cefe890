"""What holds for every machine and everything that may happen to its executions: they are recovered and replayed exactly, their
histories are sound, and they come to an end.

Each property holds for some hundred random executions here, and for 10,000 in CI. The examples are the same each time; another
ten thousand: `pytest tests/properties -m slow --hypothesis-seed=N`. A failing example is shrunk and shown, and fails again.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Command, StartMapRun, Status
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.transition import DEFAULT_SLICE
from tests.properties.chance import Chance
from tests.properties.examples import EXAMPLES, PARTS, SLICES, Body, each_example
from tests.properties.families import Family, Happening
from tests.properties.machines import Traits
from tests.properties.runs import (
    Played,
    again,
    calm_down,
    cut,
    in_memory,
    position,
    replayed,
    with_shared_commits,
    without_starts,
)
from tests.properties.soundness import check_deltas, check_history
from tests.support.local_machine import LocalMachine

FEW = 50


def a_history_is_sound(played: Played, chance: Chance) -> None:
    for member in played.members:
        check_history(member)
        check_deltas(member)


def the_same_happenings_make_the_same_history(played: Played, chance: Chance) -> None:
    same(again(played, model=parse_definition(played.definition)), played.family)


def a_crash_after_any_commit_changes_nothing(played: Played, chance: Chance) -> None:
    """Of the execution, of its children, and of the node that drives their Map Runs."""
    other = again(played, crash_always=True, full_every=chance.pick((0, 2, 5)), dying=chance)
    same(other, played.family)


def steps_may_share_a_commit(played: Played, chance: Chance) -> None:
    for member in played.members:
        other = with_shared_commits(member, chance)
        assert other.seen == member.seen


def what_was_applied_makes_the_same_history_again(played: Played, chance: Chance) -> None:
    for member in played.members:
        history, reached = replayed(member)
        assert history == member.seen
        assert reached == position(member.state)


def however_it_is_cut_into_slices_the_history_is_the_same(played: Played, chance: Chance) -> None:
    for member in played.members:
        whole, _, state = cut(member, Slice(events=10**6, bytes=10**9))
        small, _, other = cut(member, chance.pick(SLICES))
        assert without_starts(small) == without_starts(whole)
        assert other.status is state.status


def a_run_in_memory_has_the_same_history(played: Played, chance: Chance) -> None:
    if played.machine.slice != DEFAULT_SLICE:
        return
    for member in played.members:
        local = in_memory(member)
        assert [numbered.event for numbered in local.history] == member.seen
        assert local.finish == member.finish
        assert set(local.open_tasks) == set(member.tasks) and set(local.timers) == set(member.timers)


def it_comes_to_an_end_when_the_outside_does_its_part(played: Played, chance: Chance) -> None:
    """Also when it is redriven, as often as one likes; what had ended well is not done again. (The machine is used up.)"""
    family, machine = played.family, played.machine
    calm_down(family)
    for _ in range(2):
        if machine.finish is not None and machine.finish.status is not Status.SUCCEEDED:
            family.happen(Happening(family.now, events.Redriven()))
            calm_down(family)
    for member in played.members:
        check_history(member)
        assert member.finish is not None, "a child lives on behind the end of the first execution"


PROPERTIES: tuple[Body, ...] = (
    a_history_is_sound,
    the_same_happenings_make_the_same_history,
    a_crash_after_any_commit_changes_nothing,
    steps_may_share_a_commit,
    what_was_applied_makes_the_same_history_again,
    however_it_is_cut_into_slices_the_history_is_the_same,
    a_run_in_memory_has_the_same_history,
    it_comes_to_an_end_when_the_outside_does_its_part,
)
"""In order: the last one lets further things happen."""


def same(one: Family, other: Family) -> None:
    """That everything became the same of two executions, of their children and of their Map Runs."""
    assert one.members.keys() == other.members.keys()
    for path, member in one.members.items():
        its = other.members[path]
        assert member.lines == its.lines
        assert member.seen == its.seen
        assert texts(member) == texts(its)
        assert position(member.state) == position(its.state)
    rows = [[replace(row, rev=0) for row in family.map_runs.values()] for family in (one, other)]
    assert rows[0] == rows[1]
    assert one.objects == other.objects


def texts(machine: LocalMachine) -> list[list[str]]:
    return [[text(command) for command in commands] for commands in machine.commands]


def text(command: Command) -> str:
    if isinstance(command, StartMapRun):
        return f"{command.number} {command.id.hex()} {msgspec.json.encode(command.spec).decode()}"
    return repr(command)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds: Body) -> None:
    each_example(holds, FEW, holds.__name__)


MAPS = Traits(
    depth=1, longest=4, distributed=100, timed=0, kinds={"Pass": 20, "Task": 30, "Wait": 5, "Fail": 5, "Map": 40}
)
"""Little besides Distributed Maps."""


def test_map_runs() -> None:
    """The properties that Map Runs have a part in."""

    def all_hold(played: Played, chance: Chance) -> None:
        a_crash_after_any_commit_changes_nothing(played, chance)
        it_comes_to_an_end_when_the_outside_does_its_part(played, chance)

    each_example(all_hold, FEW, "map runs", MAPS)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_thousand(part: int, pytestconfig: pytest.Config) -> None:
    given = pytestconfig.getoption("--hypothesis-seed")
    counted = 0

    def all_hold(played: Played, chance: Chance) -> None:
        nonlocal counted
        for holds in PROPERTIES:
            holds(played, chance)
        counted += 1

    each_example(all_hold, EXAMPLES // PARTS, part if given is None else f"{given}:{part}")
    assert counted >= EXAMPLES // PARTS
