"""Faults of the database: restarted under load, a fail-over to what is behind, connections cut in the middle of a commit, a step that
it refuses.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fault.cluster import Cluster, Node, http_state, sequence, until
from tests.fault.proxy import Half, Proxy, Statement
from tests.fault.servers import OwnPostgres, own_postgres
from tests.fixtures.processes import StartProcess
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
LOAD = 60
BATCH = 200
TOGETHER_SECONDS = 8
"""How long all of a batch wait for the same moment; long enough to start them all."""


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
def own_cluster(
    start_process: StartProcess, postgres: OwnPostgres, valkey: str, ledger: Ledger, tmp_path: Path
) -> Iterator[Cluster]:
    with Cluster(start_process, postgres.database, valkey, ledger, tmp_path) as cluster:
        yield cluster


# ------------------------------------------------------------------------------------------------------------- restarts


def restarted_under_load(
    cluster: Cluster, postgres: OwnPostgres, ledger: Ledger, without: str | None = None
) -> list[str]:
    one, two = cluster.node(without=without), cluster.node(without=without)
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    one.api.deploy("two", sequence(A=http_state(ledger, "A"), B={"Type": "Pass"}, C=http_state(ledger, "C")))
    with ThreadPoolExecutor(6) as pool:
        starts = [pool.submit((one, two)[n % 2].api.start, "two", f"e{n}") for n in range(LOAD)]
        for so_far, how in ((LOAD // 6, signal.SIGINT), (LOAD // 2, signal.SIGQUIT)):
            ledger.wait_for_count("A", so_far)
            postgres.stop(how)
            if how is signal.SIGQUIT:
                until(lambda: all(failed_renewals(node) >= 5 for node in (one, two)), "both to be without a lease")
            postgres.start()
        ids = {start.result() for start in starts}
    for node, name in ((one, "last-of-one"), (two, "last-of-two")):
        node.api.start("two", name)  # once these are there, all that was answered before is there or lost
        until(functools.partial(cluster.sql, f"SELECT 1 FROM execution WHERE name = '{name}'"), name)
    kept = {id.hex for id in cluster.sql("SELECT id FROM execution")}
    lost = {id.replace("-", "") for id in ids} - kept
    if lost:
        return ["an answered start was lost"]
    broken = [f"{id}: {status}" for id in ids if (status := one.api.ended(id)["status"]) != "SUCCEEDED"]
    broken += [f"{kinds}" for id in ids if (kinds := two.api.event_types(id)).count("TaskSucceeded") != 2]
    until(lambda: cluster.sql("SELECT count(*) FROM execution WHERE status = 1") == [0], "all to end")
    broken += [f"{state}: {len(ledger.keys(state))}" for state in ("A", "C") if len(ledger.keys(state)) != LOAD + 2]
    return broken + cluster.findings()


def failed_renewals(node: Node) -> int:
    return node.process.output.count("the lease cannot be renewed")


def test_postgres_restarted_under_load(own_cluster: Cluster, postgres: OwnPostgres, ledger: Ledger) -> None:
    assert restarted_under_load(own_cluster, postgres, ledger) == []


def test_control_postgres_restarted_under_load(own_cluster: Cluster, postgres: OwnPostgres, ledger: Ledger) -> None:
    broken = restarted_under_load(own_cluster, postgres, ledger, without="durability")
    assert broken == ["an answered start was lost"]


# ------------------------------------------------------------------------------------- a fail-over to what is behind


def test_the_database_goes_back(own_cluster: Cluster, postgres: OwnPostgres, ledger: Ledger) -> None:
    """Executions go on from where the standby stands, and what it does not know can be started again."""
    node = own_cluster.node(without="patience")
    node.api.deploy("two", sequence(Pay=http_state(ledger, "Pay"), Ship=http_state(ledger, "Ship")))
    for state in ("Pay", "Ship"):
        ledger.hold(state)
    early = node.api.start("two", "early")
    ledger.wait_for_count("Pay", 1)
    postgres.stop(signal.SIGINT)
    postgres.copy()
    postgres.start()
    late = node.api.start("two", "late")
    ledger.release("Pay")
    ledger.wait_for(lambda effects: len({each.execution for each in effects if each.state == "Ship"}) == 2)
    postgres.stop(signal.SIGQUIT)
    postgres.go_back()
    postgres.start()
    ledger.release("Ship")
    assert node.api.start("two", "late") == late
    assert [node.api.ended(id)["status"] for id in (early, late)] == ["SUCCEEDED"] * 2
    assert [node.api.event_types(id).count("TaskSucceeded") for id in (early, late)] == [2, 2]
    assert [len(ledger.keys(state)) for state in ("Pay", "Ship")] == [2, 2]
    assert own_cluster.findings() == []


# ------------------------------------------------------------------------------------------------- a cut during a commit


def commit_cut(cluster: Cluster, proxy: Proxy, ledger: Ledger, loss: Half, without: str | None = None) -> list[str]:
    node = cluster.node(database=proxy.database, without=without)
    node.api.deploy("two", sequence(Pay=http_state(ledger, "Pay"), Ship=http_state(ledger, "Ship")))
    proxy.cut_next(Statement.COMMIT, loss)
    answered = node.api.try_start("two", "a")
    assert proxy.cuts == 1
    there = cluster.sql("SELECT count(*) FROM execution")
    if answered != 503:
        return [f"answered {answered} with {there[0]} executions"]
    assert there == [int(loss is Half.REPLY)]
    id = node.api.start("two", "a")
    if without:
        node.api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel")))
        assert node.api.ended(node.api.start("sentinel", "s"))["status"] == "SUCCEEDED"
        return [f"{node.api.describe(id)['status']}"]
    node.api.ended(id)
    ledger.hold("Pay")
    other = node.api.start("two", "b")
    ledger.wait_for_count("Pay", 2)
    proxy.cut_next(Statement.COMMIT, loss)
    ledger.release("Pay")
    node.api.ended(other)
    assert proxy.cuts == 2
    broken = [f"{kinds}" for one in (id, other) if (kinds := node.api.event_types(one)).count("TaskSucceeded") != 2]
    broken += [f"{state}: {ledger.keys(state)}" for state in ("Pay", "Ship") if len(ledger.keys(state)) != 2]
    if loss is Half.REPLY and len(ledger.effects) != 4:  # where a commit happened, nothing is done again
        broken.append(f"{ledger.effects}")
    return broken + cluster.findings()


@pytest.mark.parametrize("loss", Half)
def test_connection_cut_during_commit(cluster: Cluster, proxy: Proxy, ledger: Ledger, loss: Half) -> None:
    assert commit_cut(cluster, proxy, ledger, loss) == []


def test_control_connection_cut_before_the_commit(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    broken = commit_cut(cluster, proxy, ledger, Half.REQUEST, without="fate")
    assert broken == ["answered 201 with 0 executions"]


def test_control_connection_cut_after_the_commit(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert commit_cut(cluster, proxy, ledger, Half.REPLY, without="redelivery") == ["RUNNING"]


# --------------------------------------------------------------------------------------------------- a poisoned execution


def one_of_a_batch_is_refused(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    """200 executions wait for one moment; the engine sleeps through it, so that their next steps are one batch."""
    node = cluster.node(without=without, lease_seconds="60")
    cluster.sql("ALTER TABLE task ADD CONSTRAINT poison CHECK (state <> 'Poison')")
    definition: dict[str, Any] = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "TimestampPath": "$.until", "Next": "Choose"},
            "Choose": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.poison", "BooleanEquals": True, "Next": "Poison"}],
                "Default": "Pay",
            },
            "Poison": {**http_state(ledger, "Poison"), "End": True},
            "Pay": {**http_state(ledger, "Pay"), "End": True},
        },
    }
    node.api.deploy("one", definition)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + TOGETHER_SECONDS))
    culprit = BATCH // 3
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(
            lambda number: node.api.start("one", f"e{number}", {"until": moment, "poison": number == culprit}), range(BATCH)
        ))  # fmt: skip
    node.process.pause()
    until(lambda: cluster.sql(f"SELECT clock_timestamp() > '{moment}'") == [True], "the moment")
    node.process.resume()
    ended = [node.api.ended(id) for id in ids]
    poisoned = ended.pop(culprit)
    broken = [f"{one['status']}: {one.get('error')}" for one in ended if one["status"] != "SUCCEEDED"]
    if (poisoned["status"], poisoned["error"]) != ("FAILED", "States.Runtime"):
        broken.append(f"the poisoned one: {poisoned}")
    if not broken and list(ledger.keys("Pay").values()) != [1] * (BATCH - 1):
        broken.append(f"effects: {ledger.keys('Pay')}")
    assert ledger.of("Poison") == []
    return broken + cluster.findings()


def test_one_of_a_batch_of_200_is_refused(cluster: Cluster, ledger: Ledger) -> None:
    assert one_of_a_batch_is_refused(cluster, ledger) == []


def test_control_one_of_a_batch_of_200_is_refused(cluster: Cluster, ledger: Ledger) -> None:
    broken = one_of_a_batch_is_refused(cluster, ledger, without="bisection")
    assert "FAILED: States.Runtime" in broken
