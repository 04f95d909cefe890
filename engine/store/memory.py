"""The store in memory, for runs and tests without a server: the ports of `engine.ports`, filled from one `MemoryDatabase`.

The contract tests hold it and Postgres to the same behaviour. It must not know the runtime; it loses everything at exit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID

from stepwell.engine.ids import ExecutionId, labelled_machine
from stepwell.engine.machine.chunks import decode_events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.ports import (
    ActivityRecord,
    ApiKeyRecord,
    CommitEntry,
    ConnectionRecord,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterStatus,
    ExecutionFilter,
    ExecutionView,
    ExpressStart,
    ExpressView,
    FunctionRecord,
    MachineRecord,
    NewExecution,
    Page,
    Revision,
)
from stepwell.engine.store.machines import DEFAULT_HOME, arn_in
from stepwell.engine.store.pages import Part, make_position, page_of, read_position
from stepwell.engine.store.views import (
    DEAD_LETTERS,
    EXECUTIONS,
    events_in,
    history_range,
    input_of,
    scope_of,
    with_data,
)

T = TypeVar("T")


@dataclass(slots=True)
class StoredRow:
    """An execution: its row, as readers see it, and its chunks. `rev` counts the commits."""

    view: ExecutionView
    rev: int
    chunks: list[bytes] = field(default_factory=list)
    snapshot_rev: int = 0
    redrive_token: str | None = None
    map_run: ExecutionId | None = None
    map_item: int = 0


@dataclass(slots=True)
class ExpressRow:
    """An asynchronous Express execution."""

    start: ExpressStart
    owner: UUID | None
    claimed_at: int
    ended: ExpressView | None = None


@dataclass(slots=True)
class MemoryDatabase:
    """All rows. What is written by a commit is written by `commit`, as the group commit writes it to Postgres."""

    machines: dict[int, MachineRecord] = field(default_factory=dict)
    """The newest revision of each machine by key, deleted ones too."""
    deleted: set[int] = field(default_factory=set)
    revisions: dict[tuple[int, int], Revision] = field(default_factory=dict)
    executions: dict[ExecutionId, StoredRow] = field(default_factory=dict)
    letters: dict[int, DeadLetter] = field(default_factory=dict)
    express: dict[ExecutionId, ExpressRow] = field(default_factory=dict)
    activities: dict[str, ActivityRecord] = field(default_factory=dict)
    functions: dict[str, FunctionRecord] = field(default_factory=dict)
    connections: dict[str, ConnectionRecord] = field(default_factory=dict)
    api_keys: dict[str, ApiKeyRecord] = field(default_factory=dict)

    pending_redrive: Callable[[StoredRow], bool] = lambda _: False
    """Whether a child waits to be redriven, for which one must know Map Runs."""

    def live(self, arn: str) -> MachineRecord | None:
        """The machine of this ARN that is not deleted."""
        found = (one for key, one in self.machines.items() if one.arn == arn and key not in self.deleted)
        return next(found, None)

    def commit(self, entry: CommitEntry, now: int) -> bool:
        """Write one step's execution, history and dead letter; False if it was computed from another revision."""
        row = self.executions.get(entry.id)
        if (row.rev if row is not None else 0) != entry.rev or (row is None) != (entry.new is not None):
            return False
        if row is None:
            assert entry.new is not None
            row = self.begin(entry.id, entry.new)
        row.rev += 1
        row.chunks.append(entry.chunk)
        row.view = replace(
            row.view,
            status=entry.status,
            stopped_at=None if entry.status is Status.RUNNING else entry.stopped_at or row.view.stopped_at,
            last_event=entry.last_event,
            redrive_count=entry.redrive_count,
            redriven_at=entry.redriven_at,
        )
        if entry.full_snapshot:
            row.snapshot_rev = row.rev
        row.redrive_token = entry.redrive_token or row.redrive_token
        if entry.redriven:
            for letter in [each for each in self.letters.values() if each.execution == entry.id]:
                if letter.status is DeadLetterStatus.OPEN:
                    self.letters[letter.id] = replace(letter, status=DeadLetterStatus.REDRIVEN, closed_at=now)
        if entry.dead_letter is not None:
            new, view, id = entry.dead_letter, row.view, len(self.letters) + 1
            self.letters[id] = DeadLetter(
                id=id,
                kind=new.kind,
                execution=entry.id,
                execution_arn=view.arn,
                machine_arn=view.machine_arn,
                machine_name=view.machine_name,
                state=new.state,
                attempt=new.attempt,
                error=new.error,
                cause=new.cause,
                input=None,
                at=now,
                redrive_count=view.redrive_count,
            )
        return True

    def begin(self, id: ExecutionId, new: NewExecution) -> StoredRow:
        """Write a new execution that has not taken its first step."""
        machine = self.machines[new.machine_key]
        view = ExecutionView(
            id=id,
            arn=new.arn,
            name=new.name,
            machine_arn=machine.arn,
            machine_name=machine.name,
            machine_key=new.machine_key,
            revision=new.revision,
            status=Status.RUNNING,
            started_at=new.started_at,
            trace_header=new.trace_header,
            version_arn=new.version_arn,
            alias_arn=new.alias_arn,
        )
        row = self.executions[id] = StoredRow(view, 0)
        return row


