"""`stepwell db check`: what must be true of a database at every moment, whatever crashed, looked at row by row.

Works beside a running cluster: each batch of executions is read in one snapshot. Memory is bounded by one batch's rows and
one execution's open frames. Reads only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec
import zstandard

from stepwell.engine.ids import SHARD_COUNT, ExecutionId, as_uuid
from stepwell.engine.machine.chunks import Chunk, decode
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import TERMINAL
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.machine.snapshot import Delta, Folded, fold
from stepwell.engine.store.codes import STATUS_OF, TIMER_OF
from stepwell.engine.store.failures import store_errors
from stepwell.engine.store.sql import QUERIES
from stepwell.engine.store.statements import Connection, Row

MOST_EXAMPLES: Final = 5
BATCH: Final = 200
_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=(1 << 128) - 1)

LAST_EVENT: Final[dict[Status, str]] = {
    Status.SUCCEEDED: "ExecutionSucceeded",
    Status.FAILED: "ExecutionFailed",
    Status.TIMED_OUT: "ExecutionTimedOut",
    Status.ABORTED: "ExecutionAborted",
}

INVARIANTS: Final[dict[str, str]] = {
    "shards": f"The shards 0 to {SHARD_COUNT - 1} are there, each once, and the cluster has its row.",
    "shard of execution": "An execution lies in the shard its key names.",
    "task without execution": "A task belongs to an execution, and lies in its shard.",
    "timer without execution": "A timer belongs to an execution, and lies in its shard.",
    "inbox without execution": "What is in an inbox is for an execution or Map Run that exists, and lies in its shard.",
    "map run": "A Map Run belongs to an execution, and lies in the shard its key names.",
    "map run counts": "A Map Run has counted its children and their items as they stand.",
    "child of map run": "A child execution stands in its Map Run as running, or as it has ended; its Map Run knows it.",
    "ended map run": "A Map Run that has ended has no children that run.",
    "dead letter without execution": "A dead letter belongs to an execution.",
    "first step": "An execution that has not taken its first step has the event that starts it in its owner's inbox.",
    "chunk numbers": "The chunks of an execution are numbered 1, 2, ... up to its revision.",
    "chunk readable": "Every chunk can be read.",
    "event numbers": "Events are numbered 1, 2, ... without gaps, up to the execution's last event.",
    "previous event": "An event follows an earlier one.",
    "first event": "The first event is ExecutionStarted.",
    "terminal event": "After an event that ends the execution nothing comes but its redrive.",
    "redrive count": "The execution was redriven as often as it says.",
    "status": "The status is what the last event says.",
    "snapshot": "The position of the execution can be put together from its chunks, and stands behind the last event.",
    "task without frame": "Each task row is the open task of one frame.",
    "frame without task": "Each frame's open task has its row.",
    "timer without frame": "Each timer row is one that the execution waits for, at the same time and of the same kind.",
    "frame without timer": "Each timer that the execution waits for has its row.",
    "express execution": "Each Express execution has its definition, a node only if it was run, and an output only if it succeeded.",
    "ended but open": "An execution that has ended has no tasks and no timers.",
}
"""What is checked, by name."""

_ITEM_STATUSES: Final = ", ".join(f"({status.value}, '{status.name.lower()}')" for status in ItemStatus)

_OF_ALL: Final[dict[str, str]] = {
    "shards": (
        "SELECT 'shard ' || n FROM cluster c CROSS JOIN generate_series(0, c.shard_count - 1) n"
        " LEFT JOIN shard s ON s.id = n WHERE s.id IS NULL"
        " UNION ALL SELECT 'cluster' WHERE NOT EXISTS (SELECT FROM cluster)"
    ),
    "task without execution": (
        "SELECT t.execution_id || ' task ' || t.task FROM task t LEFT JOIN execution e ON e.id = t.execution_id"
        " WHERE e.id IS NULL OR e.shard <> t.shard"
    ),
    "timer without execution": (
        "SELECT t.execution_id || ' timer ' || t.timer FROM timer t LEFT JOIN execution e ON e.id = t.execution_id"
        " WHERE e.id IS NULL OR e.shard <> t.shard"
    ),
    "inbox without execution": (
        "SELECT i.execution_id || ' inbox ' || i.id FROM inbox i LEFT JOIN execution e ON e.id = i.execution_id"
        " LEFT JOIN map_run m ON m.id = i.execution_id"
        " WHERE coalesce(e.shard, m.shard) IS NULL OR coalesce(e.shard, m.shard) <> i.shard"
    ),
    "map run": (
        "SELECT m.id::text FROM map_run m LEFT JOIN execution e ON e.id = m.execution_id"
        " WHERE e.id IS NULL OR m.shard <> get_byte(uuid_send(m.id), 0)"
    ),
    "map run counts": (
        "WITH run AS MATERIALIZED (SELECT id, coalesce(convert_from(progress, 'UTF8')::json, '{}') AS p FROM map_run)"  # noqa: S608
        ", standing AS MATERIALIZED ("
        "  SELECT map_run, status, count(*) AS executions, sum(size) AS items FROM map_item GROUP BY map_run, status)"
        " SELECT r.id || ' ' || s.name FROM run r"
        f" CROSS JOIN (VALUES {_ITEM_STATUSES}) s (status, name)"
        " LEFT JOIN standing c ON c.map_run = r.id AND c.status = s.status"
        " WHERE coalesce(c.executions, 0) <> coalesce((r.p->'executions'->>s.name)::bigint, 0)"
        " OR coalesce(c.items, 0) <> coalesce((r.p->'items'->>s.name)::bigint, 0)"
        " UNION ALL SELECT r.id || ' made' FROM run r"
        " WHERE (SELECT coalesce(sum(executions), 0) FROM standing c WHERE c.map_run = r.id)"
        " <> coalesce((r.p->>'made')::bigint, 0)"
    ),
    "child of map run": (
        "SELECT e.id::text FROM execution e JOIN map_run m ON m.id = e.map_run LEFT JOIN map_item i ON i.map_run = e.map_run AND i.item = e.map_item"
        " WHERE e.map_run IS NOT NULL AND (i.item IS NULL OR"
        " (e.status = 1 AND i.status <> 2) OR (e.status > 1 AND i.status NOT IN (1, 2, e.status + 1)))"
    ),
    "ended map run": (
        "SELECT m.id || ' item ' || i.item FROM map_run m JOIN map_item i ON i.map_run = m.id"
        " WHERE m.stopped_at IS NOT NULL AND i.status = 2"
    ),
    "express execution": (
        "SELECT e.id::text FROM express_execution e"
        " LEFT JOIN state_machine m ON m.key = e.machine_key"
        " LEFT JOIN state_machine_revision r ON r.machine_key = e.machine_key AND r.revision = e.revision"
        " WHERE m.key IS NULL OR r.revision IS NULL OR (e.attempt = 0 AND e.owner IS NOT NULL)"
        " OR (e.status = 2) <> (e.output IS NOT NULL)"
    ),
    "dead letter without execution": (
        "SELECT l.execution_id || ' dead letter ' || l.id FROM dead_letter l LEFT JOIN execution e ON e.id = l.execution_id"
        " WHERE e.id IS NULL"
    ),
}
"""Statements that find the rows which break an invariant, over the whole database."""


@dataclass(slots=True)
class Finding:
    """An invariant that does not hold: in how many places, and some of them."""

    invariant: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def rule(self) -> str:
        """What should be true."""
        return INVARIANTS[self.invariant]


class Findings:
    """Collects what is found."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, invariant: str, place: str) -> None:
        finding = self._found.setdefault(invariant, Finding(invariant))
        finding.count += 1
        if len(finding.examples) < MOST_EXAMPLES:
            finding.examples.append(place)

    def all(self) -> list[Finding]:
        """In the order of `INVARIANTS`."""
        return [self._found[name] for name in INVARIANTS if name in self._found]


