"""Celery's faults: workers that die, messages and outcomes that come twice or late, a broker that loses everything."""

from __future__ import annotations

import json
from typing import Any

import kombu
import pytest
import redis

from stepwell.engine.messages import RESULTS_QUEUE, TASK_HEADER
from stepwell.engine.targets.redis_results import CONSUMERS
from tests.fault.cluster import Api, Cluster, celery_state, sequence, until
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
QUEUE = "celery"


def messages(cluster: Cluster) -> list[bytes]:
    """What lies in the queue of tasks."""
    with redis.Redis.from_url(cluster.broker) as client:
        found: Any = client.lrange(QUEUE, 0, -1)
    return list(found)


def succeeded_once(api: Api, *ids: str) -> list[str]:
    """What is wrong with executions of one Celery task each."""
    broken = []
    for id in ids:
        status, kinds = api.describe(id)["status"], api.event_types(id)
        if (status, kinds.count("TaskSucceeded")) != ("SUCCEEDED", 1):
            broken.append(f"{status}: {kinds}")
    return broken


def worker_killed(cluster: Cluster, ledger: Ledger, without: str = "") -> list[str]:
    node = cluster.node(without=f"patience,{without}" if without else "patience")
    node.api.deploy("one", sequence(Pay=celery_state(ledger)))
    ledger.hold("Pay")
    first = cluster.worker(node.api.url)
    id = node.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    first.kill_group()
    cluster.worker(node.api.url)
    if without:
        over = "SELECT count(*) FROM worker WHERE expires_at < clock_timestamp() - interval '6 seconds'"
        until(lambda: cluster.sql(over) == [1], "two rounds of the rescue after the lease's end")
        return [f"{len(ledger.of('Pay'))} effects, {node.api.describe(id)['status']}"]
    one, two = ledger.wait_for_count("Pay", 2)
    ledger.release("Pay")
    node.api.ended(id)
    broken = succeeded_once(node.api, id) + cluster.findings()
    if (
        (one.key, one.delivery, two.delivery) != (two.key, 1, 2)
        or one.worker == two.worker
        or len(ledger.of("Pay")) > 2
    ):
        broken.append(f"{ledger.effects}")
    return broken


def test_worker_killed_during_a_task(cluster: Cluster, ledger: Ledger) -> None:
    assert worker_killed(cluster, ledger) == []


def test_control_worker_killed_during_a_task(cluster: Cluster, ledger: Ledger) -> None:
    assert worker_killed(cluster, ledger, "worker_leases") == ["1 effects, RUNNING"]