def page(
    rows: Iterable[T],
    key: Callable[[T], tuple[Any, ...]],
    scope: str,
    limit: int,
    after: str | None,
    *,
    newest: bool = False,
) -> Page[T]:
    """A page of rows in the order of `key` (or the other way round, `newest`); keys are of int, str and bytes."""
    ordered = sorted(rows, key=key, reverse=newest)
    if after is not None and ordered:
        parts = tuple(read_position(scope, after, tuple(type(part) for part in _parts(key(ordered[0])))))
        ordered = [row for row in ordered if (_parts(key(row)) < parts if newest else _parts(key(row)) > parts)]
    return page_of(ordered, limit, lambda row: row, lambda row: make_position(scope, *_parts(key(row))))


def _parts(key: tuple[Any, ...]) -> tuple[Part, ...]:
    return tuple(part.hex() if isinstance(part, bytes) else part for part in key)


class MemoryMachines:
    """`MachineStore`."""

    def __init__(self, database: MemoryDatabase, home: tuple[str, str] = DEFAULT_HOME) -> None:
        self._database = database
        self._home = home

    async def create(self, record: MachineRecord) -> MachineRecord | None:
        database = self._database
        if database.live(record.arn) is not None:
            return None
        record = replace(record, key=len(database.machines) + 1)
        self._keep(record)
        return record

    def _keep(self, record: MachineRecord) -> None:
        self._database.machines[record.key] = record
        self._database.revisions[record.key, record.revision] = Revision(
            record.key, record.revision, record.definition, record.role_arn, record.revision_id, record.updated_at
        )

    async def update(
        self,
        arn: str,
        *,
        definition: str | None,
        role_arn: str | None,
        logging: str | None,
        tracing: str | None,
        encryption: str | None,
        revision_id: str,
        now: int,
    ) -> MachineRecord | None:
        old = self._database.live(arn)
        if old is None:
            return None
        record = replace(
            old,
            definition=old.definition if definition is None else definition,
            role_arn=old.role_arn if role_arn is None else role_arn,
            logging=old.logging if logging is None else logging,
            tracing=old.tracing if tracing is None else tracing,
            encryption=old.encryption if encryption is None else encryption,
            revision=old.revision + 1,
            revision_id=revision_id,
            updated_at=now,
        )
        self._keep(record)
        return record

    async def get(self, arn: str) -> MachineRecord | None:
        return self._database.live(arn)

    async def by_name(self, name: str) -> MachineRecord | None:
        database = self._database
        found = [one for key, one in database.machines.items() if one.name == name and key not in database.deleted]
        at_home = [one for one in found if one.arn.endswith(arn_in(self._home, name))]
        return at_home[0] if at_home else found[0] if len(found) == 1 else None

    async def revision(self, machine_key: int, revision: int) -> Revision | None:
        return self._database.revisions.get((machine_key, revision))

    async def list(self, limit: int, after: str | None) -> Page[MachineRecord]:
        database = self._database
        rows = [one for key, one in database.machines.items() if key not in database.deleted]
        return page(rows, lambda one: (one.created_at, one.key), "machines", limit, after)

    async def delete(self, arn: str) -> bool:
        record = self._database.live(arn)
        if record is None:
            return False
        self._database.deleted.add(record.key)
        return True


