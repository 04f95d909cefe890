"""An execution with all that comes of it: the Map Runs of its Distributed Maps, their child executions, and so on.

Each execution is a `LocalMachine`; Map Runs are the runtime's own, over the store in memory. They tell each other by its inboxes.
What is told is told at once, so that between two happenings everything waits for the outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.jsontypes import write
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import CancelMapRun, Command, Finish, RedriveMapRun, StartMapRun
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.map_events import MapRunEvent, Message
from stepwell.engine.machine.map_run import child_machine
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.machine.transition import Step
from stepwell.engine.query.jsonata import FULL, Evaluation, Outcome, carry_out
from stepwell.engine.runtime.batch import Batch
from stepwell.engine.runtime.entries import step_entry
from stepwell.engine.runtime.hot import Hot, Work, info_of
from stepwell.engine.store.memory_runtime import MapRunRow
from tests.properties.chance import Chance
from tests.properties.fields import INPUT
from tests.properties.map_run_host import MACHINE_KEY, REVISION, MapRunHost
from tests.simulation.network import run_now
from tests.support.local_machine import START, LocalMachine

INPUT_TEXT = write(INPUT).decode()

Path: TypeAlias = tuple[tuple[int, int], ...]
"""Which execution of a family: the number of a Map Run in its parent and of the child in that, from the first execution on."""
ROOT: Path = ()


class Told(NamedTuple):
    """An event and when an execution was told it."""

    now: int
    event: Event


class NewBounds(msgspec.Struct, tag="new_bounds", array_like=True, frozen=True):
    """Somebody changes how many children of a Map Run may run, or how many items may fail."""

    max_concurrency: int | None = None
    tolerated_count: int | None = None


class Happening(NamedTuple):
    """An event and when it comes, in milliseconds since the epoch; to which execution, or to which of its Map Runs."""

    now: int
    event: Event | MapRunEvent | NewBounds
    who: Path = ROOT
    map_run: int | None = None
    hasty: bool = False
    """The next thing happens before Map Runs and children are told of this one."""

    def __str__(self) -> str:
        who = [f"{run}/{child}" for run, child in self.who]
        if self.map_run is not None:
            who.append(str(self.map_run))
        text = msgspec.json.encode(self.event).decode()[:200]
        told = ["to", ".".join(who)] if who else []
        return " ".join([f"+{self.now - START}", *told, text, *(["in haste"] if self.hasty else [])])


_UNHURRIED = msgspec.structs.replace(FULL, seconds=3600.0)


def unhurried(evaluation: Evaluation) -> Outcome:
    """Carries out here what struck a limit, with no limit on time: what comes of it must not depend on how busy the host is."""
    return carry_out(evaluation, _UNHURRIED)


class Alone(LocalMachine):
    """An execution whose Map Runs are nobody's: what they come to is told to it, or is not."""

    def __init__(self, machine: StateMachine, input: str, **circumstances: Any) -> None:
        super().__init__(machine, input, heavy=unhurried, **circumstances)

    def _carry_out(self, command: Command) -> None:
        if not isinstance(command, StartMapRun | RedriveMapRun | CancelMapRun):
            super()._carry_out(command)


class Member(Alone):
    """An execution of a family. `trace` is what it was told, whoever told it."""

    def __init__(self, family: Family, path: Path, machine: StateMachine, input: str, **circumstances: Any) -> None:
        super().__init__(machine, input, **circumstances)
        self._family = family
        self.path = path
        self.trace: list[Told] = []

    @property
    def id(self) -> ExecutionId:
        return ExecutionId(self.info.id)

    def step(self, event: Event, seed: int | None = None) -> Step:
        step = super().step(event, seed)
        self._family.has_stepped(self, event, step)
        return step


