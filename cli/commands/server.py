"""`stepwell api` and `stepwell engine`: the parts of a server apart, as many of each as needed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.commands.up import announce, server_options
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output

if TYPE_CHECKING:
    from stepwell.engine.settings import Settings


@click.command()
@server_options
@json_option
@pass_output
def api(output: Output, host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Serve the API, and leave running executions to engines elsewhere.

    Needs STEPWELL_DATABASE_URL (a database that `stepwell db upgrade` has made ready).
    """
    from stepwell.cli.assembly import configure_logging, load_settings
    from stepwell.cli.serving import listening_socket, prepare_data_dir, run_loop

    settings = prepare_data_dir(load_settings(host=host, port=port, data_dir=data_dir))
    configure_logging(settings)
    with listening_socket(settings.host, settings.port) as bound:
        run_loop(_serve_api(output, settings, bound))


async def _serve_api(output: Output, settings: Settings, bound: Any) -> None:
    from stepwell.cli.assembly import open_node
    from stepwell.cli.serving import refuse_open_bind, serve_api, stop_event, url_of

    async with AsyncExitStack() as life:
        stop = await life.enter_async_context(stop_event())
        node = await life.enter_async_context(open_node(settings, owns_shards=False))
        await refuse_open_bind(node, settings)
        await serve_api(node, settings, bound, stop, lambda: announce(output, url_of(settings.host, bound)))


@click.command()
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    help="Answer /healthz, /readyz and /metrics there.  [STEPWELL_HEALTH_PORT]",
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the key file is.  [STEPWELL_DATA_DIR, ./.stepwell]"
)
@json_option
@pass_output
def engine(output: Output, health_port: int | None, data_dir: Path | None) -> None:
    """Run executions: an engine node, beside as many others as wanted.

    Needs STEPWELL_DATABASE_URL, and STEPWELL_BROKER_URL for Celery tasks. Prints one line when it runs: ready
    """
    from stepwell.cli.assembly import configure_logging, load_settings
    from stepwell.cli.serving import prepare_data_dir, run_loop

    settings = prepare_data_dir(load_settings(health_port=health_port, data_dir=data_dir))
    configure_logging(settings)
    run_loop(_serve_engine(output, settings, serve_health=bool(settings.health_port) or health_port == 0))


async def _serve_engine(output: Output, settings: Settings, *, serve_health: bool) -> None:
    from stepwell.cli.assembly import open_node
    from stepwell.cli.serving import Health, listening_socket, serve_http, stop_event, url_of

    async with AsyncExitStack() as life:
        stop = await life.enter_async_context(stop_event())
        node = await life.enter_async_context(open_node(settings))
        if not serve_health:
            output.record({"ready": None})
            output.say("ready")
            await stop.wait()
            return
        bound = life.enter_context(listening_socket(settings.host, settings.health_port))
        await serve_http(Health(node), bound, stop, lambda: announce(output, url_of(settings.host, bound)))
