"""Express children of Map Runs: which Map Runs have them, and how many losses there had been when each began.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE map_run ADD COLUMN express BOOLEAN DEFAULT false NOT NULL",
    "ALTER TABLE map_item ADD COLUMN losses INTEGER DEFAULT 0 NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
