"""The durable side of the runtime in Postgres: group commit, loading, leases, inbox, timers and tasks.

Commits go over a connection of their own, so that nothing queues before them and their plans stay pinned to index scans.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from stepwell.engine.clock import Clock
from stepwell.engine.errors import BadBatchError, NotOwnerError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, as_uuid, claim_key, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Event, Started, TaskStarted
from stepwell.engine.machine.map_events import Message
from stepwell.engine.messages import Claim, WorkerReport
from stepwell.engine.ports import (
    CommitEntry,
    InboxRow,
    NewExecution,
    NodeRow,
    OpenTaskRow,
    StoredExecution,
    TaskAnswer,
)
from stepwell.engine.store.codes import STATUS_OF, TARGET_OF, TASK_STARTED, UNKNOWN_WORKER_GRACE_MS, bucket_of
from stepwell.engine.store.columns import Columns
from stepwell.engine.store.failures import convert
from stepwell.engine.store.sql import QUERIES

NOTIFY_CHANNEL = "stepwell_inbox"

_event_encoder = msgspec.json.Encoder()
_event_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)

_COMMIT_SESSION = (
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET synchronous_commit = on",
    "SET jit = off",
)
"""A plan cached while a table was empty would scan it for ever; these pin the commit to index look-ups."""


_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """As `failures.store_errors`, but a value the database refuses is told apart, and whatever else it says means: not now."""
    try:
        yield
    except _REFUSED as error:
        raise BadBatchError(f"The database refuses a value: {error}") from error
    except Exception as error:
        if convert(error) is None:
            raise
        raise StoreUnavailableError(f"The database cannot be reached or refuses work: {error}") from error


class PostgresRuntimeStore:
    """`ports.RuntimeStore` over asyncpg. `dsn` makes the commit connections, `pool` serves everything else."""

    def __init__(self, dsn: str, pool: asyncpg.Pool[Any], clock: Clock, *, notify: bool = True) -> None:
        self._dsn = dsn
        self._pool = pool
        self._clock = clock
        self._notify = notify
        self._idle: list[asyncpg.Connection[Any]] = []
        self._is_closed = False

    async def close(self) -> None:
        """Close the commit connections; those at work are closed when they are given back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    # -- group commit ----------------------------------------------------------------------------------------------

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        statement, arguments = Columns(entries).statement(node, self._clock.now_ms())
        rows = await self.fetch_committing(statement, *arguments)
        return {ExecutionId(row[0].bytes) for row in rows}

    async def fetch_committing(self, statement: str, *arguments: Any) -> list[Any]:
        """Run a statement that commits something, over a connection whose plans are pinned."""
        async with store_errors():
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                rows = await connection.fetch(statement, *arguments)
            except _REFUSED:
                self._give_back(connection)
                raise
            except BaseException:
                connection.terminate()  # nobody knows whether it committed: never use its session again
                raise
            self._give_back(connection)
        return list(rows)

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection = await asyncpg.connect(self._dsn, timeout=10, command_timeout=30)
        try:
            for setting in _COMMIT_SESSION:
                await connection.execute(setting)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _give_back(self, connection: asyncpg.Connection[Any]) -> None:
        if self._is_closed:
            connection.terminate()
        else:
            self._idle.append(connection)

    # -- loading ---------------------------------------------------------------------------------------------------

    async def load(self, id: ExecutionId) -> StoredExecution | None:
        async with store_errors():
            row = await self._pool.fetchrow(QUERIES["load"], as_uuid(id))
        if row is None:
            return None
        return StoredExecution(
            id=id,
            rev=row["rev"],
            status=STATUS_OF[row["status"]],
            machine_key=row["machine_key"],
            revision=row["revision"],
            machine_arn=row["machine_arn"],
            machine_name=row["machine_name"],
            role_arn=row["role_arn"],
            name=row["name"],
            arn=row["arn"],
            started_at=row["started_at"],
            stopped_at=row["stopped_at"],
            last_event=row["last_event"],
            redrive_count=row["redrive_count"],
            redriven_at=row["redriven_at"],
            redrive_token=row["redrive_token"],
            trace_header=row["trace_header"],
            version_arn=row["version_arn"],
            alias_arn=row["alias_arn"],
            chunks=row["chunks"],
            first_chunk=row["first_chunk"],
            map_run=ExecutionId(row["map_run"].bytes) if row["map_run"] is not None else None,
            map_item=row["map_item"] or 0,
            processor=row["processor"],
        )

    async def status(self, id: ExecutionId) -> Status | None:
        async with store_errors():
            code = await self._pool.fetchval("SELECT status FROM execution WHERE id = $1", as_uuid(id))
        return STATUS_OF[code] if code is not None else None

    async def task_secret(self, id: ExecutionId, task: int) -> bytes | None:
        async with store_errors():
            secret: bytes | None = await self._pool.fetchval(
                "SELECT secret FROM task WHERE execution_id = $1 AND task = $2 AND outcome IS NULL", as_uuid(id), task
            )
        return secret

    async def chunks_with(self, id: ExecutionId, events: Sequence[int]) -> Sequence[bytes]:
        async with store_errors():
            rows = await self._pool.fetch(QUERIES["chunks_with"], as_uuid(id), list(events))
        return [row["data"] for row in rows]

    async def open_tasks(self, shards: Sequence[int]) -> Sequence[OpenTaskRow]:
        async with store_errors():
            return [_task(row) for row in await self._pool.fetch(QUERIES["open_tasks"], list(shards))]

    async def lost_tasks(self, shards: Sequence[int], forgotten_before: int = 0) -> Sequence[OpenTaskRow]:
        grace = self._clock.now_ms() - UNKNOWN_WORKER_GRACE_MS
        async with store_errors():
            return [
                _task(row)
                for row in await self._pool.fetch(QUERIES["lost_tasks"], list(shards), grace, forgotten_before)
            ]

    async def timers_due(self, shards: Sequence[int], until: int, limit: int) -> Sequence[tuple[ExecutionId, int, int]]:
        async with store_errors():
            rows = await self._pool.fetch(QUERIES["timers_due"], list(shards), until, limit)
        return [(ExecutionId(row[0].bytes), row[1], row[2]) for row in rows]

    # -- inbox -----------------------------------------------------------------------------------------------------

    async def inbox(
        self, shards: Sequence[int], limit: int, rows: Collection[int] = (), receivers: Collection[ExecutionId] = ()
    ) -> Sequence[InboxRow]:
        without = list(rows), [as_uuid(id) for id in receivers]
        async with store_errors():
            found = await self._pool.fetch(QUERIES["inbox"], list(shards), limit, *without)
        return [InboxRow(row[0], ExecutionId(row[1].bytes), _event_decoder.decode(row[2])) for row in found]

    async def post(self, execution: ExecutionId, event: Event) -> None:
        async with store_errors():
            shard = await self._pool.fetchval(
                QUERIES["post"], as_uuid(execution), _event_encoder.encode(event), self._clock.now_ms()
            )
        await self._hint(shard)

    async def post_start(self, execution: ExecutionId, new: NewExecution, input: Document) -> bool:
        event = _event_encoder.encode(Started(msgspec.Raw(input.text)))
        async with store_errors():
            shard = await self._pool.fetchval(
                QUERIES["post_start"], as_uuid(execution), shard_of(execution), new.machine_key, new.revision, new.name,
                new.arn, bucket_of(new.started_at), new.started_at, new.trace_header, new.version_arn, new.alias_arn, event,
            )  # fmt: skip
        await self._hint(shard)
        return shard is not None

    async def post_outcome(self, execution: ExecutionId, task: int, secret: bytes, event: Event) -> TaskAnswer:
        key = as_uuid(execution)
        async with store_errors():
            shard = await self._pool.fetchval(
                QUERIES["post_outcome"], key, task, secret, _event_encoder.encode(event), self._clock.now_ms()
            )
            if shard is None:
                return await self._closed(key)
        await self._hint(shard)
        return TaskAnswer.ACCEPTED

    async def _closed(self, key: UUID) -> TaskAnswer:
        known = await self._pool.fetchval("SELECT 1 FROM execution WHERE id = $1", key)
        return TaskAnswer.TIMED_OUT if known else TaskAnswer.INVALID

    async def post_claim(self, execution: ExecutionId, claim: Claim) -> bool:
        key = as_uuid(execution)
        event = _event_encoder.encode(TaskStarted(claim.task, claim.name))
        async with store_errors():
            secret = await self._pool.fetchval(
                "SELECT secret FROM task WHERE execution_id = $1 AND task = $2 AND outcome IS NULL", key, claim.task
            )
            if secret is None or claim_key(secret) != claim.key:
                return False
            shard = await self._pool.fetchval(
                QUERIES["post_claim"], key, claim.task, UUID(claim.worker), event, self._clock.now_ms(), secret,
                UUID(claim.holder) if claim.holder is not None else None,
            )  # fmt: skip
        await self._hint(shard)
        return shard is not None

    async def post_heartbeat(self, execution: ExecutionId, task: int, secret: bytes, now: int) -> TaskAnswer:
        key = as_uuid(execution)
        async with store_errors():
            known = await self._pool.fetchval(
                "SELECT 1 FROM task WHERE execution_id = $1 AND task = $2 AND secret = $3 AND outcome IS NULL",
                key, task, secret,
            )  # fmt: skip
            if known is None:
                return await self._closed(key)
            await self._pool.execute(
                "INSERT INTO heartbeat (execution_id, task, at) VALUES ($1, $2, $3) "
                "ON CONFLICT (execution_id, task) DO UPDATE SET at = greatest(heartbeat.at, excluded.at)",
                key, task, now,
            )  # fmt: skip
        return TaskAnswer.ACCEPTED

    async def last_heartbeat(self, execution: ExecutionId, task: int) -> int:
        async with store_errors():
            at = await self._pool.fetchval(
                "SELECT at FROM heartbeat WHERE execution_id = $1 AND task = $2", as_uuid(execution), task
            )
        return at or 0

    async def take_activity_task(self, resource: str, worker: str | None) -> tuple[ExecutionId, int, bytes, int] | None:
        now = self._clock.now_ms()
        async with store_errors(), self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(QUERIES["take_activity_task"], resource, now)
            if row is None:
                return None
            event = _event_encoder.encode(TaskStarted(row["task"], worker))
            await connection.execute(
                "INSERT INTO inbox (shard, execution_id, event, created_at) VALUES ($1, $2, $3, $4)",
                row["shard"], row["execution_id"], event, now,
            )  # fmt: skip
        await self._hint(row["shard"])
        return ExecutionId(row["execution_id"].bytes), row["task"], row["secret"], row["scheduled_event"]

    async def requeue_tasks(
        self, tasks: Sequence[tuple[ExecutionId, int, str]], forgotten_before: int = 0
    ) -> set[tuple[ExecutionId, int]]:
        grace = self._clock.now_ms() - UNKNOWN_WORKER_GRACE_MS
        async with store_errors():
            rows = await self._pool.fetch(
                QUERIES["requeue_tasks"],
                [as_uuid(id) for id, _, _ in tasks],
                [task for _, task, _ in tasks],
                [UUID(worker) for _, _, worker in tasks],
                grace,
                forgotten_before,
            )
        return {(ExecutionId(row[0].bytes), row[1]) for row in rows}

    async def mark_sent(self, tasks: Sequence[tuple[ExecutionId, int]], now: int) -> None:
        async with store_errors():
            await self._pool.execute(
                "UPDATE task t SET status = 2, sent_at = $3 FROM unnest($1::uuid[], $2::int[]) AS r (id, task) "
                "WHERE t.execution_id = r.id AND t.task = r.task AND t.status = 1",
                [as_uuid(id) for id, _ in tasks],
                [task for _, task in tasks],
                now,
            )

    async def report_worker(self, report: WorkerReport, lease_seconds: int) -> None:
        async with store_errors():
            await self._pool.execute(
                "INSERT INTO worker (incarnation, host, pid, queues, expires_at, running) "
                "VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 second', $6) "
                "ON CONFLICT (incarnation) DO UPDATE "
                "SET expires_at = excluded.expires_at, queues = excluded.queues, running = excluded.running",
                UUID(report.worker), report.host, report.pid, ",".join(report.queues),
                -1 if report.ended else lease_seconds, report.running,
            )  # fmt: skip

    async def _hint(self, shard: int | None) -> None:
        """Tell the owner that there is something in its inbox. Only a hint: polling finds it too."""
        if shard is None or not self._notify:
            return
        try:
            await self._pool.execute("SELECT pg_notify($1, $2)", NOTIFY_CHANNEL, str(shard))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return

    async def hint_all(self) -> None:
        """Tell all nodes that there may be something in their inboxes."""
        await self._hint(-1)

    # -- leases ----------------------------------------------------------------------------------------------------

    async def register_node(self, incarnation: UUID, address: str | None, ttl_ms: int) -> None:
        async with store_errors():
            await self._pool.execute(
                "INSERT INTO node (incarnation, address, capabilities, snapshot_version, started_at, expires_at) "
                "VALUES ($1, $2, '{}', 1, clock_timestamp(), clock_timestamp() + $3 * interval '1 millisecond')",
                incarnation, address, ttl_ms,
            )  # fmt: skip

    async def renew_node(self, incarnation: UUID, ttl_ms: int) -> Sequence[NodeRow]:
        async with store_errors():
            if await self._pool.fetchval(QUERIES["renew_node"], incarnation, ttl_ms) is None:
                raise NotOwnerError("This node's lease was lost and has been cleaned up; it must start anew.")
        return await self.live_nodes()

    async def live_nodes(self) -> Sequence[NodeRow]:
        async with store_errors():
            rows = await self._pool.fetch("SELECT incarnation, address FROM node WHERE expires_at > clock_timestamp()")
        return [NodeRow(row[0], row[1]) for row in rows]

    async def started_input(self, id: ExecutionId) -> bytes | None:
        async with store_errors():
            rows = await self._pool.fetch("SELECT event FROM inbox WHERE execution_id = $1 ORDER BY id", as_uuid(id))
        for row in rows:
            event = _event_decoder.decode(row[0])
            if isinstance(event, Started):
                return bytes(event.input)
        return None

    async def remove_node(self, incarnation: UUID) -> None:
        async with store_errors():
            await self._pool.execute("UPDATE shard SET owner = NULL, epoch = epoch + 1 WHERE owner = $1", incarnation)
            await self._pool.execute("DELETE FROM node WHERE incarnation = $1", incarnation)

    async def rename_node(self, incarnation: UUID, fresh: UUID) -> None:
        async with store_errors():
            await self._pool.execute(QUERIES["rename_node"], incarnation, fresh)

    async def take_shards(self, incarnation: UUID, most: int) -> Sequence[int]:
        async with store_errors():
            return [row[0] for row in await self._pool.fetch(QUERIES["take_shards"], incarnation, most)]

    async def owned_shards(self, incarnation: UUID) -> Sequence[int]:
        async with store_errors():
            return [row[0] for row in await self._pool.fetch("SELECT id FROM shard WHERE owner = $1", incarnation)]

    async def release_shards(self, incarnation: UUID, shards: Sequence[int]) -> None:
        async with store_errors():
            await self._pool.execute(
                "UPDATE shard SET owner = NULL, epoch = epoch + 1 WHERE owner = $1 AND id = ANY ($2::smallint[])",
                incarnation, list(shards),
            )  # fmt: skip

    async def shard_owners(self) -> dict[int, UUID]:
        async with store_errors():
            rows = await self._pool.fetch("SELECT id, owner FROM shard WHERE owner IS NOT NULL")
        return {row[0]: row[1] for row in rows}

    # -- hints -----------------------------------------------------------------------------------------------------

    async def listen(self, wake: asyncio.Event) -> None:
        """Set `wake` whenever something is put into an inbox; returns when the connection is lost. A hint only."""
        async with store_errors():
            connection = await asyncpg.connect(self._dsn, timeout=10)
            lost = asyncio.get_running_loop().create_future()

            def on_loss(_: object) -> None:
                if not lost.done():
                    lost.set_result(None)

            try:
                connection.add_termination_listener(on_loss)
                await connection.add_listener(NOTIFY_CHANNEL, lambda *_: wake.set())
                await lost
            finally:
                connection.terminate()


def _task(row: Any) -> OpenTaskRow:
    return OpenTaskRow(
        execution=ExecutionId(row["execution_id"].bytes),
        task=row["task"],
        kind=TARGET_OF[row["kind"]],
        started=row["status"] == TASK_STARTED,
        resource=row["resource"],
        scheduled_event=row["scheduled_event"],
        attempt=row["attempt"],
        delivery=row["delivery"],
        secret=row["secret"],
        state=row["state"],
        entry=row["entry"],
        worker=str(row["worker"]) if row["worker"] is not None else None,
        heartbeat_seconds=row["heartbeat_seconds"],
        timeout_seconds=row["timeout_seconds"],
    )
