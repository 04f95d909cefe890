"""`stepwell validate`: what it shows, what it returns, and what it survives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell.cli.checking import window
from stepwell.cli.main import plain_files
from tests.cli.conftest import ROOT, Invoke, command

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


YAML = """\
# what it is for
StartAt: A
States:
  A:
    Type: Pass
    Result: {password: hunter2!x, other: 1}
    Comment: 5
    End: true
"""


def test_yaml_by_name_and_from_stdin(write: Write) -> None:
    for ran in (command("validate", write(YAML, "m.asl.yaml")), command("validate", "-", input=YAML)):
        assert ran.returncode == 1
        assert ":7:5: error: Expected value of type String" in ran.stdout


@pytest.mark.parametrize("format", ("text", "json", "sarif", "github"))
def test_no_format_shows_a_secret(write: Write, invoke: Invoke, format: str) -> None:
    for file in (write(YAML, "m.yaml"), write('{"a": {"password": "hunter2!x"} "b": 1}', "broken.json")):
        ran = invoke("validate", "--format", format, file)
        assert ran.exit_code == 1
        assert "hunter2" not in ran.output


@pytest.mark.parametrize(
    ("name", "text"),
    (
        ("m.json", '{"StartAt": "A", "States": {"A": {"Type": "Succeed", "password": "hun\\u0074er2!x"}}}'),
        ("m.json", '{"StartAt": "A", "States": {"A": {"Type": "Succeed", "password": "hunter2\\/x"}}}'),
        ("m.yaml", "StartAt: A\nStates: {A: {Type: Succeed, password: 'hunter2''x'}}\n"),
    ),
)
def test_a_secret_is_hidden_however_it_is_written(write: Write, name: str, text: str) -> None:
    ran = command("validate", write(text, name))
    assert ran.returncode == 1
    assert "secret-in-definition" in ran.stdout
    assert "hun" not in ran.stdout


def test_a_check_loads_no_more_than_it_needs(write: Write) -> None:
    script = (
        "import sys\nfrom stepwell.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: print(*sys.modules, sep='\\n')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "validate", write(GOOD)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(ran.stdout.split())
    assert "stepwell.engine.asl.document" in loaded
    heavy = {"click", "ruamel.yaml", "asyncio", "typing_extensions", "rich", "stepwell.engine.asl.states"}
    assert loaded & heavy == set()


def test_folders_and_patterns(write: Write, tmp_path: Path, invoke: Invoke) -> None:
    for folder in ("sub", ".hidden", "node_modules"):
        (tmp_path / folder).mkdir()
        write(BAD, f"{folder}/bad.asl.json")
    write(GOOD, "good.json")
    write("StartAt: A\nStates: {A: {Type: Succeed}}\n", "good.yaml")
    write("Resources:\n  M:\n    StartAt: A\n", "template.yaml")
    write('{"input": {"StartAt": 1, "States": 2}}', "input.json")
    found = json.loads(invoke("validate", "--json", tmp_path).output)["files"]
    assert [Path(one["file"]).name for one in found] == ["good.json", "good.yaml", "bad.asl.json"]
    pattern = json.loads(invoke("validate", "--json", tmp_path / "**" / "*.asl.json", tmp_path / "sub").output)["files"]
    assert [Path(one["file"]).parent.name for one in pattern] == ["sub", "node_modules"][::-1]


def test_a_folder_or_pattern_without_definitions(tmp_path: Path) -> None:
    ran = command("validate", tmp_path, tmp_path / "*.json")
    assert ran.returncode == 2
    assert "is a folder without definitions" in ran.stderr
    assert "Nothing matches the pattern" in ran.stderr


def test_github_annotations(write: Write, invoke: Invoke) -> None:
    file = write(BAD, "a,b%.json")
    (line,) = invoke("validate", "--format", "github", file).output.splitlines()
    assert line.startswith("::error file=")
    assert "a%2Cb%25.json,line=4,col=27,title=SCHEMA_VALIDATION_FAILED::Expected value of type String" in line


def test_values_that_are_to_be_filled_in_are_told_of_together(write: Write, invoke: Invoke) -> None:
    tasks = ",\n".join(
        f'"{name}": {{"Type": "Task", "Resource": "${{F}}", {end}}}'
        for name, end in (("A", '"Next": "B"'), ("B", '"Next": "C"'), ("C", '"End": true'))
    )
    file = write(f'{{"StartAt": "A", "States": {{\n{tasks}}}}}')
    said = invoke("validate", file).output
    assert said.count("[STEPWELL_PLACEHOLDER]") == 1
    assert "  and 2 more to be filled in: lines 3, 4\n" in said
    assert said.endswith(": 3 warnings\n")
    (result,) = json.loads(invoke("validate", "--json", file).output)["files"]
    assert [one["line"] for one in result["diagnostics"]] == [2, 3, 4]


def test_a_message_and_its_hint_are_two_sentences(write: Write, invoke: Invoke) -> None:
    states = '{"A": {"Type": "Succeed"}, "B": {"Type": "Succeed"}}'
    file = write(f'{{"StartAt": "A", "States": {states}}}')
    (line,) = invoke("validate", "--format", "github", file).output.splitlines()
    assert '::State "B" is not reachable. Lead to it by Next' in line


def test_sarif(write: Write, invoke: Invoke, tmp_path: Path) -> None:
    file = write(BAD, "with space.json")
    ran = invoke("validate", "--format", "sarif", file, tmp_path / "gone.json")
    assert ran.exit_code == 2
    log = json.loads(ran.output)
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    (run,) = log["runs"]
    (result,) = run["results"]
    rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert rule["id"] == result["ruleId"] == "SCHEMA_VALIDATION_FAILED"
    place = result["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 4, "startColumn": 27}
    assert place["artifactLocation"]["uri"] == file.as_uri()
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "gone.json" in invocation["toolExecutionNotifications"][0]["message"]["text"]


@pytest.fixture
def warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "deep" / "m.json"
    file.parent.mkdir()
    file.write_text('{"StartAt":"A","States":{"A":{"Type":"Pass","OutputPath":"$v","End":true}}}')
    monkeypatch.chdir(file.parent)
    return file


def test_a_warning_can_be_ignored(warned: Path, invoke: Invoke) -> None:
    assert "unassigned-variable" in invoke("validate", warned).output
    assert invoke("validate", "--strict", warned).exit_code == 1
    ran = invoke("validate", "--strict", "--ignore", "unassigned-variable", warned)
    assert (ran.exit_code, ran.output[:2]) == (0, "✓ ")


@pytest.mark.parametrize(
    ("name", "header"), ((".stepwell.toml", "[validate]"), ("pyproject.toml", "[tool.stepwell.validate]"))
)
def test_a_project_can_ignore_it_for_all(warned: Path, invoke: Invoke, name: str, header: str) -> None:
    settings = warned.parent.parent / name
    settings.write_text(f'{header}\nignore = ["unassigned-variable"]\nstrict = true\n')
    assert invoke("validate", warned).output.startswith("✓ ")
    settings.write_text(f"{header}\nstrict = true\n")
    assert invoke("validate", warned).exit_code == 1
    assert invoke("validate", "--no-strict", warned).exit_code == 0
    assert command("validate", warned, directory=warned.parent).returncode == 1


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("[validate]\nignore = ['nope']", "there is no code 'nope'"),
        ("[validate]\nignore = ['NO_DOLLARS']", "did you mean NO_DOLLAR?"),
        ("[validate]\nignore = ['MISSING_END_STATE']", "cannot be ignored"),
        ("[validate]\ntarget = 'gcp'", "target must be one of stepwell, aws"),
        ("[validate]\nstrikt = true", "there is no setting 'validate.strikt'"),
        ("validate = 1", "must be a table"),
        ("[validate", "cannot be read"),
    ),
)
def test_settings_that_cannot_be_used(warned: Path, invoke: Invoke, text: str, said: str) -> None:
    (warned.parent / ".stepwell.toml").write_text(text)
    long, short = invoke("validate", "--strict", warned), command("validate", warned, directory=warned.parent)
    assert (long.exit_code, short.returncode) == (2, 2)
    assert said in long.output
    assert said in short.stderr


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
    "lines": b"{\n" + b'"a":1,\n' * 1_000_000 + b"}",
    "huge number": b'{"StartAt":"A","TimeoutSeconds":' + b"9" * 100_000 + b"}",
    "duplicate": b'{"StartAt":"A","StartAt":"A","States":{"A":{"Type":"Succeed"}}}',
    "escape": b'{"StartAt":"A\x1b[31m',
}


@pytest.mark.parametrize("suffix", ("json", "yaml"))
@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_refused_in_words(write: Write, name: str, suffix: str) -> None:
    ran = command("validate", write(ODD[name], f"odd.{suffix}"))
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


def test_lines_end_as_they_do_elsewhere(write: Write) -> None:
    ran = command("validate", write(BAD.replace("\n", "\r\n")))
    assert ran.stdout.splitlines()[1] == '  4 | "A": {"Type": "Pass", "Comment": 5, "End": true}'


def test_several_files_are_counted(write: Write) -> None:
    ran = command("validate", write(GOOD, "good.json"), write(BAD, "bad.json"))
    assert ran.stdout.splitlines()[-1] == "2 files: 1 error, 0 warnings"
    assert len(command("validate", write(GOOD)).stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    (
        ("m.json", '{"StartAt": "A",}', "JSON has no comma after the last field."),
        ("m.json", '{"States": [1,]}', "JSON has no comma after the last item."),
        ("m.json", "{'StartAt': 'A'}", "JSON has double quotes only."),
        ("m.json", "{\n// why\n}", "JSON has no comments. Write Comment fields, or YAML in a .yaml file."),
        ("m.json", '{"End": True}', "JSON has true, false and null."),
        ("m.json", '{"a": 1 "b": 2}', "Is a comma missing before it?"),
        ("m.json", '{"a": "\xe4"}'.encode("latin-1"), "Save the file as UTF-8."),
        ("m.json", "", "There is nothing in it."),
        ("m.json", "StartAt: A\nStates: {}\n", "It looks like YAML: name the file .yaml or .yml to have it read so."),
        ("m.yaml", "StartAt: A\nStates:\n\tA: 1\n", "YAML is indented with blanks, not with tabs."),
        ("m.yaml", "", "There is nothing in it."),
    ),
)
def test_what_cannot_be_read_comes_with_advice(write: Write, name: str, text: str | bytes, hint: str) -> None:
    ran = command("validate", write(text, name))
    assert ran.returncode == 1
    assert f"hint: {hint}\n" in ran.stdout


TEMPLATE = """\
Resources:
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Definition:
        StartAt: A
        States: {A: {Type: Pass, Nxt: A, End: true}}
