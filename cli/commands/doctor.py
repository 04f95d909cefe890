"""`stepwell doctor`: whether this machine and its settings are fit, each finding with what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import click

from stepwell.cli.commands.keys import data_dir_option
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output
from stepwell.engine.errors import ConfigurationError, StepwellError
from stepwell.engine.settings import Settings, all_settings, unknown_settings

LEAST_FREE_BYTES = 1_000_000_000
SERVER_PACKAGES = (
    "aiohttp",
    "alembic",
    "asyncpg",
    "cryptography",
    "fastapi",
    "redis",
    "rich",
    "sqlalchemy",
    "uvicorn",
    "zstandard",
)
MARKS = {"ok": ("✓", "green"), "note": ("·", "cyan"), "problem": ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at and how it is: ok, note or problem. `advice` says what to do."""

    subject: str
    level: str
    text: str
    advice: str | None = None


@click.command()
@data_dir_option
@click.option("--url", help="Only ask the server there whether it is ready.")
@click.option(
    "--settings", "with_settings", is_flag=True, help="List every setting, what it is for and its value here."
)
@json_option
@pass_output
def doctor(output: Output, data_dir: Path | None, url: str | None, with_settings: bool) -> None:
    """Check this machine and its settings, and say what to do. Exit code 1 if something is wrong."""
    if with_settings:
        show_settings(output)
        return
    findings = [server_at(url, None)] if url is not None else list(examine(data_dir))
    wrong = [one for one in findings if one.level == "problem"]
    output.document(
        {
            "ok": not wrong,
            "findings": [
                {"subject": one.subject, "level": one.level, "text": one.text, "advice": one.advice} for one in findings
            ],
        }
    )
    for one in findings:
        mark, colour = MARKS[one.level]
        output.say(f"{click.style(mark, fg=colour)} {one.subject:<10} {one.text}")
        if one.advice:
            output.say(f"{'':<13}{one.advice}", fg="yellow" if one.level == "problem" else "bright_black")
    if wrong:
        fail_hard(ExitCode.FAILED)


def examine(data_dir: Path | None) -> Iterator[Finding]:
    """Every finding, in the order in which problems should be solved."""
    yield _python()
    yield _packages()
    yield from _misspelt()
    try:
        settings = Settings.load(os.environ)
    except ConfigurationError as error:
        yield Finding(
            "settings", "problem", str(error), "Change or unset the variable; `stepwell doctor --settings` lists all."
        )
        return
    directory = (data_dir or settings.data_dir).expanduser().absolute()
    yield _disk(directory)
    yield _key(settings, directory)
    yield from _guarded("database", lambda: _database(settings, directory))
    yield from _guarded("broker", lambda: _broker(settings, directory))
    yield _port(settings)
    yield _server(settings)


