"""`stepwell machines`: the state machines a server has."""

from __future__ import annotations

import click

from stepwell.cli.client import Client, part
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output, moment


@click.group()
def machines() -> None:
    """List, show and delete state machines."""


@machines.command(name="list")
@json_option
@pass_output
def list_(output: Output) -> None:
    """List state machines. With --json, one a line."""
    found = list(Client.from_environment().pages("/v1/state-machines"))
    for view in found:
        output.record(view)
    rows = [(view["name"], view["type"], view["revision"], moment(view["updatedAt"])) for view in found]
    output.table(["NAME", "TYPE", "REVISION", "UPDATED"], rows, "No state machines. `stepwell deploy FILE` makes one.")


@machines.command()
@click.argument("machine")
@click.option("--definition", is_flag=True, help="Print only the definition, as it was deployed.")
@json_option
@pass_output
def show(output: Output, machine: str, definition: bool) -> None:
    """Show MACHINE (its name or ARN) with its definition."""
    view = Client.from_environment().get(f"/v1/state-machines/{part(machine)}")
    output.document(view["definition"] if definition else view)
    if not definition:
        output.fields(
            [
                ("name", view["name"]),
                ("arn", view["arn"]),
                ("type", view["type"]),
                ("revision", view["revision"]),
                ("role", view.get("roleArn")),
                ("created", moment(view["createdAt"])),
                ("updated", moment(view["updatedAt"])),
            ]
        )
    output.value(view["definition"])


@machines.command()
@click.argument("machine")
@click.confirmation_option("-y", "--yes", prompt="Delete it? Its executions go on to their end.")
@json_option
@pass_output
def delete(output: Output, machine: str) -> None:
    """Delete MACHINE. Its executions go on to their end."""
    Client.from_environment().delete(f"/v1/state-machines/{part(machine)}")
    output.document({"deleted": machine})
    output.say(f"deleted {machine}")
