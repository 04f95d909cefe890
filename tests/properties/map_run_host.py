"""Where the Map Runs of a random execution run: the runtime's own, in virtual time, over the store in memory; killed at will."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, cast
from uuid import UUID

import msgspec

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import SHARD_COUNT, ExecutionId, execution_id
from stepwell.engine.jsontypes import write
from stepwell.engine.machine.events import MapRunFinished
from stepwell.engine.machine.map_events import MapRunEvent, Message
from stepwell.engine.machine.map_run import SourceItem, child_machine
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.map_ports import MapRunEntry, NewChild, StoredMapRun
from stepwell.engine.ports import CommitEntry, MachineRecord, NewExecution, Revision
from stepwell.engine.query.jsonata import Evaluation, Outcome
from stepwell.engine.runtime.express import Express
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.map_runs import MapRuns
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.store.memory_map_runs import MemoryMapRuns
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore, ShardRow
from tests.properties.chance import Chance
from tests.properties.distributed import BROKEN_BUCKET, OBJECTS
from tests.simulation.loop import PROCESS, SimulatedLoop
from tests.simulation.network import run_now

MACHINE_KEY = REVISION = 1
NO_EXPRESS = cast(Express, None)
"""Nobody runs Express children here: those of the random machines are Standard ones."""
MOST_ROUNDS = 1000

_message: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Objects:
    """Object storage: what the random machines read, and what their Map Runs have written."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str], bytes] = {}

    async def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        items = OBJECTS.get(reader.arguments["Key"])
        if items is None:
            raise StatesError(ErrorName.ITEM_READER_FAILED, "There is no such object.")
        for index, item in enumerate(items[int(cursor or 0) :], int(cursor or 0) + 1):
            yield SourceItem(write(item), str(index), source="s3://bucket/key")

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        if bucket == BROKEN_BUCKET:
            raise StatesError(ErrorName.RESULT_WRITER_FAILED, "The bucket is broken.")
        self.written[bucket, key] = data

    async def close(self) -> None: ...


