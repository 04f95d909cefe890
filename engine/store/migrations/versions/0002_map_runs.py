"""Map Runs: their rows and those of their children; executions know their Map Run, listings by machine leave children out.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE map_run (
    id UUID NOT NULL,
    shard SMALLINT NOT NULL,
    rev INTEGER DEFAULT 0 NOT NULL,
    status SMALLINT NOT NULL,
    execution_id UUID NOT NULL,
    number INTEGER NOT NULL,
    arn TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    stopped_at BIGINT,
    redriven_at BIGINT,
    max_concurrency INTEGER NOT NULL,
    tolerated_count BIGINT,
    tolerated_percentage DOUBLE PRECISION,
    spec BYTEA NOT NULL,
    progress BYTEA NOT NULL,
    CONSTRAINT map_run_pkey PRIMARY KEY (id),
    CONSTRAINT map_run_status_check CHECK (status IN (1, 2, 3, 5)),
    CONSTRAINT map_run_stopped_at_check CHECK ((stopped_at IS NULL) = (status = 1)),
    CONSTRAINT map_run_rev_check CHECK (rev >= 0)
)
 WITH (fillfactor = 50)
    """,
    """
CREATE INDEX map_run_execution_idx ON map_run (execution_id, started_at, id)
    """,
    """
CREATE INDEX map_run_open_idx ON map_run (shard) WHERE stopped_at IS NULL
    """,
    """
CREATE TABLE map_item (
    map_run UUID NOT NULL,
    item INTEGER NOT NULL,
    status SMALLINT NOT NULL,
    size INTEGER NOT NULL,
    redrives SMALLINT DEFAULT 0 NOT NULL,
    started_at BIGINT DEFAULT 0 NOT NULL,
    stopped_at BIGINT DEFAULT 0 NOT NULL,
    input BYTEA NOT NULL,
    output BYTEA,
    error TEXT,
    cause TEXT,
    CONSTRAINT map_item_pkey PRIMARY KEY (map_run, item),
    CONSTRAINT map_item_status_check CHECK (status IN (1, 2, 3, 4, 5, 6)),
    CONSTRAINT map_item_size_check CHECK (size > 0)
)
 WITH (fillfactor = 70)
    """,
    "ALTER TABLE execution ADD COLUMN map_run UUID, ADD COLUMN map_item INTEGER",
    "ALTER TABLE execution ADD CONSTRAINT execution_map_run_check CHECK ((map_run IS NULL) = (map_item IS NULL))",
    "CREATE INDEX execution_map_run_idx ON execution (map_run, started_at, id) WHERE map_run IS NOT NULL",
    "DROP INDEX execution_machine_started_idx",
    "CREATE INDEX execution_machine_started_idx ON execution (machine_key, started_at, id) WHERE map_run IS NULL",
)

LZ4_COLUMNS = (("map_run", "spec"), ("map_item", "input"), ("map_item", "output"))
LZ4 = (
    "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))"
    " THEN ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4; END IF; END $$"
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement.strip())
    for table, column in LZ4_COLUMNS:
        op.execute(LZ4.format(table=table, column=column))
