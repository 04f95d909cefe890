"""What random executions have shown: told by hand, so that it stays told."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.jsontypes import write
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from tests.properties.chance import Seeded
from tests.properties.distributed import BUCKET, OBJECTS
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


def test_pages_are_read_on_where_the_last_one_ended() -> None:
    """By whoever comes after a crash as well: each item becomes one child."""
    definition = json.loads(json.dumps(DISTRIBUTED))
    state = definition["States"]["M"]
    del state["ItemsPath"]
    state["MaxConcurrency"] = 3
    state["ItemReader"] = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": BUCKET, "Key": "many.json"},
    }
    state["ItemProcessor"] |= {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    family = Family(parse_definition(definition), dying=Seeded(random.Random(1)), crash_always=True)
    family.happen(Happening(family.now, events.Started(msgspec.Raw(write(INPUT)))))
    check(family)
    finish = family.root.finish
    assert finish is not None and finish.output is not None
    assert finish.output.value == OBJECTS["many.json"]
    assert family.interruptions > 10
    family.close()
