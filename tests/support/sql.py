"""Plain SQL for tests and fixtures, from code that is not async, whether or not a loop runs around it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_sql(url: str, *statements: str) -> list[Any]:
    """Run statements one by one, each in its own transaction, on one connection; the first column of the last one's rows."""

    async def run() -> list[Any]:
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            rows: list[Any] = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return [row[0] for row in rows]
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    start, _, query = url.partition("?")
    return f"{start.rpartition('/')[0]}/{name}?{query}"
