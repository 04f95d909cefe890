"""`stepwell worker`: a Celery worker that claims its tasks, or a function host; for the environment of the user's own code.

Works with the base install: it must not import anything of the server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.options import json_option

OWN_APP = "stepwell.workers.app:app"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.option(
    "-A", "--app", metavar="MODULE:APP", help=f"The Celery application to run.  [STEPWELL_CELERY_APP, {OWN_APP}]"
)
@click.option("-Q", "--queues", help="Queues to consume, separated by commas.  [the application's]")
@click.option("-c", "--concurrency", type=click.IntRange(1), help="Tasks to run at once.  [the number of CPUs]")
@click.option("--pool", default="prefork", show_default=True, help="Celery's pool: prefork, threads, solo, ...")
@click.option(
    "--functions",
    "modules",
    metavar="MODULE,..",
    help="Be a function host instead: run the functions of these modules.",
)
@click.option("--listen", metavar="ADDRESS", help="Where the function host listens: unix:/path or host:port.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Functions the host runs at once, beside async ones.",
)
@click.option("--lifeline", type=int, hidden=True, help="A pipe whose end is the end of this process.")
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
@json_option
def worker(
    app: str | None,
    queues: str | None,
    concurrency: int | None,
    pool: str,
    modules: str | None,
    listen: str | None,
    threads: int,
    lifeline: int | None,
    celery_options: tuple[str, ...],
) -> None:
    """Run tasks in this environment, where your own code is installed.

    By default a Celery worker. It claims and reports its tasks at STEPWELL_URL and takes them from STEPWELL_BROKER_URL. What
    follows -- is passed on to `celery worker`. With --functions it is a host of Python functions that engines call.
    """
    if lifeline is not None:
        from stepwell.cli.serving import end_with

        end_with(lifeline)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if modules:
        run_function_host(modules, listen, threads)
    else:
        run_celery(app or os.environ.get("STEPWELL_CELERY_APP") or OWN_APP, queues, concurrency, pool, celery_options)


def run_celery(name: str, queues: str | None, concurrency: int | None, pool: str, options: tuple[str, ...]) -> None:
    """Run a Celery worker in this process, with Stepwell's hook in it, until it is stopped."""
    from celery.app.utils import find_app

    from stepwell.workers import install

    broker = os.environ.get("STEPWELL_BROKER_URL")
    if broker:
        os.environ["CELERY_BROKER_URL"] = broker  # which Celery prefers to what the application says
    try:
        application = find_app(name)
    except (ImportError, AttributeError) as error:
        raise Failure(
            f"The Celery application {name!r} cannot be loaded: {error}. Name it as module:attribute with --app.",
            ExitCode.UNUSABLE,
            code="NoApplication",
        ) from error
    install(application)
    allow_root(application)
    level = os.environ.get("STEPWELL_LOG_LEVEL") or "info"
    arguments = ["--quiet", "worker", f"--pool={pool}", f"--loglevel={level}", "--without-gossip", "--without-mingle"]
    arguments += [f"--queues={queues}"] if queues else []
    arguments += [f"--concurrency={concurrency}"] if concurrency else []
    application.worker_main([*arguments, *options])


def allow_root(application: Any) -> None:
    """Keep Celery from warning of root where it has no reason to: a message can run code only by pickle."""
    from warnings import filterwarnings

    from celery.exceptions import SecurityWarning

    if not any("pickle" in kind or "python" in kind for kind in application.conf.accept_content):
        filterwarnings("ignore", category=SecurityWarning)


def run_function_host(modules: str, listen: str | None, threads: int) -> None:
    """Run a function host in this process until it is stopped."""
    from stepwell.workers.host import HostError, run_host

    if listen is None:
        raise click.UsageError("A function host needs --listen unix:/path or --listen host:port.")
    secret = os.environ.get("STEPWELL_FUNCTION_SECRET", "").encode()
    names = [name for name in modules.replace(",", " ").split() if name]
    try:
        run_host(
            names, listen=listen, threads=threads, secret=secret, on_ready=lambda bound: click.echo(f"ready {bound}")
        )
    except HostError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="FunctionHost") from None
