"""What the simulation sees of Express executions: each run of one, on whatever node, and how it ended there.

Of Map Runs' Express children and of asynchronous executions alike: what a run comes to counts only if the owner says it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_run import ENDS, ItemStatus, child_of, express_child_number
from stepwell.engine.map_ports import MapItem
from stepwell.engine.ports import ExpressStart, ExpressView
from stepwell.engine.runtime.express import Express, Run
from stepwell.engine.runtime.express_log import MAX_RUNS
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.store.memory import ExpressRow, MemoryDatabase
from stepwell.engine.store.memory_express import MemoryExpress
from stepwell.engine.store.memory_runtime import MapRunRow


@dataclass(eq=False)
class WatchedRun:
    """One run of an execution in one process; `lost`: the process died while it ran."""

    process: int
    redrives: int
    run: Run
    lost: bool = False

    @property
    def view(self) -> ExpressView | None:
        """How it ended, if it did."""
        ended = self.run.ended
        return ended.result() if ended.done() and not ended.cancelled() and ended.exception() is None else None


class ExpressWatch:
    """All runs of Express executions of a world."""

    def __init__(self, accuse: Callable[[str], None], map_runs: Mapping[ExecutionId, MapRunRow]) -> None:
        self._accuse = accuse
        self._map_runs = map_runs
        self._nodes: dict[int, Express] = {}
        self.on_end: Callable[[int], None] = lambda process: None
        """Called when a run has come to its end, before its node does anything about it."""
        self.runs: dict[ExecutionId, list[WatchedRun]] = defaultdict(list)
        self._holders: dict[tuple[ExecutionId, int, int], set[tuple[int, int, int]]] = defaultdict(set)
        """By Map Run, child and its redrives: the times of ownership in which it was known to run."""
        self.given_up = 0
        self.answered: set[ExecutionId] = set()
        """Asynchronous executions whose start was answered."""

    def watch(self, process: int, express: Express) -> None:
        """A node has come up."""
        begin = express.run
        self._nodes[process] = express

        def run(start: ExpressStart, machine: StateMachine, *, child: bool = False, redrives: int = 0) -> Run:
            self._begins(process, start, redrives, child=child)
            begun = begin(start, machine, child=child, redrives=redrives)
            self.runs[start.id].append(WatchedRun(process, redrives, begun))
            begun.ended.add_done_callback(lambda ended: None if ended.cancelled() else self.on_end(process))
            return begun

        express.run = run  # type: ignore[method-assign]

    def died(self, process: int) -> None:
        """A process is gone, and what ran there."""
        if self._nodes.pop(process, None) is not None:
            for run in (run for runs in self.runs.values() for run in runs if run.process == process):
                run.lost = run.lost or not run.run.ended.done()

    def holding(self) -> list[str]:
        """The nodes that hold memory of executions."""
        held = {process: (one.held, one.kept, one.running) for process, one in self._nodes.items()}
        return [f"node {process}: {memory}" for process, memory in held.items() if memory != (0, 0, 0)]

    def _begins(self, process: int, start: ExpressStart, redrives: int, *, child: bool) -> None:
        before = [run for run in self.runs[start.id] if run.redrives == redrives]
        if not 1 <= start.attempt <= MAX_RUNS or sum(run.lost for run in before) >= MAX_RUNS:
            self._accuse(f"{start.name} is run for the {start.attempt}th time, after {len(before)} runs")
        if any(run.process == process and not run.run.ended.done() for run in self.runs[start.id]):
            self._accuse(f"{start.name} is run twice at once by one node")
        if child and not self._is_durable(start, redrives):
            self._accuse(f"{start.name}: a child is run that the store does not know to run")

    def _is_durable(self, start: ExpressStart, redrives: int) -> bool:
        named = ids.express_child(start.arn)
        assert named is not None
        map_run = ids.execution_id(named[0])
        number = express_child_number(map_run, named[1])
        item = self._map_runs[map_run].items.get(-1 if number is None else number)
        if item is None or item.redrives < redrives or item.input != start.input.text:
            return False
        return item.started_at > 0 and (item.redrives > redrives or item.status is not ItemStatus.PENDING)

    def held(self, map_run: ExecutionId, items: Mapping[int, MapItem], ownership: tuple[int, int, int]) -> None:
        """A step of the Map Run has been written, after which these are its children. `ownership`: the process of its owner, how often
        that had lost its lease, and how often the shard had been taken."""
        for number, item in items.items():
            if item.status is ItemStatus.RUNNING:
                self._holders[map_run, number, item.redrives].add(ownership)

    def counts(self, process: int, map_run: ExecutionId, arn: str, was: MapItem, ended: MapItem) -> None:
        """The owner of a Map Run, which is this process, counts how a child ended."""
        id = ids.execution_id(child_of(arn, map_run, ended.number, express=True)[1])
        runs = [run for run in self.runs[id] if run.redrives == was.redrives]
        if ended.error == ErrorName.ENGINE_LOST:
            self.given_up += 1
            # A node whose renewals were not answered takes its lease for lapsed, which the store does not see; but then it runs again.
            lost = max(len(self._holders[map_run, ended.number, was.redrives]), len(runs))
            if lost < MAX_RUNS:
                self._accuse(f"child {ended.number} is given up, of which {lost} runs may have been lost")
            return
        if ended.status is not ItemStatus.ABORTED and not any(
            run.process == process and _ended_as(run.view, ended) for run in runs
        ):
            self._accuse(f"child {ended.number}: the owner counts an end as {ended.status.name} that no run there had")

    def ends(self, owner: int | None, end: ExpressView) -> None:
        """It is written how an asynchronous execution ended, which is this process's."""
        runs = self.runs[end.id]
        if end.error == ErrorName.ENGINE_LOST and end.attempt > MAX_RUNS:
            self.given_up += 1
            return
        if not any(run.process == owner and _same(run.view, end) for run in runs):
            self._accuse(f"{end.name}: another run is heard than the newest")


