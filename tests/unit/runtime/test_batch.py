"""What is applied in memory before a commit, and what of it is written down for a replay."""

from __future__ import annotations

import itertools
import json

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.clock import Entropy
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import events
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.snapshot import ExecutionState
from stepwell.engine.machine.transition import transition
from stepwell.engine.runtime.batch import apply_waiting
from stepwell.engine.runtime.hot import Hot, Work
from tests.support.local_machine import START, info_of, raw
from tests.unit.machine.build import machine, pass_


class BusyClock:
    """A clock in whose world all takes long: a second goes by whenever it is asked."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1)

    def now_ms(self) -> int:
        return START

    def monotonic(self) -> float:
        return next(self._seconds)


class Seeds:
    def seed(self) -> int:
        return 1


def test_expressions_that_take_long_end_a_slice_which_is_written_down_for_the_replay() -> None:
    model = parse_definition(json.dumps(machine(*[pass_(Output="{% 1 %}")] * 4, QueryLanguage="JSONata")))
    hot = Hot(ExecutionId(bytes(16)), 0, 0, ExecutionState(info_of()), model, 1, 1)
    hot.works.append(Work(events.Started(raw({}))))
    batch = apply_waiting(hot, BusyClock(), Seeds())
    (applied,) = batch.applied
    assert batch.more and applied.slice == len(batch.written) == 3
    again = replay(model, ExecutionState(info_of()), applied)
    assert (again.events, again.more) == (batch.written, True)


def test_a_slice_that_ends_for_another_reason_is_written_down_as_the_default_one() -> None:
    model = parse_definition(json.dumps(machine(*[pass_()] * 4)))
    hot = Hot(ExecutionId(bytes(16)), 0, 0, ExecutionState(info_of()), model, 1, 1)
    hot.works.append(Work(events.Started(raw({}))))
    batch = apply_waiting(hot, BusyClock(), Seeds())
    whole = transition(model, ExecutionState(info_of()), events.Started(raw({})), START, Entropy(1))
    assert (batch.written, batch.more, batch.applied[0].slice) == (whole.events, False, 0)
