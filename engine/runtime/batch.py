"""Events of one execution applied one after another, in memory: what one commit is to make durable.

It must not know how that is written (`entries`), nor what is done when it has been (`executor`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import CancelTask, CloseTask, Command
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.transition import DEFAULT_SLICE, transition
from stepwell.engine.query.jsonata import Evaluation, Outcomes, OverBudgetError
from stepwell.engine.runtime.hot import Hot, Work

MAX_TRIES: Final = 100
TURN_SECONDS: Final = 0.04
"""How long the expressions of one execution may hold up the others: one more may begin before that and take its own limit."""


@dataclass(slots=True, eq=False)
class Batch:
    """Events that were applied, and what came of it."""

    first: int
    """The id of the first history event."""
    written: list[HistoryEvent] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    applied: list[chunks.AppliedEvent] = field(default_factory=list)
    done: list[tuple[Work, bool]] = field(default_factory=list)
    """What was applied, and whether it changed anything."""
    seeds: list[int] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    """Tasks closed by an outcome from the inbox, their own or a neighbour's, while their own is here too. Any other reason to
    close them (a time-out, a stop) comes after their outcome, which has won: the step is void."""
    redriven: bool = False
    more: bool = False
    """The slice was used up."""
    failed: tuple[Work, Exception] | None = None
    """What could not be applied, and why. The execution's position is spoilt, and the rest of the batch with it."""
    evaluation: Evaluation | None = None
    """What it takes to apply it after all: an expression that has to be carried out elsewhere."""

    @property
    def inbox(self) -> list[int]:
        """The rows that are done with."""
        return [work.inbox for work, _ in self.done if work.inbox is not None]


def _reported(work: Work) -> int | None:
    """The task whose outcome this is, if it comes from the inbox."""
    if work.inbox is not None and isinstance(work.event, events.TaskSucceeded | events.TaskFailed):
        return work.event.task
    return None


def timed(slice: Slice, clock: Clock) -> Slice:
    """The slice, with an end to the time that expressions may take in it."""
    end = clock.monotonic() + TURN_SECONDS
    return Slice(slice.events, slice.bytes, slice.steps, lambda: clock.monotonic() > end)


def apply_waiting(hot: Hot, clock: Clock, seeds: SeedSource, slice: Slice = DEFAULT_SLICE) -> Batch:
    """Apply events that wait until the slice is used up, or one of them cannot be applied."""
    attempt = hot.works[0].attempt if hot.works else None
    moment = attempt.now if attempt is not None else None
    now = hot.last_now = max(clock.now_ms() if moment is None else moment, hot.last_now)
    batch = Batch(hot.state.next_event)
    turn = timed(slice, clock)
    while hot.works and not batch.more and len(batch.written) < slice.events:
        work = hot.works[0]
        attempt = work.attempt
        if (attempt.now if attempt is not None else None) != moment:
            break  # it is to be applied at another moment than those before it
        hot.works.popleft()
        seed = seeds.seed() if attempt is None else attempt.seed
        outcomes = None if attempt is None else attempt.outcomes.anew()
        batch.seeds.append(seed)
        try:
            step = transition(hot.machine, hot.state, work.event, now, Entropy(seed), turn, outcomes)
        except OverBudgetError as error:
            error.with_traceback(None)  # its frames would hold the position until they are collected
            batch.failed = (work, error)
            if attempt is not None and outcomes is not None and outcomes.wasted:  # they are of other data
                attempt.outcomes = Outcomes()
                work.tries += 1
            if work.tries <= MAX_TRIES:
                batch.evaluation = error.evaluation
            return batch
        except Exception as error:  # noqa: BLE001 - whatever it is, this execution must end and the others go on
            batch.failed = (work, error)
            return batch
        changed = bool(step.events or step.commands)
        if changed:
            known = [] if outcomes is None else outcomes.holds
            sliced = step.cut or (0 if slice is DEFAULT_SLICE else slice.events)
            batch.applied.append(chunks.AppliedEvent(work.event, now, seed, step.first_event, known, sliced))
            batch.written += step.events
            batch.commands += step.commands
            if isinstance(work.event, events.Redriven):
                hot.redrive_token = work.event.token
                batch.redriven = True
            if _reported(work) is not None:
                batch.ended |= {one.task for one in step.commands if isinstance(one, CloseTask | CancelTask)}
        batch.more = step.more
        batch.done.append((work, changed))
    if batch.ended:
        # Those that wait count as well: a step that uses up its slice comes to no other event, however often it is tried.
        batch.ended &= {_reported(work) for work in (*(work for work, _ in batch.done), *hot.works)}
    return batch
