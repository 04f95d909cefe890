"""Replay: a stored step made once more from what was stored of it. It must not know where that is stored."""

from __future__ import annotations

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.machine.chunks import AppliedEvent
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionState
from stepwell.engine.machine.transition import DEFAULT_SLICE, Step, transition
from stepwell.engine.query.evaluations import carry_out
from stepwell.engine.query.jsonata import FULL, Evaluation, Outcome, Outcomes


def all_here(evaluation: Evaluation) -> Outcome:
    """Carries out what needs more than it may use here, here all the same: for replays and tests, which hold up nobody."""
    return carry_out(evaluation, FULL)


def replay(machine: StateMachine, state: ExecutionState, applied: AppliedEvent) -> Step:
    """Apply an event as it was applied before: the same time, chance and slice, and the outcomes of expressions that struck a
    limit or were carried out elsewhere. What was evaluated in the engine's process then may take longer now.
    """
    heavy = Outcomes(applied.outcomes, all_here)
    slice = Slice(events=applied.slice) if applied.slice else DEFAULT_SLICE
    return transition(machine, state, applied.event, applied.now, Entropy(applied.seed), slice, heavy)
