"""A node whose commit was cut off takes its shards up and sends what it finds open in the store; but nothing that it has in hand
itself, and nothing that has ended while the store's answer was on its way.
"""

from __future__ import annotations

import pytest

from tests.fault.cluster import Cluster, Node, http_state, sequence, until
from tests.fault.proxy import Half, Proxy, Statement
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault


def node_behind(proxy: Proxy, cluster: Cluster, without: str | None) -> Node:
    """Its lease is long: without one, it would have to send tasks again."""
    node = cluster.node(database=proxy.database, without=without, lease_seconds="60")
    taken_up(proxy, 1)
    return node


def taken_up(proxy: Proxy, times: int) -> None:
    """Wait until the node has done, so often, what it does about shards that it takes up."""
    until(lambda: proxy.answers[Statement.OPEN_MAP_RUNS] >= times, "shards to be taken up")


def verdict(cluster: Cluster, ledger: Ledger, node: Node, id: str) -> list[str]:
    """What is wrong with an execution each of whose tasks is to be done once."""
    status = node.api.ended(id)["status"]
    broken = [] if status == "SUCCEEDED" else [status]
    states = sorted({effect.state for effect in ledger.effects})
    broken += [f"{state}: {calls} calls" for state in states if (calls := len(ledger.of(state))) != 1]
    return broken + cluster.findings()


def cut_with_an_answer_in_hand(cluster: Cluster, proxy: Proxy, ledger: Ledger, without: str | None = None) -> list[str]:
    """The commit that closes a task is lost, and when it is tried again it is slow: the store has the task as open until then."""
    node = node_behind(proxy, cluster, without)
    node.api.deploy("one", sequence(Pay=http_state(ledger, "Pay")))
    ledger.hold("Pay")
    id = node.api.start("one", "a")
    ledger.wait_for_count("Pay", 1)
    before = proxy.answers[Statement.OPEN_MAP_RUNS]
    proxy.cut_next(Statement.COMMIT, Half.REQUEST)
    with proxy.holding(Statement.COMMIT, Half.REQUEST):
        ledger.release("Pay")
        taken_up(proxy, before + 1)
        assert proxy.cuts == 1
        if without:
            ledger.wait_for_count("Pay", 2)
    return verdict(cluster, ledger, node, id)


def test_cut_with_an_answer_in_hand(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert cut_with_an_answer_in_hand(cluster, proxy, ledger) == []


def test_control_cut_with_an_answer_in_hand(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert cut_with_an_answer_in_hand(cluster, proxy, ledger, without="in_hand") == ["Pay: 2 calls"]


def scheduled_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger, without: str | None = None) -> list[str]:
    """The store finds a task open that the node itself has scheduled since, and has not been told of that it is written."""
    node = node_behind(proxy, cluster, without)
    node.api.deploy("two", sequence(Pay=http_state(ledger, "Pay"), Ship=http_state(ledger, "Ship")))
    ledger.hold("Pay")
    ledger.hold("Ship")
    id = node.api.start("two", "a")
    ledger.wait_for_count("Pay", 1)
    before = proxy.answers[Statement.OPEN_MAP_RUNS]
    proxy.cut_next(Statement.COMMIT, Half.REQUEST)
    with (
        proxy.holding(Statement.OPEN_TASKS, Half.REQUEST) as questions,
        proxy.holding(Statement.COMMIT, Half.REPLY) as told,
    ):
        ledger.release("Pay")
        told.wait_for()
        questions.wait_for()
        assert proxy.cuts == 1
        assert cluster.sql("SELECT state FROM task WHERE outcome IS NULL") == ["Ship"]
        questions.release()
        taken_up(proxy, before + 1)
        if without:
            ledger.wait_for_count("Ship", 1)
    ledger.wait_for_count("Ship", 2 if without else 1)
    ledger.release("Ship")
    return verdict(cluster, ledger, node, id)


def test_scheduled_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert scheduled_while_taking_up(cluster, proxy, ledger) == []


def test_control_scheduled_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert scheduled_while_taking_up(cluster, proxy, ledger, without="own_tasks") == ["Ship: 2 calls"]


def ended_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger, without: str | None = None) -> list[str]:
    """The store's answer, which has a task as open, comes after that has ended: a commit of its neighbour's was cut off."""
    node = node_behind(proxy, cluster, without)
    branches = [sequence(**{name: http_state(ledger, name)}) for name in ("Look", "Pay")]
    node.api.deploy("both", sequence(Both={"Type": "Parallel", "Branches": branches}))
    ledger.hold("Look")
    ledger.hold("Pay")
    id = node.api.start("both", "a")
    ledger.wait_for_count("Look", 1)
    ledger.wait_for_count("Pay", 1)
    before = proxy.answers[Statement.OPEN_MAP_RUNS]
    proxy.cut_next(Statement.COMMIT, Half.REQUEST)
    with proxy.holding(Statement.OPEN_TASKS, Half.REPLY) as answers:
        ledger.release("Look")
        answers.wait_for()
        assert proxy.cuts == 1
        ledger.release("Pay")
        node.api.ended(id)
    taken_up(proxy, before + 1)
    if without:
        ledger.wait_for_count("Pay", 2)
    else:  # what was begun when the shards were taken up comes before what comes now
        node.api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel")))
        node.api.ended(node.api.start("sentinel", "s"))
    return verdict(cluster, ledger, node, id)


def test_ended_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert ended_while_taking_up(cluster, proxy, ledger) == []


def test_control_ended_while_taking_up(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    broken = ended_while_taking_up(cluster, proxy, ledger, without="second_look")
    assert "Pay: 2 calls" in broken
