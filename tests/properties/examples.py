"""Random executions by the number: the same part gives the same examples, whoever asks for them."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from tests.properties.chance import Chance, Drawn, Seeded
from tests.properties.machines import ANY, MachineMaker, Traits
from tests.properties.runs import Played, play

EXAMPLES = 10_000
PARTS = 20

Body = Callable[[Played, Chance], None]


@st.composite
def _runs(draw: st.DrawFn, traits: Traits) -> tuple[Played, Chance]:
    """A run, and what its properties draw from."""
    chance = Drawn(draw)
    played = Played.of(MachineMaker(chance, traits).definition(), full_every=chance.pick((0, 1, 3, 7)))
    try:
        play(played, chance)
    finally:
        note(played)
    return played, Seeded(random.Random(chance.whole(0, 99)))


def each_example(body: Body, count: int, part: object, traits: Traits = ANY) -> None:
    """Let `body` see so many random executions. What fails in it is shrunk and shown: the definition, what happened, the history."""

    @seed(part)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,  # a part is the same in every checkout
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(_runs(traits))
    def run(example: tuple[Played, Chance]) -> None:
        body(*example)

    run()
