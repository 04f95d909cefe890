"""The schema: every table, index and constraint, as SQLAlchemy metadata.

Times are bigint milliseconds since the epoch, except where Postgres's own clock judges (leases). There are no foreign keys on
the hot tables. The tables of the commit path carry no index on a column that changes from step to step, so that their updates
stay heap-only (HOT). A migration in `migrations/versions` makes the same schema; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.schema import DDL

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.ids import SHARD_COUNT
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.ports import FunctionKind
from stepwell.engine.store.codes import (
    DEAD_LETTER_CODES,
    DEAD_LETTER_KINDS,
    MACHINE_STATUSES,
    MACHINE_TYPES,
    MAP_RUN_CODES,
    STATUS_CODES,
    TARGET_CODES,
    TASK_CODES,
    TIMER_CODES,
)

metadata: Final = MetaData(
    naming_convention={"pk": "%(table_name)s_pkey", "ck": "%(table_name)s_%(constraint_name)s_check"}
)


def _one_of(name: str, values: Iterable[int | str]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in values)
    return CheckConstraint(f"{name} IN ({listed})", name=name)


def _codes(codes: Iterable[int]) -> list[int]:
    return sorted(int(code) for code in codes)


def _int(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, nullable=options.pop("nullable", False), **options)


def _small(name: str, **options: Any) -> Column[int]:
    return Column(name, SmallInteger, nullable=options.pop("nullable", False), **options)


def _ms(name: str, **options: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=options.pop("nullable", False), **options)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=options.pop("nullable", False), **options)


def _sorted_text(name: str) -> Column[str]:
    """A text that listings are sorted by: in the order of its bytes, whatever the database's collation."""
    return Column(name, Text(collation="C"), primary_key=True)


def _bytes(name: str, **options: Any) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=options.pop("nullable", False), **options)


def _uuid(name: str, **options: Any) -> Column[Any]:
    return Column(name, Uuid, nullable=options.pop("nullable", False), **options)


def _lease(name: str) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=False)


def _after_create(table: Table, statement: str) -> None:
    """A statement that belongs to the making of a table."""
    event.listen(table, "after_create", DDL(statement))  # type: ignore[no-untyped-call]


def _shard() -> Column[int]:
    return _small("shard")


# ----------------------------------------------------------------------------------------------- cluster and ownership

cluster = Table(
    "cluster",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    _int("shard_count", server_default=text(str(SHARD_COUNT))),
    _bytes("secret"),
    _ms("created_at"),
    CheckConstraint("singleton", name="singleton"),
    CheckConstraint("octet_length(secret) = 32", name="secret"),
)
"""One row: what all nodes of this database share."""

node = Table(
    "node",
    metadata,
    _uuid("incarnation", primary_key=True),
    _text("address", nullable=True),
    _text("capabilities", server_default=text("'{}'")),
    _int("snapshot_version"),
    _lease("started_at"),
    _lease("expires_at"),
    postgresql_with={"fillfactor": 50},
)
"""Engine processes. The lease is here: one row renewed, whatever the number of shards."""

shard = Table(
    "shard",
    metadata,
    _small("id", primary_key=True, autoincrement=False),
    _uuid("owner", nullable=True),
    _ms("epoch", server_default=text("0")),
    CheckConstraint(f"id BETWEEN 0 AND {SHARD_COUNT - 1}", name="id"),
    postgresql_with={"fillfactor": 50},
)