async def check(connection: Connection, execution: ExecutionId | None = None, *, batch: int = BATCH) -> list[Finding]:
    """Check a whole database, or one execution; an empty list says that all is well.

    Needs a connection of its own, without a statement time-out (`pool.connect(url, statement_timeout_ms=0)`).
    """
    findings = Findings()
    with store_errors():
        if execution is None:
            await _check_all(connection, findings)
        first, last = (_FIRST, _LAST) if execution is None else (as_uuid(execution), as_uuid(execution))
        while True:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                rows = await connection.fetch(QUERIES["check_executions"], first, last, batch)
                for row in rows:
                    await _check_execution(connection, row, findings)
            if len(rows) < batch or rows[-1]["id"] >= last:
                break
            first = UUID(int=rows[-1]["id"].int + 1)
    return findings.all()


async def _check_all(connection: Connection, findings: Findings) -> None:
    for invariant, statement in _OF_ALL.items():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in connection.cursor(statement):
                findings.add(invariant, row[0])


async def _check_execution(connection: Connection, row: Row, findings: Findings) -> None:
    walk = _Walk(row, findings)
    if row["shard"] != row["id"].bytes[0]:
        walk.add("shard of execution")
    if row["rev"] == 0 and not row["has_inbox"]:
        walk.add("first step")
    async for chunk in _chunks(connection, row["id"]):
        walk.chunk(chunk)
    walk.end()


async def _chunks(connection: Connection, id: UUID) -> AsyncIterator[Row]:
    async for row in connection.cursor(QUERIES["check_chunks"], id, prefetch=10):
        yield row


