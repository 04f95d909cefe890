"""`stepwell db`: the database, brought to this version's schema and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stepwell.cli.commands.keys import data_dir_option
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output

if TYPE_CHECKING:
    from stepwell.engine.store.check import Finding

T = TypeVar("T")


@click.group()
def db() -> None:
    """The database: that of STEPWELL_DATABASE_URL, else that of the data directory."""


def with_database(data_dir: Path | None, work: Callable[[str], Awaitable[T]]) -> T:
    """Do something with the database that the settings name, by its URL."""
    from stepwell.cli.assembly import load_settings, needed
    from stepwell.cli.serving import prepare_data_dir, servers
    from stepwell.engine.store.pool import driver_url

    settings = prepare_data_dir(load_settings(data_dir=data_dir))
    with servers(settings, broker=False) as settings:
        url = driver_url(needed(settings.database_url))

        async def main() -> T:
            return await work(url)

        return asyncio.run(main())


@db.command()
@data_dir_option
@json_option
@pass_output
def upgrade(output: Output, data_dir: Path | None) -> None:
    """Make or upgrade the schema. Does nothing where nothing is to be done; two at once take turns."""
    from stepwell.cli.assembly import upgrade_database

    revision = with_database(data_dir, upgrade_database)
    output.document({"revision": revision})
    output.say(f"The database is at revision {revision}.")


@db.command()
@data_dir_option
@json_option
@pass_output
def current(output: Output, data_dir: Path | None) -> None:
    """Show the schema's revision, and this version's. Exit code 1 if they differ."""

    async def both(url: str) -> tuple[str | None, str]:
        from stepwell.engine.store import migrate

        return await migrate.current(url), await migrate.expected()

    found, expected = with_database(data_dir, both)
    output.document({"current": found, "expected": expected})
    output.fields([("current", found or "none"), ("expected", expected)])
    if found != expected:
        output.remark("Run `stepwell db upgrade`.")
        fail_hard(ExitCode.FAILED)


@db.command()
@click.option("--execution", metavar="ID", help="Check only this execution (its id or ARN).")
@data_dir_option
@json_option
@pass_output
def check(output: Output, execution: str | None, data_dir: Path | None) -> None:
    """Check what must always be true of the stored executions: their histories, tasks, timers and dead letters.

    Exit code 1 if something is not. Nothing is changed.
    """
    id = None if execution is None else key_of(execution)

    async def find(url: str) -> list[Finding]:
        from stepwell.engine.store.check import check as check_store
        from stepwell.engine.store.pool import connect

        connection = await connect(url, statement_timeout_ms=0)
        try:
            return await check_store(connection, id)
        finally:
            await connection.close()

    found = with_database(data_dir, find)
    output.document(
        {
            "ok": not found,
            "findings": [
                {"invariant": one.invariant, "meaning": one.rule, "count": one.count, "examples": one.examples}
                for one in found
            ],
        }
    )
    for one in found:
        output.say(f"{click.style('✗', fg='red')} {one.invariant}: {one.count} times not so: {one.rule}")
        for example in one.examples:
            output.say(f"    {example}")
    if found:
        fail_hard(ExitCode.FAILED)
    output.say(f"{click.style('✓', fg='green')} Everything that must be true is.")


def key_of(execution: str) -> Any:
    from stepwell.engine.ids import ExecutionId, execution_id

    if execution.startswith("arn:"):
        return execution_id(execution)
    try:
        key = bytes.fromhex(execution)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise Failure(f"{execution!r} is neither an execution's id nor its ARN.", ExitCode.UNUSABLE, code="InvalidId")
    return ExecutionId(key)


@db.command(name="partitions")
@click.option("--expire", is_flag=True, help="Delete what is past retention too.")
@click.option("--retention-days", type=click.IntRange(1), help="How long histories are kept.  [90]")
@data_dir_option
@json_option
@pass_output
def partitions_(output: Output, expire: bool, retention_days: int | None, data_dir: Path | None) -> None:
    """Make the history partitions of the coming months, and show those there are."""

    async def work(url: str) -> tuple[list[int], list[int], Any]:
        from stepwell.cli.system import SystemClock
        from stepwell.engine.store import partitions
        from stepwell.engine.store.pool import connect

        connection = await connect(url, statement_timeout_ms=0)
        now = SystemClock().now_ms()
        try:
            made = await partitions.create_ahead(connection, now)
            options = {} if retention_days is None else {"retention_days": retention_days}
            expired = await partitions.expire(connection, now, **options) if expire else None
            return made, await partitions.existing(connection), expired
        finally:
            await connection.close()

    made, there, expired = with_database(data_dir, work)
    from stepwell.engine.store.partitions import partition_name

    document: dict[str, Any] = {
        "partitions": [partition_name(one) for one in there],
        "made": [partition_name(one) for one in made],
    }
    if expired is not None:
        document["expired"] = {
            "partitions": [partition_name(one) for one in expired.buckets],
            "executions": expired.executions,
            "moved": expired.moved,
        }
    output.document(document)
    output.table(
        ["PARTITION", ""], [(partition_name(one), "new" if one in made else "") for one in there], "No partitions."
    )
    if expired is not None:
        output.say(f"Deleted {expired.executions} executions and {len(expired.buckets)} partitions past retention.")