class MemoryExecutions:
    """`ExecutionReader`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def describe(self, id: ExecutionId, *, data: bool = True) -> ExecutionView | None:
        row = self._database.executions.get(id)
        if row is None:
            return None
        if not data:
            return self._shown(row.view)
        first = row.chunks[0] if row.chunks else None
        with_events = (one for one in reversed(row.chunks) if decode_events(one).first_event <= row.view.last_event)
        return with_data(self._shown(row.view), first, next(with_events, None))

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExecutionView]:
        keys = {key for key, one in self._database.machines.items() if one.arn == where.machine_arn}
        live = self._database.live(where.machine_arn or "")
        of = live.key if live is not None else max(keys, default=0)

        def shown(one: ExecutionView) -> bool:
            return (
                where.map_run == self._database.executions[one.id].map_run
                and (where.machine_arn is None or one.machine_key == of)
                and (where.pending_redrive is None or self._shown(one).pending_redrive is where.pending_redrive)
                and (where.redriven is None or (one.redrive_count > 0) is where.redriven)
                and (where.status is None or one.status is where.status)
                and (where.started_after is None or one.started_at >= where.started_after)
                and (where.started_before is None or one.started_at < where.started_before)
                and (where.name_prefix is None or one.name.startswith(where.name_prefix))
            )

        rows = [self._shown(row.view) for row in self._database.executions.values() if shown(row.view)]
        scope = scope_of(EXECUTIONS, where)
        return page(rows, lambda one: (one.started_at, one.id), scope, limit, after, newest=True)

    async def history(
        self, id: ExecutionId, *, after: int = 0, limit: int = 100, reverse: bool = False
    ) -> tuple[Sequence[tuple[int, HistoryEvent]], int] | None:
        row = self._database.executions.get(id)
        if row is None:
            return None
        last = row.view.last_event
        return events_in(history_range(last, after, limit, reverse), row.chunks), last

    def _shown(self, view: ExecutionView) -> ExecutionView:
        row = self._database.executions[view.id]
        if row.map_run is None:
            return view
        machine_arn, machine_name = labelled_machine(view.arn)
        pending = self._database.pending_redrive(row)
        return replace(view, machine_arn=machine_arn, machine_name=machine_name, pending_redrive=pending)


class MemoryDeadLetters:
    """`DeadLetterStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def list(self, where: DeadLetterFilter, limit: int, after: str | None) -> Page[DeadLetter]:
        def shown(one: DeadLetter) -> bool:
            return (
                (where.machine_arn is None or one.machine_arn == where.machine_arn)
                and (where.state is None or one.state == where.state)
                and (where.error is None or one.error == where.error)
                and (where.status is None or one.status is where.status)
                and (where.after is None or one.at >= where.after)
                and (where.before is None or one.at < where.before)
            )

        rows = [one for one in self._database.letters.values() if shown(one)]
        scope = scope_of(DEAD_LETTERS, where)
        return page(rows, lambda one: (one.at, one.id), scope, limit, after, newest=True)

    async def get(self, id: int) -> DeadLetter | None:
        letter = self._database.letters.get(id)
        if letter is None:
            return None
        chunks = self._database.executions[letter.execution].chunks
        return replace(letter, input=input_of(chunks[0] if chunks else None))

    async def close(self, id: int, status: DeadLetterStatus, now: int) -> bool:
        letter = self._database.letters.get(id)
        if letter is None or letter.status is not DeadLetterStatus.OPEN:
            return False
        self._database.letters[id] = replace(letter, status=status, closed_at=now)
        return True
