"""`stepwell up`: everything on one machine, in one command. The same processes as on many, with nothing left out."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output

if TYPE_CHECKING:
    from stepwell.engine.settings import Settings


def server_options(command: Any) -> Any:
    """Options of commands that serve the API."""
    for option in (
        click.option(
            "--port", type=click.IntRange(0, 65_535), help="Port of the API; 0 takes a free one.  [STEPWELL_PORT, 8083]"
        ),
        click.option("--host", help="Address to listen on.  [STEPWELL_HOST, 127.0.0.1]"),
        click.option(
            "--data-dir", type=click.Path(path_type=Path), help="Where data is kept.  [STEPWELL_DATA_DIR, ./.stepwell]"
        ),
    ):
        command = option(command)
    return command


@click.command()
@server_options
@click.option(
    "--workers",
    type=click.IntRange(0, 1000),
    help="Processes of the Celery worker; 0 starts none.  [4, or the CPUs if fewer]",
)
@click.option("--lifeline", type=int, hidden=True, help="A pipe whose end is the end of this process.")
@json_option
@pass_output
def up(
    output: Output,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    workers: int | None,
    lifeline: int | None,
) -> None:
    """Start everything on this machine, and run until Ctrl-C.

    PostgreSQL and Valkey are brought along, with their data in the data directory, unless STEPWELL_DATABASE_URL and
    STEPWELL_BROKER_URL name servers. The API, the engine and the function hosts run here, the Celery worker in a process of
    its own. When requests are taken, one line is printed: ready http://HOST:PORT
    """
    from stepwell.cli.assembly import configure_logging, load_settings

    if lifeline is not None:
        from stepwell.cli.serving import end_with

        end_with(lifeline)
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    configure_logging(settings)
    run_up(settings, workers, lambda url: announce(output, url))


def announce(output: Output, url: str) -> None:
    """The one line that says that requests are taken."""
    if output.json:
        output.record({"ready": url})
    else:
        click.echo(f"ready {url}")


def run_up(settings: Settings, workers: int | None, on_ready: Any, *, upgrade: bool = True) -> None:
    """Run everything until a signal comes. `on_ready` is called once with the URL."""
    from stepwell.cli.assembly import upgrade_database
    from stepwell.cli.serving import listening_socket, prepare_data_dir, run_loop, servers

    settings = prepare_data_dir(settings)
    with listening_socket(settings.host, settings.port) as bound, servers(settings) as settings:

        async def main() -> None:
            assert settings.database_url is not None
            if upgrade:
                await upgrade_database(settings.database_url)
            await serve_everything(settings, bound, workers, on_ready)

        run_loop(main())


async def serve_everything(settings: Settings, bound: Any, workers: int | None, on_ready: Any) -> None:
    """Node, API and worker child, until a signal comes."""
    from stepwell.cli.assembly import open_node
    from stepwell.cli.serving import WorkerChild, refuse_open_bind, serve_api, stop_event, url_of

    url = url_of(settings.host, bound)
    async with AsyncExitStack() as life:
        stop = await life.enter_async_context(stop_event())
        node = await life.enter_async_context(open_node(settings))
        await refuse_open_bind(node, settings)
        count = min(4, os.cpu_count() or 1) if workers is None else workers

        worked = asyncio.Event()
        child: WorkerChild | None = None

        def ready() -> None:
            nonlocal child
            if count and not stop.is_set():
                key = node.services.api_keys.own_bearer()  # the first key may be made at any time
                child = WorkerChild(settings, url, concurrency=count, api_key=key)
                life.push_async_callback(child.close)
                watching = asyncio.create_task(child.watch(stop))
                life.callback(watching.cancel)
            on_ready(url)

        async def stop_worker_first() -> None:  # what it still runs is claimed and reported at the API
            await stop.wait()
            if child is not None:
                await child.close()
            worked.set()

        stopping = asyncio.create_task(stop_worker_first())
        life.callback(stopping.cancel)
        await serve_api(node, settings, bound, worked, ready)