class _Walk:
    """One execution, chunk by chunk."""

    def __init__(self, row: Row, findings: Findings) -> None:
        self._row = row
        self._findings = findings
        self._status = STATUS_OF[row["status"]]
        self._revs = 0
        self._events = 0
        self._last_type: str | None = None
        self._redrives = 0
        self._deltas: list[Delta] = []
        self._readable = True

    def add(self, invariant: str, detail: str = "") -> None:
        self._findings.add(invariant, f"{self._row['arn']}{': ' if detail else ''}{detail}")

    def chunk(self, row: Row) -> None:
        self._revs += 1
        if row["rev"] != self._revs:
            self.add("chunk numbers", f"chunk {row['rev']} where {self._revs} should be")
            self._revs = row["rev"]
        try:
            chunk = decode(row["data"])
        except (msgspec.MsgspecError, zstandard.ZstdError) as error:
            self.add("chunk readable", f"chunk {row['rev']}: {error}")
            self._readable = False
            return
        first, last = chunk.first_event, chunk.first_event + len(chunk.events) - 1
        if first != self._events + 1 or (row["first_event"], row["last_event"]) != (first, last):
            self.add("event numbers", f"chunk {row['rev']} has {first} to {last} after {self._events}")
        self._walk_events(chunk)
        self._events = last
        if chunk.delta is not None and row["rev"] >= max(self._row["snapshot_rev"], 1):
            if row["rev"] == self._row["snapshot_rev"] and not chunk.delta.full:
                self.add("snapshot", f"chunk {row['rev']} is no full snapshot")
            self._deltas.append(chunk.delta)

    def _walk_events(self, chunk: Chunk) -> None:
        for id, event in enumerate(chunk.events, chunk.first_event):
            if id == 1 and event.type != "ExecutionStarted":
                self.add("first event", event.type)
            if not 0 <= event.previous < id:
                self.add("previous event", f"event {id} follows {event.previous}")
            redriven = event.type == "ExecutionRedriven"
            if (self._last_type in TERMINAL) != redriven:
                self.add("terminal event", f"event {id}, {event.type}, follows {self._last_type}")
            self._redrives += redriven
            self._last_type = event.type

    def end(self) -> None:
        """All chunks have been seen."""
        row = self._row
        if self._revs != row["rev"]:
            self.add("chunk numbers", f"{self._revs} chunks at revision {row['rev']}")
        if not self._readable:
            return
        if self._events != row["last_event"]:
            self.add("event numbers", f"{self._events} events, the last should be {row['last_event']}")
        if self._redrives != row["redrive_count"]:
            self.add("redrive count", f"{self._redrives} redrives, redrive count {row['redrive_count']}")
        said = LAST_EVENT.get(self._status)
        if (self._last_type if self._last_type in TERMINAL else None) != said:
            self.add("status", f"{self._status} after {self._last_type}")
        if self._status is not Status.RUNNING and (row["tasks"] or row["timers"]):
            self.add("ended but open", f"tasks {row['tasks']}, timers {row['timers']}")
        if row["rev"]:
            self._position()

    def _position(self) -> None:
        try:
            folded = fold(self._deltas)
        except ValueError as error:
            self.add("snapshot", str(error))
            return
        if folded.last.next_event != self._events + 1:
            self.add("snapshot", f"stands at event {folded.last.next_event}, {self._events} were written")
        if self._status is Status.RUNNING:
            self._compare(folded)

    def _compare(self, folded: Folded) -> None:
        row = self._row
        open_tasks = [frame.task.task for frame in folded.frames.values() if frame.task is not None]
        for task in sorted(set(row["tasks"]) - set(open_tasks)):
            self.add("task without frame", f"task {task}")
        for task in sorted(set(open_tasks) - set(row["tasks"])):
            self.add("frame without task", f"task {task}")
        if len(open_tasks) != len(set(open_tasks)):
            self.add("task without frame", f"two frames share a task: {sorted(open_tasks)}")
        rows = _timers(row["timers"], row["timers_due"], [TIMER_OF[kind] for kind in row["timer_kinds"]])
        wanted = {(id, timer.due_at, timer.kind) for id, timer in folded.timers.items()}
        going_on = {timer for timer in rows if timer[0] == 0}  # of an execution that has used up its slice
        if bool(going_on) != bool(folded.last.ready):
            self.add("frame without timer" if folded.last.ready else "timer without frame", "timer 0")
        rows -= going_on
        for timer in sorted(rows - wanted):
            self.add("timer without frame", f"timer {timer[0]}")
        for timer in sorted(wanted - rows):
            self.add("frame without timer", f"timer {timer[0]}")


def _timers(*columns: list[Any]) -> set[tuple[Any, ...]]:
    return set(zip(*columns, strict=True))
