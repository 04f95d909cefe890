"""`stepwell fmt` and `stepwell graph`: what they write, where, and what they return."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.conftest import Invoke, command

UNTIDY = '{"States": {"A": {"End": true, "Type": "Pass"}}, "StartAt": "A"}'
TIDY = '{\n  "StartAt": "A",\n  "States": {\n    "A": {\n      "Type": "Pass",\n      "End": true\n    }\n  }\n}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "m.asl.json"
    place.write_text(UNTIDY)
    return place


def test_a_file_is_formatted_once(file: Path, invoke: Invoke) -> None:
    first, second = invoke("fmt", file), invoke("fmt", file)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.startswith("formatted ")
    assert second.output == ""
    assert file.read_text() == TIDY


def test_a_file_that_cannot_be_written_stays_whole(file: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("n.asl.json")
    other.write_text(UNTIDY)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        ran = invoke("fmt", file, other)
    assert ran.exit_code == 2
    assert f"{file} cannot be written: No space left on device. It is as it was." in ran.output
    assert file.read_text() == other.read_text() == UNTIDY
    assert sorted(file.parent.iterdir()) == [file, other]


def test_a_file_keeps_its_permissions_and_the_link_to_it(file: Path, tmp_path: Path, invoke: Invoke) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.asl.json"
    link.symlink_to(file.name)
    assert invoke("fmt", link).exit_code == 0
    assert link.is_symlink() and file.read_text() == TIDY
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_checking_and_showing_change_nothing(file: Path, invoke: Invoke) -> None:
    check, diff = invoke("fmt", "--check", file), invoke("fmt", "--diff", file)
    assert (check.exit_code, diff.exit_code) == (1, 1)
    assert check.output.startswith("would change ")
    assert '+  "StartAt": "A",' in diff.output
    assert file.read_text() == UNTIDY
    file.write_text(TIDY)
    assert invoke("fmt", "--check", file).exit_code == invoke("fmt", "--diff", file).exit_code == 0


def test_a_folder_of_both_syntaxes(file: Path, tmp_path: Path, invoke: Invoke) -> None:
    yaml = tmp_path / "n.asl.yaml"
    yaml.write_text("# why\nStates:\n    A:\n        End: true # last\n        Type: Pass\nStartAt: A\n")
    ran = invoke("fmt", "--json", tmp_path)
    assert json.loads(ran.output) == {"changed": [str(file), str(yaml)], "unusable": []}
    assert yaml.read_text() == ("StartAt: A\n# why\nStates:\n  A:\n    Type: Pass\n    End: true     # last\n")


def test_stdin_goes_to_stdout() -> None:
    ran = command("fmt", "-", input=UNTIDY)
    assert (ran.returncode, ran.stdout) == (0, TIDY)


@pytest.mark.parametrize("text", ("{", '{"a": 1}', "[]", '{"a": 1, "a": 2}'))
def test_what_is_no_definition_stays_as_it_is(file: Path, invoke: Invoke, text: str) -> None:
    file.write_text(text)
    assert invoke("fmt", file).exit_code == 2
    assert invoke("graph", file).exit_code == 2
    assert file.read_text() == text


def test_graphs(file: Path, tmp_path: Path, invoke: Invoke) -> None:
    assert invoke("graph", file).output.startswith("flowchart TD\n")
    assert invoke("graph", "--format", "dot", file).output.startswith("digraph machine {\n")
    assert invoke("graph", file, "-o", tmp_path / "m.svg").output == ""
    ET.parse(tmp_path / "m.svg")
    assert invoke("graph", file, "-o", tmp_path / "none" / "m.svg").exit_code == 2
    picture = invoke("graph", file, "-o", tmp_path / "m.png")
    assert (picture.exit_code, (tmp_path / "m.png").exists()) == (2, False)
    assert "end it with .svg, .mmd, .mermaid, .dot, .gv, or give --format" in picture.output
    assert invoke("graph", file, "--format", "svg", "-o", tmp_path / "m.xml").exit_code == 0
    assert json.loads(invoke("graph", "--json", file).output)["format"] == "mermaid"
