"""Following an execution while its server goes away and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from stepwell.cli import following
from stepwell.cli.client import Client
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.following import follow, wait_for

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
    with pytest.raises(Failure, match="goes on"):
        wait_for(Scripted(RUNNING, AWAY), "x", 5)
    assert wait_for(Scripted(RUNNING), "x", 5) == RUNNING
