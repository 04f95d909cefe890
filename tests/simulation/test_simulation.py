"""The runtime under faults from a seed, and proof that the simulation would notice if a protection were missing.

A failing seed: `STEPWELL_SIM_SEED=n pytest tests/simulation`. More of them: `python -m tests.simulation --seeds 0:10000`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.simulation.observed import Protection
from tests.simulation.world import Options, simulate

SEEDS = 200
CHUNK = 10
CHOSEN = os.environ.get("STEPWELL_SIM_SEED")
FIRSTS = [int(CHOSEN)] if CHOSEN else list(range(0, SEEDS, CHUNK))


@pytest.mark.parametrize("first", FIRSTS)
def test_every_promise_holds(first: int) -> None:
    for seed in [first] if CHOSEN else range(first, first + CHUNK):
        result = simulate(seed)
        assert not result.broken, f"STEPWELL_SIM_SEED={seed}: " + "\n  ".join(result.broken[:10])
        assert result.executions > 0, "nothing was started"
        assert result.commits > 0, "nothing was committed"


def test_a_seed_gives_the_same_run_again() -> None:
    assert simulate(7) == simulate(7)


def test_faults_happen() -> None:
    results = [simulate(seed) for seed in range(3)]
    assert sum(result.crashes for result in results) > 3
    assert {status for result in results for status in result.statuses} >= {"SUCCEEDED", "FAILED"}


EXPRESS = Options(express=True, distributed=True)
EXPRESS_SEEDS = 40


@pytest.mark.parametrize("first", range(0, EXPRESS_SEEDS, CHUNK))
def test_every_promise_holds_of_express_executions(first: int) -> None:
    """Where the children of Distributed Maps are Express executions, and others run beside them."""
    for seed in range(first, first + CHUNK):
        result = simulate(seed, EXPRESS)
        assert not result.broken, f"--worlds express --seeds {seed}: " + "\n  ".join(result.broken[:10])
        assert result.express_runs > 0, "no Express execution was run"


def test_express_executions_are_lost_and_given_up() -> None:
    results = [simulate(seed, EXPRESS) for seed in range(10)]
    assert sum(result.express_lost for result in results) > 10
    assert sum(result.express_given_up for result in results) > 0


CONTROL_SEEDS = 80
"""The rarest need for a protection comes once in eleven seeds."""
WITHOUT_EPOCHS = Options(without=frozenset({Protection.EPOCH}), patience_seconds=400, double_owners=True)

ABOUT_MAP_RUNS = {Protection.MAP_RUN_REVISION, Protection.MAP_RUN_EPOCH, Protection.GENERATION}
ABOUT_EXPRESS = {Protection.RERUN, Protection.LOSSES, Protection.EXPRESS_ATTEMPT, Protection.EXPRESS_TAKE}
CONTROLS = [(protection, protection in ABOUT_EXPRESS) for protection in Protection]
CONTROLS += [(Protection.MAP_RUN_REVISION, True), (Protection.MAP_RUN_EPOCH, True)]


@pytest.mark.parametrize(("protection", "express"), CONTROLS)
def test_a_missing_protection_is_noticed(protection: Protection, express: bool) -> None:
    options = Options(without=frozenset({protection}), patience_seconds=400)
    if protection in (Protection.REVISION, Protection.MAP_RUN_REVISION):
        options = replace(WITHOUT_EPOCHS, without=WITHOUT_EPOCHS.without | {protection})
    if protection in ABOUT_MAP_RUNS:
        options = replace(options, distributed=True)
    if express:  # a start that was answered to nobody, and written down late, is run when it must have been forgotten
        options = replace(options, distributed=True, express=True, patience_seconds=900)
    noticed = any(simulate(seed, options).broken for seed in range(CONTROL_SEEDS))
    assert noticed, f"no seed below {CONTROL_SEEDS} needs this protection: {protection}"


def test_the_revision_fence_alone_keeps_double_owners_from_doing_harm() -> None:
    """What two owners remember may be behind the store, so that an execution waits for ever; but nothing false is written."""
    for seed in range(20):
        assert not [one for one in simulate(seed, WITHOUT_EPOCHS).broken if "has not ended" not in one]