def _ended_as(view: ExpressView | None, item: MapItem) -> bool:
    if view is None or ENDS[view.status] is not item.status:
        return False
    output = view.output.text if view.output is not None and item.status is ItemStatus.SUCCEEDED else None
    told = (output, view.error, view.cause, view.stopped_at)
    return told == (item.output, item.error, item.cause, item.stopped_at)


def _same(view: ExpressView | None, end: ExpressView) -> bool:
    return view is not None and replace(view, attempt=end.attempt) == end


class ObservedExpress(MemoryExpress):
    """The rows of asynchronous Express executions, watched. `hears_all` and `leaves_lost` take protections out."""

    def __init__(
        self,
        database: MemoryDatabase,
        clock: Clock,
        watch: ExpressWatch,
        processes: Mapping[UUID, int],
        *,
        nodes: dict[UUID, tuple[str | None, int]],
        workers: dict[UUID, int],
        hears_all: bool,
        leaves_lost: bool,
    ) -> None:
        super().__init__(database, clock, nodes, workers)
        self._watch = watch
        self._processes = processes
        self._hears_all = hears_all
        self._leaves_lost = leaves_lost

    async def end(self, ends: Sequence[ExpressView], *, keep: bool = True) -> set[ExecutionId]:
        if self._hears_all:
            ends = [replace(end, attempt=self._attempt(end)) for end in ends]
        done = await super().end(ends, keep=keep)
        for end in ends:
            if end.id in done:
                owner = self.database.express[end.id].owner
                self._watch.ends(self._processes.get(owner) if owner is not None else None, end)
        return done

    def _attempt(self, end: ExpressView) -> int:
        row = self.database.express.get(end.id)
        return end.attempt if row is None else row.start.attempt

    async def take(self, node: UUID, limit: int, forgotten_before: int) -> Sequence[ExpressStart]:
        return [] if self._leaves_lost else await super().take(node, limit, forgotten_before)


def reckon_express(watch: ExpressWatch, rows: Mapping[ExecutionId, ExpressRow], accuse: Callable[[str], None]) -> None:
    """Asynchronous executions have ended, none was lost whose start was answered, and no memory is held for any."""
    for row in rows.values():
        if row.ended is None or row.ended.status is Status.RUNNING:
            accuse(f"{row.start.name} has not ended after {len(watch.runs[row.start.id])} runs")
    for id in watch.answered - rows.keys():
        accuse(f"an Express execution whose start was accepted is lost: {id.hex()}")
    for held in watch.holding():
        accuse(f"memory of Express executions was not given back: {held}")
