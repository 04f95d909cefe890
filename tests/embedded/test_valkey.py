"""The embedded Valkey: a broker that works unchanged, closed to others, whose data nobody may count on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu.connection import Connection
from redis import Redis

from stepwell.cli.embedded.lifecycle import Liveness
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.support.embedded import wait_until_stopped


def pid_of(url: str) -> int:
    with Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def test_it_is_a_broker(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as handle, Connection(handle.url) as broker:
        queue = broker.SimpleQueue("tasks")
        queue.put({"n": 7})
        message = queue.get(timeout=60)
        assert message.payload == {"n": 7}
        message.ack()
        queue.close()


def test_without_the_password_there_is_no_way_in(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as handle:
        address = urlsplit(handle.url)
        assert address.hostname == "127.0.0.1"
        with socket.create_connection(("127.0.0.1", address.port or 0), timeout=60) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(4096).startswith(b"-NOAUTH")
        assert address.password is not None
        assert address.password.encode() not in Path(f"/proc/{pid_of(handle.url)}/cmdline").read_bytes()
        notes = [path for path in valkey_service.data_dir.rglob("*") if path.is_file()]
        told = [path for path in notes if address.password.encode() in path.read_bytes()]
        assert [stat.S_IMODE(path.stat().st_mode) for path in told] == [0o600]


def test_it_runs_without_roots_rights(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as handle:
        assert Path(f"/proc/{pid_of(handle.url)}").stat().st_uid != 0


def test_its_data_is_gone_when_it_stops(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as handle, Redis.from_url(handle.url) as client:
        client.set("key", "value")
    wait_until_stopped(valkey_service)
    with valkey_service.acquire() as handle, Redis.from_url(handle.url) as client:
        assert client.get("key") is None


def test_its_directory_may_be_deleted(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire():
        pass
    wait_until_stopped(valkey_service)
    shutil.rmtree(valkey_service.data_dir)
    with valkey_service.acquire() as handle, Redis.from_url(handle.url) as client:
        assert client.ping()


@pytest.mark.fault
def test_killed_it_comes_back_empty_at_the_same_address(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as handle, Redis.from_url(handle.url) as client:
        client.set("key", "value")
        os.kill(pid_of(handle.url), signal.SIGKILL)
        with valkey_service.acquire() as again:
            assert again.url == handle.url
            assert client.get("key") is None


@pytest.mark.fault
def test_killed_with_its_directory_deleted_it_comes_back(valkey_service: EmbeddedValkey, place: Path) -> None:
    with valkey_service.acquire() as handle:
        server = pid_of(handle.url)
        valkey_service.data_dir.rename(place / "gone")
        os.kill(server, signal.SIGKILL)
        with valkey_service.acquire() as again, Redis.from_url(again.url) as client:
            assert client.ping()
        assert valkey_service.liveness() is not Liveness.BUSY


def test_a_taken_port_is_given_up(valkey_service: EmbeddedValkey) -> None:
    with valkey_service.acquire() as first:
        port = urlsplit(first.url).port
    wait_until_stopped(valkey_service)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with valkey_service.acquire() as second, Redis.from_url(second.url) as client:
            assert client.ping()
            assert second.url != first.url
