"""What holds for Map Runs, their parents and their children whenever everybody waits for the outside."""

from __future__ import annotations

import json

import msgspec

from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_run import ENDS, ItemStatus, Progress, Tally
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.map_ports import MapItem
from tests.properties.distributed import OBJECTS
from tests.properties.families import Family, Member

ENDED = frozenset(ENDS.values())


def check_family(family: Family) -> None:
    """Each item is given to one child and counted once, each child's end is in its Map Run, and its parent is told once."""
    for id in family.map_runs:
        _check_map_run(family, id)
    for (parent, number, redrives), reports in family.reported.items():
        assert len(reports) == 1, (
            f"{parent.hex()} was told {len(reports)} times how {number} ended, redriven {redrives} times"
        )


def _check_map_run(family: Family, id: ExecutionId) -> None:
    row, parent, children = family.map_runs[id], family.parent(id), family.children(id)
    spec = msgspec.json.decode(row.new.spec, type=MapRunSpec)
    progress = msgspec.json.decode(row.progress, type=Progress)
    items = [item for _, item in sorted(row.items.items())]
    assert (row.status is Status.RUNNING) == (row.new.number in parent.state.map_runs), "both or neither go on"
    assert (row.stopped_at is None) == (row.status is Status.RUNNING)
    assert [item.number for item in items] == list(range(progress.made))
    executions, counted = Tally(), Tally()
    for item in items:
        executions.move(None, item.status, 1)
        counted.move(None, item.status, item.size)
        _check_item(item, children.get(item.number), redriven=bool(progress.redrives))
    assert (executions, counted) == (progress.executions, progress.items), "each is counted where it stands"
    assert counted.total == progress.source, "what was read was given to children, once"
    assert children.keys() <= {item.number for item in items}
    if progress.exhausted and progress.error is None:
        assert progress.source == len(_source(spec)), "all items were read"
    if row.status is not Status.RUNNING:
        assert not executions.running and (progress.stopping or not executions.pending)
    if row.status is Status.SUCCEEDED:
        _check_result(family, id, spec, children)


def _check_item(item: MapItem, child: Member | None, *, redriven: bool) -> None:
    if item.status is ItemStatus.PENDING:
        assert child is None or (redriven and child.finish is not None)
    else:
        assert child is not None
        status = child.finish.status if child.finish is not None else Status.RUNNING
        assert item.status is ENDS.get(status, ItemStatus.RUNNING), "it is counted as what its child has come to"
        if child.finish is not None and child.finish.output is not None:
            assert item.output == child.finish.output.text


def _source(spec: MapRunSpec) -> list[Json]:
    """The items that are to be read."""
    if spec.reader is None:
        return list(json.loads(bytes(spec.items)))
    most = spec.reader.config.get("MaxItems", 10**6)
    return OBJECTS[spec.reader.arguments["Key"]][:most]


def _check_result(family: Family, id: ExecutionId, spec: MapRunSpec, children: dict[int, Member]) -> None:
    """What the parent is told is what the children have given, in their order."""
    row = family.map_runs[id]
    redrives = msgspec.json.decode(row.progress, type=Progress).redrives
    (report,) = family.reported[row.parent, row.new.number, redrives]
    outputs = [child.finish.output for _, child in sorted(children.items()) if child.finish is not None]
    if spec.writer is None:
        assert json.loads(bytes(report.output)) == [json.loads(one.text) for one in outputs if one is not None]
    elif spec.writer.action is not None:
        assert json.loads(bytes(report.output))["MapRunArn"] == row.new.arn
