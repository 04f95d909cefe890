"""The engine that runs the Express children of a Map Run is killed, again and again, stopped in good order, or stands still past
its lease; or the store is slow to write which of them begin.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fault.cluster import TERMINAL, Cluster, http_state, sequence, until
from tests.fault.proxy import Half, Proxy, Statement
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
ITEMS = 60
AT_ONCE = 5
WHOLE = [{"n": number} for number in range(ITEMS)]


def distributed(ledger: Ledger, *names: str, **fields: Any) -> dict[str, Any]:
    """Express children that call the ledger once a state, and hand their item on."""
    states = sequence(**{name: http_state(ledger, name, ResultPath=None) for name in names})
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}, **states}
    each = {
        "Type": "Map",
        "Label": "Each",
        "ItemsPath": "$.items",
        "MaxConcurrency": AT_ONCE,
        "ItemProcessor": processor,
    }
    return {"StartAt": "Each", "States": {"Each": {**each, **fields, "End": True}}}


def verdict(cluster: Cluster, ledger: Ledger, shown: dict[str, Any], runs: int) -> list[str]:
    """What is wrong once a Map Run has ended whose children were run so often at most."""
    broken = cluster.findings()
    if shown.get("output") != WHOLE:
        broken.append(f"{shown['status']}: {shown.get('error')} {shown.get('cause')}")
    if statuses := cluster.sql("SELECT status FROM map_item WHERE status <> 3"):
        broken.append(f"items that stand at {statuses}")
    if rows := cluster.sql("SELECT id FROM execution WHERE map_run IS NOT NULL"):
        broken.append(f"{len(rows)} child executions were written")
    counts = ledger.keys("Pay")
    if len(counts) != ITEMS or max(counts.values()) > runs:
        broken.append(f"{len(counts)} items, run {max(counts.values())} times at most")
    return broken


def killed_at(cluster: Cluster, ledger: Ledger, failpoint: str) -> list[str]:
    doomed = cluster.node(failpoint=failpoint)
    doomed.api.deploy("each", distributed(ledger, "Pay"))
    doomed.api.try_start("each", "a", {"items": WHOLE})
    doomed.died()
    node = cluster.node()
    return verdict(cluster, ledger, node.api.ended(node.api.start("each", "a", {"items": WHOLE})), 2)


@pytest.mark.parametrize("place", ("before", "after"))
@pytest.mark.parametrize("step", (1, 2, 9))
def test_killed_at_a_step(cluster: Cluster, ledger: Ledger, place: str, step: int) -> None:
    assert killed_at(cluster, ledger, f"{place}_map_run_commit:{step}") == []


def killed_twice(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    """Two engines are killed while children run whose calls are not answered."""
    id = ""
    for round in (1, 2):
        node = cluster.node(without=without)
        if not id:
            node.api.deploy("each", distributed(ledger, "Pay"))
            ledger.hold("Pay")
            id = node.api.start("each", "a", {"items": WHOLE})
        ledger.wait_for_count("Pay", AT_ONCE * (round if without is None else 1))
        node.process.kill()
        node.process.wait()
    ledger.release("Pay")
    last = cluster.node(without=without)
    if without is not None:
        until(lambda: cluster.shards_owned() == 256, "a take-over")
        last.api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel")))
        assert last.api.ended(last.api.start("sentinel", "s"))["status"] == "SUCCEEDED"
        shown = last.api.describe(id)
        return [shown["status"]] if shown["status"] not in TERMINAL else []
    return verdict(cluster, ledger, last.api.ended(id), 3)


def test_killed_while_children_run(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_twice(cluster, ledger) == []
    again = [count for count in ledger.keys("Pay").values() if count > 1]
    assert again == [3] * AT_ONCE, "those that ran when the engines died, and no others"


def test_control_killed_while_children_run(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_twice(cluster, ledger, without="express_children_again") == ["RUNNING"]


def test_a_child_that_engines_die_of_is_given_up(cluster: Cluster, ledger: Ledger) -> None:
    """The third time the engine is lost the children that ran have failed; the others are run."""
    id = ""
    ledger.hold("Pay")
    for round in (1, 2, 3):
        node = cluster.node()
        if not id:
            node.api.deploy("each", distributed(ledger, "Pay", ToleratedFailureCount=ITEMS))
            id = node.api.start("each", "a", {"items": WHOLE})
        ledger.wait_for_count("Pay", AT_ONCE * round)
        node.process.kill()
        node.process.wait()
    ledger.release("Pay")
    shown = cluster.node().api.ended(id)
    assert cluster.findings() == []
    assert shown["output"] == WHOLE[AT_ONCE:]
    assert cluster.sql("SELECT error FROM map_item WHERE status = 4") == ["Stepwell.EngineLost"] * AT_ONCE
    assert sorted(ledger.keys("Pay").values()) == [1] * (ITEMS - AT_ONCE) + [3] * AT_ONCE


def given_back(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    """Three engines are stopped in good order while children run, and do not wait for them."""
    id = ""
    ledger.hold("Pay")
    for round in (1, 2, 3):
        node = cluster.node(without=without, express_drain_seconds="0", lease_seconds="60")
        if not id:
            node.api.deploy("each", distributed(ledger, "Pay"))
            id = node.api.start("each", "a", {"items": WHOLE})
        ledger.wait_for_count("Pay", AT_ONCE * round)
        node.process.terminate()
        assert node.process.wait() == 0
    ledger.release("Pay")
    last = cluster.node(without=without, lease_seconds="60")
    return verdict(cluster, ledger, last.api.ended(id), 4)


def test_given_back_while_children_run(cluster: Cluster, ledger: Ledger) -> None:
    assert given_back(cluster, ledger) == []
    again = [count for count in ledger.keys("Pay").values() if count > 1]
    assert again == [4] * AT_ONCE, "those that ran when the engines were stopped, and no others"


def test_control_given_back_while_children_run(cluster: Cluster, ledger: Ledger) -> None:
    broken = given_back(cluster, ledger, without="given_back")
    assert broken[0].startswith("FAILED: States.ExceedToleratedFailureThreshold"), broken
    assert cluster.sql("SELECT DISTINCT error FROM map_item WHERE status = 4") == ["Stepwell.EngineLost"]


def paused_past_its_lease(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    """It stands still while its children's first calls are under way; the other engine runs them, and it wakes up. It may be given the
    Map Run back then, and run children again; but whatever it runs begins with the first call."""
    first = cluster.node(without=without)
    first.api.deploy("each", distributed(ledger, "Look", "Pay"))
    ledger.hold("Look")
    id = first.api.start("each", "a", {"items": WHOLE})
    ledger.wait_for_count("Look", AT_ONCE)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = cluster.node()
    ledger.wait_for_count("Look", 2 * AT_ONCE)
    ledger.hold("Pay")
    ledger.release("Look")
    ledger.wait_for_count("Pay", AT_ONCE)
    os.kill(first.process.pid, signal.SIGCONT)
    first.api.deploy("sentinel", sequence(Sentinel=http_state(ledger, "Sentinel")))
    assert first.api.ended(first.api.start("sentinel", "s"))["status"] == "SUCCEEDED"
    ledger.release("Pay")
    broken = verdict(cluster, ledger, second.api.ended(id), 3)
    ran = [effect.execution for effect in ledger.of("Look")]
    paid = [effect.execution for effect in ledger.of("Pay")]
    stale = [child for child in set(ran[:AT_ONCE]) if paid.count(child) >= ran.count(child)]
    return [*broken, f"{len(stale)} went on without a lease"] if stale else broken


def test_paused_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    assert paused_past_its_lease(cluster, ledger) == []


def test_control_paused_past_its_lease(cluster: Cluster, ledger: Ledger) -> None:
    broken = paused_past_its_lease(cluster, ledger, without="express_children_fence")
    assert broken[-1:] == [f"{AT_ONCE} went on without a lease"]


def lapsed(cluster: Cluster, proxy: Proxy, ledger: Ledger, without: str | None = None) -> list[str]:
    """It stands still past its lease, nobody takes over, and when it has renewed its lease the store breaks off. What its children's
    calls have answered meanwhile they must not act upon, so they stand still until they are run again."""
    node = cluster.node(database=proxy.database, without=without)
    node.api.deploy("each", distributed(ledger, "Look", "Pay"))
    ledger.hold("Look")
    id = node.api.start("each", "a", {"items": WHOLE})
    ledger.wait_for_count("Look", AT_ONCE)
    node.process.pause()
    until(lambda: cluster.shards_owned() == 0, "the end of its lease")
    ledger.release("Look")
    ledger.wait_until_answered("Look", AT_ONCE)
    proxy.cut_next(Statement.OWNED_SHARDS, Half.REQUEST)
    with proxy.holding(Statement.RENEWAL, Half.REQUEST) as renewals:
        node.process.resume()
        renewals.wait_for()
        for _ in range(5):  # what is answered now is answered after what has waited in its sockets
            node.api.client.get("/readyz")
    until(lambda: proxy.cuts == 1, "the store to break off")
    if without:
        rest: dict[str, Any] = {"Type": "Wait", "Seconds": 2}
        node.api.deploy("sentinel", sequence(Rest=rest, Sentinel=http_state(ledger, "Sentinel")))
        assert node.api.ended(node.api.start("sentinel", "s"))["status"] == "SUCCEEDED"
        return [f"{node.api.describe(id)['status']}, {len(ledger.effects)} calls"]
    broken = verdict(cluster, ledger, node.api.ended(id), 3)
    ran = [effect.execution for effect in ledger.of("Look")]
    stale = [child for child in ran[:AT_ONCE] if ran.count(child) == 1]
    return [*broken, f"{len(stale)} went on where they had stood"] if stale else broken


def test_a_lease_lapses_and_the_store_breaks_off(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert lapsed(cluster, proxy, ledger) == []


def test_control_a_lease_lapses_and_the_store_breaks_off(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert lapsed(cluster, proxy, ledger, without="lapses") == [f"RUNNING, {AT_ONCE + 1} calls"]


MOST_BYTES = 1_000_000
ROOM = MOST_BYTES * 3 // 4
"""What children of Map Runs may take of it."""
PADDING = 60_000
ROWS = 20


def begun_together(cluster: Cluster, proxy: Proxy, ledger: Ledger, without: str | None = None) -> list[str]:
    """Two Map Runs decide which children begin, each before the other's step is written."""
    node = cluster.node(database=proxy.database, without=without, express_bytes=str(MOST_BYTES), lease_seconds="60")
    pay = {**http_state(ledger, "Pay"), "ResultPath": None, "OutputPath": "$.n"}
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}, **sequence(Pay=pay)}
    selector = {"n.$": "$$.Map.Item.Value", "padding.$": "$.padding"}
    each = {"Type": "Map", "ItemsPath": "$.items", "ItemSelector": selector, "ItemProcessor": processor}
    node.api.deploy("each", sequence(Each={**each, "Label": "Each"}))
    ledger.hold("Pay")
    input = {"items": list(range(ROWS)), "padding": "x" * PADDING}
    with proxy.holding(Statement.MAP_RUN_COMMIT, Half.REQUEST) as steps:
        with ThreadPoolExecutor(2) as pool:
            ids = list(pool.map(lambda name: node.api.start("each", name, input), ("a", "b")))
        steps.wait_for(2)
    until(lambda: cluster.sql("SELECT count(*) FROM map_item") == [2 * ROWS], "both steps to be written")
    running = cluster.sql("SELECT count(*) FROM map_item WHERE status = 2")[0]
    ledger.wait_for_count("Pay", running)
    ledger.release("Pay")
    broken = [] if running * PADDING <= ROOM else [f"{running} children at once"]
    broken += [f"{shown}" for id in ids if (shown := node.api.ended(id)).get("output") != list(range(ROWS))]
    return broken + cluster.findings()


def test_begun_together(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    assert begun_together(cluster, proxy, ledger) == []


def test_control_begun_together(cluster: Cluster, proxy: Proxy, ledger: Ledger) -> None:
    (broken,) = begun_together(cluster, proxy, ledger, without="reservations")
    assert broken.endswith("children at once")
