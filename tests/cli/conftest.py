"""What tests of the command share: running it in this process, definitions, and a whole Stepwell as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from stepwell.cli.group import stepwell
from tests.support.embedded import server_place, wait_until_stopped
from tests.support.processes import RunningProcess

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "stepwell.cli.main"]

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in this process, with no setting of the environment's."""
    for name in [name for name in os.environ if name.startswith("STEPWELL_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str | Path, input: str | None = None, environment: Mapping[str, str] | None = None) -> Result:
        return CliRunner().invoke(stepwell, [str(one) for one in arguments], input=input, env=environment)

    return run


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}, **settings}


def command(
    *arguments: str | Path, directory: Path | None = None, input: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [*COMMAND, *(str(one) for one in arguments)],
        capture_output=True, text=True, check=False, cwd=directory, input=input, env=clean_environment(**settings), timeout=120,
    )  # fmt: skip


def machine(start_at: str, **states: Mapping[str, Any]) -> dict[str, Any]:
    """A definition."""
    return {"StartAt": start_at, "States": states}


@pytest.fixture
def define(tmp_path: Path) -> Callable[..., Path]:
    """Write a definition into a file."""

    def write(definition: Any, name: str = "machine.asl.json") -> Path:
        file = tmp_path / name
        file.write_text(definition if isinstance(definition, str) else json.dumps(definition, indent=2))
        return file

    return write


FUNCTIONS = """
class CardError(Exception):
    pass

calls = []

def charge(event, context):
    calls.append(event)
    if len(calls) <= event.get("declines", 0):
        raise CardError("declined")
    return {"charged": event["amount"], "by": context.function_name}

async def later(event):
    return {"later": event}

def broken(event):
    raise SystemExit(3)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with functions, importable in this process."""
    name = f"functions_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@dataclass(frozen=True)
class Up:
    """A `stepwell up` that runs."""

    process: RunningProcess
    url: str
    data: Path

    def run(self, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a client command against it."""
        given = {"STEPWELL_URL": self.url, "STEPWELL_DATA_DIR": str(self.data), **settings}
        return command(*arguments, directory=None, input=None, **given)

    def json(self, *arguments: str | Path, code: int = 0, **settings: str) -> Any:
        """Run one with --json; its document. The exit code is checked."""
        ran = self.run(*arguments, "--json", **settings)
        assert ran.returncode == code, (ran.returncode, ran.stdout, ran.stderr)
        return json.loads(ran.stdout)

    def lines(self, *arguments: str | Path, code: int | None = 0) -> list[Any]:
        """Run one with --json; its documents, one a line. The exit code is checked, unless it is None."""
        ran = self.run(*arguments, "--json")
        assert code in (None, ran.returncode), (ran.returncode, ran.stdout, ran.stderr)
        return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A whole Stepwell, with its own database and broker, the functions above and a worker process."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "shop_functions.py").write_text(FUNCTIONS)
    with server_place() as place:
        environment = clean_environment(STEPWELL_FUNCTION_MODULES="shop_functions", PYTHONPATH=f"{modules}:{ROOT}")
        started: list[str | Path] = [*COMMAND, "up", "--port", "0", "--workers", "1", "--data-dir", place]
        with RunningProcess(started, environment=environment, directory=modules) as process:
            yield Up(process, process.ready_url(120), place)
            process.terminate()
            assert process.wait() == 0, process.output
        wait_until_stopped(EmbeddedPostgres(place / "postgres"))
        wait_until_stopped(EmbeddedValkey(place / "valkey"))