def _guarded(subject: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield look()
    except StepwellError as error:
        yield Finding(subject, "problem", str(error))
    except ModuleNotFoundError as error:
        yield Finding(subject, "note", f"not looked at: {error.name} is not installed")


def _python() -> Finding:
    text = f"Python {sys.version.split()[0]} at {sys.executable}"
    return Finding("python", "ok", text)


def _packages() -> Finding:
    missing = [name for name in SERVER_PACKAGES if find_spec(name) is None]
    if missing:
        advice = "Enough for `stepwell worker`. For a server: pip install 'stepwell[server,embedded]'"
        return Finding("packages", "note", f"not installed: {', '.join(missing)}", advice)
    with suppress(PackageNotFoundError):
        return Finding("packages", "ok", f"stepwell {version('stepwell')} with everything a server needs")
    return Finding("packages", "ok", "everything a server needs")


def _misspelt() -> Iterator[Finding]:
    from difflib import get_close_matches

    known = [one.metadata["variable"] for one in all_settings()]
    for name in unknown_settings(os.environ):
        near = get_close_matches(name, known, 1)
        yield Finding("settings", "note", f"{name} is no setting", f"Did you mean {near[0]}?" if near else None)


def _disk(directory: Path) -> Finding:
    place = next(one for one in (directory, *directory.parents) if one.exists())
    if not os.access(place, os.W_OK):
        return Finding(
            "data", "problem", f"{directory} cannot be written", "Name another directory in STEPWELL_DATA_DIR."
        )
    free = shutil.disk_usage(place).free
    text = f"{directory}, {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("data", "problem", text, "Free some space, or name another directory in STEPWELL_DATA_DIR.")
    return Finding("data", "ok", text)


def _key(settings: Settings, directory: Path) -> Finding:
    from stepwell.engine.secretbox import KEY_FILE, load_keys

    file = directory / KEY_FILE
    if settings.secret_key is None and not file.exists():
        return Finding("key", "note", f"no key for secrets yet; {file} is made when one is needed")
    try:
        count = len(load_keys(settings.secret_key, directory))
    except ConfigurationError as error:
        return Finding("key", "problem", str(error))
    place = "STEPWELL_SECRET_KEY" if settings.secret_key is not None else str(file)
    return Finding("key", "ok", f"{count} in {place}")


def _database(settings: Settings, directory: Path) -> Finding:
    if settings.database_url is not None:
        return asyncio.run(_external_database(settings.database_url))
    from stepwell.cli.embedded.installations import find_postgres
    from stepwell.cli.embedded.lifecycle import Liveness
    from stepwell.cli.embedded.postgres import EmbeddedPostgres

    found = find_postgres(None)
    running = EmbeddedPostgres(directory / "postgres").liveness() is Liveness.READY
    state = "running" if running else "started by `stepwell up`"
    return Finding("database", "ok", f"embedded PostgreSQL {found.version} ({state})")


async def _external_database(url: str) -> Finding:
    from stepwell.engine.store.pool import connect, driver_url
    from stepwell.engine.store.settings_check import check_schema, check_server

    connection = await connect(driver_url(url))
    try:
        problems = [*await check_server(connection), *await check_schema(connection)]
        about = f"PostgreSQL {'.'.join(map(str, connection.get_server_version()[:2]))} of STEPWELL_DATABASE_URL"
    finally:
        await connection.close()
    if problems:
        return Finding("database", "problem", about, " ".join(problems))
    return Finding("database", "ok", f"{about}, its settings and schema are right")


def _broker(settings: Settings, directory: Path) -> Finding:
    if settings.broker_url is None:
        from stepwell.cli.embedded.installations import find_valkey

        return Finding("broker", "ok", f"embedded Valkey ({find_valkey().name})")
    import kombu

    scheme = urlsplit(settings.broker_url).scheme
    try:
        with kombu.Connection(settings.broker_url, connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except Exception as error:  # noqa: BLE001 -- drivers raise what they like
        return Finding(
            "broker",
            "problem",
            f"{scheme} broker does not answer: {type(error).__name__}",
            "Start it, or change STEPWELL_BROKER_URL.",
        )
    return Finding("broker", "ok", f"{scheme} broker of STEPWELL_BROKER_URL answers")


def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            text = f"{settings.host}:{settings.port} cannot be listened on now ({error.strerror})"
            return Finding("port", "note", text, "Fine if that is your server; else start it with --port.")
    return Finding("port", "ok", f"{settings.host}:{settings.port} is free")


def server_at(url: str, api_key: str | None) -> Finding:
    """Whether a server (or an engine's health port) is ready."""
    from stepwell.cli.client import Client

    client = Client(url.rstrip("/"), api_key)
    try:
        client.get("/readyz", patience=5)
    except Failure as failure:
        return Finding("server", "problem", f"{url}: {failure.message}")
    finally:
        client.close()
    return Finding("server", "ok", f"{url} is ready")


def _server(settings: Settings) -> Finding:
    found = server_at(settings.url, settings.api_key)
    if found.level == "problem" and "can be reached" in found.text:
        return Finding("server", "note", f"none at {settings.url}", "`stepwell up` starts one.")
    return found


def show_settings(output: Output) -> None:
    """The table of settings; of a secret only whether it is set."""
    rows = []
    for one in all_settings():
        variable = one.metadata["variable"]
        given = os.environ.get(variable)
        shown = "(set)" if given and one.metadata["secret"] else given
        default = default_text(one.default)
        output.record({"variable": variable, "value": shown, "default": default, "about": one.metadata["about"]})
        rows.append((variable, shown, default, one.metadata["about"]))
    if output.json:
        return
    for variable, shown, default, about in rows:
        value = click.style(f" = {shown}", fg="green") if shown else ""
        usual = click.style(f"  [{default}]", fg="bright_black") if default else ""
        output.say(f"{click.style(variable, bold=True)}{value}{usual}")
        output.say(f"    {about}")


def default_text(default: object) -> str:
    """A default as one would write it into the environment."""
    match default:
        case None | ():
            return ""
        case bool():
            return "on" if default else "off"
        case tuple():
            return ",".join(map(str, default))
    return str(default)
