"""Executions on a server: start, status, history, list, stop, redrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from stepwell.cli.client import Client, part, reference
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.following import HistoryReader, exit_code_of, follow, show_execution, show_result, wait_for
from stepwell.cli.options import DURATION, TIME, json_option, pass_output, read_input
from stepwell.cli.output import Output, duration, moment
from stepwell.cli.progress import Progress, failure_text, parse_time

STATUSES = ("RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
WITHOUT_END = -1.0
SHOWN_MAP_RUNS = 5


@click.command()
@click.argument("machine", metavar="MACHINE")
@click.option("-i", "--input", "input_text", metavar="JSON|@FILE|-", help="The input; {} where none is given.")
@click.option("--name", help="The execution's name. The same name and input again start nothing new.")
@click.option(
    "-w", "--wait", type=DURATION, is_flag=False, flag_value=WITHOUT_END, metavar="[=TIME]",
    help="Wait for the result: to its end, or for this long (90, 5m, 1h).",
)  # fmt: skip
@json_option
@pass_output
def start(output: Output, machine: str, input_text: str | None, name: str | None, wait: float | None) -> None:
    """Start an execution of MACHINE (its name or ARN).

    With --wait its progress goes to stderr and its output to stdout. Exit code 0: it succeeded; 1: it failed; 3: it still
    runs and the time is up.
    """
    client = Client.from_environment()
    given = read_input(input_text)
    body = b'{"input":' + given + (b',"name":' + _json(name) if name is not None else b"") + b"}"
    view = client.post(f"/v1/state-machines/{part(machine)}/executions", body)
    if wait is None:
        output.document(view)
        output.say(view["id"])
        output.remark(f"started {view['arn']}")
        return
    seconds = None if wait == WITHOUT_END else wait
    if output.json:
        view = wait_for(client, view["id"], seconds)
        output.document(view)
    else:
        output.remark(f"{view['arn']}", fg="bright_black")
        progress = Progress(output.remark)
        view = follow(client, view["id"], progress.feed, seconds, tell_map_runs=progress.map_runs)
        show_result(output, view)
    fail_hard(exit_code_of(view))


def _json(text: str) -> bytes:
    import json

    return json.dumps(text).encode()


@click.command()
@click.argument("execution", metavar="ID")
@click.option(
    "-w",
    "--wait",
    type=DURATION,
    is_flag=False,
    flag_value=WITHOUT_END,
    metavar="[=TIME]",
    help="Wait for its end first.",
)
@json_option
@pass_output
def status(output: Output, execution: str, wait: float | None) -> None:
    """Show where the execution ID (its id, its ARN, or MACHINE:NAME) stands.

    With --wait the exit code tells how it ended: 0, 1, or 3 if it still runs.
    """
    client = Client.from_environment()
    if wait is None:
        view = client.get(f"/v1/executions/{reference(execution)}")
    else:
        view = wait_for(client, execution, None if wait == WITHOUT_END else wait)
    output.document(view)
    show_execution(output, view, [] if output.json else _map_runs(client, view))
    if wait is not None:
        fail_hard(exit_code_of(view))


def _map_runs(client: Client, view: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The newest Map Runs of an execution, the oldest of them first; an Express one has none."""
    if view.get("type") == "EXPRESS" or "events" not in view:
        return []
    return list(client.pages(f"/v1/executions/{part(view['id'])}/map-runs", limit=SHOWN_MAP_RUNS))[::-1]


@click.command()
@click.argument("execution", metavar="ID")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until it has ended, telling of its states.")
@click.option("--data", is_flag=True, help="Show inputs and outputs too.")
@json_option
@pass_output
def history(output: Output, execution: str, following: bool, data: bool) -> None:
    """Show what happened in the execution ID: its events, as AWS Step Functions numbers them. With --json, one a line."""
    client = Client.from_environment()
    if following:
        progress = Progress(output.say)

        def tell(events: list[Any]) -> None:
            for event in events:
                output.record(event)
            if not output.json:
                progress.feed(events)

        view = follow(client, execution, tell, tell_map_runs=None if output.json else progress.map_runs)
        if not output.json:
            show_result(output, view)
        fail_hard(exit_code_of(view))
    events = HistoryReader(client, execution).read()
    if output.json:
        for event in events:
            output.record(event)
        return
    begun = parse_time(events[0]["timestamp"]) if events else 0.0
    rows = [
        (
            event["id"],
            f"+{duration(parse_time(event['timestamp']) - begun)}",
            event["type"],
            event["previousId"] or "",
            about(event, data),
        )
        for event in events
    ]
    output.table(["ID", "TIME", "EVENT", "AFTER", "WHAT"], rows, "No events.")


