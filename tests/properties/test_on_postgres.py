"""Random machines as users run them: on engine nodes over a real Postgres, many at once, with restarts at random commits.

Each execution, and each child execution of its Distributed Maps, comes to its end, and is what it would have been in memory
without a break: `stored_runs` tells what is compared. The machines and the chances of a part are the same each time; how they
interleave is not, so whoever looks into a failure has what was stored: it is shown, in order, and makes the same history again.
"""

from __future__ import annotations

import random

import pytest

from stepwell.engine.runtime import entries
from tests.properties.chance import Seeded
from tests.properties.machines import ANY, MachineMaker, Traits
from tests.properties.on_postgres import Life
from tests.properties.test_machine import MAPS

FEW, PARTS = 100, 2
MANY, MORE_PARTS = 150, 5


@pytest.fixture(autouse=True)
def _often_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executions as small as these would hardly ever come to a full snapshot."""
    monkeypatch.setattr(entries, "SNAPSHOT_AFTER", 12)


async def lead(database: str, part: int, machines: int, traits: Traits = ANY) -> Life:
    chance = Seeded(random.Random(part))
    life = Life(database, chance, [MachineMaker(chance, traits).definition() for _ in range(machines)])
    await life.lead()
    assert life.cluster.deaths > 2 and life.happened["redrive"] > machines // 10, "nothing has been tried"
    return life


@pytest.mark.parametrize("part", range(PARTS))
async def test_restarts_change_nothing(database: str, part: int) -> None:
    await lead(database, part, FEW)


async def test_restarts_change_nothing_of_map_runs(database: str) -> None:
    life = await lead(database, PARTS, FEW // 2, MAPS)
    assert life.happened["child"] > FEW


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10, 10 + MORE_PARTS))
async def test_restarts_change_nothing_of_many(database: str, part: int) -> None:
    await lead(database, part, MANY)
