"""Rows turned into columns: a batch of steps as the arrays that `queries/commit.sql` takes.

One pass over the entries; their groups and types are those of `commit_statements.GROUPS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto

from stepwell.engine.ids import shard_of
from stepwell.engine.ports import CommitEntry
from stepwell.engine.store.codes import STATUS_CODES, TARGET_CODES, TIMER_CODES, bucket_of
from stepwell.engine.store.commit_statements import GROUPS, statement_for

_encoder = msgspec.json.Encoder()


class Columns:
    """Collects the columns of one batch."""

    def __init__(self, entries: Sequence[CommitEntry]) -> None:
        self.shards: set[int] = set()
        self.closing: list[tuple[UUID, int, bool, UUID | None]] = []
        self.stepped: list[tuple[object, ...]] = []
        self.begun: list[tuple[object, ...]] = []
        self.chunks: list[tuple[object, ...]] = []
        self.tasks_new: list[tuple[object, ...]] = []
        self.tasks_closed: list[tuple[object, ...]] = []
        self.tasks_started: list[tuple[object, ...]] = []
        self.timers_new: list[tuple[object, ...]] = []
        self.timers_gone: list[tuple[object, ...]] = []
        self.inbox_gone: list[tuple[object, ...]] = []
        self.letters: list[tuple[object, ...]] = []
        self.redriven: list[tuple[object, ...]] = []
        self.map_runs_new: list[tuple[object, ...]] = []
        self.posts: list[tuple[object, ...]] = []
        for entry in sorted(entries, key=_key):
            self._add(entry)

    def _add(self, entry: CommitEntry) -> None:
        id = pgproto.UUID(entry.id)  # the driver reads its own kind several times as fast
        self.shards.add(entry.shard)
        status = STATUS_CODES[entry.status]
        new = entry.new
        if new is not None:
            self.begun.append(
                (
                    id, entry.shard, status, entry.stopped_at, entry.last_event, new.machine_key, new.revision, new.name,
                    new.arn, bucket_of(new.started_at), new.started_at, new.trace_header, new.version_arn, new.alias_arn,
                )
            )  # fmt: skip
        else:
            self.stepped.append(
                (
                    id, entry.shard, entry.rev, status, entry.stopped_at, entry.last_event, entry.full_snapshot,
                    entry.redrive_count, entry.redriven_at, entry.redrive_token,
                )
            )  # fmt: skip
        self.chunks.append((id, entry.first_event, entry.last_event, entry.chunk))
        for task in entry.tasks_new:
            self.tasks_new.append(
                (
                    id, task.task, TARGET_CODES[task.kind], task.resource, task.scheduled_event, task.attempt, task.secret,
                    storable(task.state), task.entry, task.heartbeat_seconds, task.timeout_seconds,
                )
            )  # fmt: skip
        for number, known in entry.tasks_closed:
            self.closing.append((id, number, known, None))
            self.tasks_closed.append((id, number))
        for number, worker in entry.tasks_started:
            by = UUID(worker) if worker is not None else None
            self.closing.append((id, number, False, by))
            self.tasks_started.append((id, number, by))
        for timer, due_at, kind, of_task in entry.timers_new:
            self.timers_new.append((id, timer, due_at, TIMER_CODES[kind], of_task))
        self.timers_gone.extend((id, timer) for timer in entry.timers_gone)
        self.inbox_gone.extend((id, entry.shard, row) for row in entry.inbox_gone)
        letter = entry.dead_letter
        if letter is not None:
            self.letters.append(
                (
                    letter.kind,
                    id,
                    storable(letter.state),
                    letter.attempt,
                    storable(letter.error),
                    storable(letter.cause),
                )
            )
        if entry.redriven:
            self.redriven.append((id,))
        for run in entry.map_runs_new:
            self.map_runs_new.append(
                (
                    id, pgproto.UUID(run.id), shard_of(run.id), run.number, run.arn, storable(run.state), run.max_concurrency,
                    run.tolerated_count, run.tolerated_percentage, run.spec, run.express,
                )
            )  # fmt: skip
        for receiver, message in entry.posts:
            self.posts.append((id, pgproto.UUID(receiver), shard_of(receiver), _encoder.encode(message)))

    def statement(self, node: UUID, now: int) -> tuple[str, list[Any]]:
        """The statement that commits these rows, and its parameters in order."""
        groups: dict[str, list[tuple[Any, ...]]] = {name: getattr(self, name) for name in GROUPS}
        chosen = statement_for({name for name, rows in groups.items() if rows})
        scalars: dict[str, object] = {"shards": sorted(self.shards), "node": node, "now": now}
        arguments: list[Any] = []
        for name in chosen.names:
            if name in scalars:
                arguments.append(scalars[name])
            else:
                arguments += _turn(groups[name], len(GROUPS[name]))
        return chosen.text, arguments


def _key(entry: CommitEntry) -> bytes:
    return entry.id


def storable(text: str | None) -> str | None:
    """Text that Postgres can keep: U+0000, which it cannot, is shown as the replacement character."""
    return text.replace("\x00", "\ufffd") if text is not None else None


def _turn(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    if not rows:
        return [[] for _ in range(width)]
    return [list(column) for column in zip(*rows, strict=True)]
