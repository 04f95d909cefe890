"""Following an execution while its server goes away and comes back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click
import pytest

from stepwell.cli import following
from stepwell.cli.client import Client
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.following import follow, wait_for
from stepwell.cli.progress import Progress

AWAY = Failure("nobody is there.", ExitCode.UNUSABLE, code="Unreachable")
STARTING = Failure("not yet.", ExitCode.UNUSABLE, code="NotReady", details={"status": 503})
RUNNING = {"status": "RUNNING"}
ENDED = {"status": "SUCCEEDED"}


class VirtualTime:
    """Passes when somebody sleeps, and while a server waits for an end."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


TIME = VirtualTime()


class Scripted(Client):
    """A client whose server answers, or fails, as a test says."""

    def __init__(self, *answers: dict[str, Any] | Failure) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = list(answers)

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = 0) -> Any:
        if path.endswith("/history"):
            return {"items": []}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Failure):
            raise answer
        TIME.sleep((query or {}).get("wait", 0))
        return answer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "time", TIME)


def test_a_restart_of_the_server_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    answers = (RUNNING, AWAY, AWAY, STARTING, RUNNING, ENDED)
    assert wait_for(Scripted(*answers), "x", None) == ENDED
    assert capsys.readouterr().err == "The server has gone away; waiting for it to come back.\n"
    assert follow(Scripted(*answers), "x", lambda events: None) == ENDED
    assert capsys.readouterr().err == "The server has gone away; waiting for it to come back.\n"


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    with pytest.raises(Failure, match=r"^nobody is there\.$"):
        wait_for(Scripted(AWAY), "x", None)


def test_a_server_that_stays_away_is_given_up() -> None:
    with pytest.raises(Failure, match="goes on as soon as a server runs again") as caught:
        wait_for(Scripted(RUNNING, AWAY), "x", None)
    assert caught.value.exit_code == ExitCode.UNUSABLE


def test_the_time_to_wait_counts_while_the_server_is_away() -> None:
    began = TIME.seconds
    with pytest.raises(Failure, match="goes on"):
        wait_for(Scripted(RUNNING, AWAY), "x", 5)
    assert TIME.seconds - began < following.AWAY_SECONDS
    assert wait_for(Scripted(RUNNING), "x", 5) == RUNNING


MAP_RUN = "arn:aws:states:us-east-1:000000000000:mapRun:batch/Orders:1"


def map_run_event(id: int, type: str, **details: Any) -> dict[str, Any]:
    return {"id": id, "previousId": id - 1, "type": type, "timestamp": "2026-01-01T00:00:00Z", "details": details}


class InAMap(Scripted):
    """A server with an execution that is within a Distributed Map; how many of its items have succeeded each time it is asked."""

    def __init__(self, *succeeded: int) -> None:
        super().__init__(*[RUNNING] * len(succeeded), ENDED)
        self.succeeded = list(succeeded)

    def get(self, path: str, query: Any = None, *, patience: float = 0) -> Any:
        if path.endswith("/history"):
            return {
                "items": [
                    map_run_event(1, "ExecutionStarted"),
                    map_run_event(2, "MapStateEntered", name="Each"),
                    map_run_event(3, "MapStateStarted"),
                    map_run_event(4, "MapRunStarted", mapRunArn=MAP_RUN),
                ]
            }
        if path.endswith("/map-runs"):
            counts = {"succeeded": self.succeeded.pop(0), "failed": 1, "timedOut": 2, "aborted": 0, "total": 20_000}
            return {"items": [{"arn": MAP_RUN, "status": "RUNNING", "items": counts}]}
        return super().get(path, query, patience=patience)


def test_a_long_distributed_map_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAP_RUN_SECONDS", 0.0)
    said: list[str] = []
    progress = Progress(said.append)
    follow(InAMap(4_997, 4_997, 9_997), "x", progress.feed, tell_map_runs=progress.map_runs)
    assert [" ".join(re.sub(r"^.* (?=[▸…])", "", click.unstyle(line)).split()) for line in said] == [
        "▸ Each Map",
        "… Each 5,000 of 20,000 items, 3 failed",
        "… Each 10,000 of 20,000 items, 3 failed",
    ]


def test_a_state_that_fails_without_an_event_of_its_own_is_named() -> None:
    said: list[str] = []
    events = [
        map_run_event(1, "ExecutionStarted"),
        map_run_event(2, "PassStateEntered", name="Greet"),
        map_run_event(3, "ExecutionFailed", error="States.Runtime", cause="there is no name"),
    ]
    Progress(said.append).feed(events)
    (line,) = said
    assert " ".join(click.unstyle(line).split()[2:]) == "✗ Greet States.Runtime: there is no name"


def test_a_map_run_that_fails_is_told_of() -> None:
    said: list[str] = []
    events = [
        map_run_event(1, "MapStateEntered", name="Each"),
        map_run_event(2, "MapRunStarted", mapRunArn=MAP_RUN),
        map_run_event(3, "MapRunFailed", error="States.ExceedToleratedFailureThreshold", cause="too many"),
        map_run_event(4, "MapStateFailed"),
        map_run_event(5, "ExecutionFailed", error="States.ExceedToleratedFailureThreshold", cause="too many"),
    ]
    Progress(said.append).feed(events)
    assert [click.unstyle(line).split()[2:4] for line in said] == [["▸", "Each"], ["✗", "Each"]]