def message_twice(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    node = cluster.node(without=without)
    node.api.deploy("one", sequence(Pay=celery_state(ledger)))
    ledger.hold("Pay")
    id = node.api.start("one", "a")
    until(lambda: len(messages(cluster)) == 1, "a message")
    with redis.Redis.from_url(cluster.broker) as client:
        client.lpush(QUEUE, messages(cluster)[0])
    cluster.worker(node.api.url)
    ledger.wait_for_count("Pay", 1)
    second = cluster.worker(node.api.url)
    until(lambda: len(ledger.of("Pay")) == 2 or "Dropped a copy of task" in second.output, "what becomes of the copy")
    ledger.release("Pay")
    node.api.ended(id)
    broken = succeeded_once(node.api, id) + cluster.findings()
    return broken + ([] if len(ledger.of("Pay")) == 1 else ["the task ran twice"])


def test_a_message_that_comes_twice(cluster: Cluster, ledger: Ledger) -> None:
    assert message_twice(cluster, ledger) == []


def test_control_a_message_that_comes_twice(cluster: Cluster, ledger: Ledger) -> None:
    assert message_twice(cluster, ledger, without="claims") == ["the task ran twice"]


def outcomes_twice_and_late(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    """Over the broker and over the API, saying the same and saying something else, while the execution goes on."""
    node = cluster.node(without=without)
    node.api.deploy("two", sequence(Pay=celery_state(ledger), Ship=celery_state(ledger)))
    ledger.hold("Ship")
    id = node.api.start("two", "a")
    until(lambda: len(messages(cluster)) == 1, "a message")
    envelope = json.loads(json.loads(messages(cluster)[0])["headers"][TASK_HEADER])
    cluster.worker(node.api.url)
    ledger.wait_for_count("Ship", 1)
    outcome = {key: envelope[key] for key in ("execution", "task", "key")}
    late: list[dict[str, Any]] = [
        {**outcome, "output": {"done": None}},
        {**outcome, "error": "Late", "cause": "too late"},
    ]
    with kombu.Connection(cluster.broker) as connection, connection.Producer() as producer:
        for one in late * 2:
            producer.publish(json.dumps(one), routing_key=RESULTS_QUEUE, content_type="application/json",
                             content_encoding="utf-8")  # fmt: skip
    with redis.Redis.from_url(cluster.broker) as client:
        until(lambda: not client.llen(RESULTS_QUEUE), "the results queue to be read")
    broken = []
    for one in late:
        answer = node.api.call("POST", "/v1/workers/outcome", one)
        if (answer.status_code, answer.json()) != (200, {"answer": "TIMED_OUT"}):
            broken.append(f"a late outcome was answered {answer.text}")
    if node.api.describe(id)["status"] != "RUNNING":
        broken.append("it ended before its last task")
    ledger.release("Ship")
    if node.api.ended(id)["status"] != "SUCCEEDED" or node.api.event_types(id).count("TaskSucceeded") != 2:
        broken.append(f"{node.api.event_types(id)}")
    if [*ledger.keys("Pay").values(), *ledger.keys("Ship").values()] != [1, 1]:
        broken.append(f"{ledger.effects}")
    return broken + cluster.findings()


def test_outcomes_that_come_twice_and_late(cluster: Cluster, ledger: Ledger) -> None:
    assert outcomes_twice_and_late(cluster, ledger) == []


def test_control_outcomes_that_come_twice_and_late(cluster: Cluster, ledger: Ledger) -> None:
    assert "it ended before its last task" in outcomes_twice_and_late(cluster, ledger, without="whose_outcome")


def killed_with_an_outcome_in_hand(cluster: Cluster, ledger: Ledger, without: str = "") -> list[str]:
    """The engine dies when it has read an outcome from the broker and is about to make it durable."""
    lacking = f"consumer_patience,{without}" if without else "consumer_patience"
    third = "before_commit:3"  # the start, the claim, the outcome
    doomed = cluster.node(failpoint=third, without=lacking)
    doomed.api.deploy("one", sequence(Pay=celery_state(ledger)))
    cluster.worker(doomed.api.url)
    id = doomed.api.start("one", "a")
    doomed.died()
    port = int(doomed.api.url.rpartition(":")[2])  # where the worker renews its lease
    node = cluster.node(without=lacking, port=port)
    with redis.Redis.from_url(cluster.broker) as client:
        until(lambda: client.scard(CONSUMERS) == 1 and client.exists(f"{RESULTS_QUEUE}.alive:{consumer(client)}"),
              "the second engine to look after what the first had read")  # fmt: skip
    after = node.api.start("one", "after")
    node.api.ended(after)
    if without:
        return [f"{node.api.describe(id)['status']}"]
    node.api.ended(id)
    broken = succeeded_once(node.api, id, after) + cluster.findings()
    return broken + ([] if list(ledger.keys("Pay").values()) == [1, 1] else [f"{ledger.effects}"])


def consumer(client: Any) -> str:
    """The one consumer of outcomes there is."""
    (id,) = client.smembers(CONSUMERS)
    return str(id.decode())


def test_killed_with_an_outcome_in_hand(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_with_an_outcome_in_hand(cluster, ledger) == []


def test_control_killed_with_an_outcome_in_hand(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_with_an_outcome_in_hand(cluster, ledger, "result_first") == ["RUNNING"]


def test_the_engine_is_killed_while_a_worker_runs_a_task(cluster: Cluster, ledger: Ledger) -> None:
    """The outcome waits in the broker for the next engine; the task does not run again."""
    first = cluster.node()
    first.api.deploy("one", sequence(Pay=celery_state(ledger)))
    ledger.hold("Pay")
    worker = cluster.worker(first.api.url)
    id = first.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    first.process.kill()
    ledger.release("Pay")
    worker.wait_for(r"Task ledger.effect\[.*\] succeeded")
    second = cluster.node()
    second.api.ended(id)
    assert succeeded_once(second.api, id) + cluster.findings() == []
    assert list(ledger.keys("Pay").values()) == [1]


def broker_lost_its_data(cluster: Cluster, ledger: Ledger, without: str = "") -> list[str]:
    node = cluster.node(without=f"patience,{without}" if without else "patience")
    node.api.deploy("one", sequence(Pay=celery_state(ledger)))
    ids = [node.api.start("one", f"e{number}") for number in range(20)]
    until(lambda: len(messages(cluster)) == 20, "all messages")
    with redis.Redis.from_url(cluster.broker) as client:
        client.flushall()
    cluster.worker(node.api.url)
    after = node.api.start("one", "after")
    node.api.ended(after)
    if without:
        overdue = "SELECT count(*) FROM task WHERE created_at < extract(epoch FROM clock_timestamp()) * 1000 - 12000"
        until(lambda: cluster.sql(overdue) == [20], "two rounds of the rescue")
        return [f"{node.api.describe(id)['status']}" for id in ids[:1]]
    for id in ids:
        node.api.ended(id)
    broken = succeeded_once(node.api, *ids, after) + cluster.findings()
    return broken + ([] if list(ledger.keys("Pay").values()) == [1] * 21 else [f"{ledger.keys('Pay')}"])


def test_the_broker_loses_everything(cluster: Cluster, ledger: Ledger) -> None:
    assert broker_lost_its_data(cluster, ledger) == []


def test_control_the_broker_loses_everything(cluster: Cluster, ledger: Ledger) -> None:
    assert broker_lost_its_data(cluster, ledger, "redelivery") == ["RUNNING"]
