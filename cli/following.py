"""Following an execution on a server until it ends: its history as it grows, then where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from stepwell.cli.client import ANSWER_SECONDS, LONGEST_WAIT, PAGE, Client, reference
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.output import Output, duration, moment, pretty, status
from stepwell.cli.progress import map_run_text, parse_time
from stepwell.cli.system import SystemClock

POLL_SECONDS: Final = 0.5
"""How long a request may wait for the end before the history is read again."""

MAP_RUN_SECONDS: Final = 2.0
"""How often one looks how far Map Runs are: they have no events while they go on."""

AWAY_SECONDS: Final = 60.0
"""How long a server that was there and went away is waited for: an execution outlives it."""
AGAIN_SECONDS: Final = 0.5

Event = Mapping[str, Any]


class Watch:
    """Reads of an execution that is being followed. Once the server has answered, its restart is waited for."""

    def __init__(self, client: Client, seconds: float | None = None) -> None:
        self._client = client
        self._end = None if seconds is None else time.monotonic() + seconds
        self._heard = False

    @property
    def left(self) -> float | None:
        """The seconds that are left to wait; None where there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = ANSWER_SECONDS) -> Any:
        """`Client.get`, again and again while the server is away."""
        since: float | None = None
        while True:
            try:
                answer = self._client.get(path, query, patience=patience)
            except Failure as failure:
                away = failure.code == "Unreachable" or failure.details.get("status") == 503
                if not away or not self._heard:
                    raise
                now = time.monotonic()
                if since is None:
                    since = now
                    click.echo("The server has gone away; waiting for it to come back.", err=True)
                if now - since > AWAY_SECONDS or self.left == 0:
                    message = f"{failure.message} The execution goes on as soon as a server runs again."
                    raise Failure(message, ExitCode(failure.exit_code), code=failure.code) from None
                time.sleep(AGAIN_SECONDS)
            else:
                self._heard = True
                return answer


class HistoryReader:
    """Reads an execution's history page by page, and goes on where it was when asked again."""

    def __init__(self, client: Client | Watch, id: str) -> None:
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


class MapRunReader:
    """Reads how far an execution's Map Runs are, now and then while its events say that some go on."""

    def __init__(self, client: Client | Watch, id: str) -> None:
        self._client = client
        self._path = f"/v1/executions/{reference(id)}/map-runs"
        self._running = 0
        self._next = 0.0

    def heed(self, events: list[Event]) -> None:
        """Take note of events."""
        before = self._running
        self._running += sum(_MAP_RUN_EVENTS.get(event["type"], 0) for event in events)
        if not before:
            self._next = time.monotonic() + MAP_RUN_SECONDS

    def read(self) -> list[Mapping[str, Any]]:
        """The newest Map Runs, if it is time to look."""
        if self._running <= 0 or time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + MAP_RUN_SECONDS
        found: list[Mapping[str, Any]] = self._client.get(self._path, {"limit": PAGE})["items"]
        return found


_MAP_RUN_EVENTS: Final = {
    "MapRunStarted": 1, "MapRunRedriven": 1, "MapRunSucceeded": -1, "MapRunFailed": -1, "MapRunAborted": -1,
}  # fmt: skip


def follow(
    client: Client,
    id: str,
    tell: Callable[[list[Event]], None],
    seconds: float | None = None,
    *,
    tell_map_runs: Callable[[list[Mapping[str, Any]], float], None] | None = None,
) -> dict[str, Any]:
    """Tell of an execution's events until it has ended or `seconds` are over; how it stands then. Of an Express execution
    there are none to tell of. `tell_map_runs` is told now and then how far its Map Runs are, and when that was."""
    watch = Watch(client, seconds)
    reader = HistoryReader(watch, id)
    map_runs = MapRunReader(watch, id)
    while True:
        wait = POLL_SECONDS if watch.left is None else min(POLL_SECONDS, watch.left)
        view: dict[str, Any] = watch.get(f"/v1/executions/{reference(id)}", {"wait": wait})
        fresh = reader.read() if view.get("type") != "EXPRESS" else []
        if fresh:
            tell(fresh)
        if view["status"] != "RUNNING" or watch.left == 0:
            return view
        map_runs.heed(fresh)
        if tell_map_runs is not None and (running := map_runs.read()):
            tell_map_runs(running, SystemClock().now_ms())


def wait_for(client: Client, id: str, seconds: float | None) -> dict[str, Any]:
    """Wait for the end of an execution, `seconds` at most; how it stands then."""
    watch = Watch(client, seconds)
    path = f"/v1/executions/{reference(id)}"
    view: dict[str, Any] = watch.get(path)
    while view["status"] == "RUNNING" and watch.left != 0:
        wait = LONGEST_WAIT if watch.left is None else min(LONGEST_WAIT, watch.left)
        view = watch.get(path, {"wait": wait}, patience=wait + ANSWER_SECONDS)
    return view


def exit_code_of(view: Mapping[str, Any]) -> ExitCode:
    """What the command that waited ends with."""
    return {"SUCCEEDED": ExitCode.OK, "RUNNING": ExitCode.UNFINISHED}.get(view["status"], ExitCode.FAILED)


def show_result(output: Output, view: Mapping[str, Any]) -> None:
    """How an execution ended: a line beside the result, its output as the result."""
    took = ""
    if view.get("stoppedAt"):
        took = f" after {duration(parse_time(view['stoppedAt']) - parse_time(view['startedAt']))}"
    events = f", {view['events']} events" if "events" in view else ""
    output.remark(f"{status(view['status'])}{took}{events}")
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


def show_execution(output: Output, view: Mapping[str, Any], map_runs: Sequence[Mapping[str, Any]] = ()) -> None:
    """Everything about an execution and its Map Runs, for people."""
    redrive = view.get("redriveStatus")
    reason = view.get("redriveStatusReason")
    failed = view["status"] not in {"RUNNING", "SUCCEEDED"}
    output.fields(
        [
            ("id", view["id"]),
            ("arn", view["arn"]),
            ("name", view["name"]),
            ("machine", f"{view['stateMachine']} (revision {view['revision']})"),
            ("status", view["status"]),
            ("started", moment(view["startedAt"])),
            ("stopped", moment(view.get("stoppedAt"))),
            ("events", view.get("events")),
            *(("map run", f"{run['status']}, {map_run_text(run)}") for run in map_runs),
            ("runs", view.get("attempt")),
            ("redriven", _redriven(view)),
            ("redrivable", "yes" if redrive == "REDRIVABLE" else f"no: {reason}" if failed and reason else None),
        ]
    )
    for line in failure_lines(view):
        output.say(line)
    for run in map_runs:
        if run["items"]["failed"] + run["items"]["timedOut"]:
            output.say(f"  its failed items: stepwell map-runs children {run['arn']} --status failed")
    for member in ("input", "output"):
        if member in view and not output.json:
            output.say(click.style(member, fg="bright_black"))
            output.value(view[member])


def _redriven(view: Mapping[str, Any]) -> str | None:
    if not view.get("redrivenAt"):
        return None
    last = moment(view["redrivenAt"])
    return f"once, {last}" if view["redriveCount"] == 1 else f"{view['redriveCount']} times, last {last}"
