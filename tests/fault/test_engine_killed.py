"""An engine is killed: before a commit, between a commit and what follows it, while a task runs, while an execution waits. Or
only the host of its functions is.

Every scenario returns what it found broken, so that its negative control can show that it would be found.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fault.cluster import Api, Cluster, function_state, http_state, sequence, until
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
FUNCTIONS = "tests.fault.functions"


def go_on(cluster: Cluster, api: Api, ledger: Ledger, id: str, *, deadline: float) -> dict[str, Any]:
    """Wait for the survivor to take over and prove that it works; then for the execution's end, as long as is given."""
    until(lambda: cluster.shards_owned() == 256, "a take-over")
    api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel")))
    assert api.ended(api.start("sentinel", "s"))["status"] == "SUCCEEDED"
    until_ended = api.describe(id)
    if until_ended["status"] == "RUNNING" and deadline:
        until_ended = api.ended(id, deadline)
    return until_ended


def killed_between_commit_and_dispatch(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    doomed = cluster.node(failpoint="after_commit")
    doomed.api.deploy("one", sequence(Pay=http_state(ledger, "Pay")))
    assert doomed.api.try_start("one", "a") is None
    doomed.died()
    assert ledger.effects == []
    node = cluster.node(without=without)
    id = node.api.start("one", "a")  # the caller was not answered, and asks again
    shown = go_on(cluster, node.api, ledger, id, deadline=0 if without else 30)
    broken = cluster.findings()
    if shown["status"] != "SUCCEEDED":
        broken.append(f"the execution is {shown['status']}")
    elif node.api.event_types(id).count("TaskSucceeded") != 1:
        broken.append(f"{node.api.event_types(id)}")
    if list(ledger.keys("Pay").values()) != [1]:
        broken.append(f"effects: {ledger.keys('Pay')}")
    return broken


def test_killed_between_commit_and_dispatch(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_between_commit_and_dispatch(cluster, ledger) == []


def test_control_killed_between_commit_and_dispatch(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_between_commit_and_dispatch(cluster, ledger, without="redelivery")
    assert broken == ["the execution is RUNNING", "effects: Counter()"]


def killed_before_commit(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    doomed = cluster.node(failpoint="before_commit", without=without)
    doomed.api.deploy("one", sequence(Pay=http_state(ledger, "Pay")))
    answered = doomed.api.try_start("one", "a")
    doomed.died()
    broken = []
    if cluster.sql("SELECT count(*) FROM execution") == [0]:
        if answered is not None:
            broken.append(f"answered {answered} for an execution that is not there")
        if ledger.effects:
            broken.append("an effect of an execution that is not there")
    node = cluster.node()
    assert node.api.ended(node.api.start("one", "a"))["status"] == "SUCCEEDED"
    return broken + cluster.findings()


def test_killed_before_commit(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_before_commit(cluster, ledger) == []
    assert list(ledger.keys("Pay").values()) == [1]


def test_control_killed_before_commit(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_before_commit(cluster, ledger, without="durability")
    assert "answered 201 for an execution that is not there" in broken


def killed_during_a_task(
    cluster: Cluster, ledger: Ledger, state: dict[str, Any], without: str | None = None
) -> list[str]:
    first = cluster.node(without=without, function_modules=FUNCTIONS)
    first.api.deploy("one", sequence(Before={"Type": "Pass"}, Pay=state))
    ledger.hold("Pay")
    id = first.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    first.process.kill()
    second = cluster.node(without=without, function_modules=FUNCTIONS)
    ledger.wait_for_count("Pay", 2)
    ledger.release("Pay")
    broken = [] if second.api.ended(id)["status"] == "SUCCEEDED" else [f"{second.api.describe(id)}"]
    kinds = second.api.event_types(id)
    if sum(kind in ("TaskSucceeded", "LambdaFunctionSucceeded") for kind in kinds) != 1:
        broken.append(f"{kinds}")
    if len(ledger.keys("Pay")) != 1:
        broken.append("a delivery had a key of its own")
    return broken + cluster.findings()


def test_killed_during_an_http_task(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_during_a_task(cluster, ledger, http_state(ledger, "Pay")) == []


def test_killed_during_a_function(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_during_a_task(cluster, ledger, function_state(ledger)) == []


def test_control_killed_during_an_http_task(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_during_a_task(cluster, ledger, http_state(ledger, "Pay"), without="stable_keys")
    assert broken == ["a delivery had a key of its own"]


def test_killed_during_a_take_over(cluster: Cluster, ledger: Ledger) -> None:
    """One dies while its task runs, its heir once it owns the shards and before it has looked at anything of them."""
    first = cluster.node()
    first.api.deploy("one", sequence(Pay=http_state(ledger, "Pay"), Rest={"Type": "Wait", "Seconds": 1}))
    ledger.hold("Pay")
    id = first.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    first.process.kill()
    until(lambda: cluster.shards_owned() == 0, "the end of its lease")
    heir = cluster.process("up", "--port", "0", "--workers", "0", failpoint="after_takeover")
    assert heir.wait() == -9, heir.output
    heirs = "owner = (SELECT incarnation FROM node ORDER BY started_at DESC LIMIT 1)"
    assert cluster.sql(f"SELECT count(*) FROM shard WHERE {heirs}") == [256]
    last = cluster.node()
    ledger.wait_for_count("Pay", 2)
    ledger.release("Pay")
    assert last.api.ended(id)["status"] == "SUCCEEDED"
    assert last.api.event_types(id).count("TaskSucceeded") == 1
    assert list(ledger.keys("Pay").values()) == [2]
    assert cluster.findings() == []


def function_host_killed(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    node = cluster.node(without=without, function_modules=FUNCTIONS)
    node.api.deploy("one", sequence(Pay=function_state(ledger)))
    ledger.hold("Pay")
    id = node.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    (host,) = node.process.children("stepwell.workers.host")
    os.kill(host, signal.SIGKILL)
    if not without:
        ledger.wait_for_count("Pay", 2)
    ledger.release("Pay")
    shown = node.api.ended(id)
    broken = [] if shown["status"] == "SUCCEEDED" else [f"{shown['status']}: {shown['error']}"]
    if list(ledger.keys("Pay").values()) != [2]:
        broken.append(f"effects: {list(ledger.keys('Pay').values())}")
    return broken + cluster.findings()


def test_function_host_killed(cluster: Cluster, ledger: Ledger) -> None:
    assert function_host_killed(cluster, ledger) == []


def test_control_function_host_killed(cluster: Cluster, ledger: Ledger) -> None:
    broken = function_host_killed(cluster, ledger, without="host_redelivery")
    assert broken == ["FAILED: Stepwell.WorkerLost", "effects: [1]"]


def killed_during_a_wait(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    first = cluster.node()
    first.api.deploy("one", sequence(Rest={"Type": "Wait", "Seconds": 3}, Pay=http_state(ledger, "Pay")))
    id = first.api.start("one", "a")
    until(lambda: cluster.sql("SELECT count(*) FROM timer") == [1], "a timer")
    first.process.kill()
    second = cluster.node(without=without)
    until(lambda: cluster.shards_owned() == 256, "a take-over")
    other = second.api.start("one", "b")  # begins to wait later: it is over when the first must be
    assert second.api.ended(other)["status"] == "SUCCEEDED"
    shown = second.api.describe(id) if without else second.api.ended(id, 30)
    return ([] if shown["status"] == "SUCCEEDED" else [f"the execution is {shown['status']}"]) + cluster.findings()


def test_killed_during_a_wait(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_during_a_wait(cluster, ledger) == []
    assert sorted(ledger.keys("Pay").values()) == [1, 1]


def test_control_killed_during_a_wait(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_during_a_wait(cluster, ledger, without="timers") == ["the execution is RUNNING"]


@pytest.mark.parametrize("failpoint", ("before_commit:9", "after_commit:9", "before_dispatch:31", "after_dispatch:31"))
def test_killed_under_load(cluster: Cluster, ledger: Ledger, failpoint: str) -> None:
    """Two nodes work on thirty executions; one dies at some moment, the other finishes everything."""
    survivor, doomed = cluster.node(), cluster.node(failpoint=failpoint)
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    states = {"A": http_state(ledger, "A"), "B": {"Type": "Pass"}, "C": http_state(ledger, "C")}
    survivor.api.deploy("three", sequence(**states))
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: start_somewhere(doomed.api, survivor.api, f"e{number}"), range(30)))
    doomed.died()
    ended = [survivor.api.ended(id)["status"] for id in ids]
    assert ended == ["SUCCEEDED"] * 30
    for id in ids:
        assert survivor.api.event_types(id).count("TaskSucceeded") == 2
    for state in ("A", "C"):
        assert len(ledger.keys(state)) == 30
        assert {effect.execution for effect in ledger.of(state)} == {survivor.api.describe(id)["arn"] for id in ids}
    assert cluster.findings() == []


def start_somewhere(first: Api, second: Api, name: str) -> str:
    first.try_start("three", name)
    return second.start("three", name)
