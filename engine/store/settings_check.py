"""What a database must be like before a node works on it: checked at start, each fault with what to do about it.

A node that promises durability on a server that may lose its commits would promise too much; so it refuses to start.
"""

from __future__ import annotations

from typing import Final

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.ids import SHARD_COUNT
from stepwell.engine.store import migrate
from stepwell.engine.store.failures import store_errors
from stepwell.engine.store.migrate import OLDEST_SERVER
from stepwell.engine.store.statements import Connection

_SETTINGS: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1)"
_WHY: Final = {
    "fsync": "a crash of the machine could lose or destroy committed executions",
    "full_page_writes": "a crash of the machine could leave torn pages",
    "synchronous_commit": "an answer could be given before it is durable",
}


async def check_server(connection: Connection) -> list[str]:
    """What is wrong with the server itself: one sentence each."""
    with store_errors():
        rows = await connection.fetch(
            _SETTINGS, [*_WHY, "server_version_num", "server_encoding", "transaction_read_only"]
        )
    settings = {row["name"]: row["setting"] for row in rows}
    problems = []
    version = int(settings["server_version_num"])
    if version < OLDEST_SERVER:
        problems.append(f"PostgreSQL {version // 10_000} is too old. Use version {OLDEST_SERVER // 10_000} or newer.")
    problems += [
        f"The server's setting {name} is {settings[name]}: {_WHY[name]}. Set it to on."
        for name in ("fsync", "full_page_writes")
        if settings[name] != "on"
    ]
    if settings["synchronous_commit"] in ("off", "local"):
        value = settings["synchronous_commit"]
        problems.append(f"The setting synchronous_commit is {value}: {_WHY['synchronous_commit']}. Set it to on.")
    if settings["server_encoding"] != "UTF8":
        problems.append(f"The database's encoding is {settings['server_encoding']}. Create it with ENCODING 'UTF8'.")
    if settings["transaction_read_only"] == "on":
        problems.append("The database is read-only (a standby?). Point STEPWELL_DATABASE_URL at the primary.")
    return problems


async def check_schema(connection: Connection) -> list[str]:
    """What is wrong with the schema and the cluster's row: one sentence each."""
    expected = await migrate.expected()
    with store_errors():
        current = await migrate.revision_of(connection)
        if current is None:
            return ["The database has no Stepwell schema. Run `stepwell db upgrade`."]
        if current != expected:
            migrate.migration_sql(current)  # raises for a schema that is newer than this version
            return [f"The database's schema is at {current}, this version needs {expected}. Run `stepwell db upgrade`."]
        count = await connection.fetchval("SELECT shard_count FROM cluster")
        if count is None:
            return ["The database was not made ready to its end. Run `stepwell db upgrade`."]
        present = await connection.fetchval("SELECT count(*) FROM shard WHERE id BETWEEN 0 AND $1", SHARD_COUNT - 1)
    if count != SHARD_COUNT:
        return [
            f"The database was made with {count} shards, this version has {SHARD_COUNT}. Use the version that made it."
        ]
    if present != SHARD_COUNT:
        return [f"{SHARD_COUNT - present} of the {SHARD_COUNT} shard rows are missing. Run `stepwell db upgrade`."]
    return []


async def check_settings(connection: Connection, *, durable: bool = True) -> None:
    """Raise `ConfigurationError` unless a node may work on this database. `durable=False` passes over the server's settings."""
    problems = [*(await check_server(connection) if durable else ()), *await check_schema(connection)]
    if problems:
        raise ConfigurationError(" ".join(problems))


async def cluster_secret(connection: Connection) -> bytes:
    """The 32 random bytes that all nodes of this database share."""
    with store_errors():
        secret: bytes | None = await connection.fetchval("SELECT secret FROM cluster")
    if secret is None:
        raise ConfigurationError("The database was not made ready to its end. Run `stepwell db upgrade`.")
    return secret
