"""Alembic's entry: writes the migrations out as SQL. `stepwell.engine.store.migrate` runs it, over asyncpg.

Migrations are SQL only, so that they need no second driver and can be read before they are run.
"""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError

if not context.is_offline_mode():
    raise CommandError("Migrations are run with `stepwell db upgrade`.")
context.configure(dialect_name="postgresql", output_buffer=context.config.attributes["output"], transactional_ddl=False)
context.run_migrations()
