"""Asynchronous Express executions: their starts and how they ended.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE express_execution (
    id UUID NOT NULL,
    owner UUID,
    attempt SMALLINT NOT NULL,
    status SMALLINT NOT NULL,
    machine_key INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL,
    arn TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    stopped_at BIGINT,
    trace_header TEXT,
    version_arn TEXT,
    alias_arn TEXT,
    input BYTEA NOT NULL,
    output BYTEA,
    error TEXT,
    cause TEXT,
    CONSTRAINT express_execution_pkey PRIMARY KEY (id),
    CONSTRAINT express_execution_status_check CHECK (status IN (1, 2, 3, 4, 5)),
    CONSTRAINT express_execution_attempt_check CHECK (attempt >= 0),
    CONSTRAINT express_execution_stopped_at_check CHECK ((stopped_at IS NULL) = (status = 1))
)
    """,
    """
CREATE INDEX express_running_idx ON express_execution (owner) WHERE status = 1
    """,
    """
CREATE INDEX express_machine_started_idx ON express_execution (machine_key, started_at, id)
    """,
    """
CREATE INDEX express_started_idx ON express_execution (started_at, id)
    """,
)

LZ4_COLUMNS = (("express_execution", "input"), ("express_execution", "output"))
LZ4 = (
    "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))"
    " THEN ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4; END IF; END $$"
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement.strip())
    for table, column in LZ4_COLUMNS:
        op.execute(LZ4.format(table=table, column=column))
