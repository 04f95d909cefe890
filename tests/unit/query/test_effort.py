"""What readings may do together, and whose they are."""

from __future__ import annotations

from contextvars import Context

import pytest

from stepwell.engine.errors import QueryError
from stepwell.engine.query.jsonpath import effort


def spend_all() -> None:
    for _ in range(2):
        effort.begin()
        effort.spend(effort.MAX_STEPS)


def test_the_readings_of_a_state_share_what_it_may_do() -> None:
    with effort.of_state():
        spend_all()
        effort.begin()
        with pytest.raises(QueryError, match="together"):
            effort.spend(1)
    effort.begin()
    effort.spend(effort.MAX_STEPS)


def test_what_runs_apart_takes_nothing_from_the_others() -> None:
    def beside() -> None:
        effort.apart()
        effort.begin_states()
        spend_all()

    with effort.of_state():
        spent = effort.begin_states()
        before = spent.begin_state()
        Context().run(beside)
        effort.begin()
        effort.spend(effort.MAX_STEPS)
        assert spent.begin_state() - before == effort.MAX_STEPS