class Family:
    """A first execution and what comes of it. `dying`: its Map Runs are killed at their commits."""

    def __init__(self, model: StateMachine, *, dying: Chance | None = None, **circumstances: Any) -> None:
        self.model = model
        self.now = START
        self.settled = True
        """Nobody is to be told anything any more."""
        self._dying = dying
        self._circumstances = circumstances
        self._host: MapRunHost | None = None
        self.members: dict[Path, Member] = {}
        self._by_id: dict[ExecutionId, Member] = {}
        self.reported: dict[tuple[ExecutionId, int, int], list[events.MapRunFinished]] = {}
        """What each Map Run has told its parent: by parent, its number there, and how often it had been redriven."""
        self.root = self._member(ROOT, model, INPUT_TEXT)

    def _member(self, path: Path, model: StateMachine, input: str, info: ExecutionInfo | None = None) -> Member:
        seed = 1 if info is None else int.from_bytes(info.id, "big")  # or siblings would draw the same
        member = Member(self, path, model, input, info=info, first_seed=seed, **self._circumstances)
        self.members[path] = self._by_id[member.id] = member
        return member

    # -- what happens ----------------------------------------------------------------------------------------------

    def happen(self, happening: Happening) -> None:
        """Let something happen, and then whatever follows from it at once."""
        self.now = max(self.now, happening.now)
        self.settled = False
        member, event = self.members[happening.who], happening.event
        if happening.map_run is not None:
            assert not isinstance(event, Event)
            self._tell_map_run(member, happening.map_run, event)
        else:
            assert isinstance(event, Event)
            self._apply(member, event)
        if not happening.hasty:
            self.settle()

    def settle(self) -> None:
        """Let everything follow that does."""
        self.settled = True
        if self._host is not None:
            self._host.settle()

    def _apply(self, member: Member, event: Event) -> None:
        member.now = max(member.now, self.now)
        member.trace.append(Told(member.now, event))
        member.apply(event)

    def _tell_map_run(self, member: Member, number: int, event: MapRunEvent | NewBounds) -> None:
        assert self._host is not None
        id = next(id for id, row in self.map_runs.items() if row.parent == member.id and row.new.number == number)
        if isinstance(event, NewBounds):
            bounds = {"max_concurrency": event.max_concurrency, "tolerated_count": event.tolerated_count}
            run_now(self._host.map_runs.update(id, **bounds, tolerated_percentage=None))
        else:
            self._host.store.put(id, event)

    # -- what follows ----------------------------------------------------------------------------------------------

    def has_stepped(self, member: Member, event: Event, step: Step) -> None:
        """Write what this step of an execution tells Map Runs, as the engine does."""
        child = self._host is not None and self._host.store.executions[member.id].map_run is not None
        asked = [one for one in step.commands if isinstance(one, StartMapRun | RedriveMapRun | CancelMapRun)]
        if not asked and not child:
            return
        host = self._host or self._new_host()
        row = host.store.executions[member.id]
        hot = Hot(
            member.id, shard_of(member.id), row.rev, member.state, member.machine, MACHINE_KEY, REVISION,
            last_now=member.now, map_run=row.map_run, map_item=row.map_item,
        )  # fmt: skip
        finish = [one for one in step.commands if isinstance(one, Finish)]
        work = (Work(event), bool(step.events or step.commands))
        host.commit(step_entry(hot, None, Batch(step.first_event, step.events, [*asked, *finish], done=[work])))

    def _new_host(self) -> MapRunHost:
        info = self.root.info
        self._host = MapRunHost(self, info.arn, info.name, info.started_at, self._dying, unhurried)
        return self._host

    def receive(self, id: ExecutionId, message: Message) -> None:
        """What was in the inbox of an execution."""
        assert isinstance(message, Event)
        member = self._by_id.get(id)
        if member is None:
            assert isinstance(message, events.Started)
            member = self._child(id, bytes(message.input).decode())
        if isinstance(message, events.MapRunFinished):
            self.reported.setdefault((id, message.map_run, message.redrives), []).append(message)
        if member.finish is None or not isinstance(message, events.StopRequested):
            self._apply(member, message)

    def _child(self, id: ExecutionId, input: str) -> Member:
        assert self._host is not None
        stored = run_now(self._host.store.load(id))
        assert stored is not None and stored.map_run is not None and stored.processor is not None
        row = self.map_runs[stored.map_run]
        path = (*self._by_id[row.parent].path, (row.new.number, stored.map_item))
        model = child_machine(self.model, stored.processor)
        return self._member(path, model, input, info_of(stored, model, "us-east-1"))

    def close(self) -> None:
        """Nothing happens to it any more."""
        if self._host is not None:
            self._host.close()

    # -- looking at it ---------------------------------------------------------------------------------------------

    @property
    def map_runs(self) -> dict[ExecutionId, MapRunRow]:
        """All its Map Runs as they are stored, the oldest first."""
        return self._host.store.map_runs if self._host is not None else {}

    @property
    def objects(self) -> dict[tuple[str, str], bytes]:
        """What its Map Runs have written, by bucket and key."""
        return self._host.objects.written if self._host is not None else {}

    @property
    def interruptions(self) -> int:
        """How often its Map Runs were killed, or lost the answer to a commit."""
        return self._host.interruptions if self._host is not None else 0

    def parent(self, map_run: ExecutionId) -> Member:
        """The execution that has started a Map Run."""
        return self._by_id[self.map_runs[map_run].parent]

    def children(self, map_run: ExecutionId) -> dict[int, Member]:
        """The child executions of a Map Run, by number."""
        row = self.map_runs[map_run]
        above = self._by_id[row.parent].path
        paths = [path for path in self.members if path[:-1] == above and path and path[-1][0] == row.new.number]
        return {path[-1][1]: self.members[path] for path in paths}

    def alive(self) -> Iterator[Member]:
        """Executions that have not ended."""
        return (member for member in self.members.values() if member.finish is None)
