"""The schema: what migrations make, what the metadata says, and what a node refuses to work on."""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.ports import DeadLetterStatus, FunctionKind
from stepwell.engine.store import codes, migrate
from stepwell.engine.store.pool import connect
from stepwell.engine.store.settings_check import check_server, check_settings, cluster_secret
from stepwell.engine.store.tables import metadata
from tests.support.sql import run_sql

COLUMNS = """
SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || a.attnotnull || a.attidentity::text || a.attstorage::text
       || a.attcompression::text || ' ' || coalesce(l.collname, '') || ' ' || coalesce(c.reloptions::text, '') || c.relkind::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND c.relname <> 'alembic_version'
   AND c.relname !~ '_[0-9]{4}_[0-9]{2}$' ORDER BY c.relname, a.attname
"""
INDEXES = r"SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '_[0-9]{4}_[0-9]{2}$|^alembic' ORDER BY 1"
CHECKS = r"""
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '_[0-9]{4}_[0-9]{2}$|^alembic' ORDER BY 1
"""


def schema_of(url: str) -> dict[str, list[Any]]:
    return {name: run_sql(url, text) for name, text in (("columns", COLUMNS), ("indexes", INDEXES), ("checks", CHECKS))}


def metadata_statements() -> list[str]:
    statements: list[str] = []
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    engine = create_mock_engine(
        "postgresql+asyncpg://", lambda clause, *_, **__: statements.append(str(clause.compile(dialect=dialect)))
    )
    metadata.create_all(engine, checkfirst=False)
    return statements


def test_migrations_and_metadata_make_the_same_schema(database: str, blank_database: str) -> None:
    run_sql(blank_database, *metadata_statements())
    migrated, made = schema_of(database), schema_of(blank_database)
    assert len(migrated["columns"]) > 100 and migrated["indexes"] and migrated["checks"]
    assert migrated == made


async def test_an_upgrade_can_be_repeated_and_run_twice_at_once(blank_database: str) -> None:
    assert await migrate.current(blank_database) is None
    made = await asyncio.gather(*(migrate.upgrade(blank_database) for _ in range(3)))
    assert set(made) == {await migrate.expected()} == {await migrate.current(blank_database)}
    secret = run_sql(blank_database, "SELECT secret FROM cluster")
    assert len(secret) == 1 and len(secret[0]) == 32
    await migrate.upgrade(blank_database)
    assert run_sql(blank_database, "SELECT secret FROM cluster") == secret
    assert run_sql(blank_database, "SELECT id FROM shard ORDER BY id") == list(range(256))


async def test_two_databases_have_two_secrets(database: str, blank_database: str) -> None:
    await migrate.upgrade(blank_database)
    assert run_sql(database, "SELECT md5(secret) FROM cluster") != run_sql(
        blank_database, "SELECT md5(secret) FROM cluster"
    )


async def test_an_upgrade_makes_whole_what_is_missing(database: str) -> None:
    run_sql(database, "DELETE FROM shard WHERE id > 3", "UPDATE shard SET epoch = 5", "DELETE FROM cluster")
    await migrate.upgrade(database)
    assert run_sql(database, "SELECT count(*) FROM shard") == [256]
    assert run_sql(database, "SELECT epoch FROM shard WHERE id = 2") == [5]
    assert run_sql(database, "SELECT count(*) FROM cluster") == [1]


async def test_a_failed_upgrade_leaves_nothing_behind(blank_database: str) -> None:
    run_sql(blank_database, "CREATE TABLE heartbeat (wrong int)")
    with pytest.raises(Exception, match="heartbeat"):
        await migrate.upgrade(blank_database)
    assert run_sql(blank_database, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [
        "heartbeat"
    ]
    assert await migrate.current(blank_database) is None


def test_the_oldest_and_newest_server_take_the_schema(versioned_database: str) -> None:
    assert run_sql(versioned_database, "SELECT count(*) FROM shard") == [256]


async def test_the_schema_of_a_newer_version_is_refused(database: str) -> None:
    run_sql(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=r"9999.*newer"):
        await migrate.upgrade(database)
    connection = await connect(database)
    with pytest.raises(ConfigurationError, match="newer"):
        await check_settings(connection, durable=False)
    await connection.close()


CLOSED_SETS: list[tuple[str, type[Enum], dict[Any, int]]] = [
    ("execution_status", Status, codes.STATUS_CODES),
    ("task_kind", TargetKind, codes.TARGET_CODES),
    ("timer_kind", TimerKind, codes.TIMER_CODES),
    ("dead_letter_status", DeadLetterStatus, codes.DEAD_LETTER_CODES),
]


@pytest.mark.parametrize(("constraint", "members", "numbers"), CLOSED_SETS, ids=lambda value: str(value)[:20])
def test_the_database_knows_the_members_of_each_enum(
    database: str, constraint: str, members: type[Enum], numbers: dict[Any, int]
) -> None:
    assert set(numbers) == set(members)
    assert len(set(numbers.values())) == len(numbers)
    (definition,) = run_sql(
        database, f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{constraint}_check'"
    )
    assert {int(number) for number in re.findall(r"\d+", definition)} == set(numbers.values())


def test_the_database_knows_the_other_closed_sets(database: str) -> None:
    for constraint, words in (
        ("function_kind", {kind.value for kind in FunctionKind}),
        ("dead_letter_kind", set(codes.DEAD_LETTER_KINDS)),
        ("state_machine_type", set(codes.MACHINE_TYPES)),
    ):
        (definition,) = run_sql(
            database, f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{constraint}_check'"
        )
        assert set(re.findall(r"'([^']+)'", definition)) == words
    (definition,) = run_sql(
        database, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'task_status_check'"
    )
    assert {int(number) for number in re.findall(r"\d+", definition)} == set(codes.TASK_CODES)


def test_buckets_are_months() -> None:
    january = 1_767_225_600_000  # 2026-01-01T00:00:00Z
    assert codes.bucket_of(january) == codes.bucket_of(january - 1) + 1 == 100_000 + 2026 * 12
    assert codes.bucket_month(codes.bucket_of(january)) == (1, 2026, 1)
    assert codes.bucket_end(codes.bucket_of(january - 1)) == january
    assert codes.bucket_end(codes.bucket_of(january)) == january + 31 * 86_400_000


async def test_a_durable_server_passes(durable_database: str) -> None:
    connection = await connect(durable_database)
    await check_settings(connection)
    assert len(await cluster_secret(connection)) == 32
    await connection.close()


async def test_a_server_that_may_lose_commits_is_refused(database: str) -> None:
    connection = await connect(database)
    problems = " ".join(await check_server(connection))
    assert "fsync" in problems and "full_page_writes" in problems
    assert "synchronous_commit" not in problems  # our own sessions set it
    await connection.execute("SET synchronous_commit = off")
    assert "synchronous_commit" in " ".join(await check_server(connection))
    with pytest.raises(ConfigurationError, match="fsync"):
        await check_settings(connection)
    await check_settings(connection, durable=False)
    await connection.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    (
        ("UPDATE cluster SET shard_count = 128", "128 shards"),
        ("DELETE FROM shard WHERE id = 9", "1 of the 256"),
        ("DELETE FROM cluster", "db upgrade"),
        ("DROP TABLE alembic_version", "db upgrade"),
    ),
)
async def test_a_database_that_is_not_ready_is_refused(database: str, damage: str, said: str) -> None:
    run_sql(database, damage)
    connection = await connect(database)
    with pytest.raises(ConfigurationError, match=said):
        await check_settings(connection, durable=False)
    await connection.close()
