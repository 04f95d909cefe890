"""An engine is killed: before a commit, between a commit and what follows it, while a task runs, while an execution waits."""

from __future__ import annotations

import pytest

from tests.fault.cluster import Cluster, http_state, sequence
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault


def all_is_well(cluster: Cluster) -> None:
    assert cluster.findings() == []


def test_killed_between_commit_and_dispatch(cluster: Cluster, ledger: Ledger) -> None:
    doomed = cluster.node(failpoint="after_commit")
    doomed.api.deploy("one", sequence(Pay=http_state(ledger, "Pay")))
    assert doomed.api.try_start("one", "a") is None
    doomed.died()
    assert ledger.effects == []
    node = cluster.node()
    id = node.api.start("one", "a")  # the caller was not answered, and asks again
    assert node.api.ended(id)["status"] == "SUCCEEDED"
    assert list(ledger.keys("Pay").values()) == [1], node.process.output
    assert node.api.event_types(id).count("TaskSucceeded") == 1
    all_is_well(cluster)
