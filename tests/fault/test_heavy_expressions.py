"""An engine is killed once the outcome of an expression that was carried out in a helper process has been committed.

What came out of such an expression may never come out again: chance was in it, or a limit of time struck that another day would
not have struck. It is stored beside the event it belongs to, and whoever goes on, or replays, takes it from there.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.machine import chunks
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState
from tests.fault.cluster import Cluster, until
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault

DRAW: Final = "$reduce([1..60000], function($a, $b) {$a + $b}) + $random()"
"""Comes to its end, after more steps than the engine's process gives it; nobody draws the same number twice."""
ENDLESS: Final = "($f := function($n) {$f($n + 1)}; $f(0))"
KILLED_AFTER: Final = 3
"""Commits: the start, what was drawn, and the error that the endless one ended in."""


def machine(ledger: Ledger) -> dict[str, Any]:
    """Draws, runs away, is caught, and pays."""
    caught = {"ErrorEquals": ["States.QueryEvaluationError"], "Output": "{% $states.errorOutput %}", "Next": "Pay"}
    states = {
        "Draw": {"Type": "Pass", "Assign": {"drawn": f"{{% {DRAW} %}}", "by": "{% $uuid() %}"}, "Next": "Run away"},
        "Run away": {
            "Type": "Task",
            "Resource": f"{ledger.url}/effects/Away",
            "Arguments": {"n": f"{{% {ENDLESS} %}}"},
            "Catch": [caught],
            "End": True,
        },
        "Pay": {
            "Type": "Task",
            "Resource": f"{ledger.url}/effects/Pay",
            "Arguments": {"drawn": "{% $drawn %}"},
            "Output": {"drawn": "{% $drawn %}", "by": "{% $by %}", "cause": "{% $states.input.Cause %}"},
            "End": True,
        },
    }
    return {"QueryLanguage": "JSONata", "StartAt": "Draw", "States": states}


def stored(cluster: Cluster) -> list[chunks.Chunk]:
    """What the one execution's commits have written."""
    return [chunks.decode(data) for data in cluster.sql("SELECT data FROM history_chunk ORDER BY first_event")]


def events_of(read: list[chunks.Chunk]) -> list[HistoryEvent]:
    return [event for chunk in read for event in chunk.events]


def replayed(cluster: Cluster, definition: dict[str, Any], read: list[chunks.Chunk]) -> list[HistoryEvent]:
    """The events that come out of what was stored of the inputs."""
    (row,) = cluster.sql(
        "SELECT json_build_object('id', e.id, 'arn', e.arn, 'name', e.name, 'machine_arn', m.arn, 'machine_name', m.name,"
        " 'role_arn', r.role_arn, 'started_at', e.started_at)::text FROM execution e JOIN state_machine m ON m.key = e.machine_key"
        " JOIN state_machine_revision r ON r.machine_key = e.machine_key AND r.revision = e.revision WHERE e.name = 'a'"
    )
    told = json.loads(row)
    id = bytes.fromhex(told.pop("id").replace("-", ""))
    model = parse_definition(json.dumps(definition))
    state = ExecutionState(ExecutionInfo(id, region=told["arn"].split(":")[3], **told))
    made: list[HistoryEvent] = []
    for applied in (applied for chunk in read for applied in chunk.applied):
        step = replay(model, state, applied)
        state = step.state
        made += step.events
    return made


def killed_after_the_commit_of_an_outcome(cluster: Cluster, ledger: Ledger, without: str | None = None) -> list[str]:
    definition = machine(ledger)
    doomed = cluster.node(failpoint=f"after_commit:{KILLED_AFTER}", without=without)
    doomed.api.deploy("one", definition)
    id = doomed.api.start("one", "a")
    doomed.died()
    committed = events_of(stored(cluster))
    drawn = next(event.details or {} for event in committed if event.type == "PassStateExited")["assignedVariables"]
    (cause,) = [(event.details or {})["cause"] for event in committed if event.type == "EvaluationFailed"]
    assert "takes longer than 1 s" in cause and ledger.effects == []
    node = cluster.node(without=without)
    until(lambda: cluster.shards_owned() == 256, "a take-over")
    shown = node.api.ended(id)
    read = stored(cluster)
    broken = cluster.findings()
    if events_of(read)[: len(committed)] != committed:
        broken.append("what had been committed is no longer what the history says")
    given = {"drawn": json.loads(drawn["drawn"]), "by": json.loads(drawn["by"]), "cause": cause}
    if shown["status"] != "SUCCEEDED" or shown["output"] != given:
        broken.append(f"{shown['status']} with {shown.get('output')}, not {given}")
    if len(ledger.of("Pay")) != 1 or ledger.of("Away"):
        broken.append(f"effects: {ledger.effects}")
    other = replayed(cluster, definition, read)
    differing = {ours.type for ours, theirs in zip(events_of(read), other, strict=True) if ours != theirs}
    return [*broken, *(f"replay gives another {type}" for type in sorted(differing))]


def test_killed_after_the_commit_of_an_outcome(cluster: Cluster, ledger: Ledger) -> None:
    assert killed_after_the_commit_of_an_outcome(cluster, ledger) == []


def test_control_killed_after_the_commit_of_an_outcome(cluster: Cluster, ledger: Ledger) -> None:
    """Carried out once more, the endless one does not end as it did."""
    broken = killed_after_the_commit_of_an_outcome(cluster, ledger, without="stored_outcomes")
    assert "replay gives another EvaluationFailed" in broken
