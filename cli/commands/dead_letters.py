"""`stepwell dead-letters`: what failed for good; found, redriven when its cause is repaired, or discarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from stepwell.cli.client import Client
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.following import failure_lines
from stepwell.cli.options import TIME, json_option, pass_output
from stepwell.cli.output import Output, moment
from stepwell.cli.progress import failure_text


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Find, redrive and discard what failed for good."""


def filters(command: Any) -> Any:
    """Options that say which dead letters are meant."""
    for option in (
        click.option("--until", type=TIME, metavar="TIME", help="Only those from before (2026-01-31T08:00:00Z)."),
        click.option("--since", type=TIME, metavar="TIME", help="Only those since."),
        click.option("-e", "--error", help="Only those with exactly this error."),
        click.option("--state", help="Only those that failed in this state."),
        click.option("-m", "--machine", help="Only those of this state machine."),
    ):
        command = option(command)
    return command


def query_of(
    machine: str | None, state: str | None, error: str | None, since: str | None, until: str | None
) -> dict[str, Any]:
    return {"stateMachine": machine, "state": state, "error": error, "since": since, "until": until}


@dead_letters.command(name="list")
@filters
@click.option(
    "-s",
    "--status",
    type=click.Choice(["OPEN", "REDRIVEN", "DISCARDED", "ANY"], case_sensitive=False),
    default="OPEN",
    show_default=True,
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="As many as there are.")
@json_option
@pass_output
def list_(output: Output, /, status: str, limit: int, everything: bool, **where: str | None) -> None:
    """List dead letters, newest first. With --json, one a line."""
    query = {**query_of(**where), "status": status}
    found = Client.from_environment().pages("/v1/dead-letters", query, None if everything else limit)
    if output.json:
        for letter in found:
            output.record(letter)
        return
    rows = [
        (
            one["id"],
            one["status"],
            one["stateMachine"],
            one.get("state"),
            moment(one["at"]),
            failure_text(one.get("error"), one.get("cause")),
        )
        for one in found
    ]
    output.table(["ID", "STATUS", "MACHINE", "STATE", "AT", "ERROR"], rows, "No dead letters.")


@dead_letters.command()
@click.argument("id", type=click.IntRange(1))
@json_option
@pass_output
def show(output: Output, id: int) -> None:
    """Show dead letter ID with the input of the state that failed."""
    letter = Client.from_environment().get(f"/v1/dead-letters/{id}")
    output.document(letter)
    output.fields(
        [
            ("id", letter["id"]),
            ("status", letter["status"]),
            ("machine", letter["stateMachine"]),
            ("execution", letter["execution"]),
            ("state", letter.get("state")),
            ("attempt", letter["attempt"]),
            ("at", moment(letter["at"])),
            ("closed", moment(letter.get("closedAt"))),
        ]
    )
    for line in failure_lines(letter):
        output.say(line)
    if "input" in letter and not output.json:
        output.say(click.style("input", fg="bright_black"))
        output.value(letter["input"])


def chosen(client: Client, ids: tuple[int, ...], everything: bool, where: dict[str, str | None]) -> Iterator[int]:
    """The dead letters meant: those named, or all open ones that the filters let through."""
    if ids and (everything or any(where.values())):
        raise click.UsageError("Name dead letters, or choose them with --all and filters; not both.")
    if not ids and not everything:
        raise click.UsageError("Name the dead letters, or say --all (with filters, if not all are meant).")
    if ids:
        yield from ids
    else:
        yield from [
            letter["id"] for letter in client.pages("/v1/dead-letters", {**query_of(**where), "status": "OPEN"})
        ]


def act(
    output: Output, ids: tuple[int, ...], everything: bool, where: dict[str, str | None], verb: str, done: str
) -> None:
    """Do something to each dead letter chosen; what is refused is told, the rest goes on."""
    client = Client.from_environment()
    count = failed = 0
    for id in chosen(client, ids, everything, where):
        try:
            client.post(f"/v1/dead-letters/{id}/{verb}")
        except Failure as failure:
            if failure.exit_code == ExitCode.UNUSABLE:
                raise
            failed += 1
            output.record({"id": id, "error": {"code": failure.code, "message": failure.message}})
            output.remark(f"{id}: {failure.message}", fg="red")
        else:
            count += 1
            output.record({"id": id, "status": done.upper()})
    output.say(f"{done} {count}" + (f", {failed} refused" if failed else ""))
    if failed:
        fail_hard(ExitCode.FAILED)


@dead_letters.command()
@click.argument("ids", nargs=-1, type=click.IntRange(1), metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="All open ones (that the filters let through).")
@filters
@json_option
@pass_output
def redrive(output: Output, /, ids: tuple[int, ...], everything: bool, **where: str | None) -> None:
    """Let the executions of dead letters go on from where they failed. With --json, one a line."""
    act(output, ids, everything, where, "redrive", "redriven")


@dead_letters.command()
@click.argument("ids", nargs=-1, type=click.IntRange(1), metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="All open ones (that the filters let through).")
@filters
@json_option
@pass_output
def discard(output: Output, /, ids: tuple[int, ...], everything: bool, **where: str | None) -> None:
    """Close dead letters; their executions stay as they are. With --json, one a line."""
    act(output, ids, everything, where, "discard", "discarded")
