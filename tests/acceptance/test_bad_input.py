"""What is not JSON, or too much of it, against server and command: told clearly, with its place, and nobody else is disturbed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from stepwell.cli.group import stepwell
from stepwell.engine import limits
from tests.acceptance.conftest import PASS, Stepwell, fresh, machine
from tests.cli.conftest import command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

NEIGHBOURS = 12
ROLE = "arn:aws:iam::000000000000:role/any"
TRACE = re.compile(r'Traceback|File "|\.py\b|line \d+, in ')
PLACE = re.compile(r"line:? \d+, column:? \d+")


@dataclass(frozen=True)
class Bad:
    """A text that is no acceptable JSON. `line` and `column`: where, in it; None where the fault has no place."""

    name: str
    text: bytes
    line: int | None = None
    column: int | None = None
    nested: bool = False

    def __str__(self) -> str:
        return self.name


DEEP = 100_000
TEXTS = (
    Bad("no JSON", b'{"a":\n }', 2, 2),
    Bad("not UTF-8", b'{\n"a": "\xff\xfe"}', 2, 7),
    Bad("cut off", b'{"a": [1, 2', 1, 12),
    Bad("trailing", b'{"a": 1}\n\n  x', 3, 3),
    Bad("deep arrays", b"[" * DEEP + b"]" * DEEP, 1, 401, nested=True),
    Bad("deep objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP, 1, 2001, nested=True),
    Bad("a raw NUL", b'{"a": "x\x00y"}', 1, 9),
    Bad("a lone surrogate", b'{"a":\n   "\\ud800"}', 2, 5),
    Bad("a number out of range", b'{"a":\n1e999}', 2, 1),
)
EMPTY = Bad("nothing", b"")


@pytest.fixture(scope="module", autouse=True)
def neighbours(server: Stepwell) -> Iterator[None]:
    """Executions of others, in the middle of a task while all this happens; each succeeds, with its task done once."""
    effect = fresh("neighbour")
    name = server.deploy(machine(Work=server.effect(effect, ResultPath=None), Rest={"Type": "Wait", "Seconds": 1}))
    server.ledger.hold(effect)
    ids = [server.start(name, {"number": number}).json()["id"] for number in range(NEIGHBOURS)]
    server.ledger.wait_for_count(effect, NEIGHBOURS)
    yield
    server.ledger.release(effect)
    ended = [server.ended(id) for id in ids]
    assert [(one["status"], one["output"]) for one in ended] == [
        ("SUCCEEDED", {"number": number}) for number in range(NEIGHBOURS)
    ]
    assert set(server.ledger.keys(effect).values()) == {1}


@pytest.fixture(scope="module")
def echo(server: Stepwell) -> str:
    return server.deploy(PASS)


def refused(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The answer to what is refused: short, JSON, without anything of the server's inside."""
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 10_000
    assert not TRACE.search(answer.text), answer.text
    document: dict[str, Any] = answer.json()
    return document