"""


def test_templates(write: Write, invoke: Invoke) -> None:
    file = write(TEMPLATE, "template.yaml")
    for arguments in ([file], [file.parent]):
        ran = command("validate", *arguments)
        assert ran.returncode == 1
        assert f"{file}:7:34: error: Field 'Nxt' is not supported" in ran.stdout
    document = json.loads(invoke("validate", "--format", "sarif", file).output)
    (place,) = document["runs"][0]["results"][0]["locations"]
    assert place["physicalLocation"]["region"] == {"startLine": 7, "startColumn": 34}


def test_other_commands_pass_templates_by(write: Write, invoke: Invoke) -> None:
    file = write(TEMPLATE, "template.yaml")
    assert command("fmt", "--check", write(GOOD, "sub.asl.json").parent).returncode == 1
    assert "template.yaml" not in command("fmt", "--check", file.parent).stderr
    assert "It is a deployment template" in command("graph", file).stderr


@pytest.mark.parametrize("name", ("validate", "fmt", "graph", "run", "test", "test-state"))
def test_help_shows_how_a_command_is_called(invoke: Invoke, name: str) -> None:
    shown = invoke(name, "--help").output
    assert f"Examples:\n  stepwell {name}" in shown.replace("\n    ", "\n  ").replace("  Examples", "Examples")


BROKEN = '{\n  "StartAt": "A",\n  "password": "hunter2!x",\n}\n'


@pytest.mark.parametrize("name", ("fmt", "run", "test-state"))
def test_every_command_shows_where_a_text_is_broken(write: Write, name: str) -> None:
    file = write(BROKEN)
    ran = command(name, file)
    assert ran.returncode != 0
    assert f"{file}:4:1: error: Unexpected character" in ran.stderr
    assert "hint: JSON has no comma after the last field." in ran.stderr
    assert "at [Source" not in ran.stderr
    hidden = command(name, write('{"StartAt": "A" "password": "hunter2!x"}'))
    assert "Unexpected character" in hidden.stderr
    assert "hunter2" not in hidden.stderr + hidden.stdout


def test_a_byte_order_mark_moves_nothing(write: Write) -> None:
    text = b"\xef\xbb\xbf" + BAD.encode()
    assert ":4:27: error" in command("validate", write(text)).stdout
    assert ":4:27: error" in command("run", write(text)).stderr


def test_names_that_lead_to_nothing(tmp_path: Path) -> None:
    assert "Nothing matches the pattern" in command("validate", tmp_path / "*.json").stderr
    assert "leads to no file" in command("test", tmp_path / "missing.json").stderr
    assert "hint" not in command("graph", tmp_path / "missing.json").stderr


def test_the_caret_stands_under_what_comes_after_wide_characters(write: Write) -> None:
    ran = command(
        "validate",
        write('{"StartAt": "A", "States": {"A": {"Type": "Succeed", "Comment": "a\u0308😀字", "End": true}}}'),
    )
    line, caret = ran.stdout.splitlines()[1:3]
    before = line[: line.index('"End"')]
    assert caret.index("^") == len(before) + 2 - 1  # two wide characters, and a mark over a letter
