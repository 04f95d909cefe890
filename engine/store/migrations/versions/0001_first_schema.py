"""The first schema: ownership, state machines, executions and their history, tasks, timers, dead letters, registries.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE cluster (
    singleton BOOLEAN DEFAULT true NOT NULL,
    shard_count INTEGER DEFAULT 256 NOT NULL,
    secret BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT cluster_pkey PRIMARY KEY (singleton),
    CONSTRAINT cluster_singleton_check CHECK (singleton),
    CONSTRAINT cluster_secret_check CHECK (octet_length(secret) = 32)
)
    """,
    """
CREATE TABLE node (
    incarnation UUID NOT NULL,
    address TEXT,
    capabilities TEXT DEFAULT '{}' NOT NULL,
    snapshot_version INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT node_pkey PRIMARY KEY (incarnation)
)
 WITH (fillfactor = 50)
    """,
    """
CREATE TABLE shard (
    id SMALLINT NOT NULL,
    owner UUID,
    epoch BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT shard_pkey PRIMARY KEY (id),
    CONSTRAINT shard_id_check CHECK (id BETWEEN 0 AND 255)
)
 WITH (fillfactor = 50)
    """,
    """
CREATE TABLE worker (
    incarnation UUID NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    queues TEXT DEFAULT '' NOT NULL,
    running TEXT[] DEFAULT '{}' NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT worker_pkey PRIMARY KEY (incarnation)
)
 WITH (fillfactor = 50)
    """,
    """
CREATE TABLE state_machine (
    key INTEGER GENERATED ALWAYS AS IDENTITY,
    arn TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    logging TEXT,
    tracing TEXT,
    encryption TEXT,
    description TEXT,
    deleted_at BIGINT,
    CONSTRAINT state_machine_pkey PRIMARY KEY (key),
    CONSTRAINT state_machine_type_check CHECK (type IN ('STANDARD', 'EXPRESS')),
    CONSTRAINT state_machine_status_check CHECK (status IN ('ACTIVE', 'DELETING')),
    CONSTRAINT state_machine_revision_check CHECK (revision > 0)
)
    """,
    """
CREATE UNIQUE INDEX state_machine_arn_key ON state_machine (arn) WHERE deleted_at IS NULL
    """,
    """
CREATE INDEX state_machine_name_idx ON state_machine (name)
    """,
    """
CREATE INDEX state_machine_created_at_idx ON state_machine (created_at, key)
    """,
    """
CREATE TABLE state_machine_revision (
    machine_key INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    definition TEXT NOT NULL,
    role_arn TEXT NOT NULL,
    revision_id TEXT,
    updated_at BIGINT NOT NULL,
    CONSTRAINT state_machine_revision_pkey PRIMARY KEY (machine_key, revision)
)
    """,
    """
CREATE TABLE execution (
    id UUID NOT NULL,
    shard SMALLINT NOT NULL,
    rev INTEGER NOT NULL,
    status SMALLINT NOT NULL,
    machine_key INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL,
    arn TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    started_at BIGINT NOT NULL,
    stopped_at BIGINT,
    last_event INTEGER NOT NULL,
    snapshot_rev INTEGER DEFAULT 0 NOT NULL,
    redrive_count SMALLINT DEFAULT 0 NOT NULL,
    redriven_at BIGINT,
    redrive_token TEXT,
    trace_header TEXT,
    version_arn TEXT,
    alias_arn TEXT,
    CONSTRAINT execution_pkey PRIMARY KEY (id),
    CONSTRAINT execution_status_check CHECK (status IN (1, 2, 3, 4, 5)),
    CONSTRAINT execution_rev_check CHECK (rev >= 0 AND snapshot_rev BETWEEN 0 AND rev),
    CONSTRAINT execution_last_event_check CHECK (last_event >= 0),
    CONSTRAINT execution_redrive_count_check CHECK (redrive_count >= 0),
    CONSTRAINT execution_stopped_at_check CHECK ((stopped_at IS NULL) = (status = 1))
)
 WITH (fillfactor = 70)
    """,
    """
CREATE INDEX execution_started_idx ON execution (started_at, id)
    """,
    """
CREATE INDEX execution_machine_started_idx ON execution (machine_key, started_at, id)
    """,
    """
CREATE TABLE history_chunk (
    bucket INTEGER NOT NULL,
    execution_id UUID NOT NULL,
    rev INTEGER NOT NULL,
    first_event INTEGER NOT NULL,
    last_event INTEGER NOT NULL,
    data BYTEA NOT NULL,
    CONSTRAINT history_chunk_pkey PRIMARY KEY (bucket, execution_id, rev)
) PARTITION BY LIST (bucket)
    """,
    """
ALTER TABLE history_chunk ALTER COLUMN data SET STORAGE EXTERNAL
    """,
    """
CREATE TABLE history_chunk_default PARTITION OF history_chunk DEFAULT
    """,
    """
CREATE TABLE task (
    execution_id UUID NOT NULL,
    task INTEGER NOT NULL,
    shard SMALLINT NOT NULL,
    kind SMALLINT NOT NULL,
    status SMALLINT NOT NULL,
    resource TEXT NOT NULL,
    scheduled_event INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    delivery SMALLINT DEFAULT 0 NOT NULL,
    secret BYTEA NOT NULL,
    worker UUID,
    sent_at BIGINT,
    started_at BIGINT,
    heartbeat_seconds INTEGER,
    heartbeat_at BIGINT,
    state TEXT NOT NULL,
    entry INTEGER NOT NULL,
    timeout_seconds INTEGER,
    outcome BYTEA,
    created_at BIGINT NOT NULL,
    CONSTRAINT task_pkey PRIMARY KEY (execution_id, task),
    CONSTRAINT task_kind_check CHECK (kind IN (1, 2, 3, 4, 5)),
    CONSTRAINT task_status_check CHECK (status IN (1, 2, 3)),
    CONSTRAINT task_attempt_check CHECK (delivery >= 0 AND attempt >= 0)
)
 WITH (fillfactor = 70)
    """,
    """
CREATE INDEX task_shard_idx ON task (shard)
    """,
    """
CREATE INDEX task_activity_idx ON task (resource, created_at) WHERE kind = 2
    """,
    """
CREATE TABLE heartbeat (
    execution_id UUID NOT NULL,
    task INTEGER NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT heartbeat_pkey PRIMARY KEY (execution_id, task)
)
 WITH (fillfactor = 50)
    """,
    """
CREATE TABLE timer (
    execution_id UUID NOT NULL,
    timer INTEGER NOT NULL,
    shard SMALLINT NOT NULL,
    due_at BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    task INTEGER,
    CONSTRAINT timer_pkey PRIMARY KEY (execution_id, timer),
    CONSTRAINT timer_kind_check CHECK (kind IN (1, 2, 3, 4, 5))
)
    """,
    """
CREATE INDEX timer_due_idx ON timer (shard, due_at)
    """,
    """
CREATE TABLE inbox (
    shard SMALLINT NOT NULL,
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    execution_id UUID NOT NULL,
    event BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT inbox_pkey PRIMARY KEY (shard, id)
)
    """,
    """
CREATE TABLE dead_letter (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    execution_id UUID NOT NULL,
    machine_key INTEGER NOT NULL,
    state TEXT,
    attempt INTEGER DEFAULT 0 NOT NULL,
    error TEXT,
    cause TEXT,
    at BIGINT NOT NULL,
    status SMALLINT DEFAULT 1 NOT NULL,
    closed_at BIGINT,
    redrive_count INTEGER DEFAULT 0 NOT NULL,
    group_key TEXT,
    bulk_job BIGINT,
    CONSTRAINT dead_letter_pkey PRIMARY KEY (id),
    CONSTRAINT dead_letter_kind_check CHECK (kind IN ('execution', 'delivery')),
    CONSTRAINT dead_letter_status_check CHECK (status IN (1, 2, 3)),
    CONSTRAINT dead_letter_closed_at_check CHECK ((closed_at IS NULL) = (status = 1))
)
    """,
    """
CREATE INDEX dead_letter_machine_idx ON dead_letter (machine_key, at, id)
    """,
    """
CREATE INDEX dead_letter_status_idx ON dead_letter (status, at, id)
    """,
    """
CREATE INDEX dead_letter_error_idx ON dead_letter (left(error, 256), at, id)
    """,
    """
CREATE INDEX dead_letter_at_idx ON dead_letter (at, id)
    """,
    """
CREATE INDEX dead_letter_execution_idx ON dead_letter (execution_id)
    """,
    """
CREATE TABLE activity (
    arn TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT activity_pkey PRIMARY KEY (arn)
)
    """,
    """
CREATE INDEX activity_created_at_idx ON activity (created_at, arn)
    """,
    """
CREATE TABLE function (
    name TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    options TEXT DEFAULT '{}' NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT function_pkey PRIMARY KEY (name),
    CONSTRAINT function_kind_check CHECK (kind IN ('python', 'celery', 'http'))
)
    """,
    """
CREATE TABLE connection (
    name TEXT COLLATE "C" NOT NULL,
    arn TEXT NOT NULL,
    auth TEXT NOT NULL,
    settings TEXT NOT NULL,
    secret BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT connection_pkey PRIMARY KEY (name)
)
    """,
    """
CREATE UNIQUE INDEX connection_arn_key ON connection (arn)
    """,
    """
CREATE TABLE api_key (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    hash BYTEA,
    secret BYTEA,
    created_at BIGINT NOT NULL,
    CONSTRAINT api_key_pkey PRIMARY KEY (id),
    CONSTRAINT api_key_authority_check CHECK (hash IS NOT NULL OR secret IS NOT NULL)
)
    """,
    """
CREATE UNIQUE INDEX api_key_hash_key ON api_key (hash)
    """,
)

LZ4_COLUMNS = (
    ("state_machine_revision", "definition"),
    ("task", "outcome"),
    ("inbox", "event"),
    ("dead_letter", "cause"),
)
LZ4 = (
    "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))"
    " THEN ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4; END IF; END $$"
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement.strip())
    for table, column in LZ4_COLUMNS:
        op.execute(LZ4.format(table=table, column=column))