class MortalMapRuns(MemoryMapRuns):
    """The store of Map Runs. With `dying` each commit is the last thing that its node does, or that it knows of."""

    def __init__(self, store: MemoryRuntimeStore, host: MapRunHost, dying: Chance | None) -> None:
        super().__init__(store, host)
        self._host = host
        self._dying = dying
        self._spared: MapRunEntry | None = None

    async def commit_map_run(self, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        if self._dying is None:
            return await super().commit_map_run(node, entry)
        if self._spared is None and self._dying.often(25):
            self._spared = entry
            await self._host.die()
        self._spared = None
        starts = await super().commit_map_run(node, entry)
        if self._dying.often(25):
            self._host.interruptions += 1
            raise StoreUnavailableError("The connection was lost (the statement took effect).")
        stops_only = not (entry.inbox_gone or entry.items_new or entry.items_started or entry.stopped_at)
        if self._dying.often(50 if stops_only else 90):  # a successor would ask the same children again to stop
            await self._host.die()
        return starts


class Seeds:
    """Names for nodes."""

    def __init__(self) -> None:
        self._last = 0

    def seed(self) -> int:
        self._last += 1
        return self._last


class Executions(Protocol):
    """The executions that start Map Runs and are started by them: a family."""

    model: StateMachine
    now: int

    def receive(self, id: ExecutionId, message: Message) -> None: ...


class MapRunHost:
    """A node that runs nothing but Map Runs, and its successors."""

    def __init__(
        self,
        executions: Executions,
        arn: str,
        name: str,
        started_at: int,
        dying: Chance | None,
        evaluate: Callable[[Evaluation], Outcome],
    ) -> None:
        self._executions = executions
        self._evaluate = evaluate
        self._loop = SimulatedLoop()  # type: ignore[abstract] # sockets, signals and processes are what it does without
        self._seeds = Seeds()
        self._process = 0
        self._dead = False
        self._delivered: set[int] = set()
        self._machines: dict[str, StateMachine] = {}
        self.interruptions = 0
        self.objects = Objects()
        self.store = MemoryRuntimeStore(self)
        self.map_runs = MortalMapRuns(self.store, self, dying)
        self._make_parent(arn, name, started_at)
        self._begin()

    # -- clock -----------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._executions.now

    def monotonic(self) -> float:
        return self._loop.time()

    # -- driving ---------------------------------------------------------------------------------------------------

    def _make_parent(self, arn: str, name: str, started_at: int) -> None:
        """Rows of the machine and of the first execution, as far as Map Runs ask for them."""
        machine_arn = arn.replace(":execution:", ":stateMachine:").rpartition(":")[0]
        role = "arn:aws:iam::000000000000:role/stepwell"
        database = self.store.database
        database.machines[MACHINE_KEY] = MachineRecord(
            key=MACHINE_KEY, arn=machine_arn, name=machine_arn.rpartition(":")[2], type="STANDARD", definition="",
            role_arn=role, revision=REVISION, revision_id=None, created_at=started_at, updated_at=started_at,
        )  # fmt: skip
        database.revisions[MACHINE_KEY, REVISION] = Revision(MACHINE_KEY, REVISION, "", role, None, started_at)
        new = NewExecution(machine_key=MACHINE_KEY, revision=REVISION, name=name, arn=arn, started_at=started_at)
        database.begin(execution_id(arn), new)

    def _begin(self) -> None:
        """A node comes up and takes over."""
        self._process += 1
        self._dead = False
        self._delivered.clear()
        node = UUID(int=self._process)
        self.store.shards = [ShardRow(node) for _ in range(SHARD_COUNT)]
        identity = Identity(self.store, node, self._seeds)
        self._runs = MapRuns(
            self.map_runs, self, identity, self, self._seeds, self.objects, self._carry_out, NO_EXPRESS
        )
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self._process)
        self._soon(lambda: asyncio.ensure_future(self._runs.take(range(SHARD_COUNT))))
        self._soon(self._deliver)

    def _soon(self, callback: Callable[[], object]) -> None:
        """Have this happen on the node."""
        self._loop.call_soon(callback, context=self._context)

    async def die(self) -> None:
        """Called on the node: nothing more of it happens."""
        self._dead = True
        await asyncio.get_running_loop().create_future()

    def commit(self, entry: CommitEntry) -> None:
        """Write a step of an execution: its node is always there."""
        node = self.store.shards[entry.shard].owner
        assert node is not None
        assert run_now(self.store.commit(node, [entry])) == {entry.id}

    def settle(self) -> None:
        """Go on, round by round, until nobody has anything to do: Map Runs do what they can, then executions are told of it."""
        for _ in range(MOST_ROUNDS):
            self._do_what_can_be_done()
            rows = [self._row(number) for number in self.store.inbox_rows]
            if not rows:
                return
            for number, receiver, message in sorted(rows, key=_order):
                if receiver not in self.store.map_runs:
                    del self.store.inbox_rows[number]
                    self._executions.receive(receiver, message)
        raise AssertionError("what is in the inboxes is never done with")

    def _do_what_can_be_done(self) -> None:
        self._soon(self._deliver)
        while True:
            self._loop.run_dry()
            if not self._dead:
                return
            self.interruptions += 1
            self._loop.kill(self._process)
            self._loop.bury()
            self._begin()

    def _deliver(self) -> None:
        """Hand to Map Runs what is in their inboxes."""
        for number, receiver, message in [self._row(number) for number in self.store.inbox_rows]:
            if receiver in self.store.map_runs and number not in self._delivered:
                assert isinstance(message, MapRunEvent)
                self._delivered.add(number)
                self._runs.deliver(receiver, message, number)

    def _row(self, number: int) -> tuple[int, ExecutionId, Message]:
        _, receiver, data = self.store.inbox_rows[number]
        return number, receiver, _message.decode(data)

    def close(self) -> None:
        """Nothing happens here any more."""
        self._loop.bury()

    async def _carry_out(self, evaluation: Evaluation) -> Outcome:
        return self._evaluate(evaluation)

    # -- what Map Runs ask of their node ---------------------------------------------------------------------------

    def may_act(self) -> bool:
        return True

    async def machine(self, key: int, revision: int, processor: str | None = None) -> StateMachine:
        if processor is None:
            return self._executions.model
        if processor not in self._machines:
            self._machines[processor] = child_machine(self._executions.model, processor)
        return self._machines[processor]

    def adopt(self, info: ExecutionInfo, machine: StateMachine, child: NewChild, run: StoredMapRun, row: int) -> None:
        """Children are begun by what is in their inbox."""

    def consumed(self, row: int) -> None:
        self._delivered.discard(row)
        if row in self.store.inbox_rows:  # by a step that came to nothing
            self._soon(self._deliver)

    def forgotten(self, receiver: ExecutionId, row: int) -> None:
        self.consumed(row)

    def posted(self, receivers: Sequence[ExecutionId]) -> None:
        """Inboxes are looked through anyway."""


def _order(row: tuple[int, ExecutionId, Message]) -> tuple[ExecutionId, int, int]:
    """In which order executions are told: not that in which Map Runs came to write it, which a crash may change."""
    number, receiver, message = row
    return receiver, message.map_run if isinstance(message, MapRunFinished) else 0, number
