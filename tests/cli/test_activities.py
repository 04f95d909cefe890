"""Working on tasks by hand: their tokens are taken as they are, whatever they begin with."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.cli.client import Client
from stepwell.engine.ids import parse_task_token, task_token
from tests.cli.conftest import Invoke

TOKEN = task_token(b"\xfb" + bytes(15), 1, b"s" * 16)


@pytest.mark.parametrize("token", (TOKEN, "-o" + TOKEN[2:], "-h" + TOKEN[2:], "--" + TOKEN[2:], "A" + TOKEN[1:]))
@pytest.mark.parametrize("order", ("before", "after"))
def test_a_token_may_begin_as_an_option_does(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, token: str, order: str
) -> None:
    assert TOKEN.startswith("-") and parse_task_token(token) is not None
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(Client, "post", lambda self, path, body: told.append((path, body)))

    def ran(command: str, *options: str) -> None:
        given = (token, *options) if order == "before" else (*options, token)
        result = invoke("activities", command, *given, "--json")
        assert result.exit_code == 0, result.output

    ran("succeed", "--output", '"signed"')
    ran("fail", "--error", "Refused")
    ran("succeed", "-o", "1")
    assert told == [
        ("/v1/tasks/success", b'{"token":"%s","output":"signed"}' % token.encode()),
        ("/v1/tasks/failure", {"token": token, "error": "Refused"}),
        ("/v1/tasks/success", b'{"token":"%s","output":1}' % token.encode()),
    ]


def test_a_token_may_stand_behind_two_dashes(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(Client, "post", lambda self, path, body: told.append(body))
    assert invoke("activities", "fail", "--", TOKEN).exit_code == 0
    assert told == [{"token": TOKEN}]


def test_what_is_no_token_is_an_option(invoke: Invoke) -> None:
    result = invoke("activities", "succeed", "-wrong")
    assert result.exit_code == 2 and "No such option" in result.output
