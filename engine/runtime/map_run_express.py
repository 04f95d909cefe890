"""The children of one Map Run whose ExecutionType is EXPRESS: run in the memory of the node that owns the Map Run.

The store knows of such a child that it runs, and how it ended; nothing of it is written in between. Its end comes to the Map Run
as mail that is in no inbox, so whoever loses that mail, or the node, runs the child again from the input the store holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import NO_DATA
from stepwell.engine.machine.map_events import ChildFinished
from stepwell.engine.machine.map_run import child_of
from stepwell.engine.map_ports import MapItem, StoredMapRun
from stepwell.engine.ports import ExpressStart, ExpressView
from stepwell.engine.runtime.express import RUN_BYTES, Run
from stepwell.engine.runtime.map_run_tools import PAGE_ITEMS, TURN_SECONDS, Mail, Mailbox, Tools
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.telemetry import EXPRESS_ENDED, EXPRESS_RERUNS, EXPRESS_STARTED

log = logging.getLogger(__name__)

MAX_RUNS: Final = 3
"""How often a child is run before it is given up: it may be what the nodes that ran it died of."""
GIVEN_UP: Final = f"The execution was run {MAX_RUNS} times, and each time the engine node that ran it was lost."


@dataclass(frozen=True, slots=True)
class Begun:
    """A child that runs, as far as the store is concerned: `number` is that of its item, `redrives` tells how often it was."""

    number: int
    start: ExpressStart
    redrives: int = 0


def begun_child(run: StoredMapRun, item: MapItem, now: int, attempt: int) -> Begun:
    """The child of an item, about to be run for the `attempt`th time since it began."""
    name, arn = child_of(run.arn, run.id, item.number, express=True)
    machine_arn, machine_name = ids.labelled_machine(arn)
    start = ExpressStart(
        id=ids.execution_id(arn), arn=arn, name=name, machine_key=run.machine_key, revision=run.revision,
        machine_arn=machine_arn, machine_name=machine_name, role_arn=run.role_arn, input=Document.trusted(item.input),
        started_at=item.started_at or now, attempt=attempt,
    )  # fmt: skip
    return Begun(item.number, start, item.redrives)


class ExpressChildren:
    """Runs children and puts their ends into the Map Run's mailbox. One for as long as this node owns the Map Run, however often
    that is read back from the store meanwhile."""

    def __init__(self, tools: Tools, box: Mailbox) -> None:
        self._express = tools.express
        self._clock = tools.clock
        self._box = box
        self._waiting: deque[Begun] = deque()
        self._runs: dict[int, Run | None] = {}
        """Children that wait to be run (None), or run."""
        self._ended: dict[int, int] = {}
        """Children whose end is in the mailbox, or in the hands of a step, and the bytes of it."""
        self._starting: asyncio.Task[None] | None = None
        self.all_counted = False
        """Whether what the store has as running runs here, or is run again here and needs not be counted as lost any more."""
        self._losses: int | None = None
        """What the losses come to with the one that this node has found, and may or may not have written down."""
        self.folded_all = asyncio.Event()
        """There is no end that is not in the store."""
        self.folded_all.set()

    def __contains__(self, number: int) -> bool:
        """Whether this child runs here, or has and its end is not in the store."""
        return number in self._runs or number in self._ended

    def has_room(self, data: int) -> bool:
        """Whether another child with so many bytes of input may be begun."""
        return self._express.has_room_for_child(data)

    def reserve(self, child: Begun) -> None:
        """A step that is going to be written begins this one: until it is, other Map Runs must not take the room for it."""
        self._express.kept += _size(child)

    def release(self, children: Iterable[Begun]) -> None:
        """The step that would have begun these has not been written."""
        for child in children:
            self._express.kept -= _size(child)

    def begin(self, children: Iterable[Begun], machine: StateMachine) -> None:
        """The store knows that these run, for which there is a reservation: run them."""
        for child in children:
            self._runs[child.number] = None
            self._waiting.append(child)
        if self._waiting and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._start(machine), name="express children")

    def abort(self) -> None:
        """Stop those that run; the others' ends stay in the mailbox."""
        while self._waiting:
            self._express.kept -= _size(self._waiting.popleft())
        for run in self._runs.values():
            if run is not None:
                self._express.drop(run)
        self._runs.clear()

    def count_loss(self, losses: int) -> int:
        """What the losses, of which the store has so many, come to with what was lost before this node: that is counted once, however
        often nobody knows whether it was written."""
        if self._losses is None:
            self._losses = losses + 1
        return max(losses, self._losses)

    def drop(self) -> None:
        """They are another node's now, or are to be run again: stop them, and forget how others have ended."""
        self.abort()
        self.all_counted = False
        self._losses = None
        kept = [mail for mail in self._box.mail if mail.row is not None]
        self._box.mail.clear()
        self._box.mail.extend(kept)
        for number in list(self._ended):
            self.folded(number)

    def folded(self, number: int) -> None:
        """The end of a child is in the store, or is not wanted any more."""
        self._express.kept -= self._ended.pop(number, 0)
        if not self._ended:
            self.folded_all.set()

    # -- running ---------------------------------------------------------------------------------------------------

    async def _start(self, machine: StateMachine) -> None:
        """Begin to run what waits. A child may run to its end at once, so others have their turn in between."""
        turn = self._clock.monotonic()
        while self._waiting and not self._express.closing:
            child = self._waiting.popleft()
            self._express.kept -= _size(child)
            self._run(child, machine)
            if self._clock.monotonic() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = self._clock.monotonic()
        self._box.wake.set()

    def _run(self, child: Begun, machine: StateMachine) -> None:
        number = child.number
        try:
            run = self._express.run(child.start, machine, child=True, redrives=child.redrives)
        except Exception as error:  # whatever it is, this child must end and the others go on
            log.exception("a child execution cannot be run", extra={"execution": child.start.id.hex()})
            begun = self._express.known(child.start.id)
            if begun is not None:
                self._express.drop(begun)
            self._express.metrics.count(EXPRESS_ENDED, Status.FAILED)
            cause = f"The execution cannot be run: {type(error).__name__}."
            now = self._clock.now_ms()
            self._end(ChildFinished(number, Status.FAILED, now, error=ErrorName.RUNTIME, cause=cause))
            return
        self._express.metrics.count(EXPRESS_STARTED, "child")
        if child.start.attempt > 1:
            self._express.metrics.count(EXPRESS_RERUNS)
        self._runs[number] = run
        run.ended.add_done_callback(lambda ended: self._over(number, run, ended))

    def _over(self, number: int, run: Run, ended: asyncio.Future[ExpressView]) -> None:
        if ended.cancelled() or ended.exception() is not None or self._runs.get(number) is not run:
            return
        view = ended.result()
        output = msgspec.Raw(view.output.text) if view.output is not None else NO_DATA
        self._end(ChildFinished(number, view.status, view.stopped_at or 0, output, view.error, view.cause))

    def _end(self, event: ChildFinished) -> None:
        del self._runs[event.item]
        size = RUN_BYTES // 8 + len(event.output) + len(event.cause or "")
        self._express.kept += size
        self._ended[event.item] = size
        self.folded_all.clear()
        self._box.mail.append(Mail(event, None))
        starting = self._starting is not None and not self._starting.done()
        if not starting or len(self._ended) >= PAGE_ITEMS:  # many ends are written together
            self._box.wake.set()


def _size(child: Begun) -> int:
    return RUN_BYTES + len(child.start.input.text)
