"""Connections: their settings, and what becomes of the driver's exceptions."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from stepwell.engine.errors import ConfigurationError, StoreError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.failures import convert, store_errors
from stepwell.engine.store.pool import connect, create_pool, driver_url
from tests.support.sql import run_sql, with_database


async def test_sessions_are_safe(pool: asyncpg.Pool[Any]) -> None:
    for name, value in (
        ("synchronous_commit", "on"),  # though the server of this test says off
        ("jit", "off"),
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("application_name", "stepwell"),
    ):
        assert await pool.fetchval(f"SHOW {name}") == value


async def test_behind_a_pooler_nothing_is_set_or_prepared(database: str) -> None:
    pool = await create_pool(database, pooled=True, max_size=1)
    assert await pool.fetchval("SHOW statement_timeout") == "0"
    assert await PostgresExecutions(pool).describe(ExecutionId(bytes(16))) is None
    assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
    await pool.close()


def test_a_driver_may_be_named() -> None:
    assert driver_url("postgresql+asyncpg://u:p+w@h/db?host=/s+d") == "postgresql://u:p+w@h/db?host=/s+d"
    assert driver_url("postgres://h/db") == "postgres://h/db"


async def test_a_connection_given_back_within_a_transaction_is_cleaned(pool: asyncpg.Pool[Any]) -> None:
    small = pool
    async with small.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SET LOCAL application_name = 'left'")
    for _ in range(8):
        assert await small.fetchval("SHOW application_name") == "stepwell"


async def test_nobody_there_is_unavailable(tmp_path: Any) -> None:
    with pytest.raises(StoreUnavailableError):
        await connect(f"postgresql://u@localhost/db?host={tmp_path}")


@pytest.mark.parametrize("url", ("mysql://h/db", "postgresql://h:port/db", "postgresql://u:hidden@h:hidden/db", ""))
async def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="STEPWELL_DATABASE_URL") as caught:
        await connect(url)
    assert "hidden" not in str(caught.value)


async def test_a_database_that_is_not_there_is_a_wrong_setting(database: str) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        await connect(with_database(database, "nowhere"))


async def test_a_database_without_tables_is_a_wrong_setting(blank_database: str) -> None:
    pool = await create_pool(blank_database)
    with pytest.raises(ConfigurationError, match="db upgrade"):
        await PostgresExecutions(pool).describe(ExecutionId(bytes(16)))
    await pool.close()


async def test_a_cut_connection_is_unavailable_and_the_next_one_works(database: str, pool: asyncpg.Pool[Any]) -> None:
    async def wait_for_the_end() -> None:
        with store_errors():
            async with pool.acquire() as connection:
                held.set_result(connection.get_server_pid())
                await connection.execute("SELECT pg_sleep(60)")

    held: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_for_the_end())
    pid = await held
    await asyncio.to_thread(run_sql, database, f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(StoreUnavailableError):
        await waiting
    assert await PostgresExecutions(pool).describe(ExecutionId(bytes(16))) is None


async def test_a_statement_that_takes_too_long_is_unavailable(database: str) -> None:
    connection = await connect(database, statement_timeout_ms=20)
    with pytest.raises(StoreUnavailableError), store_errors():
        await connection.execute("SELECT pg_sleep(60)")
    await connection.close()


@pytest.mark.parametrize(
    ("state", "kind"),
    (
        ("08006", StoreUnavailableError),
        ("53300", StoreUnavailableError),
        ("57P01", StoreUnavailableError),
        ("57P03", StoreUnavailableError),
        ("40001", StoreUnavailableError),
        ("40P01", StoreUnavailableError),
        ("25006", StoreUnavailableError),
        ("28P01", ConfigurationError),
        ("42501", ConfigurationError),
        ("42601", StoreError),
        ("23505", StoreError),
    ),
)
def test_states_of_the_server(state: str, kind: type[Exception]) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "said"})
    assert type(convert(error)) is kind


def test_other_exceptions_pass() -> None:
    assert convert(KeyError("x")) is None
    assert convert(asyncio.CancelledError()) is None
    assert type(convert(ConnectionResetError())) is StoreUnavailableError
    assert type(convert(TimeoutError())) is StoreUnavailableError
    assert type(convert(asyncpg.InterfaceError("pool is closed"))) is StoreUnavailableError
