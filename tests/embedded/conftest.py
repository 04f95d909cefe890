"""Places and clients for the tests of the embedded servers."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepwell.cli.embedded.lifecycle import EmbeddedService
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.conftest import ROOT
from tests.fixtures.processes import StartProcess
from tests.support.embedded import server_place, wait_until_stopped
from tests.support.processes import RunningProcess

StartClient = Callable[[EmbeddedService], RunningProcess]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for the data of servers; none of them runs any more when the test is over."""
    with server_place() as directory:
        yield directory
        for lock in directory.rglob("watchdog.lock"):
            wait_until_stopped(EmbeddedPostgres(lock.parent))


@pytest.fixture
def postgres(place: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(place / "data")


@pytest.fixture
def valkey_service(place: Path) -> EmbeddedValkey:
    return EmbeddedValkey(place / "data")


@pytest.fixture
def start_client(start_process: StartProcess) -> StartClient:
    """Start a process that uses a server until its input ends or it is killed."""

    def start(service: EmbeddedService) -> RunningProcess:
        return start_process(client_command(sys.executable, service), environment={"PYTHONPATH": str(ROOT)})

    return start


@pytest.fixture
def start_ordinary_client(start_process: StartProcess, place: Path) -> StartClient:
    """As `start_client`, as a user who is not root."""
    if os.geteuid() != 0:
        return lambda service: start_process(
            client_command(sys.executable, service), environment={"PYTHONPATH": str(ROOT)}
        )
    user = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    python = _python_of(user)
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]

    def start(service: EmbeddedService) -> RunningProcess:
        environment = {"PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}
        return start_process(client_command(python, service), environment=environment, user=user.pw_uid)

    return start


def client_command(python: str, service: EmbeddedService) -> list[str]:
    return [python, str(Path(__file__).with_name("client.py")), service.kind, str(service.data_dir)]


def _python_of(user: pwd.struct_passwd) -> str:
    """A Python that `user` can run, with our sources in reach; the one that runs us may lie under root's home."""
    check = f"import sys, os; sys.exit(sys.version_info < (3, 11) or not os.access({str(ROOT / 'cli')!r}, os.R_OK))"
    for python in (sys.executable, shutil.which("python3", path=os.defpath)):
        if python is None:
            continue
        try:
            tried = subprocess.run(
                [python, "-c", check], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", check=False
            )
        except PermissionError:
            continue
        if tried.returncode == 0:
            return python
    pytest.skip("there is no Python that an ordinary user of this machine can run")
