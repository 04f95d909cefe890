"""Connections to Postgres: how a URL becomes a pool, and which session settings make its sessions safe.

A URL is what asyncpg takes, `postgresql://user:password@host:port/database?...`; a socket's folder goes into
`?host=/folder`. Behind pgbouncer in transaction mode use `pooled=True`: session settings and prepared statements would
leak between clients there. It must not know any table.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from stepwell.engine.store.failures import store_errors

CONNECT_SECONDS: Final = 10.0
STATEMENT_TIMEOUT_MS: Final = 30_000
LOCK_TIMEOUT_MS: Final = 10_000
IDLE_IN_TRANSACTION_MS: Final = 30_000


def driver_url(url: str) -> str:
    """The URL as asyncpg reads it: SQLAlchemy's way to name a driver (`postgresql+asyncpg:`) is taken off."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def session_settings(
    *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS, application_name: str = "stepwell", pooled: bool = False
) -> dict[str, str]:
    """Settings of a session. Behind a pooler only the name: it passes on no others."""
    if pooled:
        return {"application_name": application_name}
    return {
        "application_name": application_name,
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        "synchronous_commit": "on",  # whatever the role's or database's default: an answer is given when it is durable
        "jit": "off",  # its compile time is many times that of the short statements here
        "timezone": "UTC",
    }


async def _reset(connection: asyncpg.Connection[Any]) -> None:
    """What a connection needs when it is given back. The driver's own reset costs a round trip for every use."""
    if connection.is_in_transaction():
        await connection.reset()


async def create_pool(
    url: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    application_name: str = "stepwell",
    pooled: bool = False,
) -> asyncpg.Pool[Any]:
    """A pool for short statements. `pooled`: there is a pooler in transaction mode in between.

    Whoever changes the session (SET, LISTEN, advisory locks) takes a connection of their own with `connect`.
    """
    with store_errors():
        return await asyncpg.create_pool(
            driver_url(url),
            min_size=min_size,
            max_size=max_size,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_timeout_ms / 1000 + 5,
            statement_cache_size=0 if pooled else 256,
            max_inactive_connection_lifetime=300.0,
            reset=_reset,
            server_settings=session_settings(
                statement_timeout_ms=statement_timeout_ms, application_name=application_name, pooled=pooled
            ),
        )


async def connect(
    url: str,
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    application_name: str = "stepwell",
    pooled: bool = False,
) -> asyncpg.Connection[Any]:
    """One connection of one's own. `statement_timeout_ms` 0: none."""
    with store_errors():
        return await asyncpg.connect(
            driver_url(url),
            timeout=CONNECT_SECONDS,
            command_timeout=statement_timeout_ms / 1000 + 5 if statement_timeout_ms else None,
            statement_cache_size=0 if pooled else 256,
            server_settings=session_settings(
                statement_timeout_ms=statement_timeout_ms, application_name=application_name, pooled=pooled
            ),
        )
