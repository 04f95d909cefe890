"""The servers and processes that all tests lean on do what they promise."""

from __future__ import annotations

import os
import select
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from redis import Redis

from tests.fixtures.postgres import MIGRATIONS, Server, Servers, oldest_and_newest
from tests.fixtures.processes import StartProcess
from tests.support.processes import RunningProcess
from tests.support.sql import run_sql

SEEN: set[int] = set()

# Says what it is told, starts a child in its group, and ends when its input does.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print("child", child.pid)
print("ready http://127.0.0.1:8080")
for line in sys.stdin:
    print("heard", line.strip())
sys.exit(3)
"""


@pytest.mark.parametrize("attempt", (1, 2))
def test_each_test_has_a_database_of_its_own(blank_database: str, attempt: int) -> None:
    run_sql(blank_database, "CREATE TABLE only_here ()")


async def test_a_database_can_be_used_from_async_tests(blank_database: str) -> None:
    assert run_sql(blank_database, "SELECT 1") == [1]


def test_versions_differ(postgres_versions: Server) -> None:
    (major,) = run_sql(postgres_versions.url, "SELECT current_setting('server_version_num')::int / 10000")
    assert major in {one.major for one in oldest_and_newest()}
    assert major not in SEEN
    SEEN.add(major)


@pytest.mark.parametrize("is_async", (False, True))
def test_databases_are_copies_of_one_that_was_migrated_once(
    postgres_servers: Servers, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    migrated: list[str] = []

    def upgrade(url: str) -> None:
        migrated.append(url)
        run_sql(url, "CREATE TABLE t AS SELECT 7 AS n")

    async def upgrade_async(url: str) -> None:
        upgrade(url)

    migrations = ModuleType(MIGRATIONS)
    migrations.__spec__ = ModuleSpec(MIGRATIONS, None)
    migrations.__dict__["upgrade"] = upgrade_async if is_async else upgrade
    monkeypatch.setitem(sys.modules, MIGRATIONS, migrations)
    server = Server(postgres_servers.server().url, template="template_async" if is_async else "template_plain")
    for _ in range(2):
        with server.fresh_database(server.migrated_template()) as url:
            assert run_sql(url, "SELECT n FROM t") == [7]
            run_sql(url, "DELETE FROM t")
    assert len(migrated) == 1


@pytest.mark.parametrize("attempt", (1, 2))
def test_each_test_has_an_empty_broker(valkey: str, attempt: int) -> None:
    with Redis.from_url(valkey) as client:
        assert client.dbsize() == 0
        client.set("key", "value")


def test_a_process_is_heard_and_told(start_process: StartProcess) -> None:
    process = start_process([sys.executable, "-c", PARENT])
    assert process.ready_url() == "http://127.0.0.1:8080"
    process.tell("hello\n")
    process.wait_for("^heard hello$")
    process.close_input()
    assert process.wait() == 3


def test_a_process_that_ends_early_shows_what_it_said(start_process: StartProcess) -> None:
    process = start_process([sys.executable, "-c", "print('no such setting')"])
    with pytest.raises(AssertionError, match=r"ended without saying(?s:.*)no such setting"):
        process.ready_url()


def test_a_paused_process_goes_on_when_resumed(start_process: StartProcess) -> None:
    process = start_process([sys.executable, "-c", PARENT])
    process.ready_url()
    process.pause()
    assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    process.tell("still there?\n")
    process.resume()
    process.wait_for("^heard still there")


@pytest.mark.parametrize("killed_first", (False, True))
def test_nothing_of_a_group_is_left_behind(killed_first: bool) -> None:
    with RunningProcess([sys.executable, "-c", PARENT]) as process:
        child = os.pidfd_open(int(process.wait_for(r"^child (\d+)$")[1]))
        if killed_first:
            process.kill()
    try:
        # A pidfd is readable once its process has ended.
        assert select.select([child], [], [], 60)[0]
    finally:
        os.close(child)
