"""The history of an execution told as it happens: a line for each state that is left, fails or has to wait.

Feeds on events as REST shows them (`id`, `type`, `previousId`, `timestamp`, `details`). It must not know where they come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import click

from stepwell.cli.output import duration, width

NAME_COLUMNS: Final = 30
_FAILURES: Final = ("Failed", "TimedOut")
_ENDS: Final = {"ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted", "ExecutionSucceeded"}


class Progress:
    """Tells of one execution, line by line, through `say`; of the events up to `after` nothing, they are only remembered."""

    def __init__(self, say: Callable[[str], None], *, after: int = 0) -> None:
        self._say = say
        self._after = after
        self._start: float | None = None
        self._state: dict[int, str] = {}
        self._depth: dict[int, int] = {}
        self._entered: dict[int, tuple[int, float]] = {}
        self._joins: dict[str, list[tuple[tuple[int, float], int]]] = {}
        self._failed: set[int] = set()
        self._came_in: set[int] = set()
        """The events of entering a state: what fails right behind one has no event of its own."""
        self._attempts: dict[tuple[int, str], int] = {}
        self._map_runs: dict[str, Mapping[str, Any]] = {}
        self._told_of: dict[str, str] = {}
        self.last = 0
        """The id of the last event that was told."""

    def feed(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Tell of these events, in order; those told before are passed over. What ends within one call is told only by its end."""
        fresh = [event for event in events if event["id"] > self.last]
        self._index(fresh)
        left = {
            self._entered_of(event["previousId"]) for event in fresh if event["type"].endswith(("Exited", *_FAILURES))
        }
        for event in fresh:
            self.last = event["id"]
            line = self._line(event, left)
            if line is not None and self.last > self._after:
                self._say(line)

    def map_runs(self, views: Iterable[Mapping[str, Any]], now: float) -> None:
        """Tell how far the Map Runs are that go on, of each only if it has changed. `views` are as REST shows them; `now` is in
        milliseconds since the epoch.
        """
        for view in views:
            event = self._map_runs.get(view["arn"])
            text = map_run_text(view)
            if event is None or view["status"] != "RUNNING" or self._told_of.get(view["arn"]) == text:
                continue
            self._told_of[view["arn"]] = text
            self._say(self._row(event, "…", "cyan", self._state[event["id"]], text, at=now))

    def _index(self, events: list[Mapping[str, Any]]) -> None:
        for event in events:
            id, previous, kind = event["id"], event["previousId"], event["type"]
            at = parse_time(event["timestamp"])
            if self._start is None:
                self._start = at
            self._state[id] = self._state.get(previous, "")
            self._depth[id] = self._depth.get(previous, 0)
            self._entered[id] = self._entered.get(previous, (0, at))
            if kind.endswith(_FAILURES):
                self._failed.add(id)
            if kind in {"MapRunStarted", "MapRunRedriven"}:
                self._map_runs[event["details"].get("mapRunArn", "")] = event
            if kind.endswith("StateEntered"):
                self._state[id] = str(event["details"].get("name", ""))
                self._entered[id] = (id, at)
                self._came_in.add(id)
                if kind.startswith(("Parallel", "Map")):
                    self._joins.setdefault(self._state[id], []).append((self._entered[id], self._depth[id]))
            elif kind in {"ParallelStateExited", "MapStateExited"} and self._joins.get(
                str(event["details"].get("name"))
            ):
                # what leads to this exit is the last event of a branch
                self._entered[id], self._depth[id] = self._joins[str(event["details"]["name"])].pop()
            elif kind in {"ParallelStateStarted", "MapIterationStarted"}:
                self._depth[id] += 1
            elif kind in {"ParallelStateSucceeded", "MapStateSucceeded", "ParallelStateFailed", "MapStateFailed"}:
                self._depth[id] = max(0, self._depth[id] - 1)

    def _entered_of(self, id: int) -> int:
        return self._entered.get(id, (0, 0.0))[0]

    def _line(self, event: Mapping[str, Any], left: set[int]) -> str | None:
        kind, details = event["type"], event["details"]
        if kind == "ExecutionRedriven":
            return self._row(event, "↻", "yellow", "redriven", "goes on from where it failed")
        if kind == "MapRunFailed" or (kind == "ExecutionFailed" and event["previousId"] in self._came_in):
            text = failure_text(details.get("error"), details.get("cause"))
            return self._row(event, "✗", "red", self._state[event["id"]], text)
        if kind in _ENDS or kind.startswith(("MapIteration", "MapRun", "Execution")):
            return None
        if kind.endswith("StateExited"):
            return self._exited(event, str(details.get("name", "")))
        if kind.endswith("StateEntered"):
            return self._came(event, kind.removesuffix("StateEntered"), left)
        if kind.endswith("Scheduled"):
            return self._scheduled(event, left)
        if kind.endswith(_FAILURES) and not kind.startswith(("Parallel", "Map")):
            text = failure_text(details.get("error") or kind, details.get("cause"))
            return self._row(event, "✗", "red", self._state[event["id"]], text)
        return None

    def _exited(self, event: Mapping[str, Any], name: str) -> str:
        if event["previousId"] in self._failed:
            return self._row(event, "↷", "yellow", name, "caught")
        kind = event["type"].removesuffix("StateExited")
        entered = self._entered[event["id"]][1]
        took = parse_time(event["timestamp"]) - entered
        time = f", {duration(took)}" if took >= 1 else ""
        return self._row(event, "✓", "green", name, f"{kind}{time}")

    def _came(self, event: Mapping[str, Any], kind: str, left: set[int]) -> str | None:
        if kind in {"Parallel", "Map"}:
            return self._row(event, "▸", "cyan", self._state[event["id"]], kind)
        if kind == "Wait" and event["id"] not in left:
            return self._row(event, "…", "cyan", self._state[event["id"]], "waits")
        return None

    def _scheduled(self, event: Mapping[str, Any], left: set[int]) -> str | None:
        entered = self._entered_of(event["id"])
        name = self._state[event["id"]]
        attempt = self._attempts[(entered, name)] = self._attempts.get((entered, name), 0) + 1
        if attempt > 1:
            return self._row(event, "↻", "yellow", name, f"attempt {attempt}")
        if entered in left:
            return None
        return self._row(event, "▸", "cyan", name, _resource(event["details"]))

    def _row(
        self, event: Mapping[str, Any], mark: str, colour: str, name: str, text: str, *, at: float | None = None
    ) -> str:
        since = max(0.0, (parse_time(event["timestamp"]) if at is None else at) - (self._start or 0))
        indent = "  " * min(self._depth.get(event["id"], 0), 8)
        room = max(12, NAME_COLUMNS - len(indent))
        shown = name if len(name) <= room else name[: room - 1] + "…"
        text = " ".join(text.split())
        most = max(20, width() - 18 - len(indent) - room)
        text = text if len(text) <= most else text[: most - 1] + "…"
        time = click.style(f"{elapsed(since):>14}", fg="bright_black")
        faint = click.style(text, fg="red" if colour == "red" else "bright_black")
        return f"{time} {indent}{click.style(mark, fg=colour)} {shown:<{room}}  {faint}".rstrip()


