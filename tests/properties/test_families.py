"""What random executions have shown: told by hand, so that it stays told."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.jsontypes import write
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from tests.properties.families import Family, Happening
from tests.properties.fields import INPUT
from tests.properties.machines import FUNCTION
from tests.properties.runs import calm_down, check

DISTRIBUTED: dict[str, Any] = {
    "StartAt": "M",
    "States": {
        "M": {
            "Type": "Map",
            "ItemsPath": "$.items",
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED"},
                "StartAt": "T",
                "States": {"T": {"Type": "Task", "Resource": FUNCTION, "End": True}},
            },
            "End": True,
        }
    },
}


def test_a_stop_behind_a_redrive_that_waits_stops_what_is_redriven() -> None:
    """All of it comes before the Map Run's children have ended of the first stop."""
    family = Family(parse_definition(DISTRIBUTED))
    family.happen(Happening(family.now, events.Started(msgspec.Raw(write(INPUT)))))
    for event in (events.StopRequested(), events.Redriven(), events.StopRequested()):
        family.happen(Happening(family.now, event, hasty=True))
    family.settle()
    check(family)
    (run,) = family.map_runs.values()
    assert run.status is Status.ABORTED
    assert {member.finish.status for member in family.members.values() if member.finish} == {Status.ABORTED}
    assert not list(family.alive()), "nobody waits for what its children do"
    family.happen(Happening(family.now, events.Redriven()))
    calm_down(family)
    assert family.root.finish is not None and family.root.finish.status is Status.SUCCEEDED
    family.close()