def quoted(text: bytes) -> bytes:
    """A text as the content of a JSON string, whatever bytes it holds; what is no UTF-8 stays what it is."""
    return json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def wire(server: Stepwell, operation: str, body: bytes) -> httpx.Response:
    headers = {"X-Amz-Target": f"AWSStepFunctions.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    return server.api.post("/", content=body, headers=headers)


# -------------------------------------------------------------------------------------------------------------- over HTTP


@pytest.mark.parametrize("bad", TEXTS, ids=str)
def test_a_body_that_cannot_be_read(server: Stepwell, echo: str, bad: Bad) -> None:
    for method, path in (
        ("POST", f"/v1/state-machines/{echo}/executions"),
        ("PUT", "/v1/state-machines/bad"),
        ("POST", "/v1/state-machines/validate"),
        ("POST", "/v1/tasks/failure"),
        ("POST", "/v1/activities"),
    ):
        # within a member that each of them takes, or none does: the text is read before its members are looked at
        document = refused(server.api.request(method, path, content=bad.text))
        assert "line" in document or "pointer" in document or "got `array`" in document["detail"], document
    message = refused(wire(server, "StartExecution", bad.text))["message"]
    assert PLACE.search(message) or "got `array`" in message, message


@pytest.mark.parametrize("bad", TEXTS, ids=str)
def test_an_input_that_cannot_be_read(server: Stepwell, echo: str, bad: Bad) -> None:
    before = b'{"name": "bad",\n "input": '
    document = refused(server.api.post(f"/v1/state-machines/{echo}/executions", content=before + bad.text + b"}"))
    assert bad.line is not None and bad.column is not None
    if document.get("pointer") == "/input":  # the rest of the body is in order: the place is one in the input
        assert (document["line"], document["column"]) == (bad.line, bad.column)
    else:
        assert document["line"] == bad.line + 1
        if bad.nested:  # the body around it is a level of its own
            assert 0 < document["column"] < bad.column + len(' "input": ')
        elif bad.name not in ("cut off", "trailing"):  # in a body, these are faults of what comes later
            assert document["column"] == bad.column + (len(' "input": ') if bad.line == 1 else 0)

    arn = f"arn:aws:states:us-east-1:000000000000:stateMachine:{echo}"
    answer = refused(
        wire(
            server,
            "StartExecution",
            b'{"stateMachineArn": "' + arn.encode() + b'", "input": ' + quoted(bad.text) + b"}",
        )
    )
    assert answer["__type"].rpartition("#")[2] in (
        "InvalidExecutionInput",
        "SerializationException",
        "ValidationException",
    )
    assert "input" in answer["message"].lower() or PLACE.search(answer["message"])


@pytest.mark.parametrize("bad", TEXTS, ids=str)
def test_a_definition_that_cannot_be_read(server: Stepwell, bad: Bad) -> None:
    for body in (b'{"definition": ' + bad.text + b"}", b'{"definition": ' + quoted(bad.text) + b"}"):
        document = refused(server.api.put("/v1/state-machines/bad", content=body))
        assert document["line"] >= 1 and document["column"] >= 1, document
    body = b'{"name": "bad", "roleArn": "' + ROLE.encode() + b'", "definition": ' + quoted(bad.text) + b"}"
    message = refused(wire(server, "CreateStateMachine", body))["message"]
    assert PLACE.search(message) or "TOO_DEEPLY_NESTED" in message, message


def test_nothing_at_all(server: Stepwell, echo: str) -> None:
    assert server.api.post(f"/v1/state-machines/{echo}/executions", content=b"").status_code == 201
    assert refused(server.api.put("/v1/state-machines/bad", content=b""))["pointer"] == "/definition"
    assert refused(server.api.put("/v1/state-machines/bad", json={"definition": ""}))["pointer"] == "/definition"
    assert "stateMachineArn" in refused(wire(server, "StartExecution", b""))["message"]


def test_fifty_megabytes(server: Stepwell, echo: str) -> None:
    size = 50_000_000
    body = b'{"input": "' + b"x" * size + b'"}'

    def pieces() -> Iterator[bytes]:
        for begin in range(0, size, 1_000_000):
            yield body[begin : begin + 1_000_000]

    for path, headers in (
        (f"/v1/state-machines/{echo}/executions", {}),
        ("/v1/state-machines/validate", {}),
        ("/", {"X-Amz-Target": "AWSStepFunctions.StartExecution"}),
    ):
        for content in (body, pieces()):  # announced, and found out while it comes
            try:
                answer = server.api.post(path, content=content, headers=headers)
            except httpx.TransportError:
                continue  # the server may hang up on a caller who goes on sending
            assert "longer than" in (refused(answer, 413).get("detail") or answer.json()["message"])
    assert server.start(echo, wait=10).json()["status"] == "SUCCEEDED"


def test_nul_and_paired_surrogates_are_data(server: Stepwell, echo: str) -> None:
    value = {"nul\0": "a\0b", "face": "\N{GRINNING FACE}", "end": "\uffff"}
    shown = server.start(echo, value, wait=30).json()
    assert (shown["status"], shown["input"], shown["output"]) == ("SUCCEEDED", value, value)
    history = server.api.get(f"/v1/executions/{shown['id']}/history").json()["items"]
    assert history[-1]["details"]["output"] == value


@pytest.mark.parametrize("text", ("a\0b", "a\nb", "a b", "x" * 81, "a/b", ""))
def test_names_that_cannot_be(server: Stepwell, echo: str, text: str) -> None:
    document = refused(server.api.post(f"/v1/state-machines/{echo}/executions", json={"name": text}))
    assert document["code"] in ("InvalidName", "ValidationException")
    arn = f"arn:aws:states:us-east-1:000000000000:stateMachine:{echo}"
    answer = refused(wire(server, "StartExecution", json.dumps({"stateMachineArn": arn, "name": text}).encode()))
    assert answer["__type"].rpartition("#")[2] in ("InvalidName", "ValidationException")


def test_payloads_at_and_over_the_limit(server: Stepwell, echo: str) -> None:
    fits = "x" * (limits.MAX_PAYLOAD_BYTES - 2)
    assert server.start(echo, fits, wait=30).json()["status"] == "SUCCEEDED"
    document = refused(server.start(echo, fits + "x"))
    assert (document["code"], document["pointer"]) == ("ValidationException", "/input")
    assert str(limits.MAX_PAYLOAD_BYTES) in document["detail"]

    grows = machine(Grow={"Type": "Pass", "Parameters": {"a.$": "$", "b.$": "$"}}, After={"Type": "Pass"})
    shown = server.start(server.deploy(grows), "x" * (limits.MAX_PAYLOAD_BYTES // 2), wait=30).json()
    assert (shown["status"], shown["error"]) == ("FAILED", "States.DataLimitExceeded")
    assert "Grow" in shown["cause"]

    activity = server.api.post("/v1/activities", json={"name": fresh("big")}).json()
    name = server.deploy(machine(Ask={"Type": "Task", "Resource": activity["arn"]}))
    id = server.start(name).json()["id"]
    token = server.api.post(f"/v1/activities/{activity['name']}/tasks").json()["token"]
    document = refused(server.api.post("/v1/tasks/success", json={"token": token, "output": fits + "x"}))
    assert (document["code"], document["pointer"]) == ("ValidationException", "/output")
    document = refused(
        server.api.post("/v1/tasks/success", content=b'{"token": "' + token.encode() + b'", "output":\n [1e999]}')
    )
    assert (document["code"], document["pointer"], document["column"]) == ("InvalidOutput", "/output", 2)
    # the task is as open as before
    assert server.api.post("/v1/tasks/success", json={"token": token, "output": 1}).status_code == 204
    assert server.ended(id)["output"] == 1


# ----------------------------------------------------------------------------------------------------------- the command


def commands(echo: str, good: Path, file: Path) -> tuple[tuple[tuple[str | Path, ...], int], ...]:
    """Every command that reads a file of JSON, and what it ends with."""
    return (
        (("validate", file), 1),
        (("deploy", file), 1),
        (("run", file), 1),
        (("run", good, "--input", f"@{file}"), 2),
        (("start", echo, "--input", f"@{file}"), 2),
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.json"
    file.write_text(json.dumps(PASS))
    return file


@pytest.mark.parametrize("bad", (*TEXTS, EMPTY), ids=str)
def test_files_that_cannot_be_read(server: Stepwell, echo: str, tmp_path: Path, good: Path, bad: Bad) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(bad.text)
    for arguments, code in commands(echo, good, file):
        ran = CliRunner().invoke(stepwell, [str(one) for one in arguments], env={"STEPWELL_URL": server.url})
        assert isinstance(ran.exception, SystemExit), ran.exception
        assert ran.exit_code == code, (arguments, ran.output)
        assert "bad.json" in ran.output
        assert len(ran.output) < 10_000
        if bad.line is not None:
            assert re.search(r"line:? \d+,? column:? \d+|bad\.json:\d+:\d+", ran.output), (arguments, ran.output)


def test_no_command_shows_a_stack_trace(server: Stepwell, echo: str, tmp_path: Path, good: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(b'{"deep": ' + b"[" * DEEP + b"\xff")
    for arguments, code in commands(echo, good, file):
        ran = command(*arguments, STEPWELL_URL=server.url)
        assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
        assert not TRACE.search(ran.stdout + ran.stderr), ran.stderr
