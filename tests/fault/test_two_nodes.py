"""Two nodes over one database: one is stopped and wakes up, outcomes race with time-outs, nobody is notified of anything."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fault.cluster import Api, Cluster, http_state, sequence, until
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
ACTIVITY = "arn:aws:states:us-east-1:000000000000:activity:approve"


def api_only(cluster: Cluster, *, without: str | None = None, **settings: str) -> Api:
    """A process that takes requests and owns nothing."""
    process = cluster.process("api", "--port", "0", without=without, **settings)
    api = Api(process.ready_url())
    cluster.keep(api)
    return api


def owner_sleeps(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    sleeper, other = cluster.node(without=without), cluster.node()
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    other.api.deploy("one", sequence(Pay=http_state(ledger, "Pay"), Ship=http_state(ledger, "Ship")))
    ledger.hold("Pay")
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: other.api.start("one", f"e{number}"), range(20)))
    ledger.wait_for_count("Pay", 20)
    sleeper.process.pause()
    until(lambda: cluster.shards_owned() == 256 and cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [1],
          "a take-over")  # fmt: skip
    ledger.wait_for_count("Pay", 21)  # what the sleeper had called is called again
    ledger.release("Pay")
    ended = [other.api.ended(id)["status"] for id in ids]
    sleeper.process.resume()  # with the answers of its calls waiting in its sockets
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    assert sleeper.api.ended(sleeper.api.start("one", "after"))["status"] == "SUCCEEDED"
    broken = [status for status in ended if status != "SUCCEEDED"]
    for id in ids:
        kinds = other.api.event_types(id)
        if (kinds.count("TaskSucceeded"), kinds.count("ExecutionSucceeded")) != (2, 1):
            broken.append(f"{kinds}")
    if len(ledger.keys("Pay")) != 21 or len(ledger.keys("Ship")) != 21:
        broken.append("a delivery had a key of its own")
    return broken + cluster.findings()


def test_an_owner_that_sleeps_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    assert owner_sleeps(cluster, ledger) == []


def test_control_an_owner_that_sleeps_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    broken = owner_sleeps(cluster, ledger, without="fences")
    assert any(one.startswith("event numbers") for one in broken), broken


def take_task(api: Api) -> str:
    """The token of the next activity task."""
    tokens: list[str] = []

    def taken() -> bool:
        answer = api.call("POST", "/v1/activities/approve/tasks?wait=1")
        if answer.status_code == 200:
            tokens.append(answer.json()["token"])
        return bool(tokens)

    until(taken, "a task")
    return tokens[0]


def approval(seconds: int) -> dict[str, Any]:
    return sequence(Approve={"Type": "Task", "Resource": ACTIVITY, "TimeoutSeconds": seconds})


def outcome_before_time_out(cluster: Cluster, without: str | None = None) -> list[str]:
    """The owner sleeps while its task is answered by the other way, and wakes when the time-out is due, too."""
    owner = cluster.node(without=without, lease_seconds="60")
    api = api_only(cluster, without=f"peers,{without}" if without else "peers", lease_seconds="60")
    api.call("POST", "/v1/activities", {"name": "approve"})
    api.deploy("one", approval(8))
    id = api.start("one", "a")
    token = take_task(api)
    owner.process.pause()
    first = api.call("POST", "/v1/tasks/success", {"token": token, "output": {"approved": True}})
    second = api.call("POST", "/v1/tasks/failure", {"token": token, "error": "Refused"})
    due = "SELECT count(*) FROM timer WHERE due_at < extract(epoch FROM clock_timestamp()) * 1000"
    until(lambda: cluster.sql(due) == [1], "the time-out to be due")
    owner.process.resume()
    shown = api.ended(id)
    broken = cluster.findings()
    if first.status_code != 204:
        broken.append(f"the first outcome was answered {first.status_code}")
    if second.status_code < 400:
        broken.append("a second outcome was accepted")
    if shown["status"] != "SUCCEEDED":
        broken.append(f"the first outcome was accepted, but the execution is {shown['status']}: {shown.get('error')}")
    return broken


def test_an_accepted_outcome_wins_over_the_time_out(cluster: Cluster) -> None:
    assert outcome_before_time_out(cluster) == []


def test_control_an_accepted_outcome_wins_over_the_time_out(cluster: Cluster) -> None:
    broken = outcome_before_time_out(cluster, without="first_outcome")
    assert "a second outcome was accepted" in broken, broken
    assert any(one.startswith("the first outcome was accepted, but") for one in broken), broken


def test_outcomes_race_with_time_outs(cluster: Cluster) -> None:
    """Whatever the caller is told agrees with the history."""
    one, two = cluster.node(lease_seconds="10"), cluster.node(lease_seconds="10")
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    one.api.call("POST", "/v1/activities", {"name": "approve"})
    one.api.deploy("one", approval(1))

    def race(number: int) -> tuple[str, bool]:
        api = (one if number % 2 else two).api
        id = api.start("one", f"e{number}")
        token = take_task(api)
        end = time.monotonic() + 0.8 + 0.02 * (number % 16)
        while time.monotonic() < end and api.call("POST", "/v1/tasks/heartbeat", {"token": token}).status_code == 204:
            """Ask, rather than sleep, until about the moment of the time-out."""
        return token, api.call("POST", "/v1/tasks/success", {"token": token, "output": id}).status_code == 204

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(48)))
    accepted = sum(told for _, told in answers)
    until(lambda: cluster.sql("SELECT count(*) FROM execution WHERE status = 1") == [0], "all to end")
    assert cluster.sql("SELECT count(*) FROM execution WHERE status = 2") == [accepted]
    assert cluster.findings() == []


def command_by_row(cluster: Cluster, without: str | None = None) -> list[str]:
    """A stop for an owner that can be neither reached nor notified."""
    owner = cluster.node(without=without, notify="off")
    api = api_only(cluster, without="peers,impatience" if without else "peers", notify="off")
    owner.api.deploy("one", sequence(Rest={"Type": "Wait", "Seconds": 3600}))
    id = owner.api.start("one", "a")
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(api.client.post, f"/v1/executions/{id}/stop", json={}, timeout=60)
        if without:
            until(lambda: cluster.sql("SELECT count(*) FROM inbox") == [1], "the command to be written down")
            other = owner.api.start("one", "b")  # the owner works, and is told by its caller, not by the inbox
            assert owner.api.call("POST", f"/v1/executions/{other}/stop", {}).status_code == 200
        status = stopping.result().status_code
    shown = api.describe(id)
    broken = [] if (status, shown["status"]) == (200, "ABORTED") else [f"{status}: the execution is {shown['status']}"]
    return broken + cluster.findings()


def test_a_command_reaches_its_owner_without_notify(cluster: Cluster) -> None:
    assert command_by_row(cluster) == []


def test_control_a_command_reaches_its_owner_without_notify(cluster: Cluster) -> None:
    assert command_by_row(cluster, without="polling") == ["503: the execution is RUNNING"]


def test_two_nodes_work_without_notify(cluster: Cluster, ledger: Ledger) -> None:
    one, two = cluster.node(notify="off"), cluster.node(notify="off")
    until(lambda: cluster.sql("SELECT count(DISTINCT owner) FROM shard") == [2], "fair shares")
    one.api.deploy("one", sequence(Pay=http_state(ledger, "Pay"), Rest={"Type": "Wait", "Seconds": 1}))
    ids = [(one, two)[number % 2].api.start("one", f"e{number}") for number in range(20)]
    assert [(two, one)[number % 2].api.ended(id)["status"] for number, id in enumerate(ids)] == ["SUCCEEDED"] * 20
    assert list(ledger.keys("Pay").values()) == [1] * 20
    assert cluster.findings() == []
