"""Following an execution on a server until it ends: its history as it grows, then where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from stepwell.cli.client import ANSWER_SECONDS, LONGEST_WAIT, PAGE, Client, reference
from stepwell.cli.failures import ExitCode
from stepwell.cli.output import Output, duration, moment, pretty, status
from stepwell.cli.progress import parse_time

POLL_SECONDS: Final = 0.5
"""How long a request may wait for the end before the history is read again."""

Event = Mapping[str, Any]


class HistoryReader:
    """Reads an execution's history page by page, and goes on where it was when asked again."""

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self._path = f"/v1/executions/{reference(id)}/history"
        self._after: str | None = None
        self.last = 0

    def read(self) -> list[Event]:
        """The events that have come since the last call."""
        fresh: list[Event] = []
        while True:
            page = self._client.get(self._path, {"limit": PAGE, "after": self._after})
            fresh += [event for event in page["items"] if event["id"] > self.last]
            if fresh:
                self.last = fresh[-1]["id"]
            if page.get("next") is None:
                return fresh
            self._after = page["next"]


def follow(
    client: Client, id: str, tell: Callable[[list[Event]], None], seconds: float | None = None
) -> dict[str, Any]:
    """Tell of an execution's events until it has ended or `seconds` are over; how it stands then."""
    reader = HistoryReader(client, id)
    left = seconds
    while True:
        wait = POLL_SECONDS if left is None else min(POLL_SECONDS, max(0.0, left))
        view: dict[str, Any] = client.get(f"/v1/executions/{reference(id)}", {"wait": wait})
        fresh = reader.read()
        if fresh:
            tell(fresh)
        if left is not None:
            left -= POLL_SECONDS
        if view["status"] != "RUNNING" or (left is not None and left <= 0):
            return view


def wait_for(client: Client, id: str, seconds: float | None) -> dict[str, Any]:
    """Wait for the end of an execution, `seconds` at most; how it stands then."""
    left = seconds
    while True:
        wait = LONGEST_WAIT if left is None else min(LONGEST_WAIT, max(0.0, left))
        view: dict[str, Any] = client.get(
            f"/v1/executions/{reference(id)}", {"wait": wait}, patience=wait + ANSWER_SECONDS
        )
        if left is not None:
            left -= wait
        if view["status"] != "RUNNING" or (left is not None and left <= 0):
            return view


def exit_code_of(view: Mapping[str, Any]) -> ExitCode:
    """What the command that waited ends with."""
    return {"SUCCEEDED": ExitCode.OK, "RUNNING": ExitCode.UNFINISHED}.get(view["status"], ExitCode.FAILED)


def show_result(output: Output, view: Mapping[str, Any]) -> None:
    """How an execution ended: a line beside the result, its output as the result."""
    took = ""
    if view.get("stoppedAt"):
        took = f" after {duration(parse_time(view['stoppedAt']) - parse_time(view['startedAt']))}"
    output.remark(f"{status(view['status'])}{took}, {view['events']} events")
    for line in failure_lines(view):
        output.remark(line)
    if "output" in view:
        output.say(pretty(view["output"]))


def failure_lines(view: Mapping[str, Any]) -> list[str]:
    """Error and cause for people."""
    from stepwell.cli.commands.run import cause_lines

    if not view.get("error") and not view.get("cause"):
        return []
    return [
        click.style(f"  error: {view.get('error') or '(none)'}", fg="red"),
        *(f"  {line}" for line in cause_lines(view.get("cause"))),
    ]


def show_execution(output: Output, view: Mapping[str, Any]) -> None:
    """Everything about an execution, for people."""
    redrive = view.get("redriveStatus")
    reason = view.get("redriveStatusReason")
    output.fields(
        [
            ("id", view["id"]),
            ("arn", view["arn"]),
            ("name", view["name"]),
            ("machine", f"{view['stateMachine']} (revision {view['revision']})"),
            ("status", view["status"]),
            ("started", moment(view["startedAt"])),
            ("stopped", moment(view.get("stoppedAt"))),
            ("events", view["events"]),
            (
                "redriven",
                f"{view['redriveCount']} times, last {moment(view['redrivenAt'])}" if view.get("redrivenAt") else None,
            ),
            ("redrivable", "yes" if redrive == "REDRIVABLE" else f"no: {reason}" if reason else None),
        ]
    )
    for line in failure_lines(view):
        output.say(line)
    for member in ("input", "output"):
        if member in view and not output.json:
            output.say(click.style(member, fg="bright_black"))
            output.value(view[member])
