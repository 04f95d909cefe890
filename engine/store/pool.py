"""Connections to Postgres: how a URL becomes a pool, and which session settings make its sessions safe.

A URL is what asyncpg takes, `postgresql://user:password@host:port/database?...`; a socket's folder goes into
`?host=/folder`. Behind pgbouncer in transaction mode use `pooled=True`: session settings and prepared statements would
leak between clients there. It must not know any table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.store.failures import store_errors

CONNECT_SECONDS: Final = 10.0
STATEMENT_TIMEOUT_MS: Final = 30_000
LOCK_TIMEOUT_MS: Final = 10_000
IDLE_IN_TRANSACTION_MS: Final = 30_000


def driver_url(url: str) -> str:
    """The URL as asyncpg reads it: SQLAlchemy's way to name a driver (`postgresql+asyncpg:`) is taken off."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


@contextmanager
def _usable_url(url: str) -> Iterator[None]:
    """The driver's own errors for a URL that is none vary, and may show the password."""
    try:
        with store_errors():
            if not url:  # the driver would look for PGHOST and the like
                raise ValueError
            yield
    except ValueError:
        raise ConfigurationError(
            "STEPWELL_DATABASE_URL is not a database URL. Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; "
            "a password is percent-encoded."
        ) from None


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
    with _usable_url(url):
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
    with _usable_url(url):
        return await asyncpg.connect(
            driver_url(url),
            timeout=CONNECT_SECONDS,
            command_timeout=statement_timeout_ms / 1000 + 5 if statement_timeout_ms else None,
            statement_cache_size=0 if pooled else 256,
            server_settings=session_settings(
                statement_timeout_ms=statement_timeout_ms, application_name=application_name, pooled=pooled
            ),
        )