def about(event: Mapping[str, Any], data: bool) -> str:
    """What is worth knowing of an event, on one line."""
    import json

    details = event["details"]
    if "error" in details or "cause" in details:
        return failure_text(details.get("error"), details.get("cause"))
    texts = [
        str(details[name]) for name in ("name", "index", "resourceType", "resource", "workerName") if name in details
    ]
    if data:
        texts += [
            json.dumps(details[name], ensure_ascii=False)
            for name in ("input", "output", "parameters")
            if name in details
        ]
    return " ".join(texts)


@click.command(name="list")
@click.option("-m", "--machine", help="Only of this state machine.")
@click.option(
    "-s", "--status", "status_", type=click.Choice(STATUSES, case_sensitive=False), help="Only those that stand so."
)
@click.option("--name-prefix", help="Only those whose name begins so.")
@click.option("--since", type=TIME, metavar="TIME", help="Only those started since (2026-01-31T08:00:00Z).")
@click.option("--until", type=TIME, metavar="TIME", help="Only those started before.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="As many as there are.")
@json_option
@pass_output
def list_(
    output: Output,
    machine: str | None,
    status_: str | None,
    name_prefix: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List executions, newest first. With --json, one a line."""
    query = {
        "stateMachine": machine,
        "status": status_,
        "namePrefix": name_prefix,
        "startedAfter": since,
        "startedBefore": until,
    }
    found = Client.from_environment().pages("/v1/executions", query, None if everything else limit)
    if output.json:
        for view in found:
            output.record(view)
        return
    rows = [
        (view["id"], view["stateMachine"], view["name"], view["status"], moment(view["startedAt"]), _took(view))
        for view in found
    ]
    output.table(["ID", "MACHINE", "NAME", "STATUS", "STARTED", "TOOK"], rows, "No executions.")


def _took(view: dict[str, Any]) -> str:
    stopped = view.get("stoppedAt")
    return duration(parse_time(stopped) - parse_time(view["startedAt"])) if stopped else ""


@click.command()
@click.argument("execution", metavar="ID")
@click.option("--error", help="The error to note.")
@click.option("--cause", help="The cause to note.")
@json_option
@pass_output
def stop(output: Output, execution: str, error: str | None, cause: str | None) -> None:
    """Stop the running execution ID; it becomes ABORTED. One that has ended stays as it is."""
    body = {name: value for name, value in (("error", error), ("cause", cause)) if value is not None}
    view = Client.from_environment().post(f"/v1/executions/{reference(execution)}/stop", body)
    output.document(view)
    output.say(f"{view['id']} {view['status']}")


@click.command()
@click.argument("executions", metavar="ID...", nargs=-1, required=True)
@click.option("-w", "--wait", is_flag=True, help="Wait for their ends, telling of their states.")
@json_option
@pass_output
def redrive(output: Output, executions: tuple[str, ...], wait: bool) -> None:
    """Let failed executions go on from where they failed; states that succeeded are not run again. With --json, one a line."""
    client = Client.from_environment()
    worst = ExitCode.OK
    for execution in executions:
        try:
            path = f"/v1/executions/{reference(execution)}"
            before = client.get(path)["events"] if wait else 0
            view = client.post(f"{path}/redrive")
        except Failure as failure:
            if failure.exit_code == ExitCode.UNUSABLE:
                raise
            worst = ExitCode.FAILED
            output.record({"id": execution, "error": {"code": failure.code, "message": failure.message}})
            output.remark(f"{execution}: {failure.message}", fg="red")
            continue
        if wait:
            progress = Progress(output.remark, after=before)
            view = follow(client, view["id"], progress.feed, tell_map_runs=progress.map_runs)
            worst = max(worst, exit_code_of(view))
            if not output.json:
                show_result(output, view)
        output.record(view)
        if not wait:
            output.say(f"{view['id']} {view['status']}")
    fail_hard(worst)