def map_run_text(view: Mapping[str, Any]) -> str:
    """How far a Map Run is: `15,000 of 20,000 items, 3 failed`. What has not been read yet is not among them."""
    items = view["items"]
    failed = items["failed"] + items["timedOut"]
    done = items["succeeded"] + failed + items["aborted"]
    text = f"{done:,} of {items['total']:,} items"
    return f"{text}, {failed:,} failed" if failed else text


def failure_text(error: str | None, cause: str | None) -> str:
    """An error and its cause on one line; of a function's cause in JSON the message, of an HTTP task's the answer."""
    if not cause:
        return error or "failed"
    try:
        told = json.loads(cause)
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(told.get("errorMessage"), str):
        cause = told["errorMessage"]
    elif isinstance(told, dict) and "StatusText" in told:
        body = told.get("ResponseBody")
        said = body if isinstance(body, str) else "" if body is None else json.dumps(body, ensure_ascii=False)
        cause = f"{told['StatusText']} {said}".strip()
    return f"{error}: {cause}" if error else cause


def elapsed(milliseconds: float) -> str:
    """The time since the start: `+1.234 s`, `+2:05`, `+3:00:00`, `+30 d 00:01:15`."""
    if milliseconds < 60_000:
        return f"+{milliseconds / 1000:.3f} s"
    minutes, seconds = divmod(int(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"+{days} d {hours:02}:{minutes:02}:{seconds:02}"
    return f"+{hours}:{minutes:02}:{seconds:02}" if hours else f"+{minutes}:{seconds:02}"


def _resource(details: Mapping[str, Any]) -> str:
    kind, resource = details.get("resourceType"), str(details.get("resource", ""))
    return f"{kind}:{resource}" if kind else resource.rpartition(":")[2]


def parse_time(timestamp: str) -> float:
    """A time of the API, in milliseconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp() * 1000
