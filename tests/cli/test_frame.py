"""The frame of the command: its help, its errors, its exit codes, and what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from stepwell import __version__
from stepwell.cli.failures import EXIT_CODES, ExitCode
from stepwell.cli.group import PLACES, stepwell
from stepwell.engine.settings import all_settings
from tests.cli.conftest import ROOT, Invoke, command

DOCUMENTATION = ROOT / "docs" / "cli.md"


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """All commands that do something, with the words that lead to them."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None, name
        found += leaves(one, (*path, name)) if isinstance(one, click.Group) else [((*path, name), one)]
    return found


COMMANDS = leaves(stepwell)
NAMES = [" ".join(words) for words, _ in COMMANDS]


def test_help_shows_every_command_and_every_exit_code(invoke: Invoke) -> None:
    shown = invoke("--help")
    assert shown.exit_code == 0
    for name, place in PLACES.items():
        assert f"  {name} " in shown.output
        assert place.help in " ".join(shown.output.split())
    for code in EXIT_CODES:
        assert f"  {int(code)} " in shown.output


@pytest.mark.parametrize(("words", "one"), COMMANDS, ids=NAMES)
def test_every_command_speaks_json_and_explains_itself(words: tuple[str, ...], one: click.Command) -> None:
    assert one.help
    assert any("--json" in parameter.opts for parameter in one.params), f"{' '.join(words)} has no --json"
    for parameter in one.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help or isinstance(parameter.type, click.Choice), f"{' '.join(words)} {parameter.opts}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_documented(name: str) -> None:
    assert f"stepwell {name}" in DOCUMENTATION.read_text()


def test_exit_codes_and_settings_are_documented() -> None:
    text = DOCUMENTATION.read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"| {int(code)} | {meaning} |" in text
    for one in all_settings():
        assert f"`{one.metadata['variable']}`" in text


def test_version(invoke: Invoke) -> None:
    assert __version__ in invoke("--version").output


def test_a_misspelt_command_is_answered_with_the_right_one(invoke: Invoke) -> None:
    ran = invoke("validat")
    assert ran.exit_code == ExitCode.UNUSABLE
    assert "Did you mean 'validate'?" in ran.output


def test_errors_have_no_stack_trace_unless_asked_for(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr("stepwell.cli.commands.validate.check", fails)
    ran = invoke("validate", "x.json")
    assert ran.exit_code == ExitCode.FAILED
    assert "RuntimeError: out of cheese" in ran.output
    assert "STEPWELL_DEBUG=1" in ran.output
    assert "Traceback" not in ran.output
    ran = invoke("validate", "x.json", environment={"STEPWELL_DEBUG": "1"})
    assert isinstance(ran.exception, RuntimeError)


def test_with_json_an_error_is_the_one_document_on_stdout(invoke: Invoke) -> None:
    for arguments in (("--json", "status", "x"), ("status", "x", "--json")):
        ran = invoke(*arguments, environment={"STEPWELL_URL": "http://127.0.0.1:1"})
        assert ran.exit_code == ExitCode.UNUSABLE
        error = json.loads(ran.stdout)["error"]
        assert error["code"] == "Unreachable"
        assert "http://127.0.0.1:1" in error["message"]


def test_a_wrong_setting_is_named(invoke: Invoke) -> None:
    ran = invoke("list", environment={"STEPWELL_URL": "ftp://somewhere"})
    assert ran.exit_code == ExitCode.UNUSABLE
    assert "STEPWELL_URL ('ftp://somewhere') must be a URL that begins with http:// or https://" in ran.output


def test_a_time_that_is_none_is_refused_before_it_is_sent(invoke: Invoke) -> None:
    ran = invoke("list", "--since", "yesterday")
    assert ran.exit_code == ExitCode.UNUSABLE
    assert "'yesterday' is no time; say for example 2026-01-31" in ran.output


def loaded_by(*arguments: str) -> set[str]:
    program = (
        "import sys; import stepwell.cli.main as it\n"
        "try:\n    it.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    return set(ran.stdout.rpartition("LOADED")[2].split())


def test_validate_loads_nothing_it_does_not_need(tmp_path: Path) -> None:
    file = tmp_path / "m.asl.json"
    file.write_text('{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}')
    loaded = loaded_by("validate", str(file))
    assert "stepwell.engine.asl.validate" in loaded
    assert not loaded & {
        "click",
        "rich",
        "asyncio",
        "http.client",
        "sqlalchemy",
        "fastapi",
        "asyncpg",
        "aiohttp",
        "json",
    }


@pytest.mark.parametrize("arguments", (("--version",), ("--help",), ("worker", "--help"), ("list", "--help")))
def test_what_a_workers_environment_needs_loads_no_server_part(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "click" in loaded
    assert not loaded & {"rich", "sqlalchemy", "fastapi", "asyncpg", "aiohttp", "cryptography", "uvicorn"}


def test_a_missing_package_is_told_with_how_to_install_it() -> None:
    program = "import sys; sys.modules['asyncpg'] = None; import stepwell.cli.main as it; it.main(['db', 'current'])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == ExitCode.UNUSABLE
    assert "asyncpg" in ran.stderr
    assert "pip install 'stepwell[server,embedded]'" in ran.stderr


def test_commands_run_as_a_process() -> None:
    ran = command("--version")
    assert (ran.returncode, ran.stdout.strip()) == (0, f"stepwell, version {__version__}")
