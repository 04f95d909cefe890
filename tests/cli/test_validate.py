"""`stepwell validate`: what it shows, what it returns, and what it survives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell.cli.checking import window
from stepwell.cli.main import plain_files
from tests.cli.conftest import Invoke, command

GOOD = '{\n  "StartAt": "A",\n  "States": {"A": {"Type": "Succeed"}}\n}\n'
BAD = '{\n  "StartAt": "A",\n  "States": {\n    "A": {"Type": "Pass", "Comment": 5, "End": true}\n  }\n}\n'


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str | bytes, name: str = "m.asl.json") -> Path:
        place = tmp_path / name
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        return place

    return file


def test_a_good_definition(write: Write) -> None:
    ran = command("validate", write(GOOD))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("✓ ")


def test_a_finding_has_its_line_and_a_caret_under_the_place(write: Write) -> None:
    file = write(BAD)
    ran = command("validate", file)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    assert lines[0].startswith(f"{file}:4:27: error: ")
    assert "String" in lines[0]
    assert lines[1] == '  4 | "A": {"Type": "Pass", "Comment": 5, "End": true}'
    assert lines[2].index("^") == lines[1].index('"Comment"')
    assert "at /States/A/Comment" in ran.stdout
    assert lines[-1] == f"✗ {file}: 1 error"


def test_json_has_the_same(write: Write) -> None:
    file = write(BAD)
    ran = command("validate", file, "--json")
    assert ran.returncode == 1
    (result,) = json.loads(ran.stdout)["files"]
    (finding,) = result["diagnostics"]
    assert (result["valid"], finding["line"], finding["column"], finding["severity"]) == (False, 4, 27, "ERROR")


@pytest.mark.parametrize("arguments", (["FILE"], ["FILE", "--json"], ["--json", "FILE"]))
def test_the_short_way_says_what_the_long_one_says(write: Write, invoke: Invoke, arguments: list[str]) -> None:
    file = str(write(BAD))
    given = [file if one == "FILE" else one for one in arguments]
    assert plain_files(given)
    short, long = command("validate", *given), invoke("validate", *given)
    assert (short.returncode, short.stdout) == (long.exit_code, long.stdout)


def test_options_go_the_long_way() -> None:
    assert not plain_files(["--strict", "x"])
    assert not plain_files([])
    assert plain_files(["-"])


def test_stdin() -> None:
    assert command("validate", "-", input=GOOD).returncode == 0
    assert command("validate", "-", input=BAD).returncode == 1


def test_a_file_that_cannot_be_read_is_no_verdict(write: Write, tmp_path: Path) -> None:
    ran = command("validate", write(GOOD), tmp_path / "missing.json")
    assert ran.returncode == 2
    assert "missing.json cannot be read" in ran.stderr


def test_warnings_fail_only_when_strict(write: Write, invoke: Invoke) -> None:
    states = {"A": {"Type": "Task", "Resource": "celery:x", "End": True}}
    file = write(json.dumps({"StartAt": "A", "States": states}))
    assert invoke("validate", file).exit_code == 0
    ran = invoke("validate", "--target", "aws", file)
    assert "STEPWELL_ONLY_RESOURCE" in ran.output or ran.exit_code == 1


ODD = {
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed": b"[" * 100_000,
    "nul": b'{"StartAt":"A\x00","States":{}}',
    "binary": bytes(range(256)) * 1000,
    "latin": '{"StartAt":"é"}'.encode("latin-1"),
    "surrogate": b'{"StartAt":"\\ud800","States":{"A":{"Type":"Succeed"}}}',
    "huge": b'{"Comment":"' + b"x" * 20_000_000 + b'"}',
    "long line": b'{"StartAt":"A","States":{"A":{"Type":"Pass","Comment":"'
    + b"y" * 50_000
    + b'","Foo":1,"End":true}}}',
    "empty": b"",
    "bom": b"\xef\xbb\xbf{}",
    "number": b"42",
    "escape": b'{"StartAt":"A\x1b[31m',
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_refused_in_words(write: Write, name: str) -> None:
    ran = command("validate", write(ODD[name], "odd.json"))
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "error:" in ran.stdout
    assert all(char.isprintable() or char == "\n" for char in ran.stdout)
    assert max(map(len, ran.stdout.splitlines())) < 2500


def test_the_size_that_is_told_is_the_files(write: Write) -> None:
    ran = command("validate", write(ODD["huge"]))
    assert "20000014 bytes" in ran.stdout


def test_utf16_is_told(write: Write) -> None:
    ran = command("validate", write("{}".encode("utf-16")))
    assert ran.returncode == 2
    assert "UTF-16" in ran.stderr


@pytest.mark.parametrize("column", (1, 5, 60, 99, 100, 101, 250, 399, 400))
def test_the_window_shows_the_place(column: int) -> None:
    line = "".join(chr(ord("a") + number % 26) for number in range(400))
    text, caret = window(line, column)
    assert text[caret : caret + 1] == line[column - 1 : column]
    assert len(text) <= 102
