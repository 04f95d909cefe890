"""The commands that the documentation shows: each is one the parser takes, and those of the tour that need no server work as shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from stepwell.cli.group import stepwell
from tests.cli.conftest import ROOT, Invoke

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(
    r"^(?:\$ |- run: | *- )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?stepwell (?!worker\b)(?P<rest>[^#|>\n]*)", re.MULTILINE
)
"""A line that runs the command; `worker` hands its arguments on to Celery."""
PAPERS = ("README.md", *sorted(str(one.relative_to(ROOT)) for one in (ROOT / "docs").glob("*.md")))


def commands() -> list[tuple[str, str]]:
    """Each command shown in a block of the papers, with the paper it is in."""
    return [
        (paper, found["rest"].strip())
        for paper in PAPERS
        for language, block in FENCE.findall((ROOT / paper).read_text())
        if language in {"sh", "console", "yaml"}
        for found in SHOWN.finditer(block)
    ]


def parse(group: click.Group, arguments: list[str]) -> None:
    """Have a command parse its arguments, without running it. Raises `click.UsageError` for what it does not take."""
    context = click.Context(group)
    _, command, rest = group.resolve_command(context, arguments)
    assert command is not None
    if isinstance(command, click.Group):
        parse(command, rest)
    else:
        command.make_context(arguments[0], rest, parent=context)


def test_many_commands_are_shown() -> None:
    assert len(commands()) > 30


@pytest.mark.parametrize(("paper", "line"), commands())
def test_a_command_that_is_shown_exists_and_takes_its_arguments(paper: str, line: str, tmp_path: Path) -> None:
    assert isinstance(stepwell, click.Group)
    parse(stepwell, shlex.split(line))


def block(paper: str, language: str, beginning: str) -> str:
    found: str = next(
        text
        for kind, text in FENCE.findall((ROOT / paper).read_text())
        if kind == language and text.startswith(beginning)
    )
    return found


def test_the_tour_works_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.json").write_text(block("README.md", "json", '{\n  "StartAt": "Greet"'))
    lines = [line.partition(" #")[0] for line in block("README.md", "sh", ".venv/bin/stepwell validate").splitlines()]
    ran = [invoke(*shlex.split(line)[1:]) for line in lines]
    assert [one.exit_code for one in ran] == [0, 0, 0]
    assert (tmp_path / "hello.svg").read_text().startswith("<svg")
    assert '"text": "Hello, Ada!"' in ran[2].output
