"""Random executions by the number: the same part gives the same examples, whoever asks for them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.transition import DEFAULT_SLICE
from tests.properties.chance import Chance, Drawn, Seeded
from tests.properties.machines import ANY, MachineMaker, Traits
from tests.properties.runs import Played, play

EXAMPLES = 10_000
PARTS = 20

SLICES = (Slice(events=4), Slice(bytes=100), Slice(events=16), Slice(events=1))

PHASES = (Phase.generate,) if os.environ.get("STEPWELL_NO_SHRINKING") else (Phase.generate, Phase.shrink)
"""To shrink what fails takes up to a minute; who only asks whether anything fails does without."""

Body = Callable[[Played, Chance], None]


def _run(chance: Chance, traits: Traits) -> tuple[Played, Chance]:
    """A run, and what its properties draw from."""
    definition = MachineMaker(chance, traits).definition()
    slice = chance.pick(SLICES) if chance.often(30) else DEFAULT_SLICE
    played = Played.of(definition, full_every=chance.pick((0, 1, 3, 7)), slice=slice)
    own = Seeded(random.Random(chance.whole(0, 99)))
    try:
        play(played, chance)
    finally:
        note(played)
    return played, own


def each_example(body: Body, count: int, part: object, traits: Traits = ANY) -> None:
    """Let `body` see so many random executions. What fails in it is shrunk and shown: the definition, what happened, the history."""

    @seed(part)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,  # a part is the same in every checkout
        phases=PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        played, own = _run(Drawn(data.draw), traits)
        try:
            body(played, own)
        finally:
            played.close()

    run()