worker = Table(
    "worker",
    metadata,
    _uuid("incarnation", primary_key=True),
    _text("host"),
    _int("pid"),
    _text("queues", server_default=text("''")),
    Column("running", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _lease("expires_at"),
    postgresql_with={"fillfactor": 50},
)

# -------------------------------------------------------------------------------------------------------- state machines

state_machine = Table(
    "state_machine",
    metadata,
    Column("key", Integer, Identity(always=True), primary_key=True),
    _text("arn"),
    _text("name"),
    _text("type"),
    _text("status"),
    _int("revision"),
    _ms("created_at"),
    _ms("updated_at"),
    _text("logging", nullable=True),
    _text("tracing", nullable=True),
    _text("encryption", nullable=True),
    _text("description", nullable=True),
    _ms("deleted_at", nullable=True),
    _one_of("type", MACHINE_TYPES),
    _one_of("status", MACHINE_STATUSES),
    CheckConstraint("revision > 0", name="revision"),
)
Index("state_machine_arn_key", state_machine.c.arn, unique=True, postgresql_where=state_machine.c.deleted_at.is_(None))
Index("state_machine_name_idx", state_machine.c.name)
Index("state_machine_created_at_idx", state_machine.c.created_at, state_machine.c.key)

state_machine_revision = Table(
    "state_machine_revision",
    metadata,
    _int("machine_key", primary_key=True, autoincrement=False),
    _int("revision", primary_key=True, autoincrement=False),
    _text("definition"),
    _text("role_arn"),
    _text("revision_id", nullable=True),
    _ms("updated_at"),
)

# ------------------------------------------------------------------------------------------------------------ executions

execution = Table(
    "execution",
    metadata,
    _uuid("id", primary_key=True),
    _shard(),
    _int("rev"),
    _small("status"),
    _int("machine_key"),
    _int("revision"),
    _text("name"),
    _text("arn"),
    _int("bucket"),
    _ms("started_at"),
    _ms("stopped_at", nullable=True),
    _int("last_event"),
    _int("snapshot_rev", server_default=text("0")),
    _small("redrive_count", server_default=text("0")),
    _ms("redriven_at", nullable=True),
    _text("redrive_token", nullable=True),
    _text("trace_header", nullable=True),
    _text("version_arn", nullable=True),
    _text("alias_arn", nullable=True),
    _uuid("map_run", nullable=True),
    _int("map_item", nullable=True),
    _one_of("status", _codes(STATUS_CODES.values())),
    CheckConstraint("rev >= 0 AND snapshot_rev BETWEEN 0 AND rev", name="rev"),
    CheckConstraint("last_event >= 0", name="last_event"),
    CheckConstraint("redrive_count >= 0", name="redrive_count"),
    CheckConstraint("(stopped_at IS NULL) = (status = 1)", name="stopped_at"),
    CheckConstraint("(map_run IS NULL) = (map_item IS NULL)", name="map_run"),
    postgresql_with={"fillfactor": 70},
)
"""Small and of almost fixed size; its position and data are in the chunks. Listings are by start, never by status."""
Index(
    "execution_machine_started_idx",
    execution.c.machine_key,
    execution.c.started_at,
    execution.c.id,
    postgresql_where=execution.c.map_run.is_(None),
)
Index(
    "execution_map_run_idx",
    execution.c.map_run,
    execution.c.started_at,
    execution.c.id,
    postgresql_where=execution.c.map_run.is_not(None),
)
Index("execution_started_idx", execution.c.started_at, execution.c.id)

history_chunk = Table(
    "history_chunk",
    metadata,
    _int("bucket", primary_key=True, autoincrement=False),
    _uuid("execution_id", primary_key=True),
    _int("rev", primary_key=True, autoincrement=False),
    _int("first_event"),
    _int("last_event"),
    _bytes("data"),
    postgresql_partition_by="LIST (bucket)",
)
"""What each commit added to an execution (`chunks.Chunk`), in one partition a month. Written once, never changed."""
_after_create(history_chunk, "ALTER TABLE history_chunk ALTER COLUMN data SET STORAGE EXTERNAL")
_after_create(history_chunk, "CREATE TABLE history_chunk_default PARTITION OF history_chunk DEFAULT")

# ------------------------------------------------------------------------------------------------------ tasks and timers

task = Table(
    "task",
    metadata,
    _uuid("execution_id", primary_key=True),
    _int("task", primary_key=True, autoincrement=False),
    _shard(),
    _small("kind"),
    _small("status"),
    _text("resource"),
    _int("scheduled_event"),
    _int("attempt"),
    _small("delivery", server_default=text("0")),
    _bytes("secret"),
    _uuid("worker", nullable=True),
    _ms("sent_at", nullable=True),
    _ms("started_at", nullable=True),
    _int("heartbeat_seconds", nullable=True),
    _ms("heartbeat_at", nullable=True),
    _text("state"),
    _int("entry"),
    _int("timeout_seconds", nullable=True),
    _bytes("outcome", nullable=True),
    _ms("created_at"),
    _one_of("kind", _codes(TARGET_CODES.values())),
    _one_of("status", TASK_CODES),
    CheckConstraint("delivery >= 0 AND attempt >= 0", name="attempt"),
    postgresql_with={"fillfactor": 70},
)
"""Open tasks. `status` and `worker` change as a task goes on and are in no index, not even as a partial one's condition:
the tasks of a dead worker are found through their shard."""
Index("task_shard_idx", task.c.shard)
Index(
    "task_activity_idx",
    task.c.resource,
    task.c.created_at,
    postgresql_where=task.c.kind == text(str(TARGET_CODES[TargetKind.ACTIVITY])),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    _uuid("execution_id", primary_key=True),
    _int("task", primary_key=True, autoincrement=False),
    _ms("at"),
    postgresql_with={"fillfactor": 50},
)

timer = Table(
    "timer",
    metadata,
    _uuid("execution_id", primary_key=True),
    _int("timer", primary_key=True, autoincrement=False),
    _shard(),
    _ms("due_at"),
    _small("kind"),
    _int("task", nullable=True),
    _one_of("kind", _codes(TIMER_CODES.values())),
)
Index("timer_due_idx", timer.c.shard, timer.c.due_at)

inbox = Table(
    "inbox",
    metadata,
    _small("shard", primary_key=True, autoincrement=False),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _uuid("execution_id"),
    _bytes("event"),
    _ms("created_at"),
)
"""Events for executions of other owners. Read by shard and consumed by key; never by `id > last seen`."""

# -------------------------------------------------------------------------------------------------------------- Map Runs

map_run = Table(
    "map_run",
    metadata,
    _uuid("id", primary_key=True),
    _shard(),
    _int("rev", server_default=text("0")),
    _small("status"),
    _uuid("execution_id"),
    _int("number"),
    _text("arn"),
    _text("state"),
    _ms("started_at"),
    _ms("stopped_at", nullable=True),
    _ms("redriven_at", nullable=True),
    _int("max_concurrency"),
    _ms("tolerated_count", nullable=True),
    Column("tolerated_percentage", Double, nullable=True),
    _bytes("spec"),
    _bytes("progress"),
    Column("express", Boolean, nullable=False, server_default=text("false")),
    _one_of("status", _codes(MAP_RUN_CODES.values())),
    CheckConstraint("(stopped_at IS NULL) = (status = 1)", name="stopped_at"),
    CheckConstraint("rev >= 0", name="rev"),
    postgresql_with={"fillfactor": 50},
)
"""Map Runs, each written by the owner of its shard alone. `progress` is small whatever the number of items."""
Index("map_run_execution_idx", map_run.c.execution_id, map_run.c.started_at, map_run.c.id)
Index("map_run_open_idx", map_run.c.shard, postgresql_where=map_run.c.stopped_at.is_(None))

map_item = Table(
    "map_item",
    metadata,
    _uuid("map_run", primary_key=True),
    _int("item", primary_key=True, autoincrement=False),
    _small("status"),
    _int("size"),
    _small("redrives", server_default=text("0")),
    _ms("started_at", server_default=text("0")),
    _ms("stopped_at", server_default=text("0")),
    _bytes("input"),
    _bytes("output", nullable=True),
    _text("error", nullable=True),
    _text("cause", nullable=True),
    _int("losses", server_default=text("0")),
    _one_of("status", [int(status) for status in ItemStatus]),
    CheckConstraint("size > 0", name="size"),
    postgresql_with={"fillfactor": 70},
)
"""The children of Map Runs: what each is given, and how it ended.

There is no index on the status. With 100,000 children, looking for the few that run takes 43 ms without one and 1 ms with one for those that
have not ended; it is done once when a node takes a Map Run over, and once when one is redriven. Every child would pay: none of its
two updates would stay in the page (44 % of the updates did without the index, under 1 % with it), and 14 % more is written.
"""

# -------------------------------------------------------------------------------------------------------------- Express

express_execution = Table(
    "express_execution",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("owner", nullable=True),
    _small("attempt"),
    _small("status"),
    _int("machine_key"),
    _int("revision"),
    _text("name"),
    _text("arn"),
    _ms("started_at"),
    _ms("claimed_at"),
    _ms("stopped_at", nullable=True),
    _text("trace_header", nullable=True),
    _text("version_arn", nullable=True),
    _text("alias_arn", nullable=True),
    _bytes("input"),
    _bytes("output", nullable=True),
    _text("error", nullable=True),
    _text("cause", nullable=True),
    _one_of("status", _codes(STATUS_CODES.values())),
    CheckConstraint("attempt >= 0", name="attempt"),
    CheckConstraint("(stopped_at IS NULL) = (status = 1)", name="stopped_at"),
)
"""Asynchronous Express executions: written when one starts and when it has ended. `owner` is the node that runs it (null: nobody
has taken it yet), `attempt` counts its runs and fences them: what a run comes to is kept only while it is the newest."""
Index("express_running_idx", express_execution.c.owner, postgresql_where=express_execution.c.status == text("1"))
Index(
    "express_machine_started_idx",
    express_execution.c.machine_key,
    express_execution.c.started_at,
    express_execution.c.id,
)
Index("express_started_idx", express_execution.c.started_at, express_execution.c.id)

# ---------------------------------------------------------------------------------------------------------- dead letters

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("kind"),
    _uuid("execution_id"),
    _int("machine_key"),
    _text("state", nullable=True),
    _int("attempt", server_default=text("0")),
    _text("error", nullable=True),
    _text("cause", nullable=True),
    _ms("at"),
    _small("status", server_default=text("1")),
    _ms("closed_at", nullable=True),
    _int("redrive_count", server_default=text("0")),
    _text("group_key", nullable=True),
    _ms("bulk_job", nullable=True),
    _one_of("kind", DEAD_LETTER_KINDS),
    _one_of("status", _codes(DEAD_LETTER_CODES.values())),
    CheckConstraint("(closed_at IS NULL) = (status = 1)", name="closed_at"),
)
INDEXED_ERROR_CHARS: Final = 256
"""A Fail state's error may be longer than an index entry can be."""
Index("dead_letter_machine_idx", dead_letter.c.machine_key, dead_letter.c.at, dead_letter.c.id)
Index("dead_letter_status_idx", dead_letter.c.status, dead_letter.c.at, dead_letter.c.id)
Index("dead_letter_at_idx", dead_letter.c.at, dead_letter.c.id)
Index(
    "dead_letter_error_idx",
    func.left(dead_letter.c.error, text(str(INDEXED_ERROR_CHARS))),
    dead_letter.c.at,
    dead_letter.c.id,
)
Index("dead_letter_execution_idx", dead_letter.c.execution_id)

