"""`stepwell functions`: what the function names in definitions stand for."""

from __future__ import annotations

import click

from stepwell.cli.client import Client, part
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output, moment
from stepwell.engine.asl.celery_resources import SCHEME


@click.group()
def functions() -> None:
    """The registry of functions: what the names in definitions stand for."""


@functions.command()
@click.argument("name")
@click.argument("target")
@click.option(
    "--kind",
    type=click.Choice(["python", "celery", "http"]),
    help="What TARGET is.  [http for a URL, python with a colon, else celery]",
)
@json_option
@pass_output
def add(output: Output, name: str, target: str, kind: str | None) -> None:
    """Register the function NAME.

    TARGET is module:callable (run in a function host), the name of a Celery task, or a Lambda-compatible Invoke URL.
    """
    if kind is None:
        kind = "http" if target.startswith(("http://", "https://")) else "python" if ":" in target else "celery"
        if target.startswith(SCHEME):  # as a Resource has it
            kind, target = "celery", target.removeprefix(SCHEME)
    view = Client.from_environment().put(f"/v1/functions/{part(name)}", {"kind": kind, "target": target})
    output.document(view)
    output.say(f"{view['name']} is {view['kind']} {view['target']}")
    if kind == "python":
        output.remark("Engines import it if STEPWELL_FUNCTION_MODULES names its module.", fg="bright_black")


@functions.command(name="list")
@json_option
@pass_output
def list_(output: Output) -> None:
    """List registered functions. With --json, one a line."""
    found = list(Client.from_environment().pages("/v1/functions"))
    for view in found:
        output.record(view)
    rows = [(view["name"], view["kind"], view["target"], moment(view["createdAt"])) for view in found]
    output.table(
        ["NAME", "KIND", "TARGET", "CREATED"], rows, "No functions. `stepwell functions add NAME TARGET` registers one."
    )


@functions.command()
@click.argument("name")
@json_option
@pass_output
def remove(output: Output, name: str) -> None:
    """Remove the function NAME from the registry."""
    Client.from_environment().delete(f"/v1/functions/{part(name)}")
    output.document({"removed": name})
    output.say(f"removed {name}")
