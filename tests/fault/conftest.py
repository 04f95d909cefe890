"""Fixtures of the fault tests: the ledger and a cluster over a database with durable settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.proxy import Proxy
from tests.fixtures.processes import StartProcess
from tests.support.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as ledger:
        yield ledger


@pytest.fixture
def cluster(
    start_process: StartProcess, durable_database: str, valkey: str, ledger: Ledger, tmp_path: Path
) -> Iterator[Cluster]:
    with Cluster(start_process, durable_database, valkey, ledger, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """Between nodes and the cluster's database, for those that are given it as theirs."""
    proxy = Proxy(cluster.database)
    yield proxy
    proxy.close()
