"""`stepwell map-runs`: the Map Runs of Distributed Maps: how far they are, their children, how many may run and fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from stepwell.cli.client import Client, reference
from stepwell.cli.commands.executions import STATUSES
from stepwell.cli.failures import Failure
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output, duration, moment
from stepwell.cli.progress import map_run_text, parse_time


@click.group(name="map-runs")
def map_runs() -> None:
    """Map Runs: how far Distributed Maps are, and what became of their items."""


@map_runs.command(name="list")
@click.argument("execution", metavar="ID")
@json_option
@pass_output
def list_(output: Output, execution: str) -> None:
    """List the Map Runs of the execution ID (its id, its ARN, or MACHINE:NAME), newest first. With --json, one a line."""
    found = list(Client.from_environment().pages(f"/v1/executions/{reference(execution)}/map-runs"))
    for view in found:
        output.record(view)
    rows = [
        (view["status"], map_run_text(view), moment(view["startedAt"]), duration_of(view), view["arn"])
        for view in found
    ]
    output.table(["STATUS", "ITEMS", "STARTED", "TOOK", "ARN"], rows, "No Map Runs.")


@map_runs.command()
@click.argument("arn")
@json_option
@pass_output
def show(output: Output, arn: str) -> None:
    """Show the Map Run ARN: what became of its items and child executions, and what it tolerates."""
    view = Client.from_environment().get(f"/v1/map-runs/{part_of(arn)}")
    output.document(view)
    show_map_run(output, view)


@map_runs.command()
@click.argument("arn")
@click.option(
    "-s", "--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only child executions that stand so."
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="As many as there are.")
@json_option
@pass_output
def children(output: Output, arn: str, status: str | None, limit: int, everything: bool) -> None:
    """List the child executions of the Map Run ARN, newest first. `stepwell status ARN` shows one. With --json, one a line."""
    query = {"status": status}
    path = f"/v1/map-runs/{part_of(arn)}/executions"
    found = Client.from_environment().pages(path, query, None if everything else limit)
    if output.json:
        for view in found:
            output.record(view)
        return
    rows = [(view["status"], moment(view["startedAt"]), duration_of(view), view["arn"]) for view in found]
    output.table(["STATUS", "STARTED", "TOOK", "ARN"], rows, "No child executions.")


@map_runs.command()
@click.argument("arn")
@click.option("--max-concurrency", type=click.IntRange(0), help="How many child executions may run at once.")
@click.option("--tolerated-failure-count", type=click.IntRange(0), help="How many items may fail.")
@click.option(
    "--tolerated-failure-percentage", type=click.FloatRange(0, 100), help="Which share of the items may fail."
)
@json_option
@pass_output
def update(
    output: Output,
    arn: str,
    max_concurrency: int | None,
    tolerated_failure_count: int | None,
    tolerated_failure_percentage: float | None,
) -> None:
    """Change how many children of the Map Run ARN may run at once and how many items may fail, while it goes on."""
    given = {
        "maxConcurrency": max_concurrency,
        "toleratedFailureCount": tolerated_failure_count,
        "toleratedFailurePercentage": tolerated_failure_percentage,
    }
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("Say what to change: --max-concurrency, --tolerated-failure-count or -percentage.")
    view = Client.from_environment().request("PATCH", f"/v1/map-runs/{part_of(arn)}", body)
    output.document(view)
    show_map_run(output, view)


def part_of(arn: str) -> str:
    """The ARN of a Map Run as it stands in a path. Raises `Failure` for what is none."""
    if ":mapRun:" not in arn:
        raise Failure(
            f"'{arn}' is no ARN of a Map Run; `stepwell map-runs list ID` shows those of an execution.",
            code="InvalidArn",
        )
    return reference(arn)


def show_map_run(output: Output, view: Mapping[str, Any]) -> None:
    """Everything about a Map Run, for people."""
    count, share = view["toleratedFailureCount"], view["toleratedFailurePercentage"]
    tolerated = [f"{count:,} failed items"] * bool(count) + [f"{share:g} % of the items"] * bool(share)
    output.fields(
        [
            ("arn", view["arn"]),
            ("execution", view["execution"]),
            ("status", view["status"]),
            ("started", moment(view["startedAt"])),
            ("stopped", moment(view.get("stoppedAt"))),
            ("took", duration_of(view) or None),
            ("at once", view["maxConcurrency"]),
            ("tolerates", " or ".join(tolerated) or "no failure"),
            ("redriven", f"{view['redriveCount']} times" if view.get("redriveCount") else None),
            ("items", _tally(view["items"])),
            ("children", _tally(view["executions"])),
        ]
    )


def _tally(counts: Mapping[str, int]) -> str:
    """The numbers that are not zero, the total first: `20,000: 5,000 running, 15,000 succeeded`."""
    names = {"timedOut": "timed out", "resultsWritten": "written"}
    parts = [f"{count:,} {names.get(name, name)}" for name, count in counts.items() if count and name != "total"]
    return f"{counts.get('total', 0):,}{': ' if parts else ''}{', '.join(parts)}"


def duration_of(view: Mapping[str, Any]) -> str:
    """How long it took; nothing while it goes on."""
    stopped = view.get("stoppedAt")
    return duration(parse_time(stopped) - parse_time(view["startedAt"])) if stopped else ""
