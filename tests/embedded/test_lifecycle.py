"""One server for many processes: started once, alive while anybody uses it, stopped after the last, whoever dies how."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell.cli.embedded.lifecycle import EmbeddedService, Liveness
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.server_user import ServerUser
from stepwell.cli.embedded.valkey import EmbeddedValkey
from stepwell.engine.errors import ConfigurationError
from tests.embedded.conftest import StartClient
from tests.support.embedded import wait_until_stopped
from tests.support.sql import run_sql


@pytest.fixture(params=[EmbeddedPostgres, EmbeddedValkey], ids=["postgres", "valkey"])
def service(request: pytest.FixtureRequest, place: Path) -> EmbeddedService:
    kind: Callable[[Path], EmbeddedService] = request.param
    return kind(place / "data")


def starts(service: EmbeddedService) -> int:
    """How many servers have come up in this data directory, by their own words."""
    return service.log_path.read_text().lower().count("ready to accept connections")


def server_pid(postgres: EmbeddedPostgres) -> int:
    return int((postgres.cluster / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_eight_clients_starting_at_once_share_one_server(service: EmbeddedService, start_client: StartClient) -> None:
    clients = [start_client(service) for _ in range(8)]
    urls = {client.wait_for(r"^using (.+)$")[1] for client in clients}
    assert urls == {service.url()}
    assert starts(service) == 1
    for client in clients:
        client.close_input()
    assert [client.wait() for client in clients] == [0] * 8
    wait_until_stopped(service)
    assert service.liveness() is Liveness.ABSENT


def test_an_ordinary_user_has_a_server_of_their_own(
    place: Path, start_ordinary_client: StartClient, request: pytest.FixtureRequest
) -> None:
    home = place / "home" if (place / "home").exists() else place
    for service in (EmbeddedPostgres(home / "pg"), EmbeddedValkey(home / "vk")):
        clients = [start_ordinary_client(service) for _ in range(2)]
        assert {client.wait_for(r"^using (.+)$")[1] for client in clients} == {service.url()}
        owner = home.stat().st_uid
        assert {path.stat().st_uid for path in service.data_dir.iterdir()} == {owner}
        for client in clients:
            client.kill()
        wait_until_stopped(service)


@pytest.mark.fault
def test_a_killed_client_is_not_counted_any_more(service: EmbeddedService, start_client: StartClient) -> None:
    first, second = start_client(service), start_client(service)
    first.wait_for("using")
    second.wait_for("using")
    first.kill()
    assert service.liveness() is Liveness.READY
    second.kill()
    wait_until_stopped(service)
    assert service.liveness() is Liveness.ABSENT


def test_a_server_starts_again_after_it_stopped(service: EmbeddedService) -> None:
    for round_number in (1, 2, 3):
        with service.acquire():
            assert service.liveness() is Liveness.READY
        # Not waiting for the end: whoever comes while it stops is served by the next one.
        assert starts(service) <= round_number
    wait_until_stopped(service)
    assert service.liveness() is Liveness.ABSENT


def test_ctrl_c_in_one_client_does_not_reach_the_server(service: EmbeddedService, start_client: StartClient) -> None:
    starter = start_client(service)
    starter.wait_for("using")
    with service.acquire():
        starter.send_group(signal.SIGINT)
        assert starter.wait() != 0
        assert service.liveness() is Liveness.READY
    assert starts(service) == 1


def test_releasing_twice_lets_go_once(service: EmbeddedService) -> None:
    first, second = service.acquire(), service.acquire()
    first.release()
    first.release()
    assert service.liveness() is Liveness.READY
    second.release()
    wait_until_stopped(service)


def test_a_data_directory_that_cannot_be_made_is_named(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(ConfigurationError, match=r"/file/data cannot be used"):
        EmbeddedPostgres(place / "file" / "data").acquire()


@pytest.mark.fault
def test_a_killed_postgres_comes_back_with_every_committed_row(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire() as handle:
        run_sql(handle.url, "CREATE TABLE t (n int)", *(f"INSERT INTO t VALUES ({n})" for n in range(100)))
        os.kill(server_pid(postgres), signal.SIGKILL)
        with postgres.acquire() as next_handle:
            assert next_handle.url == handle.url
            assert run_sql(handle.url, "SELECT n FROM t ORDER BY n") == list(range(100))


@pytest.mark.fault
def test_a_watchdog_is_the_parent_of_its_server_so_a_dead_one_is_no_zombie(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire():
        server = server_pid(postgres)
        watchdog = parent_of(server)
        assert watchdog not in {1, os.getpid()}
        os.kill(server, signal.SIGKILL)
        with postgres.acquire():
            assert not Path(f"/proc/{server}").exists()
            assert parent_of(server_pid(postgres)) == watchdog


@pytest.mark.fault
def test_a_server_whose_watchdog_was_killed_is_looked_after_again(postgres: EmbeddedPostgres) -> None:
    first = postgres.acquire()
    run_sql(first.url, "CREATE TABLE t AS SELECT 7 AS n")
    os.kill(parent_of(server_pid(postgres)), signal.SIGKILL)
    wait_until_stopped(postgres)
    assert postgres.liveness() is Liveness.READY, "the server itself goes on"
    with postgres.acquire() as second:
        assert run_sql(second.url, "SELECT n FROM t") == [7]
    first.release()
    wait_until_stopped(postgres)
    assert postgres.liveness() is Liveness.ABSENT


@pytest.mark.fault
def test_all_of_it_killed_at_once_starts_again(postgres: EmbeddedPostgres, start_client: StartClient) -> None:
    client = start_client(postgres)
    url = client.wait_for(r"^using (.+)$")[1]
    run_sql(url, "CREATE TABLE t AS SELECT 7 AS n")
    server = server_pid(postgres)
    for pid in (parent_of(server), server, client.pid):
        os.kill(pid, signal.SIGKILL)
    with postgres.acquire() as handle:
        assert run_sql(handle.url, "SELECT n FROM t") == [7]


@pytest.mark.fault
def test_a_dead_postgres_that_nobody_reaped_does_not_bar_the_way(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire() as handle:
        run_sql(handle.url, "CREATE TABLE t AS SELECT 7 AS n")
        server = server_pid(postgres)
        user = ServerUser.choose(postgres.cluster)
        for pid in (parent_of(server), server):
            os.kill(pid, signal.SIGKILL)
        # Whoever adopted the dead server may reap it or not; this one is surely not reaped.
        with subprocess.Popen(["true"], user=user.uid, group=user.gid) as zombie:
            os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
            for pid_file in (postgres.cluster / "postmaster.pid", postgres.socket_dir / ".s.PGSQL.5432.lock"):
                pid_file.write_text(pid_file.read_text().replace(str(server), str(zombie.pid), 1))
            with postgres.acquire():
                assert run_sql(handle.url, "SELECT n FROM t") == [7]


@pytest.mark.fault
def test_a_watchdog_told_to_end_stops_its_server_properly(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire():
        os.kill(parent_of(server_pid(postgres)), signal.SIGTERM)
        wait_until_stopped(postgres)
        assert postgres.liveness() is Liveness.ABSENT
        assert postgres.log_path.read_text().rstrip().endswith("database system is shut down")


@pytest.mark.fault
def test_a_watchdog_killed_under_valkey_leaves_no_second_server(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as first:
        server = int(
            next(line for line in valkey_service.log_path.read_text().splitlines() if "pid=" in line)
            .split("pid=")[1]
            .split(",")[0]
        )
        os.kill(parent_of(server), signal.SIGKILL)
        wait_until_stopped(valkey_service)
        with valkey_service.acquire() as second:
            assert second.url == first.url
            assert not is_alive(server)
