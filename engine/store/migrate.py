"""Bringing a database to this version's schema: Alembic's migrations, run over asyncpg, and the rows every cluster has.

One transaction holds all of it, behind an advisory lock: two that upgrade at once take turns, and one that fails leaves
nothing behind. Migrations are SQL only (see `migrations/env.py`).
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.ids import SHARD_COUNT
from stepwell.engine.store import partitions
from stepwell.engine.store.failures import store_errors
from stepwell.engine.store.pool import connect

OLDEST_SERVER: Final = 140_000
"""PostgreSQL 14, as `server_version_num` has it."""

UPGRADE_LOCK: Final = 0x5354455057454C4C
"""Key of the advisory lock: `STEPWELL` in ASCII."""

_SEED: Final = (
    # 244 random bits, from the server's own strong source
    """INSERT INTO cluster (shard_count, secret, created_at)
       VALUES ($1, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
               (extract(epoch FROM now()) * 1000)::bigint)
       ON CONFLICT (singleton) DO NOTHING""",
    "INSERT INTO shard (id) SELECT generate_series(0, $1::int - 1) ON CONFLICT (id) DO NOTHING",
)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "stepwell.engine.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _head(script: ScriptDirectory) -> str:
    head = script.get_current_head()
    assert head is not None
    return head


def migration_sql(start: str | None = None) -> str:
    """The statements that lead from revision `start` (None: an empty database) to this version's schema."""
    config = _config()
    script = ScriptDirectory.from_config(config)
    if start is not None and start not in {revision.revision for revision in script.walk_revisions()}:
        raise ConfigurationError(
            f"The database's schema ({start}) is not known to this version of Stepwell. A newer version has upgraded it: "
            "install that version or a later one."
        )
    if start == _head(script):
        return ""
    output = io.StringIO()
    config.attributes["output"] = output
    command.upgrade(config, f"{start}:head" if start else "head", sql=True)
    return output.getvalue()


async def expected() -> str:
    """The revision of this version's schema."""
    return await asyncio.to_thread(lambda: _head(ScriptDirectory.from_config(_config())))


async def current(url: str) -> str | None:
    """The revision a database is at; None if it has no Stepwell schema."""
    connection = await connect(url)
    try:
        with store_errors():
            return await revision_of(connection)
    finally:
        await connection.close()


async def revision_of(connection: asyncpg.Connection[Any]) -> str | None:
    """The revision of the database behind a connection."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def upgrade(url: str) -> str:
    """Make or upgrade the schema, the cluster's row, its shards and the history partitions; returns the revision.

    Does nothing where nothing is to be done. Raises `ConfigurationError` for a server or schema that cannot be used.
    """
    connection = await connect(url, statement_timeout_ms=0, application_name="stepwell-upgrade")
    try:
        with store_errors():
            server = int(await connection.fetchval("SHOW server_version_num"))
            if server < OLDEST_SERVER:
                raise ConfigurationError(
                    f"PostgreSQL {server // 10_000} is too old: Stepwell needs {OLDEST_SERVER // 10_000} or newer."
                )
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 0")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", UPGRADE_LOCK)
                await _upgrade(connection)
            return await expected()
    finally:
        await connection.close()


async def _upgrade(connection: asyncpg.Connection[Any]) -> None:
    start = await revision_of(connection)
    statements = await asyncio.to_thread(migration_sql, start)
    if statements:
        await connection.execute(statements)
    for seed in _SEED:
        await connection.execute(seed, SHARD_COUNT)
    now = await connection.fetchval("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    await partitions.create_ahead(connection, now)
