"""What holds for every machine and everything that may happen to its executions: they are recovered and replayed exactly, their
histories are sound, and they come to an end.

Each property holds for some hundred random executions here, and for 10,000 in CI. The examples are the same each time; another
ten thousand: `pytest tests/properties -m slow --hypothesis-seed=N`. A failing example is shrunk and shown, and fails again.
"""

from __future__ import annotations

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.transition import DEFAULT_SLICE
from tests.properties.chance import Chance
from tests.properties.examples import EXAMPLES, PARTS, SLICES, Body, each_example
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
    check_history(played.machine)
    check_deltas(played.machine)


def the_same_happenings_make_the_same_history(played: Played, chance: Chance) -> None:
    other = again(played, model=parse_definition(played.definition))
    assert other.seen == played.history
    assert texts(other) == texts(played.machine)


def a_crash_after_any_commit_changes_nothing(played: Played, chance: Chance) -> None:
    other = again(played, crash_always=True, full_every=chance.pick((0, 2, 5)))
    assert other.lines == played.machine.lines
    assert other.seen == played.history
    assert texts(other) == texts(played.machine)
    assert position(other.state) == position(played.machine.state)


def steps_may_share_a_commit(played: Played, chance: Chance) -> None:
    other = with_shared_commits(played, chance)
    assert other.seen == played.history


def what_was_applied_makes_the_same_history_again(played: Played, chance: Chance) -> None:
    history, reached = replayed(played)
    assert history == played.history
    assert reached == position(played.machine.state)


def however_it_is_cut_into_slices_the_history_is_the_same(played: Played, chance: Chance) -> None:
    whole, _, state = cut(played, Slice(events=10**6, bytes=10**9))
    small, _, other = cut(played, chance.pick(SLICES))
    assert without_starts(small) == without_starts(whole)
    assert other.status is state.status


def a_run_in_memory_has_the_same_history(played: Played, chance: Chance) -> None:
    if played.machine.slice != DEFAULT_SLICE:
        return
    local = in_memory(played)
    assert [numbered.event for numbered in local.history] == played.history
    assert local.finish == played.machine.finish
    assert set(local.open_tasks) == set(played.machine.tasks) and set(local.timers) == set(played.machine.timers)


def it_comes_to_an_end_when_the_outside_does_its_part(played: Played, chance: Chance) -> None:
    """Also when it is redriven, as often as one likes; what had ended well is not done again. (The machine is used up.)"""
    machine = played.machine
    calm_down(machine)
    for _ in range(2):
        if machine.finish is not None and machine.finish.status is not Status.SUCCEEDED:
            machine.redrive()
            calm_down(machine)
    check_history(machine)


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


def texts(machine: LocalMachine) -> list[list[str]]:
    return [[repr(command) for command in commands] for commands in machine.commands]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds: Body) -> None:
    each_example(holds, FEW, holds.__name__)


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
