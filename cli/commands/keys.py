"""`stepwell keys`: API keys. They are made on the database itself, so that no key is needed to make the first one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output, moment

if TYPE_CHECKING:
    from stepwell.engine.service.api_keys import ApiKeys
    from stepwell.engine.settings import Settings

T = TypeVar("T")

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where data is kept.  [STEPWELL_DATA_DIR, ./.stepwell]"
)


@click.group()
def keys() -> None:
    """API keys. As soon as there is one, every request must show one.

    They are made on the database itself: the one of STEPWELL_DATABASE_URL, else that of the data directory.
    """


def with_keys(data_dir: Path | None, work: Callable[[ApiKeys], Awaitable[T]]) -> T:
    """Do something with the keys of the database that the settings name."""
    from stepwell.cli.assembly import load_settings
    from stepwell.cli.serving import prepare_data_dir, servers

    settings = prepare_data_dir(load_settings(data_dir=data_dir))
    with servers(settings, broker=False) as settings:

        async def main() -> T:
            async with api_keys(settings) as found:
                return await work(found)

        return asyncio.run(main())


@asynccontextmanager
async def api_keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    """The use-cases of keys over a database of its own connection."""
    from stepwell.cli.assembly import needed, secret_box, upgrade_database
    from stepwell.cli.system import SystemClock, random_bytes
    from stepwell.engine.service.api_keys import ApiKeys
    from stepwell.engine.store.api_keys import PostgresApiKeys
    from stepwell.engine.store.pool import create_pool

    url = needed(settings.database_url)
    await upgrade_database(url)
    pool = await create_pool(url, min_size=1, max_size=2)
    try:
        yield ApiKeys(PostgresApiKeys(pool), SystemClock(), secret_box(settings), random_bytes)
    finally:
        await pool.close()


@keys.command()
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@click.option(
    "--sigv4", is_flag=True, help="Make a key pair for AWS clients (boto3, AWS CLI, Terraform) instead of a bearer key."
)
@data_dir_option
@json_option
@pass_output
def create(output: Output, name: str, sigv4: bool, data_dir: Path | None) -> None:
    """Make a key. Its secret is shown now and never again."""
    made = with_keys(data_dir, lambda found: found.create_pair(name) if sigv4 else found.create_bearer(name))
    document: dict[str, Any] = {"id": made.record.id, "name": name, "secret": made.secret}
    output.document(document)
    if sigv4:
        output.say(f"AWS_ACCESS_KEY_ID={made.record.id}")
        output.say(f"AWS_SECRET_ACCESS_KEY={made.secret}")
    else:
        output.say(f"STEPWELL_API_KEY={made.secret}")
    output.remark(f"Key {made.record.id}. Keep the secret: it is not shown again.", fg="bright_black")


@keys.command(name="list")
@data_dir_option
@json_option
@pass_output
def list_(output: Output, data_dir: Path | None) -> None:
    """List keys, without their secrets. With --json, one a line."""
    found = with_keys(data_dir, lambda keys: keys.list())
    for record in found:
        kind = "sigv4" if record.secret else "bearer"
        output.record({"id": record.id, "name": record.name, "kind": kind, "createdAt": record.created_at})
    rows = [(one.id, one.name, "sigv4" if one.secret else "bearer", moment(one.created_at)) for one in found]
    output.table(["ID", "NAME", "KIND", "CREATED"], rows, "No keys: everybody who reaches the server may use it.")


@keys.command()
@click.argument("id")
@data_dir_option
@json_option
@pass_output
def revoke(output: Output, id: str, data_dir: Path | None) -> None:
    """Revoke the key ID. Servers stop taking it within seconds."""
    with_keys(data_dir, lambda keys: keys.delete(id))
    output.document({"revoked": id})
    output.say(f"revoked {id}")
