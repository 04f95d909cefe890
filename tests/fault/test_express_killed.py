"""The engine that runs Express executions is killed, or stands still past its lease."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fault.cluster import Api, Cluster, http_state, sequence, until
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault


def deploy(api: Api, ledger: Ledger, *names: str) -> None:
    """An Express state machine that calls the ledger once a state."""
    definition = sequence(**{name: http_state(ledger, name) for name in names})
    answer = api.call("PUT", "/v1/state-machines/quick", {"type": "EXPRESS", "definition": definition})
    assert answer.status_code in (200, 201), answer.text


def alive(api: Api, ledger: Ledger) -> None:
    """Prove that a node works: everything that had to be taken over before could have been."""
    api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel"), Rest={"Type": "Wait", "Seconds": 2}))
    assert api.ended(api.start("sentinel", f"s{len(ledger.effects)}"))["status"] == "SUCCEEDED"


def killed_while_it_runs(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    first = cluster.node(without=without)
    deploy(first.api, ledger, "Look", "Pay")
    ledger.hold("Pay")
    id = first.api.start("quick", "a")
    ledger.wait_for_count("Pay", 1)
    first.process.kill()
    second = cluster.node(without=without)
    ledger.release("Pay")
    until(lambda: cluster.shards_owned() == 256, "a take-over")
    if without == "express_take_over":
        alive(second.api, ledger)
    shown = second.api.describe(id) if without == "express_take_over" else second.api.ended(id)
    broken = (
        []
        if (shown["status"], shown["attempt"]) == ("SUCCEEDED", 2)
        else [f"{shown['status']} in run {shown['attempt']}"]
    )
    counts = [list(ledger.keys(state).values()) for state in ("Look", "Pay")]
    return broken if counts == [[2], [2]] else [*broken, f"calls by key: {counts}"]


def test_killed_while_it_runs(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_while_it_runs(cluster, ledger) == []


def test_control_killed_while_it_runs(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_while_it_runs(cluster, ledger, without="express_take_over")
    assert broken == ["RUNNING in run 1", "calls by key: [[1], [1]]"]


def test_control_keys_of_both_runs(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_while_it_runs(cluster, ledger, without="express_keys")
    assert broken == ["calls by key: [[1, 1], [1, 1]]"]


def killed_at_the_start(cluster: Cluster, ledger: Ledger, failpoint: str, without: str | None = None) -> list[str]:
    doomed = cluster.node(failpoint=failpoint, without=without)
    deploy(doomed.api, ledger, "Pay")
    answered = doomed.api.try_start("quick", "a")
    doomed.died()
    ids = cluster.sql("SELECT id FROM express_execution")
    broken = [] if answered is None or ids else [f"answered {answered} for an execution that is not there"]
    broken += ["an effect before the start was on disk"] if ledger.effects else []
    node = cluster.node()
    alive(node.api, ledger)
    ended = [node.api.ended(id.hex)["status"] for id in ids]
    if ended != ["SUCCEEDED"] * len(ids) or len(ledger.of("Pay")) != len(ids):
        broken.append(f"{ended}, {len(ledger.of('Pay'))} effects")
    return broken


@pytest.mark.parametrize("failpoint", ("before_express_begin", "after_express_begin"))
def test_killed_at_the_start(cluster: Cluster, ledger: Ledger, failpoint: str) -> None:
    assert killed_at_the_start(cluster, ledger, failpoint) == []
    assert len(ledger.of("Pay")) == (failpoint == "after_express_begin")


def test_control_killed_at_the_start(cluster: Cluster, ledger: Ledger) -> None:
    broken = killed_at_the_start(cluster, ledger, "before_express_begin", without="express_durability")
    assert broken == ["answered 201 for an execution that is not there"]


def test_killed_before_its_end_is_written(cluster: Cluster, ledger: Ledger) -> None:
    doomed = cluster.node(failpoint="before_express_end")
    deploy(doomed.api, ledger, "Pay")
    id = doomed.api.start("quick", "a")
    doomed.died()
    shown = cluster.node().api.ended(id)
    assert (shown["status"], shown["attempt"]) == ("SUCCEEDED", 2)
    assert list(ledger.keys("Pay").values()) == [2]


def paused_past_its_lease(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    first = cluster.node(without=without)
    deploy(first.api, ledger, "Pay")
    ledger.hold("Pay")
    id = first.api.start("quick", "a")
    ledger.wait_for_count("Pay", 1)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = cluster.node()
    ledger.wait_for_count("Pay", 2)
    ledger.release("Pay")
    told = second.api.ended(id)
    os.kill(first.process.pid, signal.SIGCONT)
    alive(first.api, ledger)
    shown = second.api.describe(id)
    return [] if shown == told and shown["attempt"] == 2 else [f"told {told['output']}, then {shown['output']}"]


def test_paused_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    assert paused_past_its_lease(cluster, ledger) == []


def test_control_paused_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    (broken,) = paused_past_its_lease(cluster, ledger, without="express_fence")
    assert broken.startswith("told ")


def test_what_its_caller_waited_for_is_not_run_again(cluster: Cluster, ledger: Ledger) -> None:
    first = cluster.node()
    deploy(first.api, ledger, "Pay")
    ledger.hold("Pay")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(post, first.api.url + "/v1/state-machines/quick/executions?sync=true")
        ledger.wait_for_count("Pay", 1)
        first.process.kill()
        assert isinstance(call.result(), httpx.TransportError)
    ledger.release("Pay")
    second = cluster.node()
    until(lambda: cluster.shards_owned() == 256, "a take-over")
    alive(second.api, ledger)
    assert list(ledger.keys("Pay").values()) == [1]


def post(url: str) -> Any:
    try:
        return httpx.post(url, json={}, timeout=60, trust_env=False)
    except httpx.TransportError as error:
        return error