# -------------------------------------------------------------------------------- activities, functions, secrets and keys

activity = Table("activity", metadata, _sorted_text("arn"), _text("name"), _ms("created_at"))
Index("activity_created_at_idx", activity.c.created_at, activity.c.arn)

function = Table(
    "function",
    metadata,
    _sorted_text("name"),
    _text("kind"),
    _text("target"),
    _text("options", server_default=text("'{}'")),
    _ms("created_at"),
    _one_of("kind", [kind.value for kind in FunctionKind]),
)

connection = Table(
    "connection",
    metadata,
    _sorted_text("name"),
    _text("arn"),
    _text("auth"),
    _text("settings"),
    _bytes("secret"),
    _ms("created_at"),
)
Index("connection_arn_key", connection.c.arn, unique=True)

api_key = Table(
    "api_key",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _bytes("hash", nullable=True),
    _bytes("secret", nullable=True),
    _ms("created_at"),
    CheckConstraint("hash IS NOT NULL OR secret IS NOT NULL", name="authority"),
)
Index("api_key_hash_key", api_key.c.hash, unique=True)

LARGE_TEXTS: Final = (
    state_machine_revision.c.definition,
    dead_letter.c.cause,
    task.c.outcome,
    inbox.c.event,
    map_run.c.spec,
    map_item.c.input,
    map_item.c.output,
    express_execution.c.input,
    express_execution.c.output,
)
"""Columns compressed with lz4 where the server was built with it; it is several times faster than Postgres's own method."""
for _column in LARGE_TEXTS:
    _after_create(
        _column.table,
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))"
        f" THEN ALTER TABLE {_column.table.name} ALTER COLUMN {_column.name} SET COMPRESSION lz4; END IF; END $$",
    )
