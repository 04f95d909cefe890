"""The Postgres of a run: started for it with durable settings or named by its URL, and the counters read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.workloads import Workload
from stepwell.cli.embedded.postgres import EmbeddedPostgres

DATABASES: Final = ("stepwell", "floor", "dbos")
SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A Postgres server. `pid` is its postmaster, where it is ours; `version` as it says itself."""

    url: str
    pid: int | None
    version: str

    def database(self, name: str) -> str:
        """The URL of one of the run's databases."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/bench_{name}"))


@contextmanager
def postgres(directory: Path, url: str | None) -> Iterator[Server]:
    """The server to measure on, with fresh databases; the databases are dropped afterwards."""
    if url is not None:
        with _prepared(url, None) as server:
            yield server
        return
    service = EmbeddedPostgres(directory)
    with service.acquire() as handle:
        pid = int((service.cluster / "postmaster.pid").read_text().split()[0])
        with _prepared(handle.url, pid) as server:
            yield server


@contextmanager
def _prepared(url: str, pid: int | None) -> Iterator[Server]:
    version = asyncio.run(_recreate(url))
    try:
        yield Server(url, pid, version)
    finally:
        asyncio.run(_drop(url))


async def _recreate(url: str) -> str:
    await _drop(url)
    connection = await asyncpg.connect(url)
    try:
        for name in DATABASES:
            await connection.execute(f"CREATE DATABASE bench_{name}")
        await connection.execute("CHECKPOINT")
        version = await connection.fetchval("SHOW server_version")
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if await connection.fetchval(f"SHOW {setting}") != "on":
                raise SystemExit(f"{setting} is off on this server: its figures would say nothing about durable work.")
        return str(version)
    finally:
        await connection.close()


async def _drop(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name in DATABASES:
            await connection.execute(f"DROP DATABASE IF EXISTS bench_{name} WITH (FORCE)")
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Counters:
    """What Postgres has counted so far: the position of its log, write transactions, and the time in ms since 1970."""

    wal: int
    transactions: int
    now: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the database says of the executions of one machine that started after a moment."""

    total: int
    succeeded: int
    running: int
    history_bytes: int


async def counters(url: str) -> Counters:
    """Read the counters. Transaction ids are given to writers alone, so their difference counts commits that wrote."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, "
            "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        )
        return Counters(*row)
    finally:
        await connection.close()


async def outcome(url: str, workload: Workload, since: int, *, settle: bool = True, history: bool = True) -> Outcome:
    """Wait until none of the executions runs any more (unless not to `settle`), and count them, and their history's bytes."""
    connection = await asyncpg.connect(url)
    machine, table = workload.name, "express_execution" if workload.express else "execution"
    running, counts = _RUNNING.format(table), (_COUNTS if history else _NUMBERS).format(table)
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while settle and await connection.fetchval(running, machine, since):  # noqa: ASYNC110 -- another process ends them
                await asyncio.sleep(0.05)
        return Outcome(*await connection.fetchrow(counts, machine, since))
    except TimeoutError:
        raise SystemExit(f"Executions of {machine} still run {SETTLE_SECONDS:g} s after the load ended.") from None
    finally:
        await connection.close()


_OURS: Final = """
  FROM {} e JOIN state_machine m ON m.key = e.machine_key
 WHERE m.name = $1 AND e.started_at >= $2"""
_RUNNING: Final = f"SELECT EXISTS (SELECT {_OURS} AND e.status = 1)"
_NUMBERS: Final = f"""
SELECT count(*)::int, (count(*) FILTER (WHERE e.status = 2))::int, (count(*) FILTER (WHERE e.status = 1))::int, 0::bigint
{_OURS}"""
_COUNTS: Final = f"""
SELECT count(*)::int, (count(*) FILTER (WHERE status = 2))::int, (count(*) FILTER (WHERE status = 1))::int,
       coalesce(sum(bytes), 0)::bigint
  FROM (SELECT e.status, (SELECT sum(length(h.data)) FROM history_chunk h WHERE h.execution_id = e.id AND h.bucket = e.bucket)
               AS bytes {_OURS}) AS each"""
