"""`stepwell activities`: activities, and working on their tasks by hand."""

from __future__ import annotations

import re
from typing import Final

import click

from stepwell.cli.client import ANSWER_SECONDS, Client, part
from stepwell.cli.options import json_option, pass_output, read_input
from stepwell.cli.output import Output, moment, pretty

_TOKEN: Final = re.compile(r"-[\w-]{47}", re.ASCII)
"""A task token that begins as an option does: one of 64 is such."""


class TakesToken(click.Command):
    """A command that takes a task token, whatever it begins with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        tokens = [] if "--" in args else [one for one in args if _TOKEN.fullmatch(one)]
        if tokens:
            args = [*(one for one in args if one not in tokens), "--", *tokens]
        return super().parse_args(ctx, args)


@click.group()
def activities() -> None:
    """Activities, and working on their tasks by hand."""


@activities.command()
@click.argument("name")
@json_option
@pass_output
def create(output: Output, name: str) -> None:
    """Create the activity NAME."""
    view = Client.from_environment().post("/v1/activities", {"name": name})
    output.document(view)
    output.say(view["arn"])


@activities.command(name="list")
@json_option
@pass_output
def list_(output: Output) -> None:
    """List activities. With --json, one a line."""
    found = list(Client.from_environment().pages("/v1/activities"))
    for view in found:
        output.record(view)
    rows = [(view["name"], moment(view["createdAt"]), view["arn"]) for view in found]
    output.table(["NAME", "CREATED", "ARN"], rows, "No activities.")


@activities.command()
@click.argument("name")
@json_option
@pass_output
def delete(output: Output, name: str) -> None:
    """Delete the activity NAME."""
    Client.from_environment().delete(f"/v1/activities/{part(name)}")
    output.document({"deleted": name})
    output.say(f"deleted {name}")


@activities.command()
@click.argument("name")
@click.option("--wait", type=click.FloatRange(0, 60), default=60, show_default=True, help="Seconds to wait for a task.")
@click.option("--worker", help="Your name, shown in the history.")
@json_option
@pass_output
def take(output: Output, name: str, wait: float, worker: str | None) -> None:
    """Take the next task of the activity NAME: its token and its input."""
    query = {"wait": wait, "worker": worker}
    task = Client.from_environment().request(
        "POST", f"/v1/activities/{part(name)}/tasks", {}, query, patience=wait + ANSWER_SECONDS
    )
    output.document(task)
    if task is None:
        output.remark("No task came.")
        return
    output.say(f"token {task['token']}")
    output.say(pretty(task["input"]))


@activities.command(cls=TakesToken)
@click.argument("token")
@click.option("-o", "--output", "result", metavar="JSON|@FILE|-", help="The task's result; {} where none is given.")
@json_option
@pass_output
def succeed(output: Output, token: str, result: str | None) -> None:
    """Report that the task of TOKEN has succeeded."""
    body = b'{"token":' + _text(token) + b',"output":' + read_input(result, "--output") + b"}"
    Client.from_environment().post("/v1/tasks/success", body)
    output.document({"reported": "success"})
    output.say("reported")


@activities.command(cls=TakesToken)
@click.argument("token")
@click.option("--error", help="The error's name.")
@click.option("--cause", help="Its cause.")
@json_option
@pass_output
def fail(output: Output, token: str, error: str | None, cause: str | None) -> None:
    """Report that the task of TOKEN has failed."""
    told = {name: value for name, value in (("error", error), ("cause", cause)) if value is not None}
    Client.from_environment().post("/v1/tasks/failure", {"token": token, **told})
    output.document({"reported": "failure"})
    output.say("reported")


def _text(text: str) -> bytes:
    import json

    return json.dumps(text).encode()
